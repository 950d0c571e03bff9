from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from order_console import words


def test_markup_is_text() -> None:
    assert words.shown("<script>alert(1)</script>") == "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;</bdi>"


@pytest.mark.parametrize(
    ("character", "code"),
    [
        ("\u202e", "U+202E"),
        ("\u2066", "U+2066"),
        ("\x00", "U+0000"),
        ("\x1b", "U+001B"),
        ("\u200b", "U+200B"),
        ("\ufeff", "U+FEFF"),
        ("\u2028", "U+2028"),
        ("\ud800", "U+D800"),
        ("\U000e0041", "U+E0041"),
        ("\r", "U+000D"),
    ],
)
def test_what_is_not_seen_is_spelled_out(character: str, code: str) -> None:
    html = str(words.shown(f"a{character}b"))

    assert character not in html and f">{code}</span>b" in html
    assert words.plain(f"a{character}b") == f"a{code}b"


def test_letters_of_all_scripts_and_line_ends_stay() -> None:
    assert words.shown("Заказ 注文 طلب\n\tx") == "<bdi>Заказ 注文 طلب\n\tx</bdi>"


def test_long_text_is_cut_and_says_so() -> None:
    html = str(words.shown("x" * 2_000_000, 100))

    assert html.startswith(f"<bdi>{'x' * 100}</bdi>") and "2,000,000 characters" in html
    assert len(html) < 200


def test_cutting_leaves_no_half_entity() -> None:
    assert words.shown("<<<<", 2).startswith("<bdi>&lt;&lt;</bdi>")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0.4 ms"),
        (0.049, "49 ms"),
        (1.25, "1.2 s"),
        (3.0, "3 s"),
        (59.94, "59.9 s"),
        (60, "1 min"),
        (252, "4 min 12 s"),
        (3600, "1 h"),
        (11100, "3 h 5 min"),
        (86400 * 2 + 3600 * 4, "2 d 4 h"),
        (-0.003, "−3.0 ms"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text
    assert words.duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("45", "45.00"),
        ("1250.5", "1,250.50"),
        ("0.0001", "0.0001"),
        ("1000000000000", "1,000,000,000,000.00"),
        ("1E+3", "1,000.00"),
    ],
)
def test_an_amount_is_exact(amount: str, text: str) -> None:
    assert words.money(Decimal(amount)) == text


def test_a_time_is_in_utc_and_machines_can_read_it() -> None:
    moment = datetime(2024, 11, 24, 15, 3, 22, 104_500, tzinfo=UTC)

    html = words.moment(moment, "milliseconds")

    assert 'datetime="2024-11-24T15:03:22.104500+00:00"' in html and ">24 Nov 2024 15:03:22.104<" in html


@pytest.mark.parametrize(
    ("number", "text"), [(None, "–"), (0, "0 bytes"), (2048, "2.0 KiB"), (2_097_152, "2.0 MiB")]
)
def test_a_size_is_told(number: int | None, text: str) -> None:
    assert words.size(number) == text

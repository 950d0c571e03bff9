"""Cutting a body into orders, however its bytes come."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from order_service.api.bulk_body import TOO_LONG, Elements, Lines, NotSplittable, Part, Splitter

texts = st.text(st.sampled_from('ab"\\[]{},:\n é🍕'), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
cuts = st.lists(st.integers(0, 400), max_size=8)


def split(splitter: Splitter, body: bytes, cuts: Sequence[int] = ()) -> list[Part]:
    """Of a body that comes in pieces, some of them empty."""
    parts: list[Part] = []
    places = [0, *sorted(cuts), len(body)]
    for begin, end in pairwise(places):
        parts += splitter.feed(body[begin:end])
    return [*parts, *splitter.end()]


@given(st.lists(values, max_size=6), cuts, st.sampled_from([None, 1]), st.booleans())
def test_each_element_of_an_array_comes_out_as_it_is(
    elements: list[Any], cuts: list[int], indent: int | None, ascii_only: bool
) -> None:
    body = json.dumps(elements, indent=indent, ensure_ascii=ascii_only).encode()

    parts = split(Elements(10_000), b" \n" + body + b"\r\n", cuts)

    assert [json.loads(part) for part in parts if isinstance(part, bytes)] == elements


@given(st.lists(values, max_size=6), cuts, st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_each_line_comes_out_as_it_is(
    elements: list[Any], cuts: list[int], newline: bytes, ends: bool
) -> None:
    lines = [json.dumps(element).encode() for element in elements]
    body = newline.join(lines) + (newline if ends and lines else b"")

    parts = split(Lines(10_000), body, cuts)

    assert [part.strip() for part in parts if isinstance(part, bytes) and part.strip()] == lines


@given(st.binary(max_size=200), cuts)
def test_whatever_comes_is_cut_or_refused_and_cut_alike_however_it_comes(
    body: bytes, cuts: list[int]
) -> None:
    def outcome(kind: type[Elements | Lines], cuts: Sequence[int]) -> object:
        try:
            return split(kind(50), body, cuts)
        except NotSplittable as error:
            return str(error)

    for kind in (Elements, Lines):
        assert outcome(kind, cuts) == outcome(kind, ())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "has no end"),
        (b"[", "has no end"),
        (b"[1", "has no end"),
        (b'["]', "has no end"),
        (b'["\\"]', "has no end"),
        (b"[[1]", "has no end"),
        (b"{}", "not an array"),
        (b"[1] [2]", "follows the array"),
        (b"[1],", "follows the array"),
    ],
)
def test_what_is_no_array_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    with pytest.raises(NotSplittable, match=reason):
        split(Elements(100), body)


def test_the_elements_before_a_broken_end_have_come_out() -> None:
    splitter = Elements(100)

    assert [*splitter.feed(b'[{"a": 1}, {"b": 2}, {"c"')] == [b'{"a": 1}', b' {"b": 2}']
    with pytest.raises(NotSplittable):
        splitter.end()


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"[]", []),
        (b"[ \n]", []),
        (b"[1,]", [b"1", b""]),
        (b"[,]", [b"", b""]),
        (b"[{]]", [b"{]"]),
    ],
)
def test_of_an_array_that_is_not_well_formed_the_parser_of_its_elements_judges(
    body: bytes, parts: list[bytes]
) -> None:
    assert split(Elements(100), body) == parts


@pytest.mark.parametrize("pieces", [1, 3, 500])
def test_what_is_too_long_is_not_kept_and_those_after_it_are(pieces: int) -> None:
    long = b'"' + b"x" * 1000 + b'"'
    for kind, body in ((Elements, b"[1," + long + b",2]"), (Lines, b"1\n" + long + b"\n2")):
        size = len(body) // pieces + 1
        assert split(kind(100), body, range(0, len(body), size)) == [b"1", TOO_LONG, b"2"]


def test_a_line_of_exactly_the_limit_is_kept() -> None:
    assert split(Lines(5), b"12345\n123456\n") == [b"12345", TOO_LONG, b""]


def test_a_body_that_is_brackets_and_little_else_is_refused() -> None:
    with pytest.raises(NotSplittable, match="brackets"):
        split(Elements(1_000_000), b"[" + b"[]" * 100_000 + b"]")


def test_an_order_with_as_many_items_as_it_may_have_has_not_too_many_brackets() -> None:
    items = [{"sku": "a", "quantity": 1, "price": 1}] * 1_000
    body = json.dumps([{"order_id": "a", "customer_id": "c", "items": items}] * 20, separators=(",", ":"))

    assert len(split(Elements(1_000_000), body.encode())) == 20

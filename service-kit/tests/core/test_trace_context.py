import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_kit.observability.trace_context import continued_trace, is_sampled

VALID = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FORM = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def test_a_trace_goes_on_with_a_span_of_its_own() -> None:
    continued = continued_trace(VALID, Random(0))
    assert FORM.fullmatch(continued)
    assert continued[:36] == VALID[:36]
    assert continued[36:52] != VALID[36:52]
    assert continued[52:] == "-01"


@pytest.mark.parametrize(
    "invalid",
    [
        None,
        "",
        "nonsense",
        VALID.upper(),
        VALID + "\n",
        VALID + "-more",
        "01" + VALID[2:],
        "00-" + "0" * 32 + VALID[35:],
        VALID[:36] + "0" * 16 + "-01",
        VALID.replace("a", "ａ"),
    ],
)
def test_without_a_valid_trace_a_new_one_begins_unsampled(invalid: str | None) -> None:
    new = continued_trace(invalid, Random(0))
    assert FORM.fullmatch(new)
    assert new[3:35] != VALID[3:35]
    assert new.endswith("-00")


def test_two_traces_differ_and_the_same_seed_gives_the_same() -> None:
    random = Random(0)
    first, second = continued_trace(None, random), continued_trace(None, random)
    assert first != second
    assert continued_trace(None, Random(0)) == first


@given(st.text() | st.from_regex(FORM), st.integers(0, 1000))
def test_whatever_comes_in_a_valid_trace_goes_out(traceparent: str, seed: int) -> None:
    continued = continued_trace(traceparent, Random(seed))
    assert FORM.fullmatch(continued)
    assert continued[3:35] != "0" * 32
    assert continued[36:52] != "0" * 16


@pytest.mark.parametrize("flags", ["01", "03", "ff"])
def test_the_lowest_bit_of_the_flags_says_that_a_trace_is_sampled(flags: str) -> None:
    assert is_sampled(VALID[:-2] + flags)


@pytest.mark.parametrize(
    "traceparent",
    [None, "", "01", "nonsense-01", VALID[:-2] + "00", VALID[:-2] + "02", VALID.upper(), VALID + "1"],
)
def test_everything_else_is_not_sampled(traceparent: str | None) -> None:
    assert not is_sampled(traceparent)

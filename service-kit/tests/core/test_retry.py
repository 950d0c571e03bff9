from itertools import islice
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from service_kit.retry import OUTAGE_BACKOFF, Backoff, RetryPolicy, pauses

backoffs = st.builds(
    Backoff,
    first_seconds=st.floats(0.001, 100),
    max_seconds=st.floats(0.001, 10_000),
    factor=st.floats(1, 10),
    jitter=st.floats(0, 1),
)
randoms = st.builds(Random, st.integers(0, 1000))


@given(backoffs, st.integers(1, 10**12), randoms)
def test_a_delay_is_never_negative_and_never_beyond_the_maximum_and_its_jitter(
    backoff: Backoff, attempt: int, random: Random
) -> None:
    delay = backoff.delay_seconds(attempt, random)
    assert 0 <= delay <= backoff.max_seconds * (1 + backoff.jitter) * 1.001


@given(backoffs, st.integers(1, 1000))
def test_without_jitter_delays_never_shrink(backoff: Backoff, attempt: int) -> None:
    calm = Backoff(
        first_seconds=backoff.first_seconds,
        max_seconds=backoff.max_seconds,
        factor=backoff.factor,
        jitter=0,
    )
    random = Random(0)
    assert calm.delay_seconds(attempt, random) <= calm.delay_seconds(attempt + 1, random)


@given(st.integers(1, 1000), randoms)
def test_jitter_spreads_around_the_plain_delay(attempt: int, random: Random) -> None:
    plain = Backoff(jitter=0).delay_seconds(attempt, random)
    assert 0.8 * plain <= Backoff(jitter=0.2).delay_seconds(attempt, random) <= 1.2 * plain


def test_the_same_seed_gives_the_same_delays() -> None:
    def delays(seed: int) -> list[float]:
        return [Backoff().delay_seconds(attempt, Random(seed)) for attempt in range(1, 9)]

    assert delays(7) == delays(7) != delays(8)


@given(st.integers(1, 30), st.integers(1, 60), randoms)
def test_there_is_no_delay_after_the_last_attempt(attempts_max: int, attempt: int, random: Random) -> None:
    delay = RetryPolicy(attempts_max=attempts_max).delay_seconds(attempt, random)
    assert (delay is None) == (attempt >= attempts_max)


def test_the_default_schedule_is_the_documented_one() -> None:
    policy = RetryPolicy(backoff=Backoff(jitter=0))
    delays = [policy.delay_seconds(attempt, Random(0)) for attempt in range(1, 11)]
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, None]
    assert str(policy.backoff).startswith("1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300,")


def test_a_backoff_prints_its_schedule() -> None:
    assert str(OUTAGE_BACKOFF) == "0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5, 5, 5, 5, … s (±20%)"


def test_pauses_go_on_for_ever() -> None:
    calm = Backoff(first_seconds=1, max_seconds=5, jitter=0)
    delays = list(islice(pauses(calm, Random(0)), 2_000))
    assert delays[:5] == [1, 2, 4, 5, 5]
    assert delays[-1] == 5

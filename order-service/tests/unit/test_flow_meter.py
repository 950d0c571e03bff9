from hypothesis import given
from hypothesis import strategies as st

from order_service.application.ports import Finished
from order_service.domain.order import OrderId, Status
from order_service.infrastructure.flow import Flow, FlowMeter, latency_class, quantile_ms


def finished(seconds: float, status: Status = Status.DONE) -> Finished:
    return Finished(order_id=OrderId("o"), status=status, seconds=seconds)


def test_what_happened_is_taken_once() -> None:
    meter = FlowMeter()
    meter.accepted(3)
    meter.finished(finished(0.0005))
    meter.finished(finished(0.002, Status.FAILED))

    assert meter.take() == Flow(3, 1, 1, [1, 0, 0, 0, 1])
    assert meter.take() is None


def test_what_could_not_be_written_is_given_back() -> None:
    meter = FlowMeter()
    meter.finished(finished(0.002))
    taken = meter.take()
    assert taken is not None
    meter.accepted(1)
    meter.finished(finished(0.0005))

    meter.give_back(taken)

    assert meter.take() == Flow(1, 2, 0, [1, 0, 0, 0, 1])


@given(st.floats(0.001, 10_000))
def test_a_latency_is_told_at_most_19_percent_too_high(seconds: float) -> None:
    counts = [0] * (latency_class(seconds) + 1)
    counts[-1] = 1

    told = quantile_ms(counts, 0.5)

    assert told is not None
    assert seconds * 1000 <= told * 1.0001 + 0.05
    assert told <= seconds * 1000 * 1.1893 + 0.05


@given(st.floats(allow_nan=False))
def test_no_latency_is_without_a_class(seconds: float) -> None:
    assert 0 <= latency_class(seconds) < 96


def test_quantiles_of_many() -> None:
    fast, slow = latency_class(0.010), latency_class(1.0)
    counts = [0] * (slow + 1)
    counts[fast], counts[slow] = 98, 2

    assert quantile_ms(counts, 0.5) == quantile_ms(counts, 0.98)
    assert (quantile_ms(counts, 0.99) or 0) >= 1000
    assert quantile_ms([], 0.5) is None

"""Traces, as a collector receives them from both services."""

import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aio_pika
import msgspec
import pytest

from acceptance.deployment import Deployment
from acceptance.http_client import HttpConnection
from acceptance.load import order_body, post_all
from acceptance.processes import COMMANDS, ServiceProcess
from acceptance.test_commands import NO_BROKER, NOWHERE, run
from service_kit.testing.eventually import eventually
from service_kit.testing.otlp_receiver import OtlpReceiver, otlp_receiver

TRACE_ID, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE_ID}-{CALLER}-01"
NO_COLLECTOR = "http://127.0.0.1:1"
ALL_SPANS_OF_AN_ORDER = 6


@pytest.fixture
async def receiver() -> AsyncIterator[OtlpReceiver]:
    async with otlp_receiver() as receiver:
        yield receiver


def exporting_to(receiver: OtlpReceiver, **more: str) -> dict[str, Any]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "50", **more}


async def both_started(deployed: Deployment, settings: Mapping[str, Any]) -> ServiceProcess:
    """order-service, once both are ready."""
    await deployed.start_processor_service(**settings)
    return await deployed.start_order_service(**settings)


async def both_stopped(deployed: Deployment) -> None:
    """What they have not exported yet is exported then."""
    for process in deployed.processes:
        assert await process.stop() == 0


async def post(service: ServiceProcess, order_id: str, traceparent: str | None = None) -> None:
    connection = HttpConnection(service.url)
    headers = {"traceparent": traceparent} if traceparent else {}
    assert (await connection.request("POST", "/orders", order_body(order_id), headers)).status == 201
    connection.close()


def trace(number: int, *, sampled: bool = True) -> str:
    """A caller's traceparent of a trace of its own."""
    return f"00-{number:032x}-{number:016x}-{int(sampled):02d}"


Node = tuple[str, str, str, "Tree"]
Tree = list[Node]


def tree(receiver: OtlpReceiver, parent_id: str) -> Tree:
    """What happened below: (service, kind, name, …), in the order in which it began."""
    return [
        (str(span.service), span.kind, span.name, tree(receiver, span.span_id))
        for span in sorted(receiver.below(parent_id), key=lambda span: span.started)
    ]


# one order


async def test_an_order_is_one_trace_from_the_callers_request_to_its_final_state(
    deployed: Deployment, receiver: OtlpReceiver
) -> None:
    service = await both_started(deployed, exporting_to(receiver))
    order, processor = f"{deployed.name}-order", f"{deployed.name}-processor"
    created, processed = f"{deployed.name}:order.created", f"{deployed.name}:order.processed"

    await post(service, "order-1", SAMPLED)
    await eventually(lambda: len(receiver.spans) == ALL_SPANS_OF_AN_ORDER)

    finished: Node = (order, "CONSUMER", f"process {processed}:{deployed.order_queue}", [])
    answered = (processor, "PRODUCER", f"publish {processed}", [finished])
    decided: Node = (processor, "INTERNAL", "decide", [])
    handled = (processor, "CONSUMER", f"process {created}:{deployed.processor_queue}", [decided, answered])
    told = (order, "PRODUCER", f"publish {created}", [handled])
    assert tree(receiver, CALLER) == [(order, "SERVER", "POST /orders", [told])]
    assert {span.trace_id for span in receiver.spans} == {TRACE_ID}
    assert not any(span.failed or span.links for span in receiver.spans)
    await deployed.settled()
    assert len(receiver.spans) == ALL_SPANS_OF_AN_ORDER


async def test_spans_say_what_the_semantic_conventions_ask_for(
    deployed: Deployment, receiver: OtlpReceiver
) -> None:
    service = await both_started(
        deployed, exporting_to(receiver, OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test")
    )
    name = deployed.name

    await post(service, "order-1", SAMPLED)
    await eventually(lambda: len(receiver.spans) == ALL_SPANS_OF_AN_ORDER)
    by_name = {span.name: span for span in receiver.spans}

    assert by_name["POST /orders"].attributes == {
        "http.request.method": "POST",
        "http.route": "/orders",
        "http.response.status_code": 201,
        "url.scheme": "http",
        "url.path": "/orders",
        "order_id": "order-1",
    }
    for routing_key, queue in (
        ("order.created", deployed.processor_queue),
        ("order.processed", deployed.order_queue),
    ):
        published = by_name[f"publish {name}:{routing_key}"]
        handled = by_name[f"process {name}:{routing_key}:{queue}"]
        wait_seconds = published.attributes["outbox.wait_seconds"]
        message_id = published.attributes["messaging.message.id"]
        assert published.attributes == {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            "messaging.destination.name": f"{name}:{routing_key}",
            "messaging.rabbitmq.destination.routing_key": routing_key,
            "messaging.message.id": message_id,
            "outbox.wait_seconds": wait_seconds,
        }
        assert handled.attributes == {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": f"{name}:{routing_key}:{queue}",
            "messaging.rabbitmq.destination.routing_key": routing_key,
            "messaging.message.id": message_id,
            "order_id": "order-1",
        }
        assert isinstance(wait_seconds, float) and wait_seconds >= 0
        assert handled.started >= published.started
    assert by_name["decide"].attributes == {"order_id": "order-1", "decision": "success"}
    for span in receiver.spans:
        assert span.resource["deployment.environment.name"] == "test"
        assert {"service.name", "service.version", "service.instance.id"} <= set(span.resource)


async def test_without_a_callers_trace_the_request_begins_one(
    deployed: Deployment, receiver: OtlpReceiver
) -> None:
    service = await both_started(deployed, exporting_to(receiver))

    await post(service, "order-1")
    await post(service, "order-2", "00-nonsense-01")
    await eventually(lambda: len(receiver.spans) == 2 * ALL_SPANS_OF_AN_ORDER)

    first, second = receiver.named("POST /orders")
    assert first.parent_id == second.parent_id == ""
    assert first.trace_id != second.trace_id
    assert len(tree(receiver, "")) == 2


async def test_a_request_that_is_refused_is_a_span_and_probes_are_none(
    deployed: Deployment, receiver: OtlpReceiver
) -> None:
    service = await deployed.start_order_service(**exporting_to(receiver))
    connection = HttpConnection(service.url)

    for method, path in (("POST", "/orders?a=b"), ("GET", "/orders/n%C3%B6"), ("GET", "/health")):
        await connection.request(method, path, headers={"traceparent": SAMPLED})
    await connection.request("GET", "/metrics")
    await both_stopped(deployed)

    posted, got = sorted(receiver.spans, key=lambda span: span.started)
    assert (posted.name, got.name) == ("POST /orders", "GET /orders/{order_id}")
    assert posted.attributes["http.response.status_code"] == 400
    assert posted.attributes["url.query"] == "a=b"
    assert got.attributes["url.path"] == "/orders/n%C3%B6"
    assert got.attributes["order_id"] == "nö"
    assert not posted.failed and not got.failed  # of a 4xx the client is at fault
    connection.close()


# the user's code


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_what_a_policy_traces_itself_belongs_to_its_order(
    deployed: Deployment, receiver: OtlpReceiver, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "our_policy.py").write_text(
        "from opentelemetry import trace\n"
        "from processor_service.policy import reject\n"
        f"{kind} decide(order):\n"
        "    with trace.get_tracer('ours').start_as_current_span('ask the bank'):\n"
        "        return reject('no money')\n"
    )
    policy: dict[str, Any] = {"APP__POLICY": "our_policy:decide", "PYTHONPATH": str(tmp_path)}
    await deployed.start_processor_service(**exporting_to(receiver), **policy)
    service = await deployed.start_order_service(**exporting_to(receiver))

    await post(service, "order-1", SAMPLED)
    await eventually(lambda: len(receiver.spans) == ALL_SPANS_OF_AN_ORDER + 1)

    (asked,), (decided,) = receiver.named("ask the bank"), receiver.named("decide")
    assert (asked.trace_id, asked.parent_id) == (TRACE_ID, decided.span_id)
    assert asked.service == f"{deployed.name}-processor"
    assert decided.attributes["decision"] == "failed"
    assert decided.attributes["fail_reason"] == "no money"


async def test_an_attempt_that_failed_is_a_span_of_its_own_and_the_log_names_the_same_trace(
    deployed: Deployment, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    (tmp_path / "our_policy.py").write_text(
        "from processor_service.policy import approve\n"
        "seen = set()\n"
        "async def decide(order):\n"
        "    if order.order_id not in seen:\n"
        "        seen.add(order.order_id)\n"
        "        raise ValueError('the bank is closed')\n"
        "    return approve()\n"
    )
    policy: dict[str, Any] = {"APP__POLICY": "our_policy:decide", "PYTHONPATH": str(tmp_path)}
    processor = await deployed.start_processor_service(**exporting_to(receiver), **policy)
    service = await deployed.start_order_service(**exporting_to(receiver))

    await post(service, "order-1", SAMPLED)
    await eventually(lambda: len(receiver.spans) == ALL_SPANS_OF_AN_ORDER + 2)

    name = f"process {deployed.name}:order.created:{deployed.processor_queue}"
    failed, again = sorted(receiver.named(name), key=lambda span: span.started)
    assert failed.failed and failed.attributes["error.type"] == "RetryLater"
    assert "the bank is closed" in failed.reason
    assert not again.failed and again.attributes["attempt"] == 2
    assert failed.parent_id == again.parent_id
    assert {span.trace_id for span in receiver.spans} == {TRACE_ID}
    (line,) = _told(processor, "policy_failed")
    assert (line["order_id"], line["trace_id"]) == ("order-1", TRACE_ID)


# several events in a message


async def test_events_that_share_a_message_are_linked_each_in_its_own_trace(
    deployed: Deployment, receiver: OtlpReceiver
) -> None:
    settings = exporting_to(receiver, APP__EVENTS_PER_MESSAGE="10")
    service = await deployed.start_order_service(**settings)
    publish, process = f"publish {deployed.name}:order.created", f"process {deployed.name}:order.created"
    # Nobody takes the events yet. The first is what the route is probed with; the others wait for each other.
    for number in range(1, 5):
        await post(service, f"order-{number}", trace(number))
    await post(service, "order-5", trace(5, sampled=False))

    await deployed.start_processor_service(**settings)
    await deployed.settled()
    await both_stopped(deployed)

    assert all(
        span.attributes["error.type"] == "unroutable" for span in receiver.named(publish) if span.failed
    )
    together = [span for span in receiver.named(publish) if span.attributes.get("events") == 4]
    first, *others = sorted(together, key=lambda span: span.trace_id)
    assert [int(span.trace_id, 16) for span in together] == [2, 3, 4]
    requests = {span.trace_id: span.span_id for span in receiver.named("POST /orders")}
    assert [span.parent_id for span in together] == [requests[span.trace_id] for span in together]
    assert first.links == [requests[span.trace_id] for span in others]
    assert [span.links for span in others] == [[first.span_id]] * 2
    # From here on there is one context: that of the message.
    (handled,) = [span for span in receiver.below(first.span_id) if span.name.startswith(process)]
    assert handled.attributes["events"] == 4 and "order_id" not in handled.attributes
    decided, answered = sorted(receiver.below(handled.span_id), key=lambda span: span.started)
    assert decided.attributes == {"events": 4}
    assert not receiver.below(others[0].span_id)
    # The answer to the first may not have gone yet: then it shares the message, whose context is its own.
    if answered.attributes["events"] == 4:
        (finished,) = receiver.below(answered.span_id)
        assert finished.attributes["events"] == 4
    else:
        assert answered.attributes["events"] == 5


async def test_events_of_one_batch_are_each_in_their_trace_and_say_how_many_they_were(
    deployed: Deployment, receiver: OtlpReceiver
) -> None:
    settings = exporting_to(receiver)
    service = await deployed.start_order_service(**settings)
    for number in range(1, 6):
        await post(service, f"order-{number}", trace(number, sampled=number != 5))

    await deployed.start_processor_service(**settings)
    await deployed.settled()
    await both_stopped(deployed)

    publish = f"publish {deployed.name}:order.created"
    confirmed = [span for span in receiver.named(publish) if not span.failed]
    assert sorted(int(span.trace_id, 16) for span in confirmed) == [1, 2, 3, 4]
    counts = [span.attributes.get("messaging.batch.message_count", 1) for span in confirmed]
    assert sorted(map(int, counts)) == [1, 4, 4, 4]
    for span in confirmed:
        (handled,) = receiver.below(span.span_id)
        assert handled.attributes["order_id"] == f"order-{int(span.trace_id, 16)}"
        assert handled.trace_id == span.trace_id
    assert len(receiver.spans) == 4 * ALL_SPANS_OF_AN_ORDER + len(receiver.named(publish)) - len(confirmed)


# who is sampled


async def test_the_callers_flag_decides_when_it_says_not_sampled(
    deployed: Deployment, receiver: OtlpReceiver
) -> None:
    service = await both_started(deployed, exporting_to(receiver))
    await post(service, "order-1", trace(1, sampled=False))
    await deployed.settled()
    await both_stopped(deployed)
    assert receiver.requests == 0


@pytest.mark.parametrize("sampler", ["traceidratio", "parentbased_traceidratio", "always_off"])
async def test_with_a_ratio_of_nothing_nothing_is_exported(
    deployed: Deployment, receiver: OtlpReceiver, sampler: str
) -> None:
    settings = exporting_to(receiver, OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG="0")
    service = await both_started(deployed, settings)
    async with await aio_pika.connect(deployed.rabbitmq_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(await channel.get_exchange(deployed.name), "order.*")

        await post(service, "order-1", None if sampler.startswith("parentbased") else SAMPLED)
        await deployed.settled()

        messages = [await eventually(lambda: queue.get(no_ack=True, fail=False)) for _ in range(2)]
        headers = [str(message.headers["traceparent"]) for message in messages]
    await both_stopped(deployed)

    assert receiver.requests == 0
    assert all(re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-0[02]", header) for header in headers)
    assert headers[0][3:35] == headers[1][3:35]


async def test_parentbased_samplers_follow_a_caller_that_samples(
    deployed: Deployment, receiver: OtlpReceiver
) -> None:
    sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}
    service = await both_started(deployed, exporting_to(receiver, **sampler))
    await post(service, "order-1", SAMPLED)
    await post(service, "order-2")
    await eventually(lambda: len(receiver.spans) == ALL_SPANS_OF_AN_ORDER)
    await deployed.settled()
    await both_stopped(deployed)
    assert {span.trace_id for span in receiver.spans} == {TRACE_ID}


# off, and out of order


@pytest.mark.parametrize(
    "off",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": NO_COLLECTOR, "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": NO_COLLECTOR, "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_SAMPLER": "nonsense"},
    ],
)
async def test_while_it_is_off_nothing_of_opentelemetry_is_loaded(
    deployed: Deployment, off: Mapping[str, Any]
) -> None:
    service = await both_started(deployed, {"PYTHONPROFILEIMPORTTIME": "1", **off})
    await post(service, "order-1", SAMPLED)
    await deployed.settled()
    for process in deployed.processes:
        assert "opentelemetry" not in _imported(process)
        assert "service_kit" in _imported(process)


async def test_it_is_loaded_when_an_endpoint_is_set(deployed: Deployment) -> None:
    service = await deployed.start_order_service(
        PYTHONPROFILEIMPORTTIME="1", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{NO_COLLECTOR}/v1/traces"
    )
    assert "opentelemetry" in _imported(service)


def _imported(process: ServiceProcess) -> set[str]:
    """The packages that it has loaded so far."""
    lines = [line for line in process.log_lines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


async def test_a_collector_that_is_away_costs_no_order_and_one_warning(deployed: Deployment) -> None:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": NO_COLLECTOR, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    # Time to try again once.
    service = await both_started(deployed, settings | {"OTEL_EXPORTER_OTLP_TIMEOUT": "1.9"})

    answers = await post_all([service.url], (order_body(f"order-{number}") for number in range(1000)))
    await deployed.settled()
    for process in deployed.processes:
        await eventually(lambda: _told(process, "traces_not_exported"))  # noqa: B023
    await both_stopped(deployed)

    assert {answer.status for answer in answers} == {201}
    for process in deployed.processes:
        (told,) = _told(process, "traces_not_exported")
        assert told["level"] == "warning" and "refused" in told["reason"] and told["spans_lost"] > 0
        assert not [line for line in process.log_lines() if "Traceback" in line or '"level":"error"' in line]


async def test_a_collector_that_never_answers_does_not_keep_a_service_beyond_its_grace(
    deployed: Deployment, receiver: OtlpReceiver
) -> None:
    receiver.hanging = True
    service = await both_started(deployed, exporting_to(receiver, APP__SHUTDOWN_GRACE_SECONDS="5"))
    await post(service, "order-1", SAMPLED)
    await deployed.settled()
    await eventually(lambda: receiver.requests == 2)

    await both_stopped(deployed)

    for process in deployed.processes:
        assert _told(process, "traces_not_flushed") and _told(process, "service_stopped")
        assert not _told(process, "resources_cut_off")


async def test_spans_that_wait_are_exported_when_a_service_stops(
    deployed: Deployment, receiver: OtlpReceiver
) -> None:
    service = await both_started(deployed, exporting_to(receiver, OTEL_BSP_SCHEDULE_DELAY="3600000"))
    await post(service, "order-1", SAMPLED)
    await deployed.settled()
    assert not receiver.spans
    await both_stopped(deployed)
    assert len(receiver.spans) == ALL_SPANS_OF_AN_ORDER


def _told(process: ServiceProcess, event: str) -> list[dict[str, Any]]:
    lines = [msgspec.json.decode(line) for line in process.log_lines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT is not valid"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
        ({"OTEL_TRACES_SAMPLER": "sometimes"}, "OTEL_TRACES_SAMPLER='sometimes' is not valid"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "10%"}, "SAMPLER_ARG='10%'"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, "OTEL_BSP_MAX_QUEUE_SIZE='-1'"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "1"}, "max_export_batch_size must be less"),
        ({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"}, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"),
        ({"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere.pem"}, "OTEL_EXPORTER_OTLP_CERTIFICATE='/nowhere.pem'"),
        ({"OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER": "nobody"}, "nobody"),
        ({"OTEL_ATTRIBUTE_COUNT_LIMIT": "-1"}, "OTEL_ATTRIBUTE_COUNT_LIMIT"),
    ],
)
@pytest.mark.parametrize("command", ["order-service", "processor-service"])
async def test_a_value_that_makes_no_sense_ends_the_start_with_one_line_and_exit_code_2(
    command: str, wrong: Mapping[str, str], words: str
) -> None:
    settings = NO_BROKER | {"APP__DB_DSN": NOWHERE, "OTEL_EXPORTER_OTLP_ENDPOINT": NO_COLLECTOR}
    finished = await run(COMMANDS / command, "serve", settings=settings | dict(wrong))
    assert finished.code == 2
    assert len(finished.errors) == 1 and words in finished.errors[0], finished.errors

"""Where is order X? Real processes of both services tell."""

from collections.abc import Sequence
from typing import Any

import aio_pika
import pytest

from acceptance.deployment import Deployment
from acceptance.http_client import HttpConnection, request
from acceptance.load import order_body, post_all
from acceptance.processes import ServiceProcess
from service_kit.testing.eventually import eventually

KEY = "a-key-of-the-operators"
WHOLE_WAY = ["accepted", "committed", "published", "confirmed", "received", "decided", "answered", "applied"]


async def timeline(service: ServiceProcess, order_id: str) -> Any:
    answer = await request("GET", f"{service.url}/orders/{order_id}/timeline")
    assert answer.status == 200, answer.body
    return answer.json()


async def when(service: ServiceProcess, order_id: str, *steps: str) -> Any:
    """The timeline, once it has these steps last."""

    async def has_them() -> Any:
        found = await timeline(service, order_id)
        return found if names(found)[-len(steps) :] == [*steps] else None

    return await eventually(has_them)


def names(found: Any) -> list[str]:
    return [step["step"] for step in found["steps"]]


def moments(steps: Sequence[Any]) -> list[str]:
    return [step["at"].ljust(27, "0") for step in steps]


@pytest.mark.parametrize("events_per_message", ["1", "100"])
async def test_with_two_instances_of_each_service_it_is_told_who_did_what_and_when(
    deployed: Deployment, events_per_message: str
) -> None:
    common: dict[str, Any] = {"APP__ADMIN_KEY": KEY, "APP__EVENTS_PER_MESSAGE": events_per_message}
    processors = [
        await deployed.start_processor_service(APP__INSTANCE=f"processor-{number}", **common)
        for number in (1, 2)
    ]
    services = [
        await deployed.start_order_service(
            APP__INSTANCE=f"order-{number}", APP__PROCESSOR_URL=processors[number - 1].url, **common
        )
        for number in (1, 2)
    ]
    first = [f"to-1-{number}" for number in range(60)]
    second = [f"to-2-{number}" for number in range(60)]
    await post_all([services[0].url], map(order_body, first), connections=20)
    await post_all([services[1].url], (order_body(name, sku="teapot") for name in second), connections=20)
    await deployed.settled()

    for accepting, order_ids in zip(("order-1", "order-2"), (first, second), strict=True):
        for order_id in order_ids:
            found = await timeline(services[0], order_id)
            assert names(found) == WHOLE_WAY, found
            assert (found["complete"], found["problems"]) == (True, [])
            accepted, committed, published, confirmed, received, decided, answered, applied = found["steps"]
            assert (accepted["by"], committed["by"]) == (accepting, accepting)
            assert published["by"] == confirmed["by"] in ("order-1", "order-2")
            assert received["by"] == decided["by"] in ("processor-1", "processor-2")
            assert answered["by"] in ("processor-1", "processor-2")
            assert applied["by"] in ("order-1", "order-2")
            ours, theirs = [accepted, committed, published, confirmed], [received, decided, answered]
            assert moments(ours) == sorted(moments(ours))
            assert moments(theirs) == sorted(moments(theirs))
            assert {step["service"] for step in [*ours, applied]} == {f"{deployed.name}-order"}
            assert {step["service"] for step in theirs} == {f"{deployed.name}-processor"}

    failed = (await timeline(services[1], second[0]))["steps"]
    assert failed[5]["detail"]["rule"] == 1
    assert failed[5]["detail"]["sku"] == "teapot"
    assert failed[7]["detail"] == {
        "status": "failed",
        "fail_reason": "Pineapple/teapot embargo",
        "version": 2,
    }
    publications = await deployed.order_rows(
        "SELECT count(*) AS turns, sum(cardinality(subjects)) AS events FROM publications"
    )
    assert publications[0]["events"] == 120
    assert publications[0]["turns"] < 120


async def test_with_the_processor_down_the_rest_is_shown(deployed: Deployment) -> None:
    processor = await deployed.start_processor_service(APP__ADMIN_KEY=KEY)
    service = await deployed.start_order_service(APP__ADMIN_KEY=KEY, APP__PROCESSOR_URL=processor.url)
    await post_all([service.url], [order_body("decided")], connections=1)
    await deployed.settled()
    await processor.stop()
    await post_all([service.url], [order_body("waiting")], connections=1)

    away = "the steps of processor-service are missing: it does not answer"
    decided = await timeline(service, "decided")
    waiting = await when(service, "waiting", "published", "confirmed")

    assert names(decided) == ["accepted", "committed", "published", "confirmed", "applied"]
    assert (decided["problems"], waiting["problems"]) == ([away], [away])
    assert not decided["complete"]


async def test_the_timeline_of_a_poisoned_order_names_its_dead_letter(deployed: Deployment) -> None:
    processor = await deployed.start_processor_service(APP__ADMIN_KEY=KEY)
    service = await deployed.start_order_service(APP__ADMIN_KEY=KEY, APP__PROCESSOR_URL=processor.url)
    await processor.stop()
    await post_all([service.url], [order_body("poisoned")], connections=1)
    await when(service, "poisoned", "published", "confirmed")
    await _replace_its_message(deployed, b'{"order_id": "poisoned", "items": [')

    await processor.start()
    found = await when(service, "poisoned", "dead_letter")

    [letter] = await deployed.processor_rows("SELECT id FROM dead_letter_queue")
    step = found["steps"][-1]
    assert step["service"] == f"{deployed.name}-processor"
    assert step["detail"]["id"] == letter["id"]
    words = f"order.created in {deployed.name}-processor is dead letter {letter['id']}: Input data"
    assert found["problems"][0].startswith(words)
    assert found["order"]["status"] == "pending"


async def _replace_its_message(deployed: Deployment, body: bytes) -> None:
    async with await aio_pika.connect(deployed.rabbitmq_url) as connection:
        channel = await connection.channel()
        await (await channel.get_queue(deployed.processor_queue)).purge()
        exchange = await channel.get_exchange(deployed.name)
        await exchange.publish(aio_pika.Message(body), "order.created", mandatory=True)


async def test_what_was_sent_and_answered_again_is_told_again(deployed: Deployment) -> None:
    """The answer is lost: the reconciler sends the order again, and the processor its decision."""
    processor = await deployed.start_processor_service(APP__ADMIN_KEY=KEY)
    service = await deployed.start_order_service(
        APP__ADMIN_KEY=KEY, APP__PROCESSOR_URL=processor.url, APP__RECONCILE_AFTER_SECONDS="1"
    )
    await post_all([service.url], [order_body("first")], connections=1)
    await deployed.settled()
    await service.stop()
    await deployed.order_rows(
        "UPDATE orders SET status = 'pending', version = 1, created_at = created_at - interval '1 h'"
        " RETURNING order_id"
    )
    await deployed.order_rows("DELETE FROM processed_inbox RETURNING event_key")
    await deployed.order_rows(
        "UPDATE publications SET published_at = published_at - interval '1 h',"
        " confirmed_at = confirmed_at - interval '1 h' RETURNING id"
    )

    await service.start()
    await deployed.settled()
    found = await timeline(service, "first")

    assert names(found) == [
        *("accepted", "committed", "published", "confirmed", "published", "confirmed"),
        *("received", "decided", "answered", "answered", "applied"),
    ]
    assert [step["detail"]["number"] for step in found["steps"] if step["step"] == "published"] == [1, 2]
    assert found["complete"]


async def test_no_key_opens_the_processors_part_and_the_timeline_says_so(deployed: Deployment) -> None:
    processor = await deployed.start_processor_service()
    service = await deployed.start_order_service(APP__PROCESSOR_URL=processor.url)
    await post_all([service.url], [order_body("one")], connections=1)
    await deployed.settled()

    found = await timeline(service, "one")
    refused = await request("GET", f"{processor.url}/admin/orders/one")

    assert found["problems"] == [
        "the steps of processor-service are missing: its admin API is closed; "
        "APP__ADMIN_KEY in both services opens it"
    ]
    assert (refused.status, refused.json()["error_type"]) == (403, "AdminClosed")


async def test_hostile_ids_and_skus_are_told_as_they_are(deployed: Deployment) -> None:
    processor = await deployed.start_processor_service(APP__ADMIN_KEY=KEY)
    service = await deployed.start_order_service(APP__ADMIN_KEY=KEY, APP__PROCESSOR_URL=processor.url)
    connection = HttpConnection(service.url)
    hostile = "<script>alert(1)<\u2044script>\u202e"
    await connection.request("POST", "/orders", order_body(hostile, sku="<img src=x>"))
    await deployed.settled()

    path = "".join(f"%{byte:02X}" for byte in hostile.encode())
    answer = await connection.request("GET", f"/orders/{path}/timeline")
    connection.close()

    assert answer.status == 200
    assert answer.json()["order"]["order_id"] == hostile
    assert answer.headers["content-type"] == "application/json"
    assert names(answer.json()) == WHOLE_WAY

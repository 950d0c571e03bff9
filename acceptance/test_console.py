"""The console in a real browser, before real services: what an operator does there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aio_pika
import msgspec
import pytest

from acceptance.browser import Scheme, Watched, browsing
from acceptance.deployment import Deployment
from acceptance.http_client import request
from acceptance.load import SteadyLoad, order_body, post_all
from acceptance.processes import ServiceProcess
from service_kit.testing.eventually import eventually

KEY = "a-key-for-the-console"
HOSTILE = "<img src=x onerror=alert(1)>\u202e\"'"
PLACES: tuple[str, ...] = (
    "",
    "/orders",
    "/order?id=ord-teapot",
    "/orders/stuck",
    "/dead-letters",
    "/dead-letters/list?service=processor",
)
PLACES += (
    "/dead-letters/letter?service=processor&id=1",
    "/replays",
    "/rules",
    "/services",
    "/keys",
    "/keys/key?service=order&id=1",
    "/audit",
    "/login",
)


@dataclass(slots=True, kw_only=True)
class Operated:
    """Both services, and the browser that shows their console."""

    deployed: Deployment
    order: ServiceProcess
    processor: ServiceProcess
    chromium: str

    @asynccontextmanager
    async def seen(
        self, *, scheme: Scheme = "light", width: int = 1280, scripts: bool = True
    ) -> AsyncIterator[Watched]:
        """By somebody who has logged in."""
        async with browsing(
            self.chromium, self.order.url, scheme=scheme, width=width, scripts=scripts
        ) as seen:
            await login(seen)
            yield seen

    async def post(self, order_id: str, *, sku: str = "laptop", customer_id: str = "cust-1") -> None:
        body = order_body(order_id, sku=sku, customer_id=customer_id)
        assert (await request("POST", f"{self.order.url}/orders", body)).status == 201

    async def publish(self, routing_key: str, body: bytes) -> None:
        async with await aio_pika.connect(self.deployed.rabbitmq_url) as connection:
            exchange = await (await connection.channel()).get_exchange(self.deployed.name)
            await exchange.publish(aio_pika.Message(body), routing_key, mandatory=True)

    async def letters(self, service: str, count: int) -> None:
        """Wait for so many dead letters."""
        rows = self.deployed.order_rows if service == "order" else self.deployed.processor_rows

        async def there() -> bool:
            return bool((await rows("SELECT count(*) FROM dead_letter_queue"))[0][0] == count)

        await eventually(there)


async def login(seen: Watched) -> None:
    await seen.goto("/console")
    await seen.page.get_by_label("Your name").fill("Anna")
    await seen.page.get_by_label("Admin key").fill(KEY)
    await seen.page.get_by_role("button", name="Log in").click()
    await seen.page.get_by_role("heading", name="Live flow").wait_for()


@pytest.fixture
async def operated(deployed: Deployment, chromium: str) -> Operated:
    processor = await deployed.start_processor_service(APP__ADMIN_KEY=KEY)
    order = await deployed.start_order_service(
        APP__ADMIN_KEY=KEY, APP__CONSOLE="true", APP__PROCESSOR_URL=processor.url
    )
    return Operated(deployed=deployed, order=order, processor=processor, chromium=chromium)


async def test_the_charts_move_under_load(operated: Operated) -> None:
    load = SteadyLoad(operated.order.url, per_second=100, prefix="load")
    async with operated.seen() as seen, asyncio.TaskGroup() as tasks:
        page = seen.page
        tasks.create_task(load.run())
        accepted = page.locator("[data-key=accepted] b")
        line = page.locator("[data-chart=flow] path.series-1").first

        async def flows() -> bool:
            return (await accepted.inner_text()) not in ("–", "0")

        await eventually(flows, within_seconds=30)
        before = await line.get_attribute("d")

        async def moved() -> bool:
            return await line.get_attribute("d") != before

        await eventually(moved)
        await page.get_by_text("All is well: orders flow.").wait_for()
        latency = page.locator("[data-key=p99] b")
        await eventually(lambda: latency.inner_text())
        await page.get_by_role("slider", name="Orders a second").focus()
        await page.keyboard.press("ArrowLeft")
        read = await page.get_by_role("slider", name="Orders a second").get_attribute("aria-valuetext")
        load.stop()

    assert read and "accepted" in read and "done" in read


async def test_an_order_is_found_and_its_way_is_read(operated: Operated) -> None:
    await operated.post("ord-teapot", sku="teapot", customer_id="cust-tea")
    await operated.deployed.settled()
    async with operated.seen() as seen:
        page = seen.page
        await page.get_by_role("link", name="Orders", exact=True).click()
        await page.get_by_label("Order or customer").fill("cust-tea")
        await page.get_by_role("button", name="Search").click()
        await page.get_by_role("link", name="ord-teapot").click()
        stages = await page.locator(".way h3").all_inner_texts()
        decided = await page.locator(".way li", has_text="Decided").inner_text()
        ahead = await page.locator(".way [data-missing]").count()
        facts = await page.get_by_role("main").inner_text()

    assert stages == [
        "Accepted",
        "Committed",
        "Published",
        "Confirmed",
        "Received",
        "Decided",
        "Answered",
        "Applied",
    ]
    assert "teapot" in decided and ahead == 0
    assert "failed" in facts and "Pineapple/teapot embargo" in facts


async def test_poison_is_seen_forecast_and_discarded(operated: Operated) -> None:
    await operated.publish("order.created", msgspec.json.encode({"order_id": 7, "customer_id": HOSTILE}))
    await operated.letters("processor", 1)
    async with operated.seen() as seen:
        page = seen.page
        await page.get_by_role("link", name="Dead letters").click()
        await page.locator("tbody a").first.click()
        await page.get_by_role("link", name="Dead letter 1").click()
        body = await page.locator("pre.body").first.inner_text()
        await page.get_by_role("button", name="Replay or discard it").click()
        again = await page.locator(".tiles div", has_text="Would fail again").inner_text()
        await page.locator("#discard-reason").fill("sent by a test")
        await page.get_by_role("button", name="Discard it").click()
        await page.get_by_text("Dead letters discarded: 1.").wait_for()
        await page.get_by_role("link", name="Audit log").click()
        audit = await page.get_by_role("main").inner_text()

    assert "<img src=x onerror=alert(1)>" in body and "U+202E" in body
    assert again.split() == ["Would", "fail", "again", "1"]
    assert "Anna" in audit and "sent by a test" in audit
    assert not await operated.deployed.processor_rows("SELECT 1 FROM dead_letter_queue")


async def answer_that_came_too_early(operated: Operated, order_id: str) -> None:
    """A dead letter whose cause can be mended: the order that it speaks of is not there yet."""
    body = f'{{"order_id":"{order_id}","status":"success","fail_reason":null,"version":2}}'
    await operated.publish("order.processed", body.encode())

    async def its_attempts_are_over() -> bool:
        await operated.deployed.order_rows(
            "UPDATE retry_queue SET attempts = 9, due_at = now() WHERE attempts < 9"
        )
        return bool(await operated.deployed.order_rows("SELECT 1 FROM dead_letter_queue"))

    await eventually(its_attempts_are_over)


async def test_replay_after_the_cause_is_mended(operated: Operated) -> None:
    await answer_that_came_too_early(operated, "late")
    async with operated.seen() as seen:
        page = seen.page
        await page.get_by_role("link", name="Services").click()
        await page.locator("#reason-processor").fill("so that the old answer counts")
        await page.locator("form", has=page.locator("#reason-processor")).get_by_role("button").click()
        await page.get_by_text("Consuming is paused.").wait_for()
        await operated.post("late")
        await page.get_by_role("link", name="Dead letters").click()
        await page.locator("tbody a").first.click()
        await page.get_by_role("button", name="Go on with all that match").click()
        run = await page.locator(".tiles div", has_text="Would run").inner_text()
        await page.locator("#replay-reason").fill("the order is there now")
        await page.get_by_role("button", name="Replay it").click()
        await page.locator("[data-state=finished]").wait_for()
        handled = await page.locator(".tiles div", has_text="Handled").inner_text()
        hidden = await page.locator("section[data-shown-when]").is_hidden()

    assert run.split()[-1] == "1" and handled.split()[-1] == "1" and hidden
    [row] = await operated.deployed.order_rows("SELECT status FROM orders WHERE order_id = 'late'")
    assert row["status"] == "done"


async def test_replay_by_keyboard_alone(operated: Operated) -> None:
    await answer_that_came_too_early(operated, "by-keyboard")
    await operated.deployed.processor_rows("SELECT 1")
    async with operated.seen() as seen:
        page, keyboard = seen.page, seen.page.keyboard
        await seen.goto("/console")
        await keyboard.press("Tab")
        assert await page.locator(":focus").inner_text() == "Skip to the content"
        await seen.tab_to("Dead letters")
        await keyboard.press("Enter")
        await page.get_by_role("heading", name="Dead letters", exact=True).wait_for()
        await seen.tab_to("there is no such order")
        await keyboard.press("Enter")
        await page.get_by_role("heading", name="Dead letters of order-service").wait_for()
        await seen.tab_to("Choose dead letter")
        await keyboard.press("Space")
        await seen.tab_to("Go on with the chosen 1")
        await keyboard.press("Enter")
        await page.get_by_role("heading", name="What a replay would do").wait_for()
        await seen.tab_to("Reason")
        await keyboard.type("by keyboard")
        await seen.tab_to("Replay it")
        await keyboard.press("Enter")
        await page.get_by_role("heading", name="Replay 1 of order-service").wait_for()
        outline = await focus_is_visible(seen)

    assert outline
    [replay] = await operated.deployed.order_rows("SELECT operator, reason FROM replays")
    assert tuple(replay) == ("Anna", "by keyboard")


async def focus_is_visible(seen: Watched) -> bool:
    await seen.page.keyboard.press("Tab")
    return bool(await seen.page.evaluate("getComputedStyle(document.activeElement).outlineStyle !== 'none'"))


async def test_a_ruleset_is_rehearsed(operated: Operated) -> None:
    bodies = [order_body(f"ord-{number}", sku="water" if number < 3 else "laptop") for number in range(10)]
    await post_all([operated.order.url], bodies, connections=4)
    await operated.deployed.settled()
    async with operated.seen() as seen:
        page = seen.page
        await page.get_by_role("link", name="Rules").click()
        await page.get_by_label("Ruleset, in TOML").fill("[[rules]]\nskus = [")
        await page.get_by_role("button", name="Rehearse").click()
        fault = await page.locator("#outcome [role=alert]").inner_text()
        await page.get_by_label("Ruleset, in TOML").fill(
            '[[rules]]\nskus = ["water"]\nfail_reason = "Too wet"\n'
        )
        await page.get_by_role("button", name="Rehearse").click()
        changed = await page.locator(".tiles div", has_text="Decided otherwise").inner_text()
        outcome = await page.locator("#outcome").inner_text()

    assert fault
    assert changed.split()[-1] == "3" and "Too wet" in outcome and "ord-" in outcome
    assert not await operated.deployed.order_rows("SELECT 1 FROM orders WHERE fail_reason = 'Too wet'")


async def test_a_key_is_made_seen_once_used_and_revoked(deployed: Deployment, chromium: str) -> None:
    processor = await deployed.start_processor_service(APP__ADMIN_KEY=KEY, APP__AUTH="keys")
    order = await deployed.start_order_service(
        APP__ADMIN_KEY=KEY, APP__AUTH="keys", APP__CONSOLE="true", APP__PROCESSOR_URL=processor.url
    )
    operated = Operated(deployed=deployed, order=order, processor=processor, chromium=chromium)
    body = order_body("ord-1", customer_id="cust-1")
    admin = {"authorization": f"Bearer {KEY}"}
    assert (await request("POST", f"{order.url}/orders", body, headers=admin)).status == 201

    async def read_by(secret: str) -> int:
        headers = {"authorization": f"Bearer {secret}"}
        return (await request("GET", f"{order.url}/orders/ord-1", headers=headers)).status

    async with operated.seen() as seen:
        page = seen.page
        await page.get_by_role("link", name="API keys").click()
        await page.get_by_text("There is no key yet.").wait_for()
        await page.get_by_label("Name").fill(HOSTILE)
        await page.get_by_label("orders:read").check()
        await page.get_by_label("Only for these customers").fill("cust-1\ncust-2")
        await page.get_by_label("Reason").fill("a new shop")
        await page.get_by_role("button", name="Make the key").click()
        await page.get_by_role("heading", name="The new key of order-service").wait_for()
        secret = await page.locator("pre.secret").inner_text()
        assert await seen.axe() == []
        assert await read_by(secret) == 200

        await page.reload()
        await page.get_by_role("heading", name="API keys of order-service").wait_for()
        assert secret not in await page.content() and secret not in page.url
        assert await page.locator("tbody tr").count() == 1, "loading again made no other key"
        listed = await page.locator("tbody tr").inner_text()
        await page.get_by_role("link", name=secret[:8]).click()
        await page.get_by_role("heading", name="Revoke").wait_for()
        assert await seen.axe() == []
        await page.locator("#revoke-reason").fill("the shop is closed")
        await page.get_by_role("button", name="Revoke it for good").click()
        await page.get_by_text("The key is revoked").wait_for()
        assert await read_by(secret) == 401
        await page.get_by_role("link", name="Audit log").click()
        audit = await page.get_by_role("main").inner_text()

    assert "<img src=x onerror=alert(1)>U+202E" in listed and "usable" in listed and "cust-2" in listed
    assert all(words in audit for words in ("key.create", "key.revoke", "Anna", "the shop is closed"))
    assert secret not in audit
    assert not [log for log in deployed.folder.glob("*.log") if secret in log.read_text()]


async def test_a_key_is_rotated_on_a_phone_without_scripts(operated: Operated) -> None:
    async with operated.seen(width=375, scripts=False) as seen:
        page = seen.page
        await seen.goto("/console/keys?service=processor")
        await page.get_by_label("Name").fill("ops")
        await page.get_by_label("admin").check()
        await page.get_by_label("Reason").fill("a test")
        await page.get_by_role("button", name="Make the key").click()
        first = await page.locator("pre.secret").inner_text()
        await page.get_by_role("link", name="API keys of processor-service").click()
        await page.get_by_role("link", name=first[:8]).click()
        await page.get_by_label("for so many hours more").fill("0.5")
        await page.locator("#rotate-reason").fill("the yearly change")
        await page.get_by_role("button", name="Rotate it").click()
        second = await page.locator("pre.secret").inner_text()

    keys = await operated.deployed.processor_rows(
        "SELECT replaces, expires_at - now() < interval '31 min' AS ends FROM api_keys ORDER BY id"
    )
    assert first != second and [tuple(key) for key in keys] == [(None, True), (1, None)]


async def test_one_service_away_leaves_the_rest(operated: Operated) -> None:
    async with operated.seen() as seen:
        page = seen.page
        await page.get_by_text("All is well.").wait_for()
        await operated.processor.stop()
        await page.get_by_text("processor-service does not answer").first.wait_for()
        await seen.goto("/console/rules")
        await seen.goto("/console/orders")
        await seen.goto("/console")
        await operated.processor.start()
        await page.get_by_text("All is well.").wait_for()


@pytest.fixture
async def full(operated: Operated) -> Operated:
    """With something on every page, part of it hostile."""
    await operated.post("ord-teapot", sku="teapot")
    await operated.post(HOSTILE, sku=HOSTILE, customer_id=HOSTILE)
    await operated.publish("order.created", msgspec.json.encode({"order_id": HOSTILE, "items": 7}))
    await operated.publish("order.created", b"\xff" * 2_000_000)
    key = msgspec.json.encode({"name": HOSTILE, "roles": ["orders:read", "orders:write"], "reason": HOSTILE})
    headers = {"authorization": f"Bearer {KEY}", "x-operator": "Anna"}
    assert (await request("POST", f"{operated.order.url}/admin/keys", key, headers=headers)).status == 201
    await operated.letters("processor", 2)
    await operated.deployed.settled()
    return operated


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_can_be_used_by_everybody(full: Operated, scheme: Scheme) -> None:
    async with full.seen(scheme=scheme) as seen:
        for place in PLACES:
            await seen.goto(f"/console{place}")
            assert await seen.axe() == [], place
        await seen.goto("/console/dead-letters/list?service=processor")
        await seen.page.get_by_role("button", name="Go on with all that match").click()
        await seen.page.get_by_role("heading", name="What a replay would do").wait_for()
        assert await seen.axe() == []


async def test_every_page_fits_a_phone(full: Operated) -> None:
    await full.deployed.order_rows(
        "INSERT INTO outbox (event_type, payload, message_id, created_at)"
        " VALUES ('nobody.asked', '{}', gen_random_uuid(), now() - interval '19 min 9 s')"
    )
    async with full.seen(width=375) as seen:
        await seen.page.get_by_text("oldest 19 min").wait_for()
        for place in PLACES:
            await seen.goto(f"/console{place}")
            assert await seen.page.evaluate("document.documentElement.scrollWidth") <= 375, place
            assert await seen.axe() == [], place


async def test_without_scripts_everything_can_be_read_and_done(full: Operated) -> None:
    async with full.seen(scripts=False) as seen:
        page = seen.page
        await seen.goto("/console/dead-letters/list?service=processor")
        await page.locator("[name=id]").first.check()
        await page.get_by_role("button", name="Go on with the chosen").click()
        await page.locator("#discard-reason").fill("without scripts")
        await page.get_by_role("button", name="Discard it").click()
        await page.get_by_text("Dead letters discarded: 1.").wait_for()
        await page.get_by_role("button", name="Log out").click()
        await page.get_by_role("heading", name="Log in").wait_for()


async def test_two_who_replay_the_same_do_no_harm(operated: Operated) -> None:
    await answer_that_came_too_early(operated, "twice")
    await operated.post("twice")
    async with operated.seen() as one, operated.seen() as other:
        for seen in (one, other):
            await seen.goto("/console/dead-letters/list?service=order")
            await seen.page.get_by_role("button", name="Go on with all that match").click()
            await seen.page.locator("#replay-reason").fill("at once")
        other.forgiven = (404, 409)  # to who comes later: replayed already, or being replayed
        for seen in (one, other):
            await seen.page.get_by_role("button", name="Replay it").click()
            await seen.page.locator("[data-state], [role=alert]:not([hidden])").first.wait_for()

    async def none_left() -> bool:
        return not await operated.deployed.order_rows("SELECT 1 FROM dead_letter_queue")

    await eventually(none_left)
    [row] = await operated.deployed.order_rows("SELECT status, version FROM orders")
    assert tuple(row) == ("done", 2)

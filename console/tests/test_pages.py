"""What pages show, hide and pass on; each asked for over HTTP, before services that answer over HTTP."""

import json
import re
from typing import Any

import pytest

from order_console.testing.deployed import Deployed
from order_console.testing.fake_services import (
    AUDIT,
    GROUP,
    KEY,
    LETTER,
    LETTER_IN_FULL,
    ORDER,
    RULES,
    STATE,
    TIMELINE,
)
from order_processor_client.request import Service

HOSTILE = "\"'><script>alert(1)</script>\u202egpj.exe\x00\x1b[31m&amp;"

PAGES = {
    "": "Live flow",
    "/orders": "ord-1",
    "/orders?q=ord-1": "The order with this id",
    "/order?id=ord-1": "ruleset version",
    "/orders/stuck": "its event waits",
    "/dead-letters": "JSON is malformed",
    "/dead-letters/list?service=order&group=g1": "Go on with all that match",
    "/dead-letters/letter?service=processor&id=7": "this is not JSON",
    "/replays": "the warehouse is back",
    "/replay?service=order&id=5": "Hold it, go on, or end it",
    "/rules": "Too fatty food",
    "/services": "Pause consuming",
    "/keys": "the shop",
    "/keys/key?service=processor&id=7": "Revoke it for good",
    "/audit": "replay.start",
    "/login": "Admin key",
}


@pytest.mark.parametrize(("page", "says"), PAGES.items())
async def test_each_page_shows_what_it_is_for(deployed: Deployed, page: str, says: str) -> None:
    answer = await deployed.visitor.get(f"/console{page}")

    assert answer.status_code == 200 and says in answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("page", PAGES)
async def test_no_page_has_anything_inline_or_from_elsewhere(deployed: Deployed, page: str) -> None:
    html = (await deployed.visitor.get(f"/console{page}")).text

    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", html)
    assert re.findall(r"<script[^>]*>", html) == re.findall(
        r'<script type="module" src="/console/static/[^"]+">', html
    )
    assert set(re.findall(r'(?:src|href|action)="([^"/#][^"]*|//[^"]*)"', html)) == set()


@pytest.mark.parametrize("page", PAGES)
async def test_each_page_has_a_title_a_heading_and_one_way_to_skip_to_it(
    deployed: Deployed, page: str
) -> None:
    html = (await deployed.visitor.get(f"/console{page}")).text

    assert len(re.findall(r"<h1", html)) == 1 and len(re.findall(r"<main", html)) == 1
    assert 'href="#content"' in html and re.search(r"<title>[^<]+ · Order console</title>", html)


def hostile(deployed: Deployed) -> None:
    """Everything that comes from outside holds what could do harm."""
    letter = LETTER | {
        "subject": HOSTILE,
        "reason": HOSTILE,
        "event_type": HOSTILE,
        "event_key": HOSTILE,
        "source": HOSTILE,
    }
    full = LETTER_IN_FULL | letter | {"headers": {HOSTILE: HOSTILE}, "body": HOSTILE, "message_id": HOSTILE}
    order = ORDER | {"order_id": HOSTILE, "customer_id": HOSTILE, "fail_reason": HOSTILE}
    step = {
        "step": "decided",
        "at": None,
        "by": HOSTILE,
        "service": "processor",
        "detail": {"sku": HOSTILE, HOSTILE: [HOSTILE]},
    }
    timeline = TIMELINE | {"order": order, "steps": [step], "problems": [HOSTILE]}
    state = dict(STATE) | {
        "version": HOSTILE,
        "instance": HOSTILE,
        "checks": {HOSTILE: {"ok": False, "detail": HOSTILE}},
    }
    state["consuming"] = {"paused": True, "by": HOSTILE, "reason": HOSTILE, "since": None}
    replay = {"state": HOSTILE, "operator": HOSTILE, "reason": HOSTILE, "stopped_because": HOSTILE}
    audit = AUDIT | {
        "operator": HOSTILE,
        "action": HOSTILE,
        "target": HOSTILE,
        "reason": HOSTILE,
        "details": {HOSTILE: HOSTILE},
    }
    key = KEY | {"hint": HOSTILE, "name": HOSTILE, "roles": [HOSTILE], "customers": [HOSTILE]}
    for service in (deployed.order, deployed.processor):
        service.answers |= {
            "GET /admin/keys": {"keys": [key], "has_more": True},
            "GET /admin/state": state,
            "GET /admin/dead-letters/groups": {
                "groups": [GROUP | {"reason": HOSTILE, "group": HOSTILE}],
                "total": 1,
            },
            "GET /admin/dead-letters": {"dead_letters": [letter], "has_more": False},
            "GET /admin/dead-letters/7": full,
            "GET /admin/audit": {"entries": [audit], "has_more": False},
            "GET /admin/replays": {
                "replays": [service.answers["GET /admin/replays/5"] | replay],
                "has_more": False,
            },
            "GET /admin/replays/5": service.answers["GET /admin/replays/5"] | replay,
        }
    deployed.order.answers |= {
        "GET /orders": {"data": [order], "has_more": True},
        "GET /orders/ord-1": order,
        "GET /orders/ord-1/timeline": timeline,
        "GET /admin/orders/stuck": {
            "orders": [{"order_id": HOSTILE, "pending_seconds": 1, "why": HOSTILE}],
            "total": 1,
        },
    }
    rule = {"skus": [HOSTILE], "fail_reason": HOSTILE}
    deployed.processor.answers["GET /admin/rules"] = RULES | {
        "version": HOSTILE,
        "source": HOSTILE,
        "rules": [rule],
        "problem": HOSTILE,
    }


@pytest.mark.parametrize("page", PAGES)
async def test_hostile_text_does_nothing_and_is_seen(deployed: Deployed, page: str) -> None:
    hostile(deployed)

    html = (await deployed.visitor.get(f"/console{page}")).text

    assert "<script>alert" not in html and "\u202e" not in html and "\x00" not in html and "\x1b" not in html
    assert not re.search(r"""=["'][^"'>]*"'><""", html)
    if page not in ("", "/login"):  # these show what the poller saw, or nothing of others
        assert "&lt;script&gt;alert(1)" in html and "U+202E" in html


async def test_a_body_of_two_megabytes_is_shown_cut(deployed: Deployed) -> None:
    deployed.order.answers["GET /admin/dead-letters/7"] = LETTER_IN_FULL | {
        "body": "<b>" * 700_000,
        "size": 2_100_000,
    }

    html = (await deployed.visitor.get("/console/dead-letters/letter?service=order&id=7")).text

    assert len(html) < 400_000 and "2.0 MiB" in html and "Only its beginning" in html and "<b><b>" not in html


async def test_bytes_are_a_file_and_nothing_that_a_browser_shows(deployed: Deployed) -> None:
    answer = await deployed.visitor.get("/console/dead-letters/bytes?service=order&id=7")

    assert answer.content == b"this is not JSON"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == 'attachment; filename="order-dead-letter-7.bin"'


@pytest.mark.parametrize("page", PAGES)
async def test_with_processor_service_away_each_page_shows_the_rest(deployed: Deployed, page: str) -> None:
    await deployed.away(Service.PROCESSOR)

    answer = await deployed.visitor.get(f"/console{page}")

    if "service=processor" in page:
        assert answer.status_code == 502 and "does not answer" in answer.text
        return
    assert answer.status_code == 200
    if page in ("/dead-letters", "/replays", "/rules", "/services", "/audit"):
        assert "processor-service does not answer" in answer.text
    if page in ("/dead-letters", "/replays", "/services", "/audit"):
        assert PAGES[page] in answer.text


async def test_with_order_service_away_the_other_is_shown(deployed: Deployed) -> None:
    await deployed.away(Service.ORDER)

    orders = await deployed.visitor.get("/console/orders")
    letters = await deployed.visitor.get("/console/dead-letters")
    order = await deployed.visitor.get("/console/order?id=ord-1")

    assert orders.status_code == 200 and "order-service does not answer" in orders.text
    assert "order-service does not answer" in letters.text and PAGES["/dead-letters"] in letters.text
    assert order.status_code == 502


async def test_a_service_with_another_key_is_told_of(deployed: Deployed) -> None:
    deployed.processor.answers |= {"GET /admin/rules": 401, "POST /admin/consuming/pause": 401}

    rules = await deployed.visitor.get("/console/rules")
    pause = await deployed.visitor.post(
        "/console/consuming", {"service": "processor", "change": "pause", "reason": "x"}
    )

    assert "both services need the same APP__ADMIN_KEY" in rules.text
    assert pause.status_code == 502


async def test_orders_are_sought_by_all_that_was_entered(deployed: Deployed) -> None:
    deployed.order.answers["GET /orders"] = {"data": [ORDER], "has_more": True}
    form = "q=cust-1&status=failed&from=2026-11-24T10:00&to=2026-11-24T11:00&after=ord-0"

    html = (await deployed.visitor.get(f"/console/orders?{form}")).text

    assert deployed.order.last("GET", "/orders").query == {
        "customer_id": "cust-1",
        "status": "failed",
        "created_from": "2026-11-24T10:00:00+00:00",
        "created_to": "2026-11-24T11:00:00+00:00",
        "starting_after": "ord-0",
        "limit": "50",
    }
    assert "after=ord-1" in html and "status=failed" in html and "after=ord-0" not in html


@pytest.mark.parametrize("order_id", ["a b", " a ", "..", "%2e", "a&b=c#d?e", "Заказ", "a+b", "\\", "a;b"])
async def test_an_order_of_any_id_is_found(deployed: Deployed, order_id: str) -> None:
    order = ORDER | {"order_id": order_id}
    deployed.order.answers |= {
        "GET /orders": {"data": [order], "has_more": False},
        f"GET /orders/{order_id}/timeline": TIMELINE | {"order": order},
    }
    html = (await deployed.visitor.get("/console/orders")).text
    [link] = re.findall(r'href="(/console/order\?id=[^"]*)"', html)

    answer = await deployed.visitor.get(link)

    assert answer.status_code == 200 and deployed.order.last("GET", f"/orders/{order_id}/timeline")


async def test_an_unknown_order_is_said_to_be_none(deployed: Deployed) -> None:
    answer = await deployed.visitor.get("/console/order?id=nobody")

    assert answer.status_code == 404 and "refused: /orders/nobody/timeline" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/orders?from=yesterday",
        "/dead-letters/list?service=nobody",
        "/dead-letters/list?service=order&after=-1",
        "/dead-letters/letter?service=order&id=x",
        "/replay?service=order&id=9999999999999999999999",
        "/audit?order=1.5",
        "/keys?service=nobody",
        "/keys/key?service=order&id=9223372036854775807",
    ],
)
async def test_an_address_that_makes_no_sense_is_answered_in_words(deployed: Deployed, path: str) -> None:
    answer = await deployed.visitor.get(f"/console{path}")

    assert answer.status_code == 400 and "That cannot be used" in answer.text


@pytest.mark.parametrize("query", ["%ff", "a=%ff", "&".join(["a=b"] * 10_200)])
async def test_an_address_that_cannot_be_read_is_answered_in_words(deployed: Deployed, query: str) -> None:
    assert (await deployed.visitor.get(f"/console/orders?{query}")).status_code in (400, 431)


async def test_what_was_chosen_goes_into_the_forecast(deployed: Deployed) -> None:
    await deployed.visitor.post(
        "/console/dead-letters/forecast", {"service": "order", "scope": "chosen", "id": ["7", "8"]}
    )

    assert deployed.order.last("POST", "/admin/dead-letters/forecast").body == {"ids": [7, 8]}


async def test_all_that_match_are_those_that_match_now(deployed: Deployed) -> None:
    form = {"service": "processor", "scope": "all", "group": "g1", "subject": "ord-1", "id": "7"}

    await deployed.visitor.post("/console/dead-letters/forecast", form)

    asked = deployed.processor.last("POST", "/admin/dead-letters/forecast").body["filter"]
    assert asked.pop("until") and asked == {"group": "g1", "subject": "ord-1"}


async def test_nothing_chosen_is_nothing_done(deployed: Deployed) -> None:
    answer = await deployed.visitor.post(
        "/console/dead-letters/forecast", {"service": "order", "scope": "chosen"}
    )

    assert answer.status_code == 400 and "Nothing was chosen" in answer.text


async def test_from_the_forecast_to_the_replay_the_selection_stays(deployed: Deployed) -> None:
    form: dict[str, Any] = {"service": "order", "scope": "chosen", "id": ["7", "8"]}
    page = (await deployed.visitor.post("/console/dead-letters/forecast", form)).text
    [selection, _] = re.findall(r'name="selection" value="([^"]*)"', page)
    form = {
        "service": "order",
        "selection": selection,
        "reason": " mended ",
        "per_second": "50",
        "failure_share_max": "5",
    }

    answer = await deployed.visitor.post("/console/dead-letters/replay", form)

    assert (answer.status_code, answer.headers["location"]) == (303, "/console/replay?service=order&id=5")
    asked = deployed.order.last("POST", "/admin/replays")
    assert asked.body == {"ids": [7, 8], "reason": "mended", "per_second": 50.0, "failure_share_max": 0.05}
    assert asked.headers["x-operator"] == "Anna"


async def test_discarding_says_how_many_are_gone(deployed: Deployed) -> None:
    form = {"service": "processor", "selection": '{"group":"g1"}', "reason": "a test"}

    answer = await deployed.visitor.post("/console/dead-letters/discard", form)

    assert deployed.processor.last("POST", "/admin/dead-letters/discard").body == {
        "filter": {"group": "g1"},
        "reason": "a test",
    }
    assert "Dead letters discarded: 3." in (await deployed.visitor.get(answer.headers["location"])).text


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/dead-letters/discard", {"service": "order", "selection": "[7]"}),
        ("/dead-letters/replay", {"service": "order", "selection": "[7]"}),
        ("/consuming", {"service": "order", "change": "pause"}),
        ("/replay", {"service": "order", "id": "5", "change": "pause"}),
        ("/reconcile", {}),
        ("/rules/reload", {}),
        ("/keys", {"service": "order", "name": "shop", "roles": "orders:read"}),
        ("/keys/rotate", {"service": "order", "id": "7"}),
        ("/keys/revoke", {"service": "order", "id": "7"}),
    ],
)
async def test_no_change_without_a_reason(deployed: Deployed, path: str, form: dict[str, str]) -> None:
    answer = await deployed.visitor.post(f"/console{path}", form | {"reason": "  "})

    assert answer.status_code == 400 and "A reason is needed" in answer.text
    posts = [asked for asked in deployed.order.asked + deployed.processor.asked if asked.method == "POST"]
    assert posts == []


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/dead-letters/replay", {"service": "order", "selection": "[7]", "per_second": "fast"}),
        ("/dead-letters/replay", {"service": "order", "selection": "[7]", "per_second": "nan"}),
        ("/dead-letters/replay", {"service": "order", "selection": "[7]", "failure_share_max": "101"}),
        ("/dead-letters/replay", {"service": "order", "selection": "all of them"}),
        ("/consuming", {"service": "order", "change": "explode"}),
        ("/replay", {"service": "order", "id": "5", "change": "explode"}),
        ("/keys/rotate", {"service": "order", "id": "7", "overlap_hours": "2161"}),
        ("/keys/rotate", {"service": "order", "id": "-7"}),
        ("/keys/revoke", {"service": "nobody", "id": "7"}),
    ],
)
async def test_what_cannot_be_meant_is_not_passed_on(
    deployed: Deployed, path: str, form: dict[str, str]
) -> None:
    answer = await deployed.visitor.post(f"/console{path}", form | {"reason": "x"})

    assert answer.status_code == 400 and "That cannot be used" in answer.text


async def test_a_change_that_may_have_been_made_is_said_to_be_uncertain(deployed: Deployed) -> None:
    await deployed.away(Service.PROCESSOR)

    answer = await deployed.visitor.post(
        "/console/consuming", {"service": "processor", "change": "pause", "reason": "x"}
    )

    assert answer.status_code == 502 and "the audit log tells" in answer.text


@pytest.mark.parametrize(
    ("path", "form", "service", "asked", "body"),
    [
        ("/reconcile", {}, "order", "/admin/reconcile", {}),
        ("/reconcile", {"order_id": " a "}, "order", "/admin/reconcile", {"order_ids": [" a "]}),
        ("/rules/reload", {}, "processor", "/admin/rules/reload", {}),
        (
            "/consuming",
            {"service": "processor", "change": "resume"},
            "processor",
            "/admin/consuming/resume",
            {},
        ),
        (
            "/replay",
            {"service": "processor", "id": "5", "change": "pause"},
            "processor",
            "/admin/replays/5/pause",
            {},
        ),
        ("/keys/revoke", {"service": "processor", "id": "7"}, "processor", "/admin/keys/7/revoke", {}),
    ],
)
async def test_a_change_is_made_by_its_operator_and_with_its_reason(
    deployed: Deployed, path: str, form: dict[str, str], service: str, asked: str, body: dict[str, Any]
) -> None:
    answer = await deployed.visitor.post(f"/console{path}", form | {"reason": "because"})

    assert answer.status_code == 303
    found = getattr(deployed, service).last("POST", asked)
    assert found.body == body | {"reason": "because"} and found.headers["x-operator"] == "Anna"


async def test_rules_are_rehearsed_and_stay_in_their_box(deployed: Deployed) -> None:
    toml = '[[rules]]\nskus = ["water"]\n'

    html = (
        await deployed.visitor.post(
            "/console/rules", {"toml": toml.replace("\n", "\r\n"), "last": "500", "action": "rehearse"}
        )
    ).text

    assert deployed.processor.last("POST", "/admin/rules/rehearse").body == {"toml": toml, "last": 500}
    assert "failed: Too wet" in html and "9,990" in html and "skus = [&#34;water&#34;]" in html


async def test_rules_that_are_none_are_told_with_their_faults(deployed: Deployed) -> None:
    deployed.processor.answers["POST /admin/rules/check"] = 400

    html = (await deployed.visitor.post("/console/rules", {"toml": "nonsense", "action": "check"})).text

    assert "refused: /admin/rules/check" in html and "nonsense" in html and "Too fatty food" in html
    assert deployed.processor.count("/admin/rules/rehearse") == 0


async def test_the_audit_log_is_one_of_both_newest_first_page_by_page(deployed: Deployed) -> None:
    def entries(seconds: range, who: str) -> list[dict[str, Any]]:
        return [
            AUDIT | {"id": n, "at": f"2026-11-24T14:{n // 60:02}:{n % 60:02}Z", "operator": f"{who}{n}"}
            for n in seconds
        ]

    def answer(service: Any, all_: list[dict[str, Any]], after: int | None) -> None:
        rest = [entry for entry in all_ if after is None or entry["id"] < after]
        service.answers["GET /admin/audit"] = {"entries": rest[:50], "has_more": len(rest) > 50}

    ours, theirs = entries(range(119, 0, -2), "o"), entries(range(120, 60, -2), "p")
    seen: list[str] = []
    path: str | None = "/console/audit"
    while path:
        query = dict(pair.split("=") for pair in path.partition("?")[2].split("&") if pair)
        answer(deployed.order, ours, int(query["order"]) if "order" in query else None)
        answer(deployed.processor, theirs, int(query["processor"]) if "processor" in query else None)
        html = (await deployed.visitor.get(path)).text
        seen += re.findall(r"<b><bdi>([op]\d+)</bdi></b>", html)
        older = re.search(r'href="([^"]+)" rel="next"', html)
        path = older[1].replace("&amp;", "&") if older else None

    newest_first = sorted(ours + theirs, key=lambda entry: entry["at"], reverse=True)
    assert [name for name in seen if name[0] in "op"] == [entry["operator"] for entry in newest_first]


async def test_a_note_says_nothing_that_an_address_brings(deployed: Deployed) -> None:
    html = (await deployed.visitor.get("/console/dead-letters?note=discarded&count=%3Cb%3Eall%3C/b%3E")).text
    other = (await deployed.visitor.get("/console/dead-letters?note=%3Cb%3E")).text

    assert "Dead letters discarded: some." in html and "&lt;b&gt;" not in html + other


@pytest.mark.parametrize("path", ["/nothing", "/static/x/../console.css", "/static/x/nothing.js", "/orders/"])
async def test_there_is_nothing_anywhere_else(deployed: Deployed, path: str) -> None:
    assert (await deployed.visitor.get(f"/console{path}")).status_code == 404


async def test_a_body_that_is_no_form_is_refused(deployed: Deployed) -> None:
    headers = {"sec-fetch-site": "same-origin", "content-type": "application/json"}

    answer = await deployed.visitor.http.post("/console/consuming", content=json.dumps({}), headers=headers)

    assert answer.status_code == 415

"""API keys on the console: listed, made, rotated, revoked; and a secret that is on one answer alone."""

import re

import pytest

from order_console.testing.deployed import Deployed
from order_console.testing.fake_services import KEY, NOW, WHOLE_KEY
from order_processor_client.request import Service

Entered = dict[str, str | list[str]]
NEW: Entered = {
    "service": "order",
    "name": " shop ",
    "roles": ["orders:read", "orders:write"],
    "reason": "a new shop",
}
HOSTILE = "\"'><script>alert(1)</script>\u202e"


async def test_keys_are_those_of_the_service_that_was_chosen(deployed: Deployed) -> None:
    deployed.processor.answers["GET /admin/keys"] = {"keys": [KEY | {"name": "ops"}], "has_more": False}

    ours = (await deployed.visitor.get("/console/keys")).text
    theirs = (await deployed.visitor.get("/console/keys?service=processor")).text

    assert "the shop" in ours and "API keys of order-service" in ours
    assert "ops" in theirs and "the shop" not in theirs and "API keys of processor-service" in theirs
    assert 'href="/console/keys?service=processor" aria-current="true"' in theirs


async def test_keys_are_listed_page_by_page(deployed: Deployed) -> None:
    deployed.processor.answers["GET /admin/keys"] = {"keys": [KEY | {"id": 90}, KEY], "has_more": True}

    html = (await deployed.visitor.get("/console/keys?service=processor&after=99")).text

    assert deployed.processor.last("GET", "/admin/keys").query == {"after": "99", "limit": "50"}
    assert 'href="/console/keys?service=processor&amp;after=7" rel="next">Older' in html
    assert 'href="/console/keys?service=processor">← The newest' in html


async def test_what_a_key_may_and_how_it_is_are_told(deployed: Deployed) -> None:
    keys = [
        KEY,
        KEY | {"id": 6, "state": "expired", "expires_at": NOW, "customers": None, "last_used_at": None},
        KEY | {"id": 5, "state": "revoked", "customers": [f"c-{number}" for number in range(100)]},
    ]
    deployed.order.answers["GET /admin/keys"] = {"keys": keys, "has_more": False}

    html = (await deployed.visitor.get("/console/keys")).text

    usable, expired, revoked = (row for row in html.split("<tr>")[2:])
    assert "orders:read" in usable and "cust-2" in usable and "<bdi>usable</bdi>" in usable
    assert "all</td>" in expired and "never" in expired and "<bdi>expired</bdi>" in expired
    assert "c-2<" in revoked and "c-3<" not in revoked and "and 97 more" in revoked


@pytest.mark.parametrize("state", ["expired", "revoked"])
async def test_a_key_that_is_no_more_cannot_be_rotated_or_revoked(deployed: Deployed, state: str) -> None:
    deployed.order.answers["GET /admin/keys"] = {"keys": [KEY | {"state": state}], "has_more": False}

    html = (await deployed.visitor.get("/console/keys/key?service=order&id=7")).text

    assert "nothing to rotate or revoke" in html and "/console/keys/r" not in html


async def test_one_key_is_the_one_that_was_asked_for(deployed: Deployed) -> None:
    right = await deployed.visitor.get("/console/keys/key?service=order&id=7")
    asked = deployed.order.last("GET", "/admin/keys").query
    wrong = await deployed.visitor.get("/console/keys/key?service=order&id=8")

    assert right.status_code == 200 and asked == {"after": "8", "limit": "1"}
    assert wrong.status_code == 404 and "order-service has no key 8." in wrong.text


async def test_a_key_is_made_as_it_was_entered_and_by_whom(deployed: Deployed) -> None:
    form = NEW | {"days": "30", "customers": "cust-1\r\n\r\n cust 2 \r\n"}

    answer = await deployed.visitor.post("/console/keys", form)

    asked = deployed.order.last("POST", "/admin/keys")
    assert answer.status_code == 200 and asked.headers["x-operator"] == "Anna"
    assert asked.body == {
        "name": "shop",
        "roles": ["orders:read", "orders:write"],
        "reason": "a new shop",
        "customers": ["cust-1", "cust 2"],
        "days": 30,
    }


async def test_a_key_for_all_customers_that_never_expires_is_what_was_left_empty(deployed: Deployed) -> None:
    form = NEW | {"service": "processor", "days": "", "customers": " \r\n"}

    await deployed.visitor.post("/console/keys", form)

    assert deployed.order.count("/admin/keys") == 0
    assert set(deployed.processor.last("POST", "/admin/keys").body) == {"name", "roles", "reason"}


async def test_a_key_is_rotated_with_its_overlap(deployed: Deployed) -> None:
    form = {"service": "order", "id": "7", "overlap_hours": "1.5", "reason": "yearly"}

    answer = await deployed.visitor.post("/console/keys/rotate", form)

    asked = deployed.order.last("POST", "/admin/keys/7/rotate")
    assert asked.body == {"overlap_hours": 1.5, "reason": "yearly"}
    assert asked.headers["x-operator"] == "Anna"
    assert WHOLE_KEY in answer.text and "key 7" in answer.text


@pytest.mark.parametrize(
    ("path", "form"),
    [("/keys", NEW), ("/keys/rotate", {"service": "order", "id": "7", "reason": "yearly"})],
)
async def test_a_secret_is_on_one_answer_and_nowhere_else(
    deployed: Deployed, caplog: pytest.LogCaptureFixture, path: str, form: Entered
) -> None:
    caplog.set_level("DEBUG")

    answer = await deployed.visitor.post(f"/console{path}", form)

    assert answer.text.count(WHOLE_KEY) == 1 and "It is shown this once." in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert WHOLE_KEY not in repr(answer.headers) and WHOLE_KEY not in str(answer.url) and not answer.history
    assert WHOLE_KEY not in caplog.text
    for page in ("/keys", "/keys/key?service=order&id=7", "/audit"):
        assert WHOLE_KEY not in (await deployed.visitor.get(f"/console{page}")).text
    asked = deployed.order.asked + deployed.processor.asked
    assert WHOLE_KEY not in repr(asked)


async def test_the_answer_with_a_secret_runs_and_loads_nothing_else_than_other_pages(
    deployed: Deployed,
) -> None:
    answer = await deployed.visitor.post("/console/keys", NEW)

    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", answer.text)


async def test_a_hostile_name_does_nothing_where_it_comes_back(deployed: Deployed) -> None:
    key = KEY | {"name": HOSTILE, "customers": [HOSTILE]}
    deployed.order.answers["POST /admin/keys"] = {"key": key, "secret": WHOLE_KEY + HOSTILE}

    made = (await deployed.visitor.post("/console/keys", NEW | {"name": HOSTILE})).text
    deployed.order.answers["POST /admin/keys"] = 400
    refused = (
        await deployed.visitor.post(
            "/console/keys", NEW | {"name": HOSTILE, "customers": f"</textarea>{HOSTILE}"}
        )
    ).text

    for html in (made, refused):
        assert "<script>alert" not in html and "&lt;script&gt;alert(1)" in html
    assert refused.count("</textarea>") == 1


async def test_what_is_wrong_with_a_new_key_is_told_and_what_was_entered_stays(deployed: Deployed) -> None:
    deployed.order.answers["POST /admin/keys"] = {
        "status": 400,
        "error_type": "ValidationError",
        "detail": "The body is not valid.",
        "errors": [{"loc": ["body", "customers"], "msg": "An admin may all."}],
    }
    form = NEW | {"roles": ["admin"], "customers": "cust-1", "days": "30"}

    answer = await deployed.visitor.post("/console/keys", form)

    assert answer.status_code == 400
    assert "The body is not valid." in answer.text and "customers: An admin may all." in answer.text
    assert 'value="shop"' in answer.text and 'value="admin" checked' in answer.text
    assert ">cust-1</textarea>" in answer.text and 'value="30"' in answer.text
    assert "the shop" in answer.text, "the list is still there"


@pytest.mark.parametrize(
    ("entered", "says"),
    [
        ({"name": " "}, "A name is needed"),
        ({"roles": []}, "At least one role is needed"),
        ({"days": "0"}, "days must be a whole number from 1 to 3650"),
        ({"days": "3651"}, "days must be a whole number from 1 to 3650"),
        ({"reason": " "}, "A reason is needed"),
    ],
)
async def test_a_key_that_cannot_be_meant_is_not_asked_for(
    deployed: Deployed, entered: Entered, says: str
) -> None:
    answer = await deployed.visitor.post("/console/keys", NEW | entered)

    assert answer.status_code == 400 and says in answer.text
    assert not [asked for asked in deployed.order.asked if asked.method == "POST"]


@pytest.mark.parametrize(
    ("problem", "status", "says"),
    [
        (403, 502, "refused: /admin/keys/7/r"),
        (409, 409, "refused: /admin/keys/7/r"),
        (401, 502, "APP__ADMIN_KEY"),
    ],
)
@pytest.mark.parametrize("change", ["rotate", "revoke"])
async def test_a_change_that_is_refused_is_told_in_words(
    deployed: Deployed, change: str, problem: int, status: int, says: str
) -> None:
    deployed.order.answers[f"POST /admin/keys/7/{change}"] = problem

    answer = await deployed.visitor.post(
        f"/console/keys/{change}", {"service": "order", "id": "7", "reason": "a test"}
    )

    assert answer.status_code == status and says in answer.text


async def test_with_the_service_away_it_is_said_and_the_other_can_be_chosen(deployed: Deployed) -> None:
    await deployed.away(Service.ORDER)

    listed = await deployed.visitor.get("/console/keys")
    made = await deployed.visitor.post("/console/keys", NEW)
    others = await deployed.visitor.get("/console/keys?service=processor")

    assert listed.status_code == 200 and "order-service does not answer" in listed.text
    assert made.status_code == 502 and "the audit log tells" in made.text and 'value="shop"' in made.text
    assert "the shop" in others.text


async def test_a_revoked_key_is_told_of_on_the_list(deployed: Deployed) -> None:
    form = {"service": "processor", "id": "7", "reason": "lost"}

    answer = await deployed.visitor.post("/console/keys/revoke", form)

    assert answer.headers["location"] == "/console/keys?service=processor&note=revoked"
    assert "The key is revoked" in (await deployed.visitor.get(answer.headers["location"])).text

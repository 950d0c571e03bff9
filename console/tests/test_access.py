"""Who may come in, and whose form may change something."""

import httpx
import pytest

from order_console.testing.deployed import KEY, Deploy, Deployed

PAGES: tuple[str, ...] = (
    "",
    "/live",
    "/orders",
    "/order?id=ord-1",
    "/orders/stuck",
    "/dead-letters",
    "/dead-letters/list?service=order",
)
PAGES += ("/dead-letters/letter?service=order&id=7", "/dead-letters/bytes?service=order&id=7", "/replays")
PAGES += ("/replay?service=order&id=5", "/rules", "/services", "/audit", "/keys")
PAGES += ("/keys/key?service=order&id=7",)
FORMS: tuple[str, ...] = (
    "/logout",
    "/reconcile",
    "/dead-letters/forecast",
    "/dead-letters/replay",
    "/dead-letters/discard",
)
FORMS += ("/replay", "/rules", "/rules/reload", "/consuming", "/keys", "/keys/rotate", "/keys/revoke")


async def test_without_a_key_it_is_closed_and_says_what_to_set(deploy: Deploy) -> None:
    deployed = await deploy(None)

    for path in ("/console", "/console/login", "/console/dead-letters"):
        answer = await deployed.visitor.get(path)
        assert answer.status_code == 403 and "APP__ADMIN_KEY" in answer.text


@pytest.mark.parametrize("page", PAGES)
async def test_each_page_needs_a_login(deploy: Deploy, page: str) -> None:
    answer = await (await deploy()).visitor.get(f"/console{page}")

    assert answer.status_code == 303 and answer.headers["location"].startswith("/console/login")


@pytest.mark.parametrize("form", FORMS)
async def test_each_form_needs_a_login(deploy: Deploy, form: str) -> None:
    deployed = await deploy()
    await deployed.visitor.get("/console/login")

    answer = await deployed.visitor.post(f"/console{form}", {"reason": "x", "service": "order", "id": "5"})

    assert answer.status_code == 303 and answer.headers["location"] == "/console/login"
    assert not [asked for asked in deployed.order.asked if asked.method == "POST"]


async def test_the_login_leads_where_somebody_wanted_to_go(deploy: Deploy) -> None:
    visitor = (await deploy()).visitor
    sent = (await visitor.get("/console/order?id=a%20b%26c")).headers["location"]
    page = await visitor.get(sent)
    assert 'name="next" value="/console/order?id=a%20b%26c"' in page.text

    answer = await visitor.post(
        "/console/login", {"key": KEY, "operator": "Anna", "next": "/console/order?id=a%20b%26c"}
    )

    assert (answer.status_code, answer.headers["location"]) == (303, "/console/order?id=a%20b%26c")


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example", "/consolex", "/console\\..\\x", "javascript:1"]
)
async def test_the_login_leads_nowhere_else(deploy: Deploy, elsewhere: str) -> None:
    visitor = (await deploy()).visitor
    await visitor.get("/console/login")

    answer = await visitor.post("/console/login", {"key": KEY, "operator": "Anna", "next": elsewhere})

    assert answer.headers["location"] == "/console"


@pytest.mark.parametrize(
    ("key", "operator", "says"),
    [
        ("", "Anna", "not the admin key"),
        (KEY + "x", "Anna", "not the admin key"),
        ("ключ", "Anna", "not the admin key"),
        (KEY, "", "1 to 100"),
        (KEY, "x" * 101, "1 to 100"),
        (KEY, "a\u202eb", "1 to 100"),
        (KEY, "a\tb", "1 to 100"),
    ],
)
async def test_a_login_that_is_none_says_why(deploy: Deploy, key: str, operator: str, says: str) -> None:
    visitor = (await deploy()).visitor
    await visitor.get("/console/login")

    answer = await visitor.post(
        "/console/login", {"key": key.encode("utf-8", "replace").decode(), "operator": operator}
    )

    assert answer.status_code == 400 and says in answer.text
    assert (await visitor.get("/console")).status_code == 303


async def test_the_cookie_is_kept_from_scripts_and_other_sites(deploy: Deploy) -> None:
    visitor = (await deploy()).visitor
    answer = await visitor.login(KEY)

    cookie = answer.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=strict", "path=/console", "max-age="))
    assert "secure" not in cookie and KEY not in cookie
    await visitor.get("/console/login", **{"x-forwarded-proto": "https"})
    behind_tls = await visitor.http.get("/console/login", headers={"x-forwarded-proto": "https"})
    assert "secure" in behind_tls.headers["set-cookie"].lower()


async def test_logging_out_forgets(deployed: Deployed) -> None:
    assert (await deployed.visitor.get("/console")).status_code == 200

    assert (await deployed.visitor.post("/console/logout", {})).status_code == 303
    assert (await deployed.visitor.get("/console")).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1"}]
    + [{"sec-fetch-site": site} for site in ("cross-site", "same-site", "none")]
    + [{"origin": "http://127.0.0.1", "sec-fetch-site": "cross-site"}],
)
async def test_a_form_of_another_page_changes_nothing(deployed: Deployed, headers: dict[str, str]) -> None:
    form = {"service": "order", "change": "pause", "reason": "because"}

    answer = await deployed.visitor.post("/console/consuming", form, headers)

    assert answer.status_code == 403 and "not valid any more" in answer.text
    assert deployed.order.count("/admin/consuming/pause") == 0


@pytest.mark.parametrize("token", ["", "x", "ü"])
async def test_a_form_without_its_token_changes_nothing(deployed: Deployed, token: str) -> None:
    deployed.visitor.token = token

    answer = await deployed.visitor.post(
        "/console/consuming", {"service": "order", "change": "pause", "reason": "x"}
    )

    assert answer.status_code == 403 and deployed.order.count("/admin/consuming/pause") == 0


async def test_a_token_of_another_session_is_none(deploy: Deploy) -> None:
    deployed = await deploy()
    await deployed.visitor.login(KEY)
    token = deployed.visitor.token
    deployed.visitor.forget()
    await deployed.visitor.login(KEY)
    deployed.visitor.token = token

    answer = await deployed.visitor.post(
        "/console/consuming", {"service": "order", "change": "pause", "reason": "x"}
    )

    assert answer.status_code == 403


async def test_an_old_browser_says_where_its_form_is_from(deployed: Deployed) -> None:
    form = {"service": "order", "change": "pause", "reason": "x"}
    url = str(deployed.visitor.http.base_url).rstrip("/")

    answer = await deployed.visitor.post("/console/consuming", form, {"origin": url})

    assert answer.status_code == 303


async def test_on_this_machine_no_login_is_needed_when_there_is_no_key(deploy: Deploy) -> None:
    deployed = await deploy(None, open_on_loopback=True)
    assert "local" in (await deployed.visitor.get("/console/services")).text

    answer = await deployed.visitor.post(
        "/console/consuming", {"service": "order", "change": "pause", "reason": "x"}
    )

    assert answer.status_code == 303
    assert deployed.order.last("POST", "/admin/consuming/pause").headers["x-operator"] == "local"


async def test_whoever_is_local_may_say_a_name(deploy: Deploy) -> None:
    deployed = await deploy(None, open_on_loopback=True)
    await deployed.visitor.get("/console/login")
    await deployed.visitor.post("/console/login", {"operator": "Анна"})
    assert "Анна" in (await deployed.visitor.get("/console/services")).text

    await deployed.visitor.post("/console/consuming", {"service": "order", "change": "pause", "reason": "x"})

    sent = deployed.order.last("POST", "/admin/consuming/pause").headers["x-operator"]
    assert sent.encode("latin-1").decode() == "Анна"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"x-forwarded-for": "10.0.0.1"},
        {"forwarded": "for=10.0.0.1"},
        {"host": "10.0.0.1"},
    ],
)
async def test_who_only_seems_local_is_not_let_in(deploy: Deploy, headers: dict[str, str]) -> None:
    deployed = await deploy(None, open_on_loopback=True)

    answer = await deployed.visitor.get("/console", **headers)

    assert answer.status_code == 403 and "APP__ADMIN_KEY" in answer.text


async def test_with_a_key_being_local_is_not_enough(deploy: Deploy) -> None:
    assert (await (await deploy(KEY, open_on_loopback=True)).visitor.get("/console")).status_code == 303


async def test_the_services_are_asked_with_the_key(deployed: Deployed) -> None:
    await deployed.visitor.get("/console/services")

    assert {asked.headers["authorization"] for asked in deployed.order.asked} == {f"Bearer {KEY}"}


async def test_the_key_is_on_no_page(deployed: Deployed) -> None:
    for page in PAGES:
        if page != "/live":
            assert KEY not in (await deployed.visitor.get(f"/console{page}")).text


async def test_every_answer_has_its_headers(deployed: Deployed) -> None:
    static = (await deployed.visitor.get("/console")).text.split('href="/console/static/')[1].split('"')[0]
    paths = [
        "/console",
        "/console/login",
        "/console/nothing",
        "/console/order?id=unknown",
        f"/console/static/{static}",
    ]
    answers: list[httpx.Response] = [await deployed.visitor.get(path) for path in paths]
    answers.append(await deployed.visitor.post("/console/consuming", {}))

    for answer in answers:
        assert answer.headers["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["x-frame-options"] == "DENY"
    assert answers[0].headers["cache-control"] == "no-store"
    assert "immutable" in answers[4].headers["cache-control"]

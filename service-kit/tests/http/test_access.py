from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service_kit.api_keys import new_secret
from service_kit.errors import DatabaseUnavailable
from service_kit.http.access import Access, operator_of
from service_kit.http.endpoint import Endpoint, roles_of
from service_kit.http.principal import Principal, Role
from service_kit.http.server import HttpServer
from service_kit.key_ring import FoundKey, KeyRing

Serve = Callable[..., Awaitable[HttpServer]]
Raw = Callable[[HttpServer, bytes], Awaitable[bytes]]

KEY = "a key of sixteen".replace(" ", "-")
BEARER = {"authorization": f"Bearer {KEY}"}
OPERATOR = {"x-operator": "Анна"}


async def operator(request: Request) -> Response:
    return JSONResponse({"operator": operator_of(request).name})


ROUTES = [Route("/admin/state", Endpoint(operator, Role.ADMIN), methods=["GET", "POST"])]


async def ask(
    serve: Serve, access: Access, method: str = "GET", headers: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    server = await serve(ROUTES, access=access)
    given = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.request(method, "/admin/state", headers=given)
    body = answer.json()
    return answer.status_code, body.get("operator") or body["error_type"]


async def test_without_a_key_it_is_closed_to_everybody(serve: Serve) -> None:
    assert await ask(serve, Access(None), headers=BEARER) == (403, "AdminClosed")


async def test_the_key_opens(serve: Serve) -> None:
    assert await ask(serve, Access(KEY), headers=BEARER) == (200, "unnamed")


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Basic {KEY}", KEY, "Bearer ключ"],
)
async def test_no_or_another_key_does_not_open(serve: Serve, authorization: str) -> None:
    assert await ask(serve, Access(KEY), headers={"authorization": authorization}) == (401, "Unauthorized")


async def test_who_lacks_the_key_is_told_how_to_give_it(serve: Serve) -> None:
    server = await serve(ROUTES, access=Access(KEY))
    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.get("/admin/state")

    assert answer.headers["www-authenticate"] == "Bearer"
    assert KEY not in answer.text


async def test_the_key_is_needed_on_this_machine_too(serve: Serve) -> None:
    assert await ask(serve, Access(KEY, open_on_loopback=True)) == (401, "Unauthorized")


async def test_whoever_changes_something_says_who_they_are(serve: Serve) -> None:
    assert await ask(serve, Access(KEY), "POST", BEARER | OPERATOR) == (200, "Анна")


@pytest.mark.parametrize("name", ["", "x" * 101, "a\tb", "\u202eannA", "a\u0085b"])
async def test_a_change_without_a_readable_name_is_refused(serve: Serve, name: str) -> None:
    headers = BEARER | {"x-operator": name}

    assert await ask(serve, Access(KEY), "POST", headers) == (400, "ValidationError")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000"])
async def test_it_can_be_open_to_this_machine(serve: Serve, host: str) -> None:
    access = Access(None, open_on_loopback=True)

    assert await ask(serve, access, headers={"host": host}) == (200, "unnamed")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", "[::2]", "x@y"],
)
async def test_another_name_for_this_machine_does_not_open_it(serve: Serve, host: str) -> None:
    access = Access(None, open_on_loopback=True)

    assert await ask(serve, access, headers={"host": host}) == (403, "AdminClosed")


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "Via", "X-Real-IP"])
async def test_a_proxy_on_this_machine_does_not_open_it_to_others(serve: Serve, name: str) -> None:
    access = Access(None, open_on_loopback=True)

    assert await ask(serve, access, headers={name: "127.0.0.1"}) == (403, "AdminClosed")


async def test_two_hosts_do_not_open_it(serve: Serve, raw: Raw) -> None:
    server = await serve(ROUTES, access=Access(None, open_on_loopback=True))
    head = b"GET /admin/state HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\nconnection: close\r\n\r\n"

    assert (await raw(server, head)).split()[1] in (b"400", b"403")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://localhost:8000"}, 200),
        ({"origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}, 200),
        ({"origin": "http://localhost:3000", "sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://localhost:3000"}, 403),
        ({"origin": "https://localhost:8000"}, 403),
        ({"origin": "https://evil.example", "sec-fetch-site": "cross-site"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
async def test_another_page_in_a_browser_on_this_machine_changes_nothing(
    serve: Serve, headers: dict[str, str], status: int
) -> None:
    access = Access(None, open_on_loopback=True)

    answer = await ask(serve, access, "POST", OPERATOR | {"host": "localhost:8000"} | headers)

    assert answer[0] == status


@pytest.mark.parametrize(
    ("peer", "opens"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("", False),
        ("fe80::1%eth0", False),
    ],
)
async def test_only_peers_on_this_machine_are_local(serve: Serve, peer: str, opens: bool) -> None:
    """No other machine is at hand: the address is put where the server would put it."""
    access = Access(None, open_on_loopback=True)

    async def endpoint(request: Request) -> Response:
        await access.admit({**request.scope, "client": (peer, 40000)}, Role.ADMIN)
        return Response()

    server = await serve([Route("/", Endpoint(endpoint, Role.ANYBODY))])
    async with httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.get("/")).status_code == (200 if opens else 403)


# keys of the table


def ring_with(principal: Principal) -> tuple[KeyRing, dict[str, str]]:
    """A ring with one key, and the header that brings it."""
    secret = new_secret()

    async def find(hash_: bytes) -> FoundKey | None:
        return FoundKey(hash_, principal, None) if hash_ == secret.hash else None

    return KeyRing(find), {"authorization": f"Bearer {secret.key}"}


ADMIN = Principal(name="robot", roles=frozenset({Role.ADMIN}))
READER = Principal(name="reader", roles=frozenset({Role.READ}))


async def test_a_key_has_a_name_of_its_own(serve: Serve) -> None:
    ring, header = ring_with(ADMIN)

    assert await ask(serve, Access(KEY, keys=ring), "POST", header) == (200, "robot")
    assert await ask(serve, Access(KEY, keys=ring), "POST", header | OPERATOR) == (200, "Анна (key robot)")


async def test_a_key_and_the_admin_key_are_both_good(serve: Serve) -> None:
    ring, _ = ring_with(ADMIN)

    assert await ask(serve, Access(KEY, keys=ring), headers=BEARER) == (200, "unnamed")


async def test_a_key_without_the_role_is_refused(serve: Serve) -> None:
    ring, header = ring_with(READER)

    assert await ask(serve, Access(None, keys=ring), headers=header) == (403, "Forbidden")


async def test_two_authorizations_are_none(serve: Serve, raw: Raw) -> None:
    ring, header = ring_with(ADMIN)
    server = await serve(ROUTES, access=Access(None, keys=ring))
    line = f"authorization: {header['authorization']}\r\n"

    for times, status in ((1, b"200"), (2, b"401")):
        head = f"GET /admin/state HTTP/1.1\r\nhost: a\r\n{line * times}connection: close\r\n\r\n"
        assert (await raw(server, head.encode())).split()[1] == status


async def test_keys_that_cannot_be_looked_up_are_an_outage(serve: Serve) -> None:
    async def find(_: bytes) -> FoundKey | None:
        raise DatabaseUnavailable("the database at secret-host: gone")

    header = {"authorization": f"Bearer {new_secret().key}"}

    assert await ask(serve, Access(None, keys=KeyRing(find)), headers=header) == (503, "ServiceUnavailable")


def test_a_route_without_a_role_is_refused() -> None:
    with pytest.raises(TypeError, match="/open has no role"):
        list(roles_of([*ROUTES, Route("/open", operator)]))

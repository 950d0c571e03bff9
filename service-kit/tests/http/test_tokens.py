"""Tokens of an issuer that tells its keys over HTTP; the clock of what is remembered is the test's."""

import asyncio
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import time
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, Key, RSAKey
from joserfc.jws import JWSRegistry
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service_kit.api_keys import new_secret
from service_kit.http.access import Access
from service_kit.http.application import application
from service_kit.http.endpoint import Endpoint
from service_kit.http.principal import Principal, Role, principal_of
from service_kit.http.server import HttpServer, http_server
from service_kit.issuer_keys import ANSWER_BYTES_MAX, KNOWN_SECONDS, RETRY_SECONDS, IssuerKeys
from service_kit.key_ring import FoundKey, KeyRing
from service_kit.observability.metrics import Metrics
from service_kit.tokens import LEEWAY_SECONDS, Tokens

Serve = Callable[..., Awaitable[HttpServer]]

ISSUER, AUDIENCE = "https://login.example/", "orders"
RSA, OTHER_RSA = (RSAKey.generate_key(2048, {"kid": kid}) for kid in ("rsa", "other"))
EC = ECKey.generate_key("P-256", {"kid": "ec"})
KEY = new_secret()
SHOP = Principal(name="shop", roles=frozenset({Role.READ}))


@dataclass(slots=True)
class Issuer:
    """Answers with `keys`, `answer` instead if there is one, once `answering` is set."""

    keys: list[Key] = field(default_factory=lambda: [RSA, EC])
    answer: Response | None = None
    asked: int = 0
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    now: float = field(default_factory=time)

    async def tell(self, _: Request) -> Response:
        self.asked += 1
        await self.answering.wait()
        return self.answer or JSONResponse({"keys": [key.as_dict(private=False) for key in self.keys]})

    def clock(self) -> float:
        return self.now


@pytest.fixture
def issuer() -> Issuer:
    issuer = Issuer()
    issuer.answering.set()
    return issuer


@asynccontextmanager
async def told_by(issuer: Issuer, port: int = 0) -> AsyncIterator[HttpServer]:
    routes = [Route("/keys", Endpoint(issuer.tell, Role.ANYBODY))]
    async with http_server(application(routes, metrics=Metrics()), "127.0.0.1", port) as server:
        yield server


def tokens_of(issuer: Issuer, url: str, *, kept_max: int = 100) -> Tokens:
    async def find(hash_: bytes) -> FoundKey | None:
        return FoundKey(hash_, SHOP, None) if hash_ == KEY.hash else None

    return Tokens(
        IssuerKeys(f"{url}/keys", clock=issuer.clock),
        KeyRing(find),
        issuer=ISSUER,
        audience=AUDIENCE,
        algorithms=["RS256", "ES256"],
        clock=issuer.clock,
        kept_max=kept_max,
    )


@pytest.fixture
async def tokens(issuer: Issuer) -> AsyncIterator[Tokens]:
    async with told_by(issuer) as server:
        yield tokens_of(issuer, server.url)


def claims(**more: Any) -> dict[str, Any]:
    given = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "anna",
        "exp": time() + 600,
        "scope": "openid orders:read",
    }
    return {name: value for name, value in (given | more).items() if value is not None}


def token(key: Key = RSA, alg: str = "RS256", *, header: dict[str, Any] | None = None, **more: Any) -> bytes:
    registry = JWSRegistry(algorithms=[alg], strict_check_header=False)
    given = {"alg": alg, "kid": key.kid} | (header or {})
    return jwt.encode(given, claims(**more), key, registry=registry).encode()


def raw_token(header: object, body: object, signature: bytes = b"") -> bytes:
    parts = (
        part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, body, signature)
    )
    return b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts)


async def test_a_good_token_lets_in_by_its_scope(tokens: Tokens) -> None:
    expected = Principal(name="token anna", id="token anna", roles=frozenset({Role.READ}))

    assert await tokens.principal(token()) == expected
    assert await tokens.principal(token(EC, "ES256")) == expected
    assert await tokens.principal(token(aud=["billing", AUDIENCE])) == expected
    assert await tokens.principal(token(header={"nonce": "unknown to us"})) == expected


@pytest.mark.parametrize(
    ("given", "roles"),
    [
        ({"scope": "orders:read orders:write"}, {Role.READ, Role.WRITE}),
        ({"scope": "admin"}, {Role.ADMIN}),
        ({"scope": None, "roles": ["orders:write", "another"]}, {Role.WRITE}),
        ({"scope": "openid", "roles": ["admin"]}, {Role.ADMIN}),
        ({"scope": "orders:read", "roles": ["admin"]}, {Role.READ}),
        ({"scope": "xorders:read orders:readx anybody"}, set()),
        ({"scope": None}, set()),
    ],
)
async def test_roles_are_those_of_the_scope_and_else_those_of_the_roles(
    tokens: Tokens, given: dict[str, Any], roles: set[Role]
) -> None:
    principal = await tokens.principal(token(**given))

    assert principal is not None
    assert principal.roles == roles


async def test_a_token_can_be_restricted_to_customers(tokens: Tokens) -> None:
    principal = await tokens.principal(token(customers=["c-1", "c-2"]))

    assert principal is not None
    assert principal.customers == frozenset({"c-1", "c-2"})


REFUSED: dict[str, Callable[[], bytes]] = {
    "expired": lambda: token(exp=time() - LEEWAY_SECONDS - 60),
    "without exp": lambda: token(exp=None),
    "exp that is no number": lambda: token(exp="tomorrow"),
    "endless exp": lambda: token(exp=float("inf")),
    "huge exp": lambda: token(exp=10**400),
    "not good yet": lambda: token(nbf=time() + LEEWAY_SECONDS + 60),
    "of another issuer": lambda: token(iss="https://evil.example/"),
    "without issuer": lambda: token(iss=None),
    "for others": lambda: token(aud="billing"),
    "for many others": lambda: token(aud=["billing", "ordersx"]),
    "for nobody": lambda: token(aud=None),
    "about nobody": lambda: token(sub=None),
    "about what no table holds": lambda: token(sub="a\x00b"),
    "with customers that are no list": lambda: token(customers="c-1"),
    "with customers that are null": lambda: raw_claims(b'{"customers":null}'),
    "with no customers": lambda: token(customers=[]),
    "with too many customers": lambda: token(customers=[f"c-{number}" for number in range(101)]),
    "of an admin who is restricted": lambda: token(scope="admin", customers=["c-1"]),
    "with roles that are no list": lambda: token(scope=None, roles="admin"),
    "signed with the public key as a secret": lambda: signed_by_public_key(),
    "unsigned": lambda: raw_token({"alg": "none", "kid": "rsa"}, claims()),
    "unsigned, spelt otherwise": lambda: raw_token({"alg": "nOnE", "kid": "rsa"}, claims()),
    "by an algorithm that is not asked for": lambda: token(alg="PS256"),
    "by the key of another": lambda: token(OTHER_RSA, header={"kid": "rsa"}),
    "with a key of its own": lambda: token(OTHER_RSA, header={"jwk": OTHER_RSA.as_dict(private=False)}),
    "by a key for other algorithms": lambda: token(header={"kid": "ec"}),
    "without kid": lambda: token(header={"kid": ""}),
    "with what is critical and unknown": lambda: signed(
        {"alg": "RS256", "kid": "rsa", "crit": ["b64x"], "b64x": 1}, claims()
    ),
    "changed": lambda: _changed(token()),
    "without signature": lambda: token().rpartition(b".")[0] + b".",
    "too long": lambda: token(more="x" * 8_192),
    "empty": lambda: b"..",
    "no base64": lambda: b"!.\xff.\x00",
    "deep header": lambda: raw_token(b'{"alg":' + b"[" * 300, {}),
    "deep claims": lambda: raw_claims(b'{"x":' + b"[" * 2_500 + b"]" * 2_500 + b"}"),
    **{
        f"header {header!r}": lambda header=header: raw_token(header, claims())  # type: ignore[misc]
        for header in (
            ["alg", "kid"],
            "alg",
            1,
            None,
            {},
            {"alg": {}, "kid": "rsa"},
            {"alg": "RS256", "kid": []},
        )
    },
    **{f"claims {body!r}": lambda body=body: raw_claims(body) for body in (b"", b"[]", b"null", b"\xff")},  # type: ignore[misc]
}


def signed(header: object, body: object) -> bytes:
    """By the issuer, whatever it is."""
    unsigned = raw_token(header, body).rpartition(b".")[0]
    signature = JWSRegistry.algorithms["RS256"].sign(unsigned, RSA)
    return unsigned + b"." + urlsafe_b64encode(signature).rstrip(b"=")


def raw_claims(body: bytes) -> bytes:
    """Signed, but of claims that are written by hand; those that are not there are as they should be."""
    if body.startswith(b'{"'):
        body = json.dumps(claims()).encode()[:-1] + b"," + body[1:]
    return signed({"alg": "RS256", "kid": "rsa"}, body)


def signed_by_public_key() -> bytes:
    unsigned = raw_token({"alg": "HS256", "kid": "rsa"}, claims()).rpartition(b".")[0]
    signature = hmac.digest(RSA.as_pem(private=False), unsigned, "sha256")
    return unsigned + b"." + urlsafe_b64encode(signature).rstrip(b"=")


def _changed(good: bytes) -> bytes:
    head, _, signature = good.split(b".")
    return b".".join((head, raw_token({}, claims(scope="admin")).split(b".")[1], signature))


@pytest.mark.parametrize("kind", REFUSED)
async def test_what_is_not_good_is_refused(tokens: Tokens, kind: str) -> None:
    assert await tokens.principal(token())

    assert await tokens.principal(REFUSED[kind]()) is None


async def test_clocks_may_differ_a_little(tokens: Tokens) -> None:
    assert await tokens.principal(token(exp=time() - 5))
    assert await tokens.principal(token(nbf=time() + 5, iat=time() + 5))


async def test_a_remembered_token_ends_when_it_expires(tokens: Tokens, issuer: Issuer) -> None:
    good = token(exp=int(issuer.now) + 60)
    assert await tokens.principal(good)

    issuer.now += 60 + LEEWAY_SECONDS

    assert await tokens.principal(good) is None


async def test_no_more_tokens_are_remembered_than_there_is_room_for(issuer: Issuer) -> None:
    async with told_by(issuer) as server:
        tokens = tokens_of(issuer, server.url, kept_max=3)
        for number in range(10):
            assert await tokens.principal(token(sub=f"{number}"))

    assert len(tokens._known) == 3


async def test_keys_are_asked_for_once_by_many(tokens: Tokens, issuer: Issuer) -> None:
    issuer.answering.clear()
    asking = [asyncio.create_task(tokens.principal(token(sub=f"{number}"))) for number in range(10)]
    while not issuer.asked:
        await asyncio.sleep(0)

    asking[0].cancel()
    await asyncio.sleep(0)
    issuer.answering.set()

    assert None not in await asyncio.gather(*asking[1:])
    assert issuer.asked == 1


async def test_a_new_key_is_found_and_an_unknown_one_is_not_asked_for_again_and_again(
    tokens: Tokens, issuer: Issuer
) -> None:
    assert await tokens.principal(token())
    for _ in range(3):
        assert await tokens.principal(token(OTHER_RSA)) is None
    assert issuer.asked == 1

    issuer.keys = [OTHER_RSA]
    issuer.now += RETRY_SECONDS

    assert await tokens.principal(token(OTHER_RSA))
    assert issuer.asked == 2


async def test_a_key_that_was_withdrawn_ends(tokens: Tokens, issuer: Issuer) -> None:
    good = token()
    assert await tokens.principal(good)

    issuer.keys = [OTHER_RSA]
    issuer.now += KNOWN_SECONDS

    assert await tokens.principal(good) is None


FAULTS: list[Response] = [
    Response(status_code=500),
    Response(status_code=302, headers={"location": "http://127.0.0.1:9/keys"}),
    Response("<html>"),
    Response(b"[" * 100_000),
    JSONResponse({"keys": "none"}),
    Response(b'{"keys":[]}' + b" " * ANSWER_BYTES_MAX),
]


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_last_good_keys_are_kept_while_the_issuer_is_at_fault(
    tokens: Tokens, issuer: Issuer, fault: Response
) -> None:
    assert await tokens.principal(token())

    issuer.answer = fault
    issuer.now += KNOWN_SECONDS

    assert await tokens.principal(token(sub="another"))
    assert issuer.asked == 2


async def test_keys_of_other_kinds_are_passed_over(tokens: Tokens, issuer: Issuer) -> None:
    good = [RSA.as_dict(private=False)]
    bad: list[Any] = [
        {},
        {"kty": "new"},
        {"kty": "RSA", "kid": "x", "n": "!", "e": 1},
        {"kty": "EC", "kid": ["x"]},
    ]
    other_use = OTHER_RSA.as_dict(private=False) | {"use": "enc"}
    issuer.answer = JSONResponse({"keys": [*bad, other_use, *good]})

    assert await tokens.principal(token())
    assert await tokens.principal(token(OTHER_RSA)) is None


# over HTTP


async def who(request: Request) -> Response:
    return JSONResponse({"name": principal_of(request.scope).name})


ROUTES = [Route("/orders", Endpoint(who, Role.READ))]


async def asked(serve: Serve, tokens: Tokens, *bearers: bytes) -> list[httpx.Response]:
    server = await serve(ROUTES, access=Access(None, keys=tokens))
    async with httpx.AsyncClient(base_url=server.url) as client:
        return [
            await client.get("/orders", headers=[(b"authorization", b"Bearer " + bearer)])
            for bearer in bearers
        ]


async def test_tokens_and_keys_are_both_good(serve: Serve, tokens: Tokens) -> None:
    answers = await asked(serve, tokens, token(), KEY.key.encode(), token(scope="orders:write"))

    assert [answer.status_code for answer in answers] == [200, 200, 403]
    assert [answer.json().get("name") for answer in answers] == ["token anna", "shop", None]


async def test_a_bad_token_is_answered_as_a_bad_key_is(serve: Serve, tokens: Tokens) -> None:
    bad = [new_secret().key.encode(), token(exp=1), token(aud="x"), token(OTHER_RSA), b"a.b.c"]
    answers = await asked(serve, tokens, *bad)

    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}


async def test_an_issuer_that_is_away_is_an_outage_until_it_is_back(serve: Serve, issuer: Issuer) -> None:
    async with told_by(issuer) as server:
        port = server.port
    tokens = tokens_of(issuer, f"http://127.0.0.1:{port}")

    for _ in range(2):
        [tried, by_key] = await asked(serve, tokens, token(), KEY.key.encode())
        assert (tried.status_code, tried.json()["error_type"]) == (503, "ServiceUnavailable")
        assert str(port) not in tried.text
        assert by_key.status_code == 200

    issuer.now += RETRY_SECONDS
    async with told_by(issuer, port):
        [back] = await asked(serve, tokens, token())
        assert back.status_code == 200
    issuer.now += KNOWN_SECONDS
    [gone, unknown] = await asked(serve, tokens, token(sub="new"), token(OTHER_RSA))
    assert (gone.status_code, unknown.status_code) == (200, 503)

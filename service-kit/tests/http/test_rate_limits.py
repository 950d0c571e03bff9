"""Token buckets under a clock of their own, and what clients see of them."""

from collections.abc import Awaitable, Callable

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service_kit.api_keys import new_secret
from service_kit.http.access import Access
from service_kit.http.endpoint import Endpoint, charge
from service_kit.http.principal import Principal, Role
from service_kit.http.problems import Problem
from service_kit.http.rate_limits import BURST_SECONDS, RateLimit, RateLimits, address_of
from service_kit.http.server import HttpServer
from service_kit.key_ring import FoundKey, KeyRing

Serve = Callable[..., Awaitable[HttpServer]]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def taken(limit: RateLimit, name: str = "a") -> int:
    """How many tokens there are."""
    count = 0
    while True:
        try:
            limit.take(name)
        except Problem:
            return count
        count += 1


def test_a_burst_then_the_rate(clock: Clock) -> None:
    limit = RateLimit("key", 2, clock=clock)

    assert taken(limit) == 2 * BURST_SECONDS
    clock.now += 1.5
    assert taken(limit) == 3
    clock.now += 1_000
    assert taken(limit) == 2 * BURST_SECONDS


def test_each_name_has_a_bucket_of_its_own(clock: Clock) -> None:
    limit = RateLimit("key", 1, clock=clock)

    assert (taken(limit, "a"), taken(limit, "b"), taken(limit, "a")) == (5, 5, 0)


def test_a_refusal_says_when_to_come_again(clock: Clock) -> None:
    limit = RateLimit("key", 0.1, clock=clock)
    limit.take("a")

    with pytest.raises(Problem) as refused:
        limit.take("a")

    assert refused.value.status == 429
    assert refused.value.headers == {
        "retry-after": "10",
        "ratelimit-policy": '"key";q=1;w=10',
        "ratelimit": '"key";r=0;t=10',
    }
    clock.now = 10.0
    limit.take("a")


def test_a_debt_is_paid_first(clock: Clock) -> None:
    limit = RateLimit("key", 10, clock=clock)
    limit.charge("a", 150)

    clock.now = 10.0
    assert taken(limit) == 0
    clock.now = 10.5
    assert taken(limit) == 5


def test_no_more_names_are_kept_than_there_is_room_for(clock: Clock) -> None:
    limit = RateLimit("key", 1, clock=clock, kept=3)
    for name in "abcd":
        taken(limit, name)

    assert len(limit._buckets) == 3
    assert taken(limit, "d") == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
    ],
)
def test_an_ipv6_network_is_one_address(one: str, other: str, same: bool) -> None:
    assert (address_of({"client": (one, 1)}) == address_of({"client": (other, 1)})) is same


# as clients see it


async def hello(request: Request) -> Response:
    charge(request.scope, int(request.query_params.get("more", "0")))
    return Response("hello")


ROUTES = [
    Route("/orders", Endpoint(hello, Role.READ)),
    Route("/health", Endpoint(lambda _: answer(), Role.ANYBODY)),
]


async def answer() -> Response:
    return Response("well")


def ring_with(*names: str) -> tuple[KeyRing, list[dict[str, str]]]:
    secrets = {new_secret(): name for name in names}
    found = {
        secret.hash: FoundKey(secret.hash, Principal(name=name, id=name, roles=frozenset({Role.READ})), None)
        for secret, name in secrets.items()
    }

    async def find(hash_: bytes) -> FoundKey | None:
        return found.get(hash_)

    return KeyRing(find), [{"authorization": f"Bearer {secret.key}"} for secret in secrets]


async def test_a_key_that_asks_too_much_is_refused_and_others_are_not(serve: Serve, clock: Clock) -> None:
    ring, (greedy, other) = ring_with("greedy", "other")
    limits = RateLimits(per_key=RateLimit("key", 0.2, clock=clock))
    server = await serve(ROUTES, access=Access(None, keys=ring, limits=limits))
    async with httpx.AsyncClient(base_url=server.url) as client:
        first = await client.get("/orders", headers=greedy)
        second = await client.get("/orders", headers=greedy)

        assert (first.status_code, first.headers["ratelimit"]) == (200, '"key";r=0;t=5')
        assert (second.status_code, second.json()["error_type"]) == (429, "TooManyRequests")
        assert second.headers["retry-after"] == "5"
        assert (await client.get("/orders", headers=other)).status_code == 200


async def test_an_address_is_refused_before_its_key_is_looked_at(serve: Serve, clock: Clock) -> None:
    limits = RateLimits(per_address=RateLimit("address", 0.2, clock=clock))
    ring, _ = ring_with()
    server = await serve(ROUTES, access=Access(None, keys=ring, limits=limits))
    async with httpx.AsyncClient(base_url=server.url) as client:
        assert [(await client.get("/orders")).status_code for _ in range(2)] == [401, 429]
        assert (await client.get("/health")).status_code == 200


async def test_what_a_request_costs_besides_is_counted(serve: Serve, clock: Clock) -> None:
    ring, [header] = ring_with("shop")
    limits = RateLimits(per_key=RateLimit("key", 1, clock=clock))
    server = await serve(ROUTES, access=Access(None, keys=ring, limits=limits))
    async with httpx.AsyncClient(base_url=server.url, headers=header) as client:
        assert (await client.get("/orders?more=100")).status_code == 200
        refused = await client.get("/orders")

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "97")

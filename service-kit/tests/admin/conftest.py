"""A service of the kit with an admin API: real HTTP, real PostgreSQL, a broker within the process."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
import pytest_asyncio

from service_kit.admin.api import AdminApi
from service_kit.broker import Broker
from service_kit.consumer import Handled, Outcome, Received
from service_kit.consuming import Consuming
from service_kit.errors import MalformedEvent
from service_kit.event_flow import EventFlow, Pace
from service_kit.forecast import Forecast, Foreseen
from service_kit.guard import Guard
from service_kit.http.access import Access
from service_kit.inprocess import InProcessBroker
from service_kit.lifecycle import Wakeup
from service_kit.message import Message
from service_kit.observability.metrics import Metrics
from service_kit.postgres import schema
from service_kit.postgres.database import Database
from service_kit.retry import Backoff, RetryPolicy
from service_kit.service import Service, ServiceParts
from service_kit.settings import Name, Port, Settings
from service_kit.testing.postgres_server import PostgresServer, fresh_database

KEY = "the-key-of-the-tests"
HEADERS = {"authorization": f"Bearer {KEY}", "x-operator": "Anna"}

# One attempt, and then at once a dead letter, or (two attempts) an hour of waiting.
PACE = Pace(retry_policy=RetryPolicy(attempts_max=2, backoff=Backoff(first_seconds=3600, jitter=0)))

# Without the triggers: one refuses to forget, and the others would count.
EMPTY = """
SET session_replication_role = replica;
DELETE FROM outbox; DELETE FROM processed_inbox; DELETE FROM retry_queue; DELETE FROM dead_letter_queue;
DELETE FROM dead_letter_groups; DELETE FROM replay_items; DELETE FROM replays; DELETE FROM audit_log;
DELETE FROM api_keys;
UPDATE consuming SET paused = false, operator = NULL, reason = NULL, since = NULL;
SET session_replication_role = origin
"""


class ProbeSettings(Settings, frozen=True, kw_only=True):
    service_name: Name = "probe-service"
    port: Port = 0


@dataclass(frozen=True, slots=True)
class ProbeEvent:
    key: str

    @property
    def subject(self) -> str:
        return self.key.partition(":")[0]


@dataclass(slots=True)
class Probe:
    """Implements Handler: `{"key": "o1:1"}` is handled, but for what `outcomes` says. `done` was before."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    handled: list[str] = field(default_factory=list)

    def decode(self, event_type: str, body: bytes) -> ProbeEvent:
        try:
            return ProbeEvent(msgspec.json.decode(body)["key"])
        except (msgspec.DecodeError, UnicodeDecodeError, TypeError, KeyError) as error:
            raise MalformedEvent(f"no key: {error}") from error

    async def handle(self, events: Sequence[Received[ProbeEvent]]) -> Sequence[Outcome]:
        outcomes = [self.outcomes.get(received.event.key, Handled()) for received in events]
        for received, outcome in zip(events, outcomes, strict=True):
            if isinstance(outcome, Handled):
                self.handled.append(received.event.key)
        return outcomes

    async def foresee(self, events: Sequence[ProbeEvent]) -> Sequence[Foreseen]:
        return [
            Foreseen(Forecast.ALREADY_PROCESSED, "it was handled")
            if event.key in self.done
            else Foreseen(Forecast.WILL_RUN, "it is new")
            for event in events
        ]


@asynccontextmanager
async def probe_service(
    dsn: str, broker: Broker, probe: Probe, *, access: Access, runs: bool
) -> AsyncIterator[ServiceParts]:
    """`runs` False: the API alone, without anything that works in the background."""
    metrics = Metrics()
    async with (
        Database(dsn, application_name="probe") as database,
        broker.subscribe("probe.event", ["event"], prefetch=100) as subscription,
    ):
        flow = EventFlow(
            settings=ProbeSettings(db_dsn=dsn, admin_key=KEY),
            database=database,
            broker=broker,
            subscription=subscription,
            handler=probe,
            wakeup=Wakeup(),
            metrics=metrics,
            random=Random(0),
            pace=PACE,
            consuming=Consuming(known=False),
        )
        flow.show_connections()
        admin = AdminApi(flow, Guard(flow.settings, database), probe.foresee)
        services = [*flow.background_services(), *admin.background_services()] if runs else []
        yield ServiceParts(
            host="127.0.0.1",
            port=0,
            metrics=metrics,
            routes=admin.routes(),
            access=access,
            background_services=services,
            shutdown_grace_seconds=5.0,
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    async with fresh_database(postgres_server, "service_kit.admin", create_tables) as dsn:
        yield dsn


async def create_tables(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    for statement in (*schema.CREATE_V1, *schema.CREATE_V2, *schema.CREATE_V3, *schema.CREATE_V4):
        await connection.execute(statement)
    await connection.close()


@pytest.fixture
async def connection(shared_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """To a database without rows."""
    connection = await asyncpg.connect(shared_dsn)
    await connection.execute(EMPTY)
    yield connection
    connection.terminate()


@pytest.fixture
def dsn(shared_dsn: str, connection: asyncpg.Connection) -> str:
    return shared_dsn


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    async with Database(dsn, application_name="tests") as database:
        yield database


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
async def broker() -> AsyncIterator[InProcessBroker]:
    async with InProcessBroker() as broker:
        yield broker


@pytest.fixture
async def client(dsn: str, broker: InProcessBroker, probe: Probe) -> AsyncIterator[httpx.AsyncClient]:
    """Of an operator who has the key, to a service that runs."""
    async with running(dsn, broker, probe) as client:
        yield client


@pytest.fixture
async def idle_client(dsn: str, broker: InProcessBroker, probe: Probe) -> AsyncIterator[httpx.AsyncClient]:
    """To a service in which nothing works in the background."""
    async with running(dsn, broker, probe, runs=False) as client:
        yield client


@asynccontextmanager
async def running(
    dsn: str, broker: Broker, probe: Probe, *, access: Access | None = None, runs: bool = True
) -> AsyncIterator[httpx.AsyncClient]:
    parts = probe_service(dsn, broker, probe, access=access or Access(KEY), runs=runs)
    async with Service("probe-service", parts) as service:
        await service.ready()
        async with httpx.AsyncClient(base_url=service.url, headers=HEADERS, timeout=60) as client:
            yield client


async def bury(
    connection: asyncpg.Connection,
    *keys: str,
    reason: str = "no stock",
    event_type: str = "event",
    source: str = "consumer",
    body: bytes | None = None,
    headers: str = "{}",
    moved_at: str = "now",
) -> list[int]:
    """Dead letters as the service would have made them; their ids."""
    sql = """
        INSERT INTO dead_letter_queue (source, event_key, original_event_type, payload, body, message_id,
            headers, failure_reason, attempts, subject, moved_to_dlq_at)
        VALUES ($1, $2, $3, $4::jsonb, $5, $6, $7::jsonb, $8, 1, $9, $10::text::timestamptz) RETURNING id
    """
    ids = []
    for key in keys:
        content = msgspec.json.encode({"key": key}) if body is None else body
        named = f"outbox:{key}" if source == "outbox" else key
        payload = msgspec.json.encode({"key": key}).decode()
        values = (
            source,
            named,
            event_type,
            payload,
            content,
            key,
            headers,
            reason,
            key.partition(":")[0],
            moved_at,
        )
        ids.append(await connection.fetchval(sql, *values))
    return ids


async def post(client: httpx.AsyncClient, path: str, status: int = 200, **body: Any) -> Any:
    answer = await client.post(path, content=json.dumps({"reason": "a test", **body}))
    assert answer.status_code == status, answer.text
    return answer.json()


async def get(client: httpx.AsyncClient, path: str, status: int = 200, **params: Any) -> Any:
    answer = await client.get(path, params=params or None)
    assert answer.status_code == status, answer.text
    return answer.json()


async def audited(connection: asyncpg.Connection) -> list[Mapping[str, Any]]:
    return [dict(row) for row in await connection.fetch("SELECT * FROM audit_log ORDER BY id")]


def message(key: str) -> Message:
    return Message(routing_key="event", body=msgspec.json.encode({"key": key}), message_id=key)

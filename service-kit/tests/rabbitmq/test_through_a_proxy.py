"""A real RabbitMQ behind a wire that we can cut, freeze or encrypt."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service_kit.broker import PublishOutcome
from service_kit.errors import BrokerUnavailable
from service_kit.rabbitmq import RabbitBroker
from service_kit.rabbitmq.address import Address
from service_kit.testing.broker_conformance import (
    acknowledged,
    batch,
    publish,
    received,
    subscribed,
    within_deadline,
)
from service_kit.testing.eventually import eventually
from service_kit.testing.rabbitmq_server import forget

CONFIRMED = PublishOutcome.CONFIRMED


class Proxy:
    """Hands bytes on between its port and RabbitMQ."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None) -> None:
        self._host, self._tls = address.hosts[0], tls
        self._pumps: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None
        self.port = 0
        self.flowing_in, self.flowing_out = asyncio.Event(), asyncio.Event()
        self.flow()

    def flow(self) -> None:
        self.flowing_in.set()
        self.flowing_out.set()

    def freeze(self) -> None:
        """Keep every connection open and hand nothing on: a half-open wire."""
        self.flowing_in.clear()
        self.flowing_out.clear()

    def hold_answers(self) -> None:
        self.flowing_out.clear()

    def cut(self) -> None:
        """End every connection abruptly."""
        for writer in self._pumps.values():
            writer.transport.abort()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections from now on, and cut those that are."""
        assert self._server is not None
        self._server.close()
        self.cut()
        self.flow()
        for task in self._pumps:
            task.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker_reader, broker_writer = await asyncio.open_connection(*self._host)
        self._pump(reader, broker_writer, self.flowing_in)
        self._pump(broker_reader, writer, self.flowing_out)

    def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event
    ) -> None:
        task = asyncio.create_task(_pumped(reader, writer, flowing))
        self._pumps[task] = writer


async def _pumped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
    try:
        while data := await reader.read(65_536):
            await flowing.wait()
            writer.write(data)
            await writer.drain()
    except (ConnectionError, ssl.SSLError, asyncio.CancelledError):
        pass
    finally:
        writer.transport.abort()


@pytest.fixture
async def proxy(rabbitmq_url: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(Address.parse(rabbitmq_url))
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def exchange(rabbitmq_url: str, unique_name: str) -> AsyncIterator[str]:
    yield unique_name
    await forget(rabbitmq_url, queues=[unique_name], exchanges=[unique_name])


@pytest.fixture
def login(rabbitmq_url: str) -> str:
    return rabbitmq_url.partition("://")[2].rpartition("@")[0]


@asynccontextmanager
async def connected(url: str, exchange: str, *, heartbeat_seconds: int = 10) -> AsyncIterator[RabbitBroker]:
    async with RabbitBroker(url, exchange=exchange, heartbeat_seconds=heartbeat_seconds) as broker:
        await within_deadline(broker.publisher().ready())
        yield broker


async def test_a_wire_cut_before_the_confirm_leaves_the_publish_unknown(
    proxy: Proxy, exchange: str, login: str
) -> None:
    async with connected(f"amqp://{login}@127.0.0.1:{proxy.port}/", exchange) as broker:
        async with subscribed(broker, exchange, ["key"]):
            pass
        proxy.hold_answers()
        publishing = asyncio.ensure_future(broker.publisher().publish(batch("key", 3)))
        await asyncio.sleep(0)
        assert not publishing.done()
        proxy.cut()
        with pytest.raises(BrokerUnavailable, match="connection"):
            await within_deadline(publishing)
        proxy.flow()
        assert await publish(broker, batch("key", 2)) == [CONFIRMED] * 2


async def test_what_was_unacknowledged_at_a_cut_comes_again(proxy: Proxy, exchange: str, login: str) -> None:
    async with (
        connected(f"amqp://{login}@127.0.0.1:{proxy.port}/", exchange) as broker,
        subscribed(broker, exchange, ["key"]) as subscription,
    ):
        await publish(broker, batch("key", 10))
        before = await received(subscription, 4)
        proxy.cut()
        with pytest.raises(BrokerUnavailable):
            while True:
                before += await within_deadline(subscription.receive(10))
        with pytest.raises(BrokerUnavailable):
            await subscription.acknowledge(before[-1])
        again = await acknowledged(subscription, 10)
        assert [delivery.body for delivery in again] == [b"%d" % number for number in range(10)]
        assert all(delivery.redelivered for delivery in again[: len(before)])
        assert {delivery.tag for delivery in again}.isdisjoint(delivery.tag for delivery in before)


async def test_a_half_open_wire_is_noticed_by_missing_heartbeats(
    proxy: Proxy, exchange: str, login: str
) -> None:
    url = f"amqp://{login}@127.0.0.1:{proxy.port}/"
    async with (
        connected(url, exchange, heartbeat_seconds=1) as broker,
        subscribed(broker, exchange, ["key"]) as subscription,
    ):
        proxy.freeze()
        with pytest.raises(BrokerUnavailable, match="missed heartbeats"):
            await within_deadline(subscription.receive(1))
        await eventually(lambda: broker.problem() is not None)
        proxy.flow()
        await eventually(lambda: broker.problem() is None)
        await publish(broker, batch("key", 1))
        await acknowledged(subscription, 1)


async def test_a_broker_that_is_away_is_told_once_and_returned_to(
    proxy: Proxy, exchange: str, login: str
) -> None:
    await proxy.stop()
    with capture_logs() as logs:
        async with RabbitBroker(f"amqp://{login}@127.0.0.1:{proxy.port}/", exchange=exchange) as broker:
            await eventually(lambda: "refused" in (broker.problem() or ""))
            ready = asyncio.ensure_future(broker.publisher().ready())
            with pytest.raises(BrokerUnavailable):
                await broker.publisher().publish(batch("key", 1))
            assert not ready.done()
            await proxy.start()
            await within_deadline(ready)
            await proxy.stop()
            await eventually(lambda: "refused" in (broker.problem() or ""))
            await proxy.start()
            await within_deadline(broker.publisher().ready())
    assert [log["event"] for log in logs] == [
        "broker_unreachable",
        "broker_connected",
        "broker_lost",
        "broker_connected",
    ]


async def test_a_dead_host_is_passed_over(proxy: Proxy, exchange: str, login: str) -> None:
    url = f"amqp://{login}@127.0.0.1:1,127.0.0.1:{proxy.port},127.0.0.1:2/"
    async with connected(url, exchange) as broker:
        assert broker.problem() is None


async def test_a_wrong_password_and_a_wrong_virtual_host_are_told(
    rabbitmq_url: str, exchange: str, login: str
) -> None:
    host = Address.parse(rabbitmq_url).hosts[0]
    with capture_logs() as logs:
        async with RabbitBroker(f"amqp://nobody:S3CRET@{host}/", exchange=exchange) as broker:
            await eventually(lambda: "login of user 'nobody' refused" in (broker.problem() or ""))
        async with RabbitBroker(f"amqp://{login}@{host}/no%2Fwhere", exchange=exchange) as broker:
            await eventually(lambda: "virtual host 'no/where' cannot be used" in (broker.problem() or ""))
    assert "S3CRET" not in str(logs)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for `localhost` and its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    try:
        subprocess.run(
            [*command, *subject, "-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("there is no openssl to make a certificate with")
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    return certificate


@pytest.fixture
async def tls_proxy(rabbitmq_url: str, certificate: Path) -> AsyncIterator[Proxy]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    proxy = Proxy(Address.parse(rabbitmq_url), context)
    await proxy.start()
    yield proxy
    await proxy.stop()


async def test_everything_goes_through_tls(
    tls_proxy: Proxy, certificate: Path, exchange: str, login: str
) -> None:
    url = f"amqps://{login}@localhost:{tls_proxy.port}/?cacertfile={certificate}"
    async with connected(url, exchange) as broker, subscribed(broker, exchange, ["key"]) as subscription:
        assert await publish(broker, batch("key", 500)) == [CONFIRMED] * 500
        assert len(await acknowledged(subscription, 500)) == 500


async def test_an_unknown_authority_is_told(tls_proxy: Proxy, exchange: str, login: str) -> None:
    async with RabbitBroker(f"amqps://{login}@localhost:{tls_proxy.port}/", exchange=exchange) as broker:
        await eventually(lambda: "TLS failed: CERTIFICATE_VERIFY_FAILED" in (broker.problem() or ""))


async def test_a_certificate_of_another_name_is_told_unless_named(
    tls_proxy: Proxy, certificate: Path, exchange: str, login: str
) -> None:
    url = f"amqps://{login}@127.0.0.1:{tls_proxy.port}/?cacertfile={certificate}"
    async with RabbitBroker(url, exchange=exchange) as broker:
        await eventually(lambda: "TLS failed" in (broker.problem() or ""))
    async with connected(url + "&server_name_indication=localhost", exchange) as broker:
        assert broker.problem() is None


async def test_tls_to_a_plain_port_and_plain_to_a_tls_port_are_told(
    proxy: Proxy, tls_proxy: Proxy, exchange: str, login: str
) -> None:
    async with RabbitBroker(f"amqps://{login}@localhost:{proxy.port}/", exchange=exchange) as broker:
        await eventually(lambda: "TLS failed" in (broker.problem() or ""))
    async with RabbitBroker(f"amqp://{login}@localhost:{tls_proxy.port}/", exchange=exchange) as broker:
        await eventually(lambda: str(tls_proxy.port) in (broker.problem() or ""))

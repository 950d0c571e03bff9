"""Sending to receivers who are slow, broken or hostile, over real sockets."""

import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from order_service.application.webhooks import Delivery, new_secret
from order_service.infrastructure.webhook_sender import WebhookSender
from service_kit.testing.hostile_receiver import HostileReceiver, Reaction, hostile_receiver

TEN_MEGABYTES = 10 * 1024 * 1024


@pytest.fixture
async def receiver() -> AsyncIterator[HostileReceiver]:
    async with hostile_receiver() as receiver:
        yield receiver


@pytest.fixture
async def sender() -> AsyncIterator[WebhookSender]:
    async with WebhookSender(allow_private=True) as sender:
        yield sender


def delivery(url: str) -> Delivery:
    return Delivery(
        id=1, endpoint_id=1, url=url, secrets=[new_secret()], message_id="msg_1", body="{}", attempts=0
    )


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_2xx_is_a_delivery(receiver: HostileReceiver, sender: WebhookSender, status: int) -> None:
    receiver.react = lambda _: Reaction(status=status)
    assert (await sender.send(delivery(receiver.url))).delivered
    [request] = receiver.requests
    assert (request.path, request.body, request.headers["content-type"]) == (
        "/hooks",
        b"{}",
        "application/json",
    )
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(
    receiver: HostileReceiver, sender: WebhookSender, status: int
) -> None:
    receiver.react = lambda _: Reaction(status=status, headers={"location": receiver.url + "/elsewhere"})
    answer = await sender.send(delivery(receiver.url))
    assert not answer.delivered
    assert "not followed" in answer.words()
    assert len(receiver.requests) == 1


async def test_a_receiver_that_never_answers_is_given_up(receiver: HostileReceiver) -> None:
    receiver.react = lambda _: Reaction(hangs=True)
    async with WebhookSender(allow_private=True, seconds_max=0.3) as sender:
        answer = await sender.send(delivery(receiver.url))
    assert (answer.delivered, answer.words()) == (False, "no answer within 0.3 s")


async def test_a_connection_that_is_reset_is_a_failure(
    receiver: HostileReceiver, sender: WebhookSender
) -> None:
    receiver.react = lambda _: Reaction(resets=True)
    answer = await sender.send(delivery(receiver.url))
    assert (answer.delivered, answer.status) == (False, None)


@pytest.mark.parametrize("status", [200, 500])
async def test_of_a_huge_answer_only_a_little_is_read(
    receiver: HostileReceiver, sender: WebhookSender, status: int
) -> None:
    receiver.react = lambda _: Reaction(status=status, body_bytes=TEN_MEGABYTES)
    assert (await sender.send(delivery(receiver.url))).status == status
    assert receiver.body_bytes_taken < TEN_MEGABYTES / 2  # the rest of it is in the sockets' buffers


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("120", 120), ("-1", None), ("soon", None), ("Fri, 01 Jan 1999 00:00:00 GMT", 0), ("9" * 99, None)],
)
async def test_retry_after_is_read(
    receiver: HostileReceiver, sender: WebhookSender, given: str, seconds: float | None
) -> None:
    receiver.react = lambda _: Reaction(status=429, headers={"retry-after": given})
    assert (await sender.send(delivery(receiver.url))).retry_after_seconds == seconds


async def test_nobody_listening_is_a_failure(sender: WebhookSender) -> None:
    assert "ConnectError" in (await sender.send(delivery("http://127.0.0.1:1/"))).words()


async def test_the_next_address_of_a_name_is_tried(receiver: HostileReceiver) -> None:
    async def resolve(_: str, __: int) -> Sequence[str]:
        return ["127.0.0.2", "127.0.0.1"]

    async with WebhookSender(allow_private=True, resolve=resolve) as sender:
        answer = await sender.send(delivery(f"http://shop.example:{receiver.port}/"))
    assert answer.delivered
    assert receiver.requests[0].headers["host"] == f"shop.example:{receiver.port}"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f.1:{port}/",
        "http://0:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://169.254.169.254/latest/meta-data/",
    ],
)
async def test_a_private_address_is_refused_in_every_spelling(receiver: HostileReceiver, url: str) -> None:
    async with WebhookSender(allow_private=False) as sender:
        target = url.format(port=receiver.port)
        assert await sender.refusal(target)
        assert not (await sender.send(delivery(target))).delivered
    assert receiver.connections == 0


async def test_a_name_that_leads_home_later_is_refused_then(receiver: HostileReceiver) -> None:
    """DNS rebinding: public when it is registered, private when it is connected to."""
    answers = [["93.184.216.34"], ["127.0.0.1"], ["93.184.216.34", "127.0.0.1"]]

    async def resolve(_: str, __: int) -> Sequence[str]:
        return answers.pop(0)

    async with WebhookSender(allow_private=False, resolve=resolve) as sender:
        url = f"http://shop.example:{receiver.port}/"
        assert await sender.refusal(url) is None
        for _ in range(2):
            answer = await sender.send(delivery(url))
            assert "127.0.0.1 is not an address of the public internet" in answer.words()
    assert receiver.connections == 0
    assert answers == []


async def test_what_was_looked_at_is_what_is_connected_to(receiver: HostileReceiver) -> None:
    """The name is asked for once: whatever it would say the second time, nobody asks."""
    asked = 0

    async def resolve(_: str, __: int) -> Sequence[str]:
        nonlocal asked
        asked += 1
        return ["127.0.0.1"] if asked == 1 else ["127.0.0.9"]

    async with WebhookSender(allow_private=True, resolve=resolve) as sender:
        assert (await sender.send(delivery(f"http://shop.example:{receiver.port}/"))).delivered
    assert asked == 1


async def test_a_certificate_is_of_the_name_and_not_of_the_address(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=shop.example", "-addext", "subjectAltName=DNS:shop.example"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    names: list[str | None] = []
    tls.sni_callback = lambda _, name, __: names.append(name)

    async def resolve(_: str, __: int) -> Sequence[str]:
        return ["127.0.0.1"]

    trusted = ssl.create_default_context(cafile=str(certificate))
    async with (
        hostile_receiver(tls) as receiver,
        WebhookSender(allow_private=True, resolve=resolve, verify=trusted) as sender,
    ):
        assert (await sender.send(delivery(f"https://shop.example:{receiver.port}/"))).delivered
        assert names == ["shop.example"]
        wrong = await sender.send(delivery(f"https://other.example:{receiver.port}/"))
        assert "certificate" in wrong.words()

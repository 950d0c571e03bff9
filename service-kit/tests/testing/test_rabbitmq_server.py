from urllib.parse import urlsplit

import aio_pika
import pytest

from service_kit.testing import rabbitmq_server
from service_kit.testing.rabbitmq_server import NoRabbitMQ, forget, given_rabbitmq, rabbitmq_for_tests


@pytest.fixture
def no_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbitmq_server, "docker_answers", lambda: False)


def test_a_given_url_that_cannot_be_used_is_an_error_and_not_a_silent_fallback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEST_RABBITMQ_URL", "amqp://127.0.0.1:1/")

    with pytest.raises(ConnectionError, match="TEST_RABBITMQ_URL"):
        given_rabbitmq()


def test_a_given_url_that_answers_is_used(monkeypatch: pytest.MonkeyPatch, rabbitmq_url: str) -> None:
    monkeypatch.setenv("TEST_RABBITMQ_URL", rabbitmq_url)

    assert given_rabbitmq() == (rabbitmq_url, "TEST_RABBITMQ_URL")


@pytest.mark.usefixtures("no_docker")
def test_without_any_broker_there_is_an_error_that_says_what_was_tried() -> None:
    with pytest.raises(NoRabbitMQ, match=r"TEST_RABBITMQ_URL.*5672.*Docker"), rabbitmq_for_tests(None):
        pass


def test_docker_starts_one_where_none_is_given(monkeypatch: pytest.MonkeyPatch, rabbitmq_url: str) -> None:
    container = FakeContainer(rabbitmq_url)
    monkeypatch.setattr(rabbitmq_server, "docker_answers", lambda: True)
    monkeypatch.setattr(rabbitmq_server, "DockerContainer", container.of_image)

    with rabbitmq_for_tests(None) as url:
        assert urlsplit(url).port == (urlsplit(rabbitmq_url).port or 5672)
        assert container.running
    assert not container.running


async def test_what_a_test_declared_can_be_forgotten(rabbitmq_url: str, unique_name: str) -> None:
    async with await aio_pika.connect(rabbitmq_url) as connection, connection.channel() as channel:
        await channel.declare_queue(unique_name, durable=True)

        await forget(
            rabbitmq_url, queues=[unique_name, f"{unique_name}-never-there"], exchanges=[unique_name]
        )

        with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
            await channel.get_queue(unique_name, ensure=True)


class FakeContainer:
    """Stands for a container, with a broker behind it that is really there."""

    def __init__(self, url: str) -> None:
        self.url = urlsplit(url)
        self.running = False

    def of_image(self, image: str) -> "FakeContainer":
        assert image.startswith("rabbitmq:")
        return self

    def with_exposed_ports(self, port: int) -> "FakeContainer":
        assert port == 5672
        return self

    def get_container_host_ip(self) -> str:
        return self.url.hostname or ""

    def get_exposed_port(self, port: int) -> int:
        return self.url.port or port

    def __enter__(self) -> "FakeContainer":
        self.running = True
        return self

    def __exit__(self, *error: object) -> None:
        self.running = False

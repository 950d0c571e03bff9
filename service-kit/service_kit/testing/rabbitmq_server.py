"""RabbitMQ for tests: a given one, a local one, or one that Docker can start."""

import os
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import aio_pika
import docker
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer

from service_kit.testing.blocking import run_blocking

LOCAL_URL = "amqp://guest:guest@127.0.0.1:5672/"
DOCKER_SOCKET = "/var/run/docker.sock"
IMAGE = "rabbitmq:3.13"
START_SECONDS_MAX = 180.0


class NoRabbitMQ(Exception):
    """No RabbitMQ: TEST_RABBITMQ_URL is not set, none answers on port 5672, and no Docker engine answers."""


def given_rabbitmq() -> tuple[str, str] | None:
    """The URL of a broker that is there already, and where it was found, or None.

    Raises ConnectionError when TEST_RABBITMQ_URL names a broker that cannot be used.
    """
    if url := os.environ.get("TEST_RABBITMQ_URL"):
        if problem := run_blocking(_problem(url)):
            raise ConnectionError(f"TEST_RABBITMQ_URL: {problem}")
        return url, "TEST_RABBITMQ_URL"
    return None if run_blocking(_problem(LOCAL_URL)) else (LOCAL_URL, "local")


def docker_answers() -> bool:
    """Whether a Docker engine can be asked to start containers."""
    # Looked at first: the client leaks its socket, and so warns, when nobody listens.
    if "DOCKER_HOST" not in os.environ and not _somebody_listens(DOCKER_SOCKET):
        return False
    try:
        client = docker.from_env(timeout=5)
    except DockerException:
        return False
    client.close()
    return True


def _somebody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


@contextmanager
def rabbitmq_for_tests(given_url: str | None) -> Iterator[str]:
    """The given broker, or one that Docker runs until the end of the context. Raises NoRabbitMQ."""
    if given_url is not None:
        yield given_url
    elif docker_answers():
        with DockerContainer(IMAGE).with_exposed_ports(5672) as container:
            host, port = container.get_container_host_ip(), container.get_exposed_port(5672)
            yield _wait_for(f"amqp://guest:guest@{host}:{port}/")
    else:
        raise NoRabbitMQ(NoRabbitMQ.__doc__)


async def forget(url: str, *, queues: Collection[str] = (), exchanges: Collection[str] = ()) -> None:
    """Delete what a test declared; names that are not there are no error."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        for queue in queues:
            await channel.queue_delete(queue)
        for exchange in exchanges:
            await channel.exchange_delete(exchange)


def _wait_for(url: str) -> str:
    deadline = time.monotonic() + START_SECONDS_MAX
    while problem := run_blocking(_problem(url)):
        if time.monotonic() > deadline:
            raise NoRabbitMQ(f"RabbitMQ in Docker did not answer within {START_SECONDS_MAX:g} s: {problem}")
        time.sleep(0.2)
    return url


async def _problem(url: str) -> str | None:
    """Why the broker cannot be used, or None when it can."""
    try:
        connection = await aio_pika.connect(url, timeout=5)
    except (OSError, TimeoutError, ValueError, aio_pika.exceptions.AMQPError) as error:
        return str(error) or repr(error)
    await connection.close()
    return None

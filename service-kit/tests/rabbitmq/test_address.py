import pytest

from service_kit.rabbitmq import RabbitBroker
from service_kit.rabbitmq.address import Address, Host


def test_what_is_left_out_has_the_usual_values() -> None:
    address = Address.parse("amqp://localhost")
    assert address.hosts == (Host("localhost", 5672),)
    assert (address.user, address.password, address.virtual_host) == ("guest", "guest", "/")
    assert address.tls is None


@pytest.mark.parametrize(
    ("path", "virtual_host"),
    [
        ("", "/"),
        ("/", "/"),
        ("/%2F", "/"),
        ("//", "/"),
        ("/shop", "shop"),
        ("/a%2Fb", "a/b"),
        ("/%C3%BC", "ü"),
    ],
)
def test_the_path_is_the_virtual_host(path: str, virtual_host: str) -> None:
    assert Address.parse(f"amqp://localhost{path}").virtual_host == virtual_host


def test_several_hosts_share_one_login() -> None:
    address = Address.parse("amqp://u:p@one:5672,two:5673,three,[::1]:5674,[::2]/vhost")
    assert [str(host) for host in address.hosts] == [
        "one:5672",
        "two:5673",
        "three:5672",
        "[::1]:5674",
        "[::2]:5672",
    ]


def test_user_and_password_are_percent_encoded() -> None:
    address = Address.parse("amqp://me%40home:s%3Acr%2Fet%25@localhost/")
    assert (address.user, address.password) == ("me@home", "s:cr/et%")


def test_an_amqps_url_means_tls_on_its_own_port() -> None:
    address = Address.parse("amqps://localhost/?server_name_indication=broker.example")
    assert address.hosts == (Host("localhost", 5671),)
    assert address.tls is not None
    assert address.tls_name == "broker.example"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:5672",
        "http://localhost",
        "amqp://",
        "amqp://user:S3CRET@",
        "amqp://user:S3CRET@:5672",
        "amqp://user:S3CRET@host:port",
        "amqp://user:S3CRET@host:0",
        "amqp://user:S3CRET@host:65536",
        "amqp://user:S3CRET@host:²",
        "amqp://user:S3CRET@one,,two",
        "amqp://user:S3CRET@[::1",
        "amqp://user:S3CRET@[::1]5672",
        "amqp://user:S3/CRET@host",
        "amqp://user:12/S3CRET@host",
        "amqp://user:S3#CRET@host",
        "amqp://user:S3?CRET@host",
        "amqp://user:S3CRET@host\u2100",
        "amqp://user:S3CRET@host/?heartbeats=5",
        "amqp://user:S3CRET@host/?cacertfile=/x",
        "amqps://user:S3CRET@host/?cacertfile=/does/not/exist",
        "amqps://user:S3CRET@host/?certfile=/does/not/exist",
    ],
)
def test_a_malformed_url_is_refused_in_one_line_without_the_password(url: str) -> None:
    with pytest.raises(ValueError, match="RabbitMQ URL") as refused:
        RabbitBroker(url, exchange="orders")
    text = str(refused.value)
    assert "\n" not in text
    assert "S3" not in text
    assert "CRET" not in text
    assert refused.value.__cause__ is None


def test_nothing_that_is_printed_shows_the_password() -> None:
    address = Address.parse("amqp://user:S3CRET@host/")
    assert "S3CRET" not in repr(address) + str(address)


@pytest.mark.parametrize("exchange", ["x" * 128, "line\nbreak"])
def test_an_impossible_exchange_name_is_refused(exchange: str) -> None:
    with pytest.raises(ValueError, match="exchange"):
        RabbitBroker("amqp://localhost", exchange=exchange)


@pytest.mark.parametrize("queue", ["", "x" * 256, "line\nbreak"])
def test_an_impossible_queue_name_is_refused(queue: str) -> None:
    broker = RabbitBroker("amqp://localhost", exchange="orders")
    with pytest.raises(ValueError, match="queue"):
        broker.subscribe(queue, ["key"], prefetch=1)

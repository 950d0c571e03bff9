"""URLs with several hosts are split as those with one."""

from urllib.parse import urlsplit

import pytest

from service_kit.several_hosts import split_url


@pytest.mark.parametrize(
    ("url", "netloc"),
    [
        ("postgresql://u:p@one:1,[::1]:2/orders?ssl=on", "u:p@one:1,[::1]:2"),
        ("amqp://[::1]:1,two,[::2]/vhost", "[::1]:1,two,[::2]"),
        ("amqp://one,two", "one,two"),
        ("amqp://u:a,b@one/vhost", "u:a,b@one"),
    ],
)
def test_hosts_are_kept_as_they_stand(url: str, netloc: str) -> None:
    parts = split_url(url)

    without = urlsplit(url.replace(netloc, "host"))
    assert parts.netloc == netloc
    assert (parts.scheme, parts.path, parts.query) == (without.scheme, without.path, without.query)


@pytest.mark.parametrize("url", ["amqp://one,[::1/vhost", "amqp://[::1/vhost"])
def test_brackets_must_be_of_an_address(url: str) -> None:
    with pytest.raises(ValueError, match="IPv6"):
        split_url(url)

"""Where RabbitMQ is and who we are there, read from one URL."""

import ssl
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote

from service_kit.several_hosts import split_url

_PORTS = {"amqp": 5672, "amqps": 5671}
_CA_FILE = ("cacertfile", "cafile")
_TLS_OPTIONS = frozenset({*_CA_FILE, "certfile", "keyfile", "server_name_indication"})


class Host(NamedTuple):
    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One broker: the hosts of its cluster, the login and the virtual host. Never shows the password."""

    hosts: tuple[Host, ...]
    user: str
    password: str = field(repr=False)
    virtual_host: str = "/"
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    tls_name: str | None = None
    """The name the certificate must carry, when it is not the host's."""

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Read `amqp[s]://user:password@host:port,host:port/vhost`; raises ValueError in one line.

        User, password and virtual host are percent-encoded; left out they are `guest`, `guest` and `/`. An
        `amqps` URL may carry `?cacertfile=…&certfile=…&keyfile=…&server_name_indication=…` (files in PEM);
        without `cacertfile` the system's authorities are trusted.
        """
        parts = _split(url)
        login, _, hosts = parts.netloc.rpartition("@")
        user, colon, password = login.partition(":")
        options = _options(parts)
        return cls(
            hosts=tuple(_host(text, _PORTS[parts.scheme]) for text in hosts.split(",")),
            user=unquote(user) if user else "guest",
            password=unquote(password) if colon else "guest",
            virtual_host=unquote(parts.path.removeprefix("/")) or "/",
            tls=_tls(options) if parts.scheme == "amqps" else None,
            tls_name=options.get("server_name_indication"),
        )


# No message below quotes any part of the URL: an unescaped character can make the password look like one.


def _split(url: str) -> SplitResult:
    try:
        parts = split_url(url)
    except ValueError:
        raise ValueError("the RabbitMQ URL is malformed") from None
    if parts.scheme not in _PORTS:
        raise ValueError("the RabbitMQ URL must begin with amqp:// or amqps://")
    if "@" in parts.path or parts.fragment:
        raise ValueError("the RabbitMQ URL holds an unescaped character: write @ / ? # as %40 %2F %3F %23")
    return parts


def _host(text: str, default_port: int) -> Host:
    if text.startswith("["):
        name, bracket, port = text[1:].partition("]")
        valid = bool(bracket) and (not port or port.startswith(":"))
        port = port.removeprefix(":")
    else:
        name, _, port = text.partition(":")
        valid = True
    if not valid or not name:
        raise ValueError("the RabbitMQ URL names no host, or an empty one")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("a port in the RabbitMQ URL is not a number from 1 to 65535 (password unescaped?)")
    return Host(name, int(port) if port else default_port)


def _options(parts: SplitResult) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = options.keys() - _TLS_OPTIONS
    if unknown:
        raise ValueError("the RabbitMQ URL has an unknown option; known: " + ", ".join(sorted(_TLS_OPTIONS)))
    if options and parts.scheme != "amqps":
        raise ValueError("the options of the RabbitMQ URL are for amqps:// only")
    return options


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    authorities = next((options[name] for name in _CA_FILE if name in options), None)
    try:
        context = ssl.create_default_context(cafile=authorities)
        if "certfile" in options:
            context.load_cert_chain(options["certfile"], options.get("keyfile"))
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"a certificate file named in the RabbitMQ URL cannot be used: {error}") from None
    return context

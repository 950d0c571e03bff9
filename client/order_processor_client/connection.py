"""Where the services are, and who asks: by argument, else by the environment."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import httpx

from order_processor_client.errors import Misconfigured, Unreachable
from order_processor_client.request import Request, Service

URL, PROCESSOR_URL, KEY = "ORDER_PROCESSOR_URL", "ORDER_PROCESSOR_PROCESSOR_URL", "ORDER_PROCESSOR_KEY"
_DEFAULTS = {URL: "http://127.0.0.1:8000", PROCESSOR_URL: "http://127.0.0.1:8001"}
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_NAME_LENGTH_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """The key is sent with every request, the operator's name too: the audit log holds it beside changes."""

    urls: Mapping[Service, str]
    headers: Mapping[str, bytes]
    timeout_seconds: float

    @classmethod
    def of(
        cls,
        *,
        url: str | None,
        processor_url: str | None,
        key: str | None,
        operator: str | None,
        timeout_seconds: float,
        environ: Mapping[str, str] = os.environ,
    ) -> Self:
        """Raises Misconfigured."""
        urls = {
            Service.ORDER: _url(url, URL, environ),
            Service.PROCESSOR: _url(processor_url, PROCESSOR_URL, environ),
        }
        key = key or environ.get(KEY)
        headers = {"authorization": _bearer(key)} if key else {}
        connection = cls(urls=urls, headers=headers, timeout_seconds=timeout_seconds)
        return connection.acting_as(operator) if operator else connection

    def acting_as(self, operator: str) -> Self:
        """Raises Misconfigured."""
        return replace(self, headers={**self.headers, "x-operator": _name(operator)})

    def options(self) -> dict[str, Any]:
        """What httpx's two clients are made with."""
        return {
            "timeout": self.timeout_seconds,
            # Loading the certificates takes longer than all else.
            "verify": any(url.startswith("https:") for url in self.urls.values()),
            # The proxy of the environment, if there is one, is not asked for this machine.
            "mounts": {f"all://{host}": None for host in _LOOPBACK},
        }

    def arguments(self, request: Request[Any]) -> dict[str, Any]:
        """What httpx's `request` is called with."""
        content = {"content-type": request.content_type.encode()} if request.body is not None else {}
        return {
            "method": request.method,
            "url": self.urls[request.service] + request.path,
            "params": request.query or None,
            "content": request.body,
            "headers": {**self.headers, **content},
        }

    @contextmanager
    def failures_of(self, request: Request[Any]) -> Iterator[None]:
        """What httpx raises, as an error of this client."""
        try:
            yield
        except httpx.HTTPError as error:
            reason = "no answer in time" if isinstance(error, httpx.TimeoutException) else _reason(error)
            raise Unreachable(self.urls[request.service], reason) from error


def _reason(error: BaseException) -> str:
    """In the words of the operating system, which stand at the end of the chain if they are known."""
    last = error
    while following := last.__cause__ or last.__context__:
        last = following
    if isinstance(last, OSError) and last.errno:
        # asyncio's own errors have other words, and the system's number.
        return os.strerror(last.errno) if last.errno > 0 else str(last.strerror)
    return str(error) or type(error).__name__


def _url(given: str | None, name: str, environ: Mapping[str, str]) -> str:
    text = (given or environ.get(name) or _DEFAULTS[name]).rstrip("/")
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise Misconfigured(f"{text!r} is no URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise Misconfigured(f"{text!r} is no URL of a service, such as {_DEFAULTS[name]}")
    return text


def _bearer(key: str) -> bytes:
    """Never says the key: it would end in a log."""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise Misconfigured("the key must be ASCII characters without spaces")
    return f"Bearer {key}".encode()


def _name(operator: str) -> bytes:
    if len(operator) > _NAME_LENGTH_MAX or not operator.isprintable() or not operator.strip():
        raise Misconfigured(f"the operator's name must have 1 to {_NAME_LENGTH_MAX} printable characters")
    return operator.strip().encode()

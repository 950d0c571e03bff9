"""Sends webhooks to strangers: no redirects, no private addresses, and no more time than they may have."""

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Thread
from typing import Any, Self, TypeVar

import httpx

from order_service.application.webhooks import Answer, Delivery, signed_headers
from order_service.infrastructure.public_addresses import AddressRefused, require_public

T = TypeVar("T")

SECONDS_MAX = 15.0
ANSWER_BYTES_MAX = 4_096
_RESOLVERS = 64
"""Threads that may wait for names: a name server that does not answer shall not delay other names."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class WebhookSender:
    """Sends on an event loop of its own, in a thread: connecting, TLS and parsing keep no order waiting.

    With `allow_private` any address will do. `resolve` gives the addresses of a name, and is asked once for
    each attempt: exactly what it says is looked at and connected to, so that a name cannot lead elsewhere
    meanwhile (DNS rebinding). No connection is used twice, for the same reason.
    """

    def __init__(
        self,
        *,
        allow_private: bool,
        resolve: Resolve | None = None,
        seconds_max: float = SECONDS_MAX,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self._allow_private = allow_private
        self._resolve = resolve or self._system_resolve
        self._seconds_max = seconds_max
        self._verify = verify
        self._resolvers = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="webhook-name")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()

    async def refusal(self, url: str) -> str | None:
        """Why nothing may be sent to that URL, or None; it is looked at again with each attempt."""
        try:
            target = httpx.URL(url)
            async with asyncio.timeout(self._seconds_max):
                await self._elsewhere(self._addresses(target))
        except httpx.InvalidURL:
            return "is not a URL"
        except AddressRefused as refused:
            return f"leads nowhere public: {refused}"
        except (OSError, UnicodeError):  # TimeoutError is one of them
            return "names a host that cannot be resolved"
        return None

    async def send(self, delivery: Delivery) -> Answer:
        """Never raises what the endpoint is to blame for."""
        return await self._elsewhere(self._send(delivery))

    def _close(self) -> None:
        if self._loop and self._thread:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = None
        self._resolvers.shutdown(wait=False, cancel_futures=True)

    async def _elsewhere(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:  # the first: most services never send any
            self._loop = asyncio.new_event_loop()
            self._thread = Thread(target=self._loop.run_forever, name="webhooks", daemon=True)
            self._thread.start()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _send(self, delivery: Delivery) -> Answer:
        url = httpx.URL(delivery.url)
        try:
            async with asyncio.timeout(self._seconds_max):
                addresses = await self._addresses(url)
                for address in addresses[:-1]:
                    try:
                        return await self._post(url, address, delivery)
                    except httpx.ConnectError:
                        continue
                return await self._post(url, addresses[-1], delivery)
        except AddressRefused as refused:
            return Answer(error=str(refused))
        except TimeoutError:
            return Answer(error=f"no answer within {self._seconds_max:g} s")
        except socket.gaierror:
            return Answer(error=f"{url.host} cannot be resolved")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            return Answer(error=f"{type(error).__name__}: {error}"[:500])

    async def _addresses(self, url: httpx.URL) -> Sequence[str]:
        addresses = await self._resolve(
            url.raw_host.decode(), url.port or (443 if url.scheme == "https" else 80)
        )
        if not addresses:
            raise socket.gaierror
        if not self._allow_private:
            require_public(addresses)
        return addresses

    async def _post(self, url: httpx.URL, address: str, delivery: Delivery) -> Answer:
        """To that address, in the name of the URL: certificate and `Host` are of the name."""
        headers = {
            "host": url.netloc.decode(),
            "content-type": "application/json",
            "user-agent": "order-processor-webhooks/1",
            **signed_headers(delivery, int(time.time())),
        }
        async with self._http().stream(
            "POST",
            url.copy_with(host=address),
            headers=headers,
            content=delivery.body.encode(),
            extensions={"sni_hostname": url.raw_host.decode()},
        ) as response:
            answer = Answer(
                status=response.status_code,
                retry_after_seconds=_retry_after(response.headers.get("retry-after")),
            )
            await _taste(response)
            return answer

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                verify=self._verify or httpx.create_ssl_context(),
                trust_env=False,
                follow_redirects=False,
                timeout=self._seconds_max,
                limits=httpx.Limits(max_keepalive_connections=0, max_connections=None),
            )
        return self._client

    async def _system_resolve(self, host: str, port: int) -> Sequence[str]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._resolvers, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def _taste(response: httpx.Response) -> None:
    """Read a little of the body, as it came, so that a polite receiver sees its answer taken.

    What it says does not matter, and neither does how it ends: the status has been said.
    """
    taken = 0
    try:
        async with asyncio.timeout(1.0):
            async for chunk in response.aiter_raw(ANSWER_BYTES_MAX):
                taken += len(chunk)
                if taken >= ANSWER_BYTES_MAX:
                    # Not left here: httpx's inner generators would stay half read, for the garbage collector
                    # to end, perhaps after the event loop. The next read fails, which ends each of them.
                    await response.extensions["network_stream"].aclose()
    except (httpx.HTTPError, OSError):
        return


def _retry_after(given: str | None) -> float | None:
    """Seconds, from either form of the header; None when it cannot be read."""
    if given is None:
        return None
    if given.isascii() and given.isdigit() and len(given) < 10:
        return float(given)
    try:
        moment = parsedate_to_datetime(given)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())

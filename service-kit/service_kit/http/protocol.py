"""uvicorn's HTTP protocol with the limits that it lacks, and with problems as its refusals."""

import asyncio
from collections import Counter
from dataclasses import dataclass

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from service_kit.http.body import WHOLE_BODY
from service_kit.http.one_write import OneWrite
from service_kit.http.problems import MEDIA_TYPE, Problem, problem_body


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What one connection may cost.

    A request's head must come within `head_seconds_max` and `head_bytes_max`. Of a request that is answered
    before its body was read, so much more is read and dropped: a client that sees its connection cut while
    it sends cannot see the answer. A connection that waits for its next request for `keep_alive_seconds` is
    closed. Who leaves an answer unread for `unread_seconds_max` is cut off.
    """

    head_bytes_max: int = 65_536
    head_seconds_max: float = 10.0
    keep_alive_seconds: float = 30.0
    dropped_bytes_max: int = 67_108_864
    dropped_seconds_max: float = 10.0
    unread_seconds_max: float = 30.0
    backlog: int = 2048
    connections_max: int = 10_000
    connections_per_address_max: int = 4_000


DEFAULT_LIMITS = HttpLimits()


class LimitedProtocol(HttpToolsProtocol):
    """One connection. The limits cost nothing while whole requests arrive at once."""

    def __init__(self, limits: HttpLimits, config: Config, state: ServerState, peers: Counter[str]) -> None:
        super().__init__(config, state, app_state={})
        self._peers = peers
        self._peer = ""
        self._limits = limits
        self._in_head = True
        self._in_body = False
        self._bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._idle_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(OneWrite(transport, self.loop))  # type: ignore[arg-type]
        self._arm(self._limits.head_seconds_max)
        self._peer = self.client[0] if self.client else ""
        self._peers[self._peer] += 1
        if (
            len(self.connections) > self._limits.connections_max
            or self._peers[self._peer] > self._limits.connections_per_address_max
        ):
            detail = "There are too many connections."
            self._refuse(Problem(503, "TooManyConnections", detail, retry_after_seconds=1))

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._is_read()
        if self._idle:
            self._idle.cancel()
        self._peers[self._peer] -= 1
        if not self._peers[self._peer]:
            del self._peers[self._peer]
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client takes nothing more for now: what is written meanwhile is kept in memory."""
        self._unread = self.loop.call_later(self._limits.unread_seconds_max, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        self._is_read()
        super().resume_writing()

    def _is_read(self) -> None:
        if self._unread:
            self._unread.cancel()
            self._unread = None

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(Problem.of_status(400, "This is not an HTTP request."))
        else:
            self._limit(len(data))

    def on_message_begin(self) -> None:
        self._in_head = True
        self._bytes = 0
        self._idle_since = None
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._upgrade_asked():
            return
        self._in_head, self._in_body = False, True
        self._bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self._upgrade_asked():
            return
        self._in_body = False
        self.scope[WHOLE_BODY] = True  # type: ignore[literal-required]
        super().on_message_complete()
        if self.cycle.response_complete:
            self._wait_for_next()

    def on_response_complete(self) -> None:
        """As uvicorn's, which makes and cancels a timer for each request: ours is moved when it is due."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._in_body:
            if not self._deadline:
                self._arm(self._limits.dropped_seconds_max)
        else:
            self._wait_for_next()

    def _wait_for_next(self) -> None:
        self._idle_since = self.loop.time()
        if not self._idle:
            self._idle = self.loop.call_later(self._limits.keep_alive_seconds, self._close_if_idle)

    def _close_if_idle(self) -> None:
        self._idle = None
        if self._idle_since is None or not self.cycle.response_complete:
            return  # to the wait that begins with the next answer
        seconds_left = self._idle_since + self._limits.keep_alive_seconds - self.loop.time()
        if seconds_left > 0:
            self._idle = self.loop.call_later(seconds_left, self._close_if_idle)
        else:
            self.transport.close()

    def _upgrade_asked(self) -> bool:
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Ignore the upgrade, as HTTP allows, and read the request as if it had not asked for one.

        Java's client asks for `h2c` with every first request. The parser stops there, and uvicorn by itself
        would drop the body.
        """
        kept = [(name, value) for name, value in self.headers if name not in (b"upgrade", b"connection")]
        first_line = self.parser.get_method() + b" " + self.url + b" HTTP/1.1"
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join([first_line, *(b": ".join(pair) for pair in kept), b"", rest]))

    def _limit(self, received: int) -> None:
        if self._in_head:
            self._allow(received, self._limits.head_bytes_max, self._limits.head_seconds_max)
        elif self._in_body and self.cycle.response_complete:
            self._allow(received, self._limits.dropped_bytes_max, self._limits.dropped_seconds_max)
        elif self._deadline:
            self._disarm()

    def _allow(self, received: int, bytes_max: int, seconds_max: float) -> None:
        self._bytes += received
        if self._bytes > bytes_max:
            self._give_up()
        elif not self._deadline:
            self._arm(seconds_max)

    def _arm(self, seconds: float) -> None:
        self._deadline = self.loop.call_later(seconds, self._give_up)

    def _disarm(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._disarm()
        if self.transport.is_closing():
            return
        if not (self._in_head and self._bytes):
            self.transport.close()
        elif self._bytes > self._limits.head_bytes_max:
            self._refuse(Problem(431, "HeadersTooLarge", "The head of the request is too large."))
        else:
            self._refuse(Problem(408, "RequestTimeout", "The head of the request was not complete in time."))

    def _refuse(self, problem: Problem) -> None:
        """Answer a request that never reaches the application, and close the connection."""
        if self.transport.is_closing():
            return
        body = problem_body(problem, instance="/")
        headers = [
            *self.server_state.default_headers,
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *((name.encode(), value.encode()) for name, value in problem.headers.items()),
        ]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(b"".join([STATUS_LINE[problem.status], *lines, b"\r\n", body]))
        self.transport.close()

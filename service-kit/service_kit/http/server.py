"""The HTTP server of one service: bound before anything else starts, drained before anything else stops."""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate

import structlog
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from service_kit.errors import StartupError
from service_kit.http.protocol import DEFAULT_LIMITS, HttpLimits, LimitedProtocol

log = structlog.stdlib.get_logger()


@asynccontextmanager
async def http_server(
    app: ASGIApp, host: str, port: int, *, grace_seconds: float = 20.0, limits: HttpLimits = DEFAULT_LIMITS
) -> AsyncIterator["HttpServer"]:
    """Serve `app` on `host`:`port` (0: any free port), and drain on leaving, within `grace_seconds`.

    Raises StartupError, whose text names the host, the port and the setting to change.
    """
    server = HttpServer(app, host, port, limits=limits)
    await server.start()
    try:
        yield server
    finally:
        await server.drain(grace_seconds)


class HttpServer:
    """uvicorn's protocol without uvicorn's server, which takes the process's signals and polls to stop.

    Binds when made: raises StartupError.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, *, limits: HttpLimits = DEFAULT_LIMITS) -> None:
        self._socket = listening_socket(host, port, limits.backlog)
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        self._limits = limits
        self._state = ServerState()
        self._peers: Counter[str] = Counter()
        self._config = _config(_cut_off_quietly(app))
        self._server: asyncio.Server | None = None
        self._clock: asyncio.TimerHandle | None = None

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)  # noqa: S104 - no address is bound here
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    async def start(self) -> None:
        self._write_date()
        loop = asyncio.get_running_loop()
        connection = self._new_connection
        self._server = await loop.create_server(connection, sock=self._socket, backlog=self._limits.backlog)

    async def drain(self, grace_seconds: float) -> None:
        """Stop accepting, close idle connections, let requests in flight be answered; safe to call twice.

        What is not answered after `grace_seconds` is cut off.
        """
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for connection in list(self._state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(grace_seconds):
                while self._state.connections or self._state.tasks:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            await self._cut_off()
        if self._clock:
            self._clock.cancel()

    async def _cut_off(self) -> None:
        tasks = list(self._state.tasks)
        log.warning("requests_cut_off", requests=len(tasks), connections=len(self._state.connections))
        for connection in list(self._state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # uvicorn must see the connections lost before the tasks end
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _new_connection(self) -> LimitedProtocol:
        return LimitedProtocol(self._limits, self._config, self._state, self._peers)

    def _write_date(self) -> None:
        """Keep the `date` header of all answers, once a second."""
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._clock = asyncio.get_running_loop().call_later(1.0, self._write_date)


def listening_socket(host: str, port: int, backlog: int) -> socket.socket:
    """Bind and listen at once: only then is it certain that the port is ours. Raises StartupError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With its protocol named: asyncio sets TCP_NODELAY on no other, and each answer would wait 40 ms.
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise StartupError(_cannot_listen(host, port, error)) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        raise StartupError(_cannot_listen(host, port, error)) from error
    listening.setblocking(False)
    return listening


def _cannot_listen(host: str, port: int, error: Exception) -> str:
    where = f"cannot listen on {host}:{port}"
    code = error.errno if isinstance(error, OSError) and not isinstance(error, socket.gaierror) else None
    if code == errno.EADDRINUSE:
        return f"{where}: the port is taken by another process; choose another with APP__PORT"
    if code in (errno.EACCES, errno.EPERM):
        return f"{where}: not permitted for this user; choose a port above 1023 with APP__PORT"
    return f"{where}: not an address of this machine; choose another with APP__HOST ({_words(error)})"


def _words(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _config(app: ASGIApp) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        http=LimitedProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    config.load()
    return config


def _cut_off_quietly(app: ASGIApp) -> Callable[[Scope, Receive, Send], "asyncio.Future[None]"]:
    """A request that is cut off ends without the traceback that uvicorn would log for it."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            return

    return answer  # type: ignore[return-value]

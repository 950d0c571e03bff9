"""From an address to an open connection: TCP, TLS, login, tuning, virtual host."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from platform import python_version

from pamqp import commands
from pamqp.common import FieldTable
from pamqp.header import ProtocolHeader

from service_kit.errors import BrokerUnavailable
from service_kit.rabbitmq.address import Address, Host
from service_kit.rabbitmq.connection import Connection
from service_kit.rabbitmq.faults import ClosedByBroker, ConnectionLost
from service_kit.rabbitmq.publish_frames import FRAME_MAX, method_frame

CONNECT_TIMEOUT_SECONDS = 10.0
_CAPABILITIES: FieldTable = {
    "publisher_confirms": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}
_ACCESS_REFUSED, _NOT_ALLOWED = 403, 530


async def connect(
    address: Address, host: Host, make: Callable[[], Connection], *, name: str, heartbeat_seconds: int
) -> Connection:
    """An open connection to `host`, its heartbeats running, no channel open yet.

    Raises BrokerUnavailable with words for an operator, at the latest after 10 s.
    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            connection = await _connected(address, host, make)
            try:
                await _log_in(connection, address, name, heartbeat_seconds)
            except BaseException:
                connection.abort(ConnectionLost("the handshake was given up"))
                raise
            return connection
    except TimeoutError:
        raise BrokerUnavailable(f"{host}: no answer within {CONNECT_TIMEOUT_SECONDS:g} s") from None
    except ssl.SSLError as error:
        raise BrokerUnavailable(f"{host}: TLS failed: {error.reason or error}") from error
    except OSError as error:
        raise BrokerUnavailable(f"{host}: {_words(error)}") from error
    except ConnectionLost as error:
        raise BrokerUnavailable(f"{host}: {error}") from error


def _words(error: OSError) -> str:
    # asyncio writes "Connect call failed" where the system would say that the connection was refused.
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or str(error)


async def _connected(address: Address, host: Host, make: Callable[[], Connection]) -> Connection:
    loop = asyncio.get_running_loop()
    server_name = (address.tls_name or host.name) if address.tls else None
    _, connection = await loop.create_connection(
        make, host.name, host.port, ssl=address.tls, server_hostname=server_name
    )
    return connection


async def _log_in(connection: Connection, address: Address, name: str, heartbeat_seconds: int) -> None:
    connection.write(ProtocolHeader().marshal())
    start = await connection.call(None, commands.Connection.Start, 0)
    tune = await _authenticate(connection, address, name, start)
    connection.frame_max = min(tune.frame_max or FRAME_MAX, FRAME_MAX)
    heartbeat = min(heartbeat_seconds, tune.heartbeat or heartbeat_seconds)
    tuned = commands.Connection.TuneOk(tune.channel_max, connection.frame_max, heartbeat)
    connection.write(method_frame(tuned, 0))
    await _enter_virtual_host(connection, address)
    connection.start_heartbeats(heartbeat)


async def _authenticate(
    connection: Connection, address: Address, name: str, start: commands.Connection.Start
) -> commands.Connection.Tune:
    if "PLAIN" not in str(start.mechanisms).split():
        raise ConnectionLost(f"the broker offers no PLAIN login, only: {start.mechanisms}")
    answer = commands.Connection.StartOk(
        client_properties={
            "product": "order-processor",
            "platform": f"Python {python_version()}",
            "connection_name": name,
            "capabilities": _CAPABILITIES,
        },
        mechanism="PLAIN",
        response=f"\0{address.user}\0{address.password}",
        locale="en_US",
    )
    try:
        return await connection.call(answer, commands.Connection.Tune, 0)
    except ClosedByBroker as error:
        if error.code == _ACCESS_REFUSED:
            raise ConnectionLost(f"login of user {address.user!r} refused: {error.text}") from error
        raise
    except ConnectionLost as error:
        text = f"hung up during the login of user {address.user!r} (wrong user name or password?)"
        raise ConnectionLost(text) from error


async def _enter_virtual_host(connection: Connection, address: Address) -> None:
    try:
        opened = commands.Connection.Open(address.virtual_host)
        await connection.call(opened, commands.Connection.OpenOk, 0)
    except ClosedByBroker as error:
        if error.code in (_NOT_ALLOWED, _ACCESS_REFUSED):
            text = f"virtual host {address.virtual_host!r} cannot be used: {error.text}"
            raise ConnectionLost(text) from error
        raise

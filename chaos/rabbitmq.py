"""A RabbitMQ of our own: its node, its port mapper, its folders and its cookie are nobody else's."""

import asyncio
import os
import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from chaos import programs

START_SECONDS_MAX = 120.0
_GREETING = b"AMQP\x00\x00\x09\x01"


class RabbitMQ:
    """One node on `folder`. `settings` are lines of rabbitmq.conf, `terms` of its advanced configuration.

    A node of a cluster names its `peers`, and shares port mapper and cookie of the node that is `beside` it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "chaos",
        settings: Sequence[str] = (),
        terms: Mapping[str, str] = {},
        peers: Sequence[str] = (),
        beside: "RabbitMQ | None" = None,
    ) -> None:
        self.folder = folder
        self.node = _node(name)
        self.port = programs.free_port()
        self._programs = programs.rabbitmq_folder()
        self._home = beside.folder if beside else folder
        self._has_own_epmd = beside is None
        self._epmd_port: int = beside._epmd_port if beside else programs.free_port()
        self._settings = [*settings, *_discovery(peers)]
        self._terms = terms
        self._epmd: asyncio.subprocess.Process | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._environment = self._own_environment()

    @property
    def url(self) -> str:
        return self.url_through(self.port)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def url_through(self, port: int) -> str:
        return f"amqp://guest:guest@127.0.0.1:{port}/"

    async def create(self) -> None:
        terms = [f"{{{name}, {value}}}" for name, value in self._terms.items()]
        files = {
            "enabled_plugins": "[].\n",
            "rabbitmq-env.conf": "",
            "rabbitmq.conf": "".join(
                f"{line}\n" for line in ("disk_free_limit.absolute = 1MB", *self._settings)
            ),
            "advanced.config": f"[{{rabbit, [{', '.join(terms)}]}}].\n",
        }
        for name, text in files.items():
            (self.folder / name).write_text(text)
        if self._has_own_epmd:
            self._epmd = await programs.launch(
                programs.epmd(),
                "-port",
                str(self._epmd_port),
                "-address",
                "127.0.0.1",
                environment=self._environment,
                log=self.folder / "epmd.log",
            )
        await self.start()

    async def start(self) -> None:
        """Start, and wait until it takes connections. Raises RuntimeError when it ends instead."""
        self._process = await programs.launch(
            self._programs / "rabbitmq-server",
            environment=self._environment,
            log=self.folder / "rabbitmq.log",
        )
        async with asyncio.timeout(START_SECONDS_MAX):
            while not await self._answers():
                if self._process.returncode is not None:
                    log = (self.folder / "rabbitmq.log").read_text(errors="replace")
                    raise RuntimeError(f"RabbitMQ does not start: {log[-2000:]}")
                await asyncio.sleep(0.2)

    async def end(self, how: signal.Signals) -> None:
        """SIGTERM: orderly. SIGKILL: as a machine that fails."""
        await programs.end(self._process, how, within_seconds=60)

    async def close(self) -> None:
        await self.end(signal.SIGKILL)
        await programs.end(self._epmd, signal.SIGKILL, within_seconds=5)

    async def control(self, *arguments: str) -> str:
        """rabbitmqctl. Raises RuntimeError with what it said."""
        process = await asyncio.create_subprocess_exec(
            self._programs / "rabbitmqctl",
            *arguments,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await process.communicate()
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)}: {output.decode(errors='replace')}")
        return output.decode(errors="replace")

    async def queue_lengths(self) -> dict[str, int]:
        """Messages in each queue, those too that were delivered and not acknowledged."""
        table = await self.control("--quiet", "--no-table-headers", "list_queues", "name", "messages")
        return {
            name: int(messages) for name, _, messages in (line.partition("\t") for line in table.splitlines())
        }

    def version(self) -> str:
        """By its own log; empty when it does not say."""
        for file in (self.folder / "log").glob("*.log"):
            if found := re.search(r"Starting RabbitMQ (\S+)", file.read_text(errors="replace")):
                return found[1]
        return ""

    def log_count(self, text: str) -> int:
        """How many lines of the node's log hold `text`."""
        logs = [file.read_text(errors="replace") for file in (self.folder / "log").glob("*.log")]
        return sum(text in line for log in logs for line in log.splitlines())

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(_GREETING)
            return bool(await reader.read(1))
        except OSError:
            return False
        finally:
            writer.transport.abort()

    def _own_environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ", "ERL_"))
        }
        own = {
            "HOME": str(self._home),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(programs.free_port()),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            # The server's program then becomes the node itself instead of keeping a shell above it.
            "RUNNING_UNDER_SYSTEMD": "true",
        }
        return {**kept, **own}


def _node(name: str) -> str:
    return f"{name}-{os.getpid()}@localhost"


def _discovery(peers: Sequence[str]) -> list[str]:
    if not peers:
        return []
    return [
        "cluster_formation.peer_discovery_backend = classic_config",
        *(
            f"cluster_formation.classic_config.nodes.{number} = {_node(name)}"
            for number, name in enumerate(peers, start=1)
        ),
    ]

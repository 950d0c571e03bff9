"""Three nodes of RabbitMQ that form one cluster."""

import asyncio
import signal
from pathlib import Path

from chaos.rabbitmq import RabbitMQ

NAMES = ("one", "two", "three")
# A minority pauses rather than goes on alone; quorum queues stop there anyway.
_SETTINGS = ("cluster_partition_handling = pause_minority",)


class RabbitCluster:
    """The nodes know each other by their configuration; the first is made first."""

    def __init__(self, folder: Path) -> None:
        first: RabbitMQ | None = None
        self.nodes: list[RabbitMQ] = []
        for name in NAMES:
            place = folder / f"rabbitmq-{name}"
            place.mkdir()
            node = RabbitMQ(place, name=name, settings=_SETTINGS, peers=NAMES, beside=first)
            first = first or node
            self.nodes.append(node)

    @property
    def url(self) -> str:
        """What the services are given: all hosts."""
        return f"amqp://guest:guest@{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}/"

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    @property
    def ports(self) -> set[int]:
        return {node.port for node in self.nodes}

    async def create(self) -> None:
        """Return when all three run. Raises RuntimeError when they did not find each other."""
        await self.nodes[0].create()
        async with asyncio.TaskGroup() as group:
            for node in self.nodes[1:]:
                group.create_task(node.create())
        members = await self.nodes[0].control("--quiet", "eval", "length(rabbit_nodes:all_running()).")
        if members.strip() != str(len(self.nodes)):
            raise RuntimeError(f"the cluster has {members.strip()} of {len(self.nodes)} nodes")

    async def close(self) -> None:
        for node in self.nodes:
            await node.end(signal.SIGKILL)
        for node in self.nodes:
            await node.close()

    async def leader_of(self, queue: str) -> RabbitMQ:
        table = await self._alive().control("--quiet", "--no-table-headers", "list_queues", "name", "leader")
        leaders = dict(line.split("\t") for line in table.splitlines())
        return next(node for node in self.nodes if node.node == leaders[queue])

    async def queue_lengths(self) -> dict[str, int]:
        return await self._alive().queue_lengths()

    def version(self) -> str:
        return self.nodes[0].version()

    def _alive(self) -> RabbitMQ:
        return next(node for node in self.nodes if node.running)

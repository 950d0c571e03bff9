"""The broker itself: routing, queues, deliveries, restarts, and everything that it does wrong.

Its steps are nobody's. `Watch` is told what it took, lost and saw acknowledged.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from service_kit.broker import PublishOutcome
from service_kit.errors import BrokerUnavailable, MessageRejected
from service_kit.message import Message
from simulation.broker.faults import REJECTION, BrokerFaults, Fault
from simulation.broker.queue import Batch, ClientEnd, Connection, Entry, Queue
from simulation.loop import Owner, SimulatedLoop
from simulation.trace import Trace

CONFIRM_TIMEOUT_SECONDS = 10.0


class Watch(Protocol):
    def published(self, message: Message, outcome: PublishOutcome | None) -> None:
        """The outcome that the broker decided on; None when the publisher will never hear of it."""

    def lost(self, message: Message) -> None:
        """The broker forgot a message that it had confirmed."""

    def acknowledged(self, queue: str, message: Message) -> None: ...


class BrokerServer:
    def __init__(self, loop: SimulatedLoop, faults: BrokerFaults, trace: Trace, watch: Watch) -> None:
        self.loop = loop
        self.faults = faults
        self.up = True
        self.blocked = False
        self.queues: dict[str, Queue] = {}
        self._connections: list[Connection] = []
        self._trace = trace
        self._watch = watch

    # connections

    def connect(self, link: ClientEnd) -> Connection | None:
        if not self.up:
            return None
        connection = Connection(link)
        self._connections.append(connection)
        return connection

    def drop(self, connection: Connection, *, client_after: float = 0.0, server_after: float = 0.0) -> None:
        """The connection breaks; each side sees it after its time."""
        self._call(server_after, self._drop_at_server, connection)
        self._call(client_after, self._drop_at_client, connection)

    def close(self, connection: Connection) -> None:
        """In order, by the client: the server first hears what was said before."""
        self._acknowledged(connection, connection.last_acknowledged)
        self.drop(connection)

    def drop_all_of(self, owner: Owner, server_after: float) -> None:
        for connection in [each for each in self._connections if each.link.owner is owner]:
            self.drop(connection, server_after=server_after)

    def drop_any(self) -> None:
        if self._connections:
            connection = self._connections[self.faults.place(len(self._connections) - 1)]
            client, server = self.faults.unnoticed(), self.faults.unnoticed()
            self.drop(connection, client_after=client, server_after=server)

    def stop(self) -> None:
        """As by a crash: queues and their messages are durable, everything else is gone."""
        self.up = False
        for connection in list(self._connections):
            self.drop(connection)

    def start(self) -> None:
        self.up = True

    def set_blocked(self, blocked: bool) -> None:
        self.blocked = blocked
        for connection in list(self._connections):
            connection.link.blocked_changed()
            if not blocked:
                parked, connection.parked = connection.parked, []
                for batch in parked:
                    self._take(batch)

    def _drop_at_server(self, connection: Connection) -> None:
        if not connection.open_for_server:
            return
        connection.open_for_server = False
        self._connections.remove(connection)
        queue = connection.queue
        if queue:
            queue.consumers.remove(connection)
            queue.hand_back([entry for _, entry in connection.unacknowledged])
            connection.unacknowledged = []
            self._deliver(queue)

    def _drop_at_client(self, connection: Connection) -> None:
        if connection.open_for_client:
            connection.open_for_client = False
            connection.link.lost("the connection was lost")

    # queues

    def consume(self, connection: Connection, name: str, routing_keys: Sequence[str], prefetch: int) -> None:
        queue = self.queues.setdefault(name, Queue(name))
        queue.routing_keys.update(dict.fromkeys(routing_keys))
        connection.queue, connection.prefetch = queue, prefetch
        queue.consumers.append(connection)
        self._deliver(queue)

    def delete(self, name: str) -> None:
        """With everything in it; whoever consumes it is told, and declares it again."""
        queue = self.queues.pop(name, None)
        if queue is None:
            return
        unacknowledged = [e for each in queue.consumers for _, e in each.unacknowledged]
        for entry in [*queue.waiting, *unacknowledged]:
            self._watch.lost(entry.message)
        for connection in list(queue.consumers):
            connection.unacknowledged = []
            self.drop(connection)

    def unbind(self, name: str, *, for_seconds: float) -> None:
        queue = self.queues.get(name)
        if queue and queue.routing_keys:
            routing_keys, queue.routing_keys = queue.routing_keys, {}
            self.loop.later(for_seconds, queue.routing_keys.update, routing_keys)

    # publishing

    def send(self, batch: Batch) -> None:
        self.loop.later(self.faults.latency(), self._take, batch)

    def put(self, message: Message) -> bool:
        """Straight into its queues, from a publisher whose troubles are not ours; False: there is none."""
        queues = self._bound(message.routing_key)
        for queue in queues:
            queue.append(message)
            self._deliver(queue)
        return bool(queues)

    def _take(self, batch: Batch) -> None:
        connection = batch.connection
        if not connection.open_for_server:
            return
        if self.blocked:
            connection.parked.append(batch)
            self._never_answer(batch)
            return
        outcomes: list[PublishOutcome] = []
        silent = False
        for message in batch.messages:
            fault = self.faults.of_message()
            if fault is Fault.REJECTED:
                self.loop.later(self.faults.latency(), batch.fail, MessageRejected(REJECTION))
                return
            outcome = self._publish(message, fault)
            silent = silent or fault is Fault.SILENT
            outcomes.append(outcome)
            heard = fault is not Fault.SILENT and fault is not Fault.UNCONFIRMED
            self._watch.published(message, outcome if heard else None)
            if fault is Fault.UNCONFIRMED:
                self.drop(connection, client_after=self.faults.unnoticed())
                return
        if silent:
            self._never_answer(batch)
        else:
            self.loop.later(self.faults.latency(), batch.settle, outcomes)

    def _never_answer(self, batch: Batch) -> None:
        silence = BrokerUnavailable(f"confirmed nothing for {CONFIRM_TIMEOUT_SECONDS:g} s")
        self.loop.later(CONFIRM_TIMEOUT_SECONDS, batch.fail, silence)

    def _publish(self, message: Message, fault: Fault | None) -> PublishOutcome:
        queues = self._bound(message.routing_key)
        if self._trace.keep:
            where = " ".join(queue.name for queue in queues) or "no queue"
            told = f"{message.routing_key} {message.message_id} → {where}"
            self._trace.add(self.loop.time(), "broker", f"{told}  ({fault.value})" if fault else told)
        if not queues:
            return PublishOutcome.UNROUTABLE
        if fault is Fault.REFUSED:
            return PublishOutcome.REFUSED
        if fault is Fault.LOST:
            self._watch.lost(message)
            return PublishOutcome.CONFIRMED
        for queue in queues:
            if fault is Fault.DELAYED:
                self.loop.later(self.faults.delay(), self._put_later, queue, message)
                continue
            position = self.faults.place(len(queue.waiting)) if fault is Fault.REORDERED else None
            for _ in range(2 if fault is Fault.DUPLICATED else 1):
                queue.append(message, position)
            self._deliver(queue)
        return PublishOutcome.CONFIRMED

    def _put_later(self, queue: Queue, message: Message) -> None:
        if self.queues.get(queue.name) is queue:
            queue.append(message)
            self._deliver(queue)
        else:
            self._watch.lost(message)

    def _bound(self, routing_key: str) -> list[Queue]:
        return [queue for queue in self.queues.values() if routing_key in queue.routing_keys]

    # delivering

    def _deliver(self, queue: Queue) -> None:
        """To the consumers in turn, as far as their prefetch goes."""
        while queue.waiting:
            consumer = next(
                (each for each in queue.consumers if len(each.unacknowledged) < each.prefetch), None
            )
            if consumer is None:
                return
            queue.consumers.remove(consumer)
            queue.consumers.append(consumer)
            entry = queue.waiting.pop(0)
            consumer.delivered += 1
            consumer.unacknowledged.append((consumer.delivered, entry))
            self._push(consumer, consumer.delivered, entry)

    def _push(self, consumer: Connection, tag: int, entry: Entry) -> None:
        # Never before an earlier one of the same connection.
        now = self.loop.time()
        consumer.last_push = max(now + self.faults.latency(), consumer.last_push)
        consumer.pushes.append((tag, entry))
        if len(consumer.pushes) == 1:
            self.loop.later(consumer.last_push - now, self._flush, consumer)

    def _flush(self, consumer: Connection) -> None:
        pushes, consumer.pushes = consumer.pushes, []
        if self.faults.loses_consumer():
            self.drop(consumer, client_after=self.faults.unnoticed(), server_after=self.faults.unnoticed())
        if consumer.open_for_client and consumer.open_for_server:
            for tag, entry in pushes:
                consumer.link.delivered(consumer, tag, entry)

    def acknowledge(self, connection: Connection, up_to: int) -> None:
        if self.faults.loses_acknowledgement():
            self.drop(connection, client_after=self.faults.unnoticed())
        connection.last_acknowledged = up_to
        self.loop.later(self.faults.latency(), self._acknowledged, connection, up_to)

    def _acknowledged(self, connection: Connection, up_to: int) -> None:
        queue = connection.queue
        if not connection.open_for_server or queue is None:
            return
        done = [entry for tag, entry in connection.unacknowledged if tag <= up_to]
        del connection.unacknowledged[: len(done)]
        for entry in done:
            self._watch.acknowledged(queue.name, entry.message)
        self._deliver(queue)

    def _call(self, after: float, call: Callable[..., Any], connection: Connection) -> None:
        if after:
            self.loop.later(after, call, connection)
        else:
            call(connection)

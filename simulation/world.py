"""Everything that one run consists of."""

from contextvars import Context
from random import Random

from simulation.broker.faults import BrokerFaults
from simulation.broker.server import BrokerServer
from simulation.database.faults import DatabaseFaults
from simulation.database.server import DatabaseServer
from simulation.database.statements import Tables
from simulation.loop import SimulatedLoop
from simulation.oracle import Oracle
from simulation.orders import order_id
from simulation.plan import Plan
from simulation.processes import OrderProcess, ProcessorProcess, SimulatedProcess
from simulation.trace import Trace


class World:
    def __init__(self, plan: Plan, loop: SimulatedLoop, trace: Trace) -> None:
        self.plan = plan
        self.loop = loop
        self.trace = trace
        self.nobody = Context()
        self.random = Random(f"world {plan.seed}")
        self.postponements = {order_id(number): times for number, times in plan.postponed.items()}
        self.oracle = Oracle(plan, trace, loop.time)
        random = Random(f"faults {plan.seed}")
        self.database_faults = DatabaseFaults(random, plan.statement_rate, plan.pause_rate)
        self.broker_faults = BrokerFaults(
            random, plan.message_rate, plan.acknowledgement_rate, plan.delivery_rate, plan.lossy
        )
        self.order_tables, self.processor_tables = Tables("order"), Tables("processor")
        self.order_database = DatabaseServer(
            loop, self.order_tables, self.database_faults, trace, self.oracle.order_commit, "orders"
        )
        self.processor_database = DatabaseServer(
            loop, self.processor_tables, self.database_faults, trace, self.oracle.processor_commit, "states"
        )
        self.broker = BrokerServer(loop, self.broker_faults, trace, self.oracle)
        self.oracle.look_at(self.order_tables, self.processor_tables, self.broker)
        self.order_processes = [
            OrderProcess(self, f"order-{number}", self.order_database)
            for number in range(1, plan.order_services + 1)
        ]
        self.processor_processes = [
            ProcessorProcess(self, f"processor-{number}", self.processor_database)
            for number in range(1, plan.processors + 1)
        ]

    @property
    def processes(self) -> list[SimulatedProcess]:
        return [*self.order_processes, *self.processor_processes]

    def new_random(self) -> Random:
        return Random(self.random.getrandbits(64))

    def unnoticed(self) -> float:
        """How long a server takes to see that a process died: mostly at once, the system tells it."""
        return 0.001 if self.random.random() < 0.8 else self.random.uniform(0.01, 10.0)

    def note(self, who: str, what: str) -> None:
        if self.trace.keep:
            self.trace.add(self.loop.time(), who, what)

    def violation(self, text: str) -> None:
        self.oracle.violation(text)

"""What can go wrong between a service and the broker, and within the broker."""

from dataclasses import dataclass
from enum import Enum
from random import Random


class Fault(Enum):
    """What happens to one message that is published."""

    DUPLICATED = "duplicated"
    REORDERED = "put at any place of the queue"
    DELAYED = "confirmed, and in the queue later"
    REFUSED = "refused"
    REJECTED = "the channel is closed because of it"
    LOST = "confirmed and lost"
    UNCONFIRMED = "its confirm is lost with the connection"
    SILENT = "never confirmed"


REJECTION = "the channel was closed, as drawn by the simulation"
_KINDS = tuple(Fault)
_LATENCIES = (0.0, 0.0, 0.001, 0.003)
_LOSSLESS = tuple(fault for fault in Fault if fault is not Fault.LOST)


@dataclass(slots=True)
class BrokerFaults:
    """Rates are of messages, batches delivered and acknowledgements; `lossy` allows what needs healing."""

    random: Random
    message_rate: float = 0.0
    acknowledgement_rate: float = 0.0
    delivery_rate: float = 0.0
    lossy: bool = False

    def quiet(self) -> None:
        self.message_rate = self.acknowledgement_rate = self.delivery_rate = 0.0

    def of_message(self) -> Fault | None:
        if not self.message_rate or self.random.random() >= self.message_rate:
            return None
        kinds = _KINDS if self.lossy else _LOSSLESS
        return kinds[int(self.random.random() * len(kinds))]

    def loses_acknowledgement(self) -> bool:
        return self.acknowledgement_rate > 0 and self.random.random() < self.acknowledgement_rate

    def loses_consumer(self) -> bool:
        return self.delivery_rate > 0 and self.random.random() < self.delivery_rate

    def latency(self) -> float:
        return _LATENCIES[int(self.random.random() * 4)]

    def delay(self) -> float:
        return self.random.uniform(0.01, 8.0)

    def unnoticed(self) -> float:
        """How long one side takes to see that the other is gone; often not at all."""
        return 0.0 if self.random.random() < 0.6 else self.random.uniform(0.1, 20.0)

    def reconnection(self) -> float:
        return self.random.uniform(0.05, 1.0)

    def place(self, length: int) -> int:
        return int(self.random.random() * (length + 1))

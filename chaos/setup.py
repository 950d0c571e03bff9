"""What a fault needs to be set before anything is started, and what it makes impossible to promise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """`loses_messages`: the broker is made to lose what it confirmed, and only the reconciler can heal that.

    In all other runs the reconciler is as good as off: nothing may ever need it. `per_second` bounds the
    load. `postgres_megabytes`: PostgreSQL's folder is a disk of this size. `order_first`, `processor_first`:
    the environment of the first instance of a service alone.
    """

    order: Mapping[str, str] = field(default_factory=dict)
    processor: Mapping[str, str] = field(default_factory=dict)
    order_first: Mapping[str, str] = field(default_factory=dict)
    processor_first: Mapping[str, str] = field(default_factory=dict)
    postgres: Mapping[str, str] = field(default_factory=dict)
    rabbitmq: Sequence[str] = ()
    rabbitmq_terms: Mapping[str, str] = field(default_factory=dict)
    loses_messages: bool = False
    per_second: float = 100.0
    postgres_megabytes: int | None = None

    def __or__(self, other: "Setup") -> "Setup":
        return Setup(
            order={**self.order, **other.order},
            processor={**self.processor, **other.processor},
            order_first={**self.order_first, **other.order_first},
            processor_first={**self.processor_first, **other.processor_first},
            postgres={**self.postgres, **other.postgres},
            rabbitmq=(*self.rabbitmq, *other.rabbitmq),
            rabbitmq_terms={**self.rabbitmq_terms, **other.rabbitmq_terms},
            loses_messages=self.loses_messages or other.loses_messages,
            per_second=min(self.per_second, other.per_second),
            postgres_megabytes=self.postgres_megabytes or other.postgres_megabytes,
        )

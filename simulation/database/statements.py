"""Which statement of the real adapters does what on the model: a function for each SQL text."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar

from simulation.database.rows import Table, Waiting, Work

Records = list[dict[str, Any]]


class Tables:
    """The tables of one service's database; `prefix` begins the ids of its messages."""

    def __init__(self, prefix: str = "message") -> None:
        self.prefix = prefix
        self.orders = Table("orders")
        self.order_log = Table("order_log")
        self.processing_states = Table("processing_states")
        self.outbox = Table("outbox")
        self.inbox = Table("processed_inbox")
        self.retries = Table("retry_queue")
        self.letters = Table("dead_letter_queue")
        self.publications = Table("publications")


Model = Callable[..., Waiting]
M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Statement:
    """`digest` is of the SQL that the model was written for: when the SQL changes, the model is suspect."""

    name: str
    sql: str
    digest: str
    model: Model


STATEMENTS: dict[str, Statement] = {}


def models(sql: str, digest: str) -> Callable[[M], M]:
    """The decorated generator function does to `Tables` what `sql` does in PostgreSQL.

    It is called with the statement's `Work`, the tables and the arguments, and returns records.
    """

    def register(model: M) -> M:
        STATEMENTS[sql] = Statement(model.__name__, sql, digest, model)
        return model

    return register


def digest_of(sql: str) -> str:
    return sha256(" ".join(sql.split()).encode()).hexdigest()[:8]


__all__ = ["STATEMENTS", "Records", "Statement", "Tables", "Waiting", "Work", "digest_of", "models"]

"""Forecasts for dead letters: each is decoded by the service's own handler, and what is stored looked at."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service_kit.errors import Unavailable
from service_kit.events import Malformed, decoded_events
from service_kit.failures import FailedEvent, storable
from service_kit.forecast import Forecast, Foresee, Foreseen
from service_kit.message import Delivery
from service_kit.postgres.database import Database, Record

EXAMINED_MAX = 10_000
"""Letters of one forecast that are looked at; of more the rest is only counted."""

WHY_LENGTH_MAX = 1_000
_CHUNK_LETTERS, _CHUNK_BYTES = 500, 16_777_216
_EXAMPLES_EACH = 5

SIZES = """
SELECT id, octet_length(body) AS size FROM dead_letter_queue WHERE id = ANY ($1::bigint[]) ORDER BY id
"""

LETTERS = """
SELECT id, source, event_key, original_event_type, message_id, body
FROM dead_letter_queue WHERE id = ANY ($1::bigint[])
"""

Decode = Callable[[str, bytes], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterForecast:
    """`event_keys`: under which keys the letter's events would fail again."""

    forecast: Forecast
    why: str
    event_keys: Sequence[str]


class Forecasts:
    """`decode` is that of the service's Handler, `foresee` its look at what is stored."""

    def __init__(self, database: Database, decode: Decode, foresee: Foresee) -> None:
        self._database = database
        self._decode = decode
        self._foresee = foresee

    async def of(self, ids: Sequence[int]) -> Mapping[int, LetterForecast]:
        """A forecast for each of those letters that are there; bodies are read a few megabytes at a time."""
        async with self._database.connection() as connection:
            sizes = await connection.fetch(SIZES, ids)
        found: dict[int, LetterForecast] = {}
        for chunk in _chunks(sizes):
            async with self._database.connection() as connection:
                letters = await connection.fetch(LETTERS, chunk)
            found.update(await self._of_letters(letters))
        return found

    async def summary(self, ids: Sequence[int]) -> Mapping[str, object]:
        """Counts over all letters `ids` that are there, and some examples of each forecast."""
        found = await self.of(ids[:EXAMINED_MAX])
        counts = Counter(letter.forecast for letter in found.values())
        unexamined = len(ids[EXAMINED_MAX:])
        return {
            "total": len(found) + unexamined,
            **{str(forecast): counts[forecast] for forecast in Forecast},
            "unexamined": unexamined,
            "examples": list(_examples(found)),
        }

    async def _of_letters(self, letters: Sequence[Record]) -> Mapping[int, LetterForecast]:
        parts = {letter["id"]: list(self._parts(letter)) for letter in letters}
        events = [part.event for some in parts.values() for part in some if part.fault is None]
        outcomes = iter(await self._foresee_each(events))
        return {letter["id"]: _forecast(letter, parts[letter["id"]], outcomes) for letter in letters}

    def _parts(self, letter: Record) -> "Iterator[_Part]":
        """Split and decoded as the consumer does it; what came from the outbox is only published."""
        if letter["source"] == "outbox":
            return
        delivery = Delivery(
            tag=0,
            routing_key=letter["original_event_type"],
            body=letter["body"],
            message_id=letter["message_id"],
        )
        for body, event in decoded_events(delivery, self._decode):
            if isinstance(event, Malformed):
                key = FailedEvent.malformed(delivery, body, event.reason).event_key
                yield _Part(key, fault=event.reason)
            else:
                yield _Part(event.key, event)

    async def _foresee_each(self, events: Sequence[Any]) -> list[Foreseen]:
        """Halved, as the consumer does it, until an event that nothing can be said of stands alone."""
        if not events:
            return []
        try:
            return [*await self._foresee(events)]
        except Unavailable:
            raise
        except Exception as error:
            if len(events) == 1:
                return [Foreseen(Forecast.WILL_FAIL_AGAIN, f"{type(error).__name__}: {error}")]
            middle = len(events) // 2
            return await self._foresee_each(events[:middle]) + await self._foresee_each(events[middle:])


@dataclass(frozen=True, slots=True)
class _Part:
    """One event of a letter: the key under which it would fail, and what it is, or why it is none."""

    key: str
    event: Any = None
    fault: str | None = None


def _forecast(letter: Record, parts: Sequence[_Part], outcomes: Iterator[Foreseen]) -> LetterForecast:
    """`outcomes` are those of all events that could be read, in their order."""
    foreseen = [
        next(outcomes) if part.fault is None else Foreseen(Forecast.WILL_FAIL_AGAIN, part.fault)
        for part in parts
    ] or [Foreseen(Forecast.WILL_RUN, "it is published again")]
    keys = dict.fromkeys([letter["event_key"], *(part.key for part in parts)])
    worst = _worst(foreseen)
    return LetterForecast(
        forecast=worst.forecast, why=storable(worst.why), event_keys=[storable(key) for key in keys]
    )


def _worst(outcomes: Sequence[Foreseen]) -> Foreseen:
    """What is said of a letter: that it fails if one of its events does, and that it runs if one does."""
    order = (Forecast.WILL_FAIL_AGAIN, Forecast.WILL_RUN, Forecast.ALREADY_PROCESSED)
    return min(outcomes, key=lambda outcome: order.index(outcome.forecast))


def _examples(found: Mapping[int, LetterForecast]) -> Iterator[Mapping[str, object]]:
    shown: Counter[Forecast] = Counter()
    for letter_id, letter in found.items():
        if shown[letter.forecast] < _EXAMPLES_EACH:
            shown[letter.forecast] += 1
            yield {"id": letter_id, "forecast": str(letter.forecast), "why": letter.why[:WHY_LENGTH_MAX]}


def _chunks(sizes: Sequence[Record]) -> Iterator[list[int]]:
    chunk: list[int] = []
    weight = 0
    for record in sizes:
        if chunk and (len(chunk) == _CHUNK_LETTERS or weight + record["size"] > _CHUNK_BYTES):
            yield chunk
            chunk, weight = [], 0
        chunk.append(record["id"])
        weight += record["size"]
    if chunk:
        yield chunk

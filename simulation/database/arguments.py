"""What cannot be sent to PostgreSQL, and what it cannot store, whatever the statement."""

from collections.abc import Iterator
from typing import Any

import asyncpg

_INTEGERS = range(-(2**63), 2**63)


def check_encodable(arguments: tuple[Any, ...]) -> None:
    """Raises asyncpg.DataError, as the driver does before it sends anything."""
    for value in _values(arguments):
        if type(value) is int and value not in _INTEGERS:
            raise asyncpg.DataError(f"value out of int64 range: {value}")
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise asyncpg.DataError(str(error)) from error


def holds_nul(arguments: tuple[Any, ...]) -> bool:
    """No text of PostgreSQL can hold the character NUL."""
    return any(isinstance(value, str) and "\0" in value for value in _values(arguments))


def _values(arguments: tuple[Any, ...]) -> Iterator[Any]:
    for argument in arguments:
        if isinstance(argument, (list, tuple)):
            yield from argument
        else:
            yield argument

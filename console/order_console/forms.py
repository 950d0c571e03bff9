"""What a form or an address of the console says."""

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request

from service_kit.http.body import read_body
from service_kit.http.problems import Problem

FIELDS_MAX = 10_100
"""A selection may have 10,000 ids."""

_FORM = "application/x-www-form-urlencoded"


class BadInput(Exception):
    """What was entered cannot be used; the text says what is needed."""


class Form:
    """Named texts, each name any number of times; what is not there is empty."""

    def __init__(self, pairs: Sequence[tuple[str, str]] = ()) -> None:
        self._pairs = list(pairs)

    def __bool__(self) -> bool:
        return any(value for _, value in self._pairs)

    def exact(self, name: str) -> str:
        return next((value for key, value in self._pairs if key == name), "")

    def text(self, name: str) -> str:
        return self.exact(name).strip()

    def optional(self, name: str) -> str | None:
        return self.text(name) or None

    def texts(self, name: str) -> list[str]:
        return [value.strip() for key, value in self._pairs if key == name]

    def url(self, path: str, **changes: object) -> str:
        """The same with other values; without those that are None."""
        kept = {key: value for key, value in self._pairs if value and key not in changes}
        given = kept | {key: str(value) for key, value in changes.items() if value is not None}
        return f"{path}?{urlencode(given)}" if given else path

    def time(self, name: str) -> datetime | None:
        """A time in UTC, as browsers enter it (`2026-11-24T14:00`). Raises BadInput."""
        text = self.text(name)
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise BadInput(f"{text[:40]!r} is not a time such as 2026-11-24T14:00") from None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def number(self, name: str, default: float, *, least: float, most: float) -> float:
        """Raises BadInput."""
        text = self.text(name)
        try:
            number = float(text) if text else default
        except ValueError:
            number = float("nan")
        if not least <= number <= most:
            raise BadInput(f"{name} must be a number from {least:g} to {most:g}, and is {text[:40]!r}")
        return number

    def whole(self, name: str, default: int, *, least: int = 1, most: int = 2**63 - 1) -> int:
        """Raises BadInput."""
        text = self.text(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
            raise BadInput(f"{name} must be a whole number from {least} to {most}, and is {text[:40]!r}")
        return int(text)


def query_of(request: Request) -> Form:
    return Form(_pairs(request.scope["query_string"]))


async def form_of(request: Request) -> Form:
    """Raises Problem when the body is no form, or too large."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise Problem.of_status(415, "The console takes forms only.")
    return Form(_pairs(await read_body(request)))


def _pairs(text: bytes) -> list[tuple[str, str]]:
    try:
        decoded = text.decode("ascii")
        return parse_qsl(decoded, keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError:  # also what is no UTF-8, and too many fields
        raise Problem.of_status(400, "The form cannot be read.") from None

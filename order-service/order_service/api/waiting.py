"""How long a client wishes to wait for the end of its order."""

import re
from dataclasses import dataclass

from starlette.requests import Request

from service_kit.http.query import read_query

WAIT_SECONDS_MAX = 30

_PREFERRED = re.compile(r'(?:^|,)\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=$|[,;])', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wait:
    """`preferred`: it was asked for by the header `Prefer`, which is told by another if it is honoured."""

    seconds: int
    preferred: bool = False


NO_WAIT = Wait(0)


def asked_wait(request: Request, prefer: str | None) -> Wait:
    """From the query `wait=5`, else from `prefer`, the value of the header `Prefer: wait=5` (RFC 7240).

    The query is a demand: what it cannot mean raises Problem 400. A preference is none: what cannot be read
    in it is ignored, and more than the longest wait is the longest wait.
    """
    asked = read_query(request.scope, {"wait": _seconds}).get("wait")
    if asked is not None:
        return Wait(asked)
    found = _PREFERRED.search(prefer) if prefer else None
    return Wait(min(int(found[1]), WAIT_SECONDS_MAX), preferred=True) if found else NO_WAIT


def _seconds(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,2}", text) or int(text) > WAIT_SECONDS_MAX:
        raise ValueError(f"must be whole seconds from 0 to {WAIT_SECONDS_MAX}")
    return int(text)

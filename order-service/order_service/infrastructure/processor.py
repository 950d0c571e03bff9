"""The processor's part of a timeline, asked for over HTTP."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Self
from urllib.parse import quote

import httpx
import msgspec
import structlog

from order_service.application.ports import ProcessorHistory, Step
from order_service.domain.order import OrderId

SECONDS_MAX = 2.0
_ANSWER_BYTES_MAX = 1_048_576

log = structlog.stdlib.get_logger()


class _Step(msgspec.Struct):
    step: str
    service: str
    at: datetime | None = None
    by: str | None = None
    detail: dict[str, object] = msgspec.field(default_factory=dict)


class _Part(msgspec.Struct):
    steps: list[_Step]
    problems: list[str] = msgspec.field(default_factory=list)


class _Problem(msgspec.Struct):
    error_type: str = ""


class HttpProcessor:
    """Implements Processor by the admin API of processor-service at `url()`, opened by `key`.

    Waits 2 seconds at most: who asks for a timeline rather sees a part of it now. Without `tls` no
    certificates are loaded, which would delay the start.
    """

    def __init__(self, url: Callable[[], str], key: str | None, *, tls: bool) -> None:
        self._url = url
        self._client = httpx.AsyncClient(
            headers={"authorization": f"Bearer {key}"} if key else {},
            verify=tls,
            trust_env=False,
            timeout=SECONDS_MAX,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def history(self, order_id: OrderId) -> ProcessorHistory:
        try:
            async with asyncio.timeout(SECONDS_MAX):
                status, body = await self._get(f"{self._url()}/admin/orders/{_segment(order_id)}")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            log.warning("processor_not_asked", reason=f"{type(error).__name__}: {error}")
            return _unknown("it does not answer")
        return _history(status, body)

    async def _get(self, url: str) -> tuple[int, bytes]:
        async with self._client.stream("GET", url) as answer:
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > _ANSWER_BYTES_MAX:
                    break
            return answer.status_code, bytes(body)


def _history(status: int, body: bytes) -> ProcessorHistory:
    try:
        match status:
            case 200:
                part = msgspec.json.decode(body, type=_Part)
                steps = [_to_step(step) for step in part.steps]
                return ProcessorHistory(steps=steps, problems=part.problems)
            case 404 if msgspec.json.decode(body, type=_Problem).error_type == "OrderNotFound":
                return ProcessorHistory()
            case 401:
                return _unknown("it has another APP__ADMIN_KEY")
            case 403:
                return _unknown("its admin API is closed; APP__ADMIN_KEY in both services opens it")
            case _:
                return _unknown(f"it answered {status}")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _unknown("what answered at APP__PROCESSOR_URL is no processor-service")


def _to_step(step: _Step) -> Step:
    return Step(step=step.step, at=step.at, by=step.by, service=step.service, detail=step.detail)


def _unknown(because: str) -> ProcessorHistory:
    return ProcessorHistory(problems=[f"the steps of processor-service are missing: {because}"])


def _segment(order_id: str) -> str:
    """As one segment of a path; whoever resolves "." and ".." would end elsewhere."""
    name = quote(order_id, safe="")
    return name.replace(".", "%2E") if name in (".", "..") else name

"""One case on a connection of its own, and what must be true of whatever comes back."""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass

import h11

from fuzz.messages import SMUGGLED, Case

PROBLEM = "application/problem+json"
_QUIET_SECONDS, _ANSWER_SECONDS_MAX = 0.25, 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


async def verdicts(host: str, port: int, case: Case) -> tuple[int, list[str]]:
    """How many answers came, and what is wrong with them, in words."""
    received = await _exchange(host, port, case)
    try:
        answers = _answers(received)
    except h11.RemoteProtocolError as error:
        return 0, [f"the answer is no HTTP: {error}: {received[:200]!r}"]
    faults = [words for answer in answers for words in faults_of(answer)]
    if case.answers_max is not None and len(answers) > case.answers_max:
        faults.append(f"{len(answers)} answers, and {case.answers_max} at most are right")
    if (
        case.answers is not None
        and len(answers) != case.answers
        and answers[-1:]
        and answers[-1].status < 400
    ):
        faults.append(f"{len(answers)} answers instead of {case.answers}")
    if case.answers is not None and not answers:
        faults.append("no answer")
    return len(answers), faults


async def _exchange(host: str, port: int, case: Case) -> bytes:
    """Send, and read until the service closes, or was quiet after all that must come has come."""
    reader, writer = await asyncio.open_connection(host, port)
    received = bytearray()
    sending = asyncio.create_task(_send(writer, case.pieces))
    clock = asyncio.get_running_loop().time
    deadline = clock() + _ANSWER_SECONDS_MAX
    try:
        while clock() < deadline:
            try:
                chunk = await asyncio.wait_for(reader.read(65_536), _QUIET_SECONDS)
            except TimeoutError:
                if sending.done() and _count(bytes(received)) >= (case.answers or 0):
                    break
                continue
            if not chunk:
                break
            received += chunk
    except ConnectionError:
        pass  # what could be read before is judged
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError, ConnectionError):
            await sending
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return bytes(received)


async def _send(writer: asyncio.StreamWriter, pieces: tuple[bytes, ...]) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)


def _count(received: bytes) -> int:
    with suppress(h11.RemoteProtocolError):
        return len(_answers(received))
    return 1_000


def _answers(received: bytes) -> list[Answer]:
    """The complete answers. Raises h11.RemoteProtocolError."""
    answers: list[Answer] = []
    while received:
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        parser.send(h11.EndOfMessage())
        parser.receive_data(received)
        status, headers, body, complete = 0, {}, b"", False
        while not complete:
            event = parser.next_event()
            if event in (h11.NEED_DATA, h11.PAUSED):
                return answers
            if isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                complete = True
        answers.append(Answer(status, headers, body))
        received = parser.trailing_data[0]
    return answers


def faults_of(answer: Answer) -> list[str]:
    faults = []
    if answer.status == 503 and b'"status":"not ready"' in answer.body:
        return []  # of /ready
    if answer.status >= 500 and not (answer.status == 503 and "retry-after" in answer.headers):
        faults.append(f"status {answer.status}")
    if answer.status >= 400:
        faults += _problem_faults(answer)
    if "set-cookie" in answer.headers or SMUGGLED in str(answer.headers):
        faults.append(f"a header was injected: {answer.headers}")
    if answer.body and f"/{SMUGGLED}".encode() in answer.body:
        faults.append("a hidden request was answered")
    return faults


def _problem_faults(answer: Answer) -> list[str]:
    if not answer.body and "content-length" in answer.headers:
        return []  # of a HEAD
    if not answer.headers.get("content-type", "").startswith(PROBLEM):
        return [f"{answer.status} is no problem but {answer.headers.get('content-type')}"]
    try:
        problem = json.loads(answer.body.decode("utf-8", "strict"))
    except ValueError as error:
        return [f"{answer.status} is unreadable: {error}"]
    words = str(problem).lower()
    faults = [f"tells internals: {word}" for word in ("traceback", "asyncpg", 'file "') if word in words]
    if problem.get("status") != answer.status:
        faults.append(f"{answer.status} tells {problem.get('status')}")
    return faults

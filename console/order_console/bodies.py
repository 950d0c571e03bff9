"""What came, made readable: as JSON if it is some, else as text, else as bytes."""

import base64
import json
import re
from dataclasses import dataclass

from order_processor_client.admin_models import DeadLetterInFull

CHARACTERS_MAX = 65_536
_BYTES_SHOWN, _BYTES_A_LINE = 2_048, 16

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_OPENING, _CLOSING = {"{", "["}, {"}", "]"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """`formatted` is None unless it is JSON; `text` is as it came, or a dump of bytes that are no text."""

    formatted: str | None
    text: str
    is_text: bool
    cut: bool


def body_of(letter: DeadLetterInFull) -> Body:
    """Cut where a browser, and a reader, would have enough."""
    if letter.body is None:
        content = base64.b64decode(letter.body_base64)
        return Body(formatted=None, text=_dump(content), is_text=False, cut=len(content) > _BYTES_SHOWN)
    formatted = _indented(letter.body) if _is_document(letter.body) else None
    return Body(
        formatted=formatted,
        text=letter.body[:CHARACTERS_MAX],
        is_text=True,
        cut=len(letter.body) > CHARACTERS_MAX or len(formatted or "") >= CHARACTERS_MAX,
    )


def _is_document(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _indented(text: str) -> str:
    """The same tokens on lines of their own: reading and writing it anew would change its numbers."""
    pieces: list[str] = []
    depth = size = 0
    before = ""
    for token in _TOKEN.findall(text):
        depth -= token in _CLOSING
        is_empty = before in _OPENING and token in _CLOSING
        on_its_own = before in _OPENING | {","} or token in _CLOSING
        space = "\n" + "  " * depth if on_its_own and not is_empty else " " if before == ":" else ""
        pieces.append(space + token)
        size += len(pieces[-1])
        if size > CHARACTERS_MAX:
            break
        depth += token in _OPENING
        before = token
    return "".join(pieces)[:CHARACTERS_MAX]


def _dump(content: bytes) -> str:
    """Each line: where it is, its bytes in hexadecimal, and those of them that are letters."""
    lines = (
        content[at : at + _BYTES_A_LINE] for at in range(0, min(len(content), _BYTES_SHOWN), _BYTES_A_LINE)
    )
    return "\n".join(_dump_line(number * _BYTES_A_LINE, line) for number, line in enumerate(lines))


def _dump_line(at: int, line: bytes) -> str:
    letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
    return f"{at:06x}  {line.hex(' '):<{_BYTES_A_LINE * 3}} {letters}"

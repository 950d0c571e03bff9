"""Where output goes: what was asked for to stdout, all that is said beside it to stderr."""

import json
import sys
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from order_processor.commands.cells import cell, text
from service_kit.printable import printable

T = TypeVar("T")

_PIPE_WIDTH = 200
_FOLDED_WIDTH = 8
_encoder = msgspec.json.Encoder(decimal_format="number")


class Output:
    """With `json`, stdout gets one JSON document, or one a line, and nothing else."""

    def __init__(self, *, json: bool, color: bool) -> None:
        self.json = json
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        self.screen = _console(sys.stdout, color)
        self.notes = _console(sys.stderr, color)

    def document(self, value: Any) -> None:
        print(json_line(value))

    def documents(self, values: Iterable[Any]) -> None:
        for value in values:
            print(json_line(value), flush=True)

    def show(self, *renderables: RenderableType) -> None:
        for renderable in renderables:
            self.screen.print(renderable, soft_wrap=isinstance(renderable, Text))

    def note(self, words: str) -> None:
        self.notes.print(Text(printable(words)), soft_wrap=True)


def json_line(value: Any) -> str:
    """ASCII alone, so that nothing reaches a terminal raw. Decimals are numbers, exactly as they are."""
    text = _encoder.encode(value).decode()
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(one if " " <= one <= "~" else json.dumps(one)[1:-1] for one in text)


def new_table(
    *columns: str, right: Iterable[str] = (), fold: Iterable[str] = (), title: str | None = None
) -> Table:
    """`fold` names the columns whose text may take several lines; the others keep theirs on one."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.title, table.title_justify, table.title_style = title, "left", "bold"
    for column in columns:
        folds = column in fold
        table.add_column(
            column,
            justify="right" if column in right else "left",
            no_wrap=not folds,
            overflow="fold" if folds else "ellipsis",
            min_width=_FOLDED_WIDTH if folds else None,
        )
    return table


def facts_table(facts: Iterable[tuple[str, object]]) -> Table:
    """A line for each fact that is known."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value is not None and value != "":
            table.add_row(text(name.replace("_", " ")), cell(value))
    return table


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Where it came from is for the command's end to decide."""
        raise BrokenPipeError


def _console(stream: Any, color: bool) -> Console:
    return _Console(
        file=stream,
        color_system="auto" if color else None,
        highlight=False,
        markup=False,
        emoji=False,
        width=None if stream.isatty() else _PIPE_WIDTH,
    )

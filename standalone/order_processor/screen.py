"""What `order-processor up` shows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from order_processor.samples import SampleOutcome

_STYLES = {"done": "green", "failed": "red", "pending": "yellow"}


class Screen:
    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)

    @contextmanager
    def step(self, words: str) -> Iterator[None]:
        """Show that `words` goes on, and then how long it took."""
        started = perf_counter()
        with self._console.status(escape(words)):
            yield
        self._console.print(f"[green]✓[/] {escape(words)} [dim]{perf_counter() - started:.1f} s[/]")

    def addresses(self, order_service_url: str, processor_service_url: str) -> None:
        table = Table.grid(padding=(0, 2))
        table.add_row("  order-service", order_service_url, "[dim]/orders  /health  /ready  /metrics[/]")
        table.add_row("  processor-service", processor_service_url, "[dim]/health  /ready  /metrics[/]")
        self._print_block(table)

    def outcomes(self, outcomes: Sequence[SampleOutcome]) -> None:
        table = Table(title="Sample orders", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
        for heading in ("order_id", "status", "version", "fail_reason", "took"):
            table.add_column(
                heading, no_wrap=True, justify="right" if heading in ("version", "took") else "left"
            )
        for outcome in outcomes:
            order = outcome.order
            table.add_row(
                escape(order["order_id"]),
                f"[{_STYLES.get(order['status'], '')}]{escape(order['status'])}[/]",
                str(order["version"]),
                escape(order["fail_reason"] or "–"),
                "kept" if outcome.milliseconds is None else f"{outcome.milliseconds:.0f} ms",
            )
        if any(outcome.milliseconds is None for outcome in outcomes):
            table.caption = "kept: the order is from an earlier run"
        self._print_block(table)

    def serving(self, order_service_url: str, data_dir: Path | None, *, thrown_away: bool) -> None:
        self._console.print(f"The console:  {order_service_url}/console", soft_wrap=True)
        self._console.print(
            f"Look one up:  curl {order_service_url}/orders/ord-sample-success", soft_wrap=True
        )
        if data_dir:
            self._console.print(f"The data are kept in {escape(str(data_dir))}", soft_wrap=True)
        if thrown_away:
            self._console.print("The data are thrown away at the end (--ephemeral)")
        self._console.print("[bold]Serving until Ctrl-C.[/]")

    def note(self, words: str) -> None:
        self._console.print(f"[yellow]![/] {escape(words)}", soft_wrap=True)

    def stopping(self) -> None:
        self._console.print("Stopping: finishing what is in hand …")

    def stopped(self, *, thrown_away: bool) -> None:
        what = "the data are thrown away (--ephemeral)" if thrown_away else "nothing is lost"
        self._console.print(f"Stopped; {what}.")

    def _print_block(self, table: Table) -> None:
        self._console.print()
        self._console.print(table)
        self._console.print()

"""The report: what was promised, and then every figure beside its yardstick."""

from pathlib import Path

from bench.report.page import page, plots
from bench.results import Results


def write_report(results: Results, folder: Path) -> Path:
    """Write `report.md` and its plots into `folder`."""
    drawings = folder / "plots"
    drawings.mkdir(exist_ok=True)
    for name, drawing in plots(results).items():
        (drawings / f"{name}.svg").write_text(drawing, encoding="utf-8")
    file = folder / "report.md"
    file.write_text(page(results), encoding="utf-8")
    return file

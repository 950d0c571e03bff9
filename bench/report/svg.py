"""Small SVG plots: bars, and lines over time. Readable on white and on black."""

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _BAR, _LABEL, _VALUE = 720, 26, 250, 90
_COLOURS = ("#2f6fd0", "#d0692f", "#2f9e6a", "#8a4fc0", "#b0952c", "#7a7a7a", "#c0392b")
_STYLE = "font-family:system-ui,sans-serif;font-size:13px"
_HEIGHT, _LEFT, _TOP, _BOTTOM = 240, 70, 40, 40


def bars(title: str, values: Mapping[str, float], unit: str) -> str:
    """One bar for each value."""
    most = max(values.values(), default=0.0) or 1.0
    room = _WIDTH - _LABEL - _VALUE
    parts = [_text(10, 20, title, weight="bold")]
    for number, (name, value) in enumerate(values.items()):
        y = 36 + number * _BAR
        width = max(1.0, room * value / most)
        parts += [
            _text(_LABEL - 8, y + 14, name, anchor="end"),
            _rectangle(_LABEL, y, width, 18, _COLOURS[0]),
            _text(_LABEL + width + 6, y + 14, f"{value:,.0f} {unit}"),
        ]
    return _page(44 + len(values) * _BAR, parts)


def stacked(title: str, rows: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """A bar for each row, made of its parts; each part has its colour in all rows."""
    names = list(dict.fromkeys(name for parts in rows.values() for name in parts))
    most = max((sum(parts.values()) for parts in rows.values()), default=0.0) or 1.0
    room = _WIDTH - _LABEL - _VALUE
    drawn = [_text(10, 20, title, weight="bold")]
    for number, (row, parts) in enumerate(rows.items()):
        y, x = 36 + number * _BAR, float(_LABEL)
        drawn.append(_text(_LABEL - 8, y + 14, row, anchor="end"))
        for name, value in parts.items():
            width = room * value / most
            drawn.append(_rectangle(x, y, width, 18, _COLOURS[names.index(name) % len(_COLOURS)]))
            x += width
        drawn.append(_text(x + 6, y + 14, f"{sum(parts.values()):,.0f} {unit}"))
    height = 44 + len(rows) * _BAR
    return _page(height + 20 * ((len(names) + 2) // 3) + 6, drawn + _legend(names, height))


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]], unit: str) -> str:
    """Lines over seconds."""
    points = [point for line in series.values() for point in line]
    most_x = max((x for x, _ in points), default=0.0) or 1.0
    most_y = max((y for _, y in points), default=0.0) or 1.0
    width, height = _WIDTH - _LEFT - 20, _HEIGHT - _TOP - _BOTTOM

    def at(x: float, y: float) -> str:
        return f"{_LEFT + width * x / most_x:.1f},{_TOP + height * (1 - y / most_y):.1f}"

    drawn = [_text(10, 20, title, weight="bold")]
    for share in (0.0, 0.5, 1.0):
        y = _TOP + height * (1 - share)
        drawn.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 20}" y1="{y}" y2="{y}" stroke="#8888" />')
        drawn.append(_text(_LEFT - 6, y + 4, f"{most_y * share:,.0f}", anchor="end"))
        drawn.append(_text(_LEFT + width * share, _HEIGHT - _BOTTOM + 18, f"{most_x * share:,.0f} s"))
    drawn.append(_text(_LEFT - 6, _TOP - 8, unit, anchor="end"))
    for number, line in enumerate(series.values()):
        path = " ".join(at(x, y) for x, y in line)
        colour = _COLOURS[number % len(_COLOURS)]
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6" />')
    return _page(_HEIGHT + 26, drawn + _legend(list(series), _HEIGHT))


def _legend(names: Sequence[str], y: float) -> list[str]:
    parts = []
    for number, name in enumerate(names):
        x, row = 10 + (number % 3) * 236, y + 20 * (number // 3)
        parts.append(_rectangle(x, row, 12, 12, _COLOURS[number % len(_COLOURS)]))
        parts.append(_text(x + 18, row + 11, name))
    return parts


def _page(height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" style="{_STYLE}">'
    ground = f'<rect width="{_WIDTH}" height="{height:.0f}" fill="#ffffff" />'
    return "\n".join([head, ground, *parts, "</svg>\n"])


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text {place} fill="#222222">{escape(text)}</text>'


def _rectangle(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.0f}" fill="{colour}" />'

"""How objects of this package look at a prompt, and in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

_MOST = 20  # rows that are shown

Looks = tuple[str, Sequence[str], Sequence[Sequence[object]]]  # a title, headings, and a row for each thing


def size(n: float) -> str:
    """A number of bytes, as 1.5 MB."""
    unit = "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if n >= 1000:
            n, unit = n / 1000, larger
    return f"{n:.0f} B" if unit == "B" else f"{n:.1f} {unit}"


class Shown:
    """What has a repr of a title and rows, and one in HTML."""

    def _looks(self) -> Looks:
        raise NotImplementedError

    def __repr__(self) -> str:
        title, head, rows = self._looks()
        lines = [[_line(cell) for cell in row] for row in (head, *rows[:_MOST])] if rows else []
        widths = [max(map(len, column)) for column in zip(*lines)]
        texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
        return "\n  ".join([f"<{title}>", *texts, *_more(rows)])

    def _repr_html_(self) -> str:
        title, head, rows = self._looks()
        lines = [_row("th", head), *(_row("td", row) for row in rows[:_MOST])] if rows else []
        return f"<b>{html.escape(title)}</b><table>{''.join(lines)}</table>{''.join(_more(rows))}"


def _row(tag: str, cells: Iterable[object]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"


def _line(cell: object) -> str:
    return str(cell).encode("unicode_escape").decode() if not str(cell).isprintable() else str(cell)


def _more(rows: Sequence[object]) -> list[str]:
    return [f"… and {len(rows) - _MOST} more"] if len(rows) > _MOST else []

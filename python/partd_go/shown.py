"""Formats objects of this package for the interactive prompt and for notebooks."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_MAX_ROWS = 20

Summary = tuple[str, Sequence[str], Sequence[Sequence[object]]]  # a title, headings and rows


def row_count(table: Mapping[str, Any]) -> int | str:
    """Returns the number of rows in a description of a table, as text if it is only a maximum."""
    return table["Rows"] if table.get("RowsExact", True) else f"at most {table['Rows']}"


def size(n: float) -> str:
    """Returns a number of bytes as text, such as 1.5 MB."""
    unit = "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if n >= 1000:
            n, unit = n / 1000, larger
    return f"{n:.0f} B" if unit == "B" else f"{n:.1f} {unit}"


class Shown:
    """A base class for objects whose representation, in text and in HTML, is a title and a table."""

    def _summary(self) -> Summary:
        raise NotImplementedError

    def __repr__(self) -> str:
        title, head, rows = self._summary()
        lines = [[_printable(cell) for cell in row] for row in (head, *rows[:_MAX_ROWS])] if rows else []
        widths = [max(map(len, column)) for column in zip(*lines)]
        texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
        return "\n  ".join([f"<{title}>", *texts, *_more(rows)])

    def _repr_html_(self) -> str:
        title, head, rows = self._summary()
        lines = [_row("th", head), *(_row("td", row) for row in rows[:_MAX_ROWS])] if rows else []
        return f"<b>{html.escape(title)}</b><table>{''.join(lines)}</table>{''.join(_more(rows))}"


def _row(tag: str, cells: Iterable[object]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"


def _printable(cell: object) -> str:
    return str(cell).encode("unicode_escape").decode() if not str(cell).isprintable() else str(cell)


def _more(rows: Sequence[object]) -> list[str]:
    return [f"… and {len(rows) - _MAX_ROWS} more"] if len(rows) > _MAX_ROWS else []

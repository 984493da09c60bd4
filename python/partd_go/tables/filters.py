"""pyarrow's filters, lists of (column, operator, value), as the server's text."""

from __future__ import annotations

import datetime
import numbers
from typing import Any

Filters = list[Any]
_OPERATORS = {"=": "=", "==": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">=", "in": "in", "not in": "not in"}


def quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def text(filters: Filters, index: list[str] | None = None) -> str:
    """The filter of [(column, op, value), …], which all hold, or of lists of such, of which one does.

    "index" is the index where there is no column of that name.
    """
    if not filters:
        raise ValueError("filters are empty: write [(column, operator, value), ...]")
    if isinstance(filters[0], (list, set)):
        return " or ".join(f"({text(list(part), index)})" for part in filters)
    return " and ".join(_condition(part, index or []) for part in filters)


def _condition(part: Any, index: list[str]) -> str:
    try:
        column, operator, value = part
        sign = _OPERATORS[operator]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"a filter {part!r}: write (column, operator, value), with one of {', '.join(_OPERATORS)}") from None
    if column == "index" and len(index) == 1:
        column = index[0]
    if sign.endswith("in"):
        return f"{quoted(column)} {sign} ({', '.join(map(_value, value))})"
    return f"{quoted(column)} {sign} {_value(value)}"


def _value(value: Any) -> str:
    value = value.item() if type(value).__module__ == "numpy" and not str(value.dtype).startswith("datetime") else value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, numbers.Number):
        return str(value)
    if isinstance(value, (datetime.date, datetime.time)):  # a Timestamp is one, too
        value = value.isoformat()
    return "'" + str(value).replace("'", "''") + "'"

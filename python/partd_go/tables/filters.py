"""Converts pyarrow's filters, which are lists of (column, operator, value), to the server's filter language."""

from __future__ import annotations

import datetime
import enum
import math
import numbers
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import Misuse

Filters = list[Any]
_OPERATORS = {sign: sign.replace("==", "=") for sign in ("=", "==", "!=", "<", "<=", ">", ">=", "in", "not in")}


def quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def text(filters: Any, index: list[str] | None = None) -> str:
    """Converts filters to the server's language. For example, [("price", ">", 1), ("size", "in", [1, 2])] becomes
    "price" > 1 and "size" in (1, 2). The conditions in a list are joined by "and". In a list of lists, the inner lists
    are joined by "or".

    index has the names of the frame's index columns. If there is only one index column, filters may call it "index".
    """
    if not isinstance(filters, (list, tuple, set, frozenset)):
        raise Misuse(
            f"the argument where has type {type(filters).__name__}: pass text, such as 'price > 1', or [(column, "
            "operator, value), ...]"
        )
    filters = [*filters]
    if not filters:
        raise Misuse("a list of filters is empty: pass [(column, operator, value), ...]")
    if isinstance(filters[0], (list, set)):
        return " or ".join(f"({text(list(part), index)})" for part in filters)
    return " and ".join(condition(term, index or []) for term in filters)


def condition(term: Any, index: Sequence[str] = ()) -> str:
    try:
        column, operator, value = term
        sql_op = _OPERATORS[operator]
    except (KeyError, TypeError, ValueError):
        raise Misuse(
            f"filter {term!r:.80}: pass (column, operator, value); operator must be one of {', '.join(_OPERATORS)}"
        ) from None
    if not isinstance(column, str):
        raise Misuse(f"filter {term!r:.80}: column {column!r} has type {type(column).__name__}: pass its name as text")
    if column == "index" and len(index) == 1:
        column = index[0]
    name = quoted(column)
    never = f"{name} is null and {name} is not null"
    if not sql_op.endswith("in"):
        return never if _is_null(value) else f"{name} {sql_op} {_literal(value)}"
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise Misuse(f"filter {term!r:.80}: the value of {operator!r} has type {type(value).__name__}: pass a list")
    values = list(value)
    literals = ", ".join(_literal(item) for item in values if not _is_null(item))
    parts = [f"{name} {sql_op} ({literals})"] if literals else [f"{name} is not null"] if sql_op == "not in" else []
    if any(map(_is_null, values)) == (sql_op == "in"):  # as in pyarrow, a null in the list matches null rows
        parts.append(f"{name} is null")
    return f"({' or '.join(parts) or never})"


def _is_null(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NaTType", "NAType")


def _literal(value: Any) -> str:
    if isinstance(value, enum.Enum):  # str() of a member would return the member's name
        value = value.value
    dtype = str(value.dtype) if type(value).__module__ == "numpy" else ""
    if isinstance(value, datetime.timedelta) or dtype.startswith("timedelta"):
        raise Misuse(f"a filter's value is a duration, {value}: pass a number in the column's unit")
    value = value.item() if dtype and not dtype.startswith("datetime") else value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        raise Misuse(f"a filter's value is of type bytes, {value!r:.80}: read the column and filter the result instead")
    if isinstance(value, numbers.Number):
        if isinstance(value, float) and not math.isfinite(value):
            raise Misuse(f"a filter's value is {value}: pass a finite number")
        return str(value)
    if dtype.startswith("datetime"):  # a numpy.datetime64 is in UTC
        value = f"{value}-00:00"
    if isinstance(value, (datetime.date, datetime.time)):  # includes pandas' Timestamp
        value = value.isoformat()
    if not isinstance(value, (str, uuid.UUID)):
        raise Misuse(
            f"a filter's value, {value!r:.80}, has type {type(value).__name__}: pass text, a number, a date or a time"
        )
    return "'" + str(value).replace("'", "''") + "'"

"""Computes tables from other tables, on the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import pyarrow as pa

from ..errors import Misuse
from ..frames import As, from_arrow
from . import arguments
from .connection import Connection
from .results import MODES, Mode, Resampled

if TYPE_CHECKING:
    import pandas
    import polars
    from typing_extensions import Unpack

Functions: TypeAlias = "str | Sequence[str] | Mapping[Any, str | Sequence[str]]"


class Transforms(Connection):
    """Methods that compute tables from other tables."""

    def resample(
        self,
        source: str,
        target: str,
        rule: str = "",
        time_col: str = "",
        how: Functions = "mean",
        *,
        columns: str | Sequence[str] | None = None,
        by: str | Sequence[str] | None = None,
        sql: str = "",
        mode: Mode = "append",
        bucket: str = "",
        target_bucket: str | None = None,
        timeout: float | None = None,
    ) -> tuple[int, int]:
        """Aggregates the rows of the table source in time bins and writes the result to the table target. Returns the
        numbers of rows read (0 for a SELECT) and written.

        Args:
            rule: The length of a bin as a pandas offset, such as "5min".
            time_col: The name of the time column.
            how: One or several functions, such as "mean" or "first(open),max(high)", or a dict from columns to
                functions, such as {"open": "first", "high": "max"}.
            columns: Names of the columns to aggregate; by default, all. Cannot be combined with functions that name a
                column, such as "max(high)".
            by: Names of the columns to group by; by default, the table's keys. [] means no grouping.
            sql: A SELECT statement whose rows are written instead of aggregated rows.
            mode: As in put().
            target_bucket: The bucket of target; by default, the bucket of source.
        """
        call: dict[str, Any] = {"SQL": sql} if sql else _resample_body(rule, time_col, how, columns, by)
        target_table = {"Bucket": bucket if target_bucket is None else target_bucket, "Name": target}
        source_table = {"Bucket": bucket, "Name": source}
        (reply,) = self._ask(
            "partd.resample", timeout, Source=source_table, Target=target_table, Mode=MODES.index(mode), **call
        )
        return reply["SourceRows"], reply["TargetRows"]

    @overload
    def resampled(
        self,
        source: str,
        rule: str,
        time_col: str,
        how: Functions = "mean",
        *,
        as_: Literal["pandas"] = "pandas",
        **selection: Unpack[Resampled],
    ) -> pandas.DataFrame: ...

    @overload
    def resampled(
        self,
        source: str,
        rule: str,
        time_col: str,
        how: Functions = "mean",
        *,
        as_: Literal["polars"],
        **selection: Unpack[Resampled],
    ) -> polars.DataFrame: ...

    @overload
    def resampled(
        self,
        source: str,
        rule: str,
        time_col: str,
        how: Functions = "mean",
        *,
        as_: Literal["arrow"],
        **selection: Unpack[Resampled],
    ) -> pa.Table: ...

    def resampled(
        self,
        source: str,
        rule: str,
        time_col: str,
        how: Functions = "mean",
        *,
        as_: As = "pandas",
        columns: str | Sequence[str] | None = None,
        by: str | Sequence[str] | None = None,
        bucket: str = "",
        timeout: float | None = None,
    ) -> Any:
        """Returns the rows that resample() would write to a table. It takes the same arguments."""
        call = {
            "partd": "resample",
            "Source": {"Bucket": bucket, "Name": source},
            **_resample_body(rule, time_col, how, columns, by),
        }
        return from_arrow(self._retry(lambda: self._rows(call, f"resample {source!r}", timeout).read_all()), as_)

    def combine(
        self,
        sources: Sequence[str | tuple[str, str]],
        target: str,
        how: str = "union",
        on: str | Sequence[str] = (),
        *,
        mode: Mode = "error",
        bucket: str = "",
        timeout: float | None = None,
    ) -> tuple[int, int]:
        """Writes the rows of several tables to the table target. The method how is "union", which concatenates them, or
        "join", which joins them on the columns named in on. A source in another bucket is given as (bucket, name). mode
        is as in put(). Returns the numbers of rows read and written."""
        qualified = [
            (bucket, source) if isinstance(source, str) else source
            for source in ([sources] if isinstance(sources, str) else sources)
        ]
        (reply,) = self._ask(
            "partd.combine",
            timeout,
            Sources=[{"Bucket": source_bucket, "Name": name} for source_bucket, name in qualified],
            How=how,
            On=arguments.names(on, "on"),
            Mode=MODES.index(mode),
            Target={"Bucket": bucket, "Name": target},
        )
        return reply["SourceRows"], reply["TargetRows"]


def _resample_body(
    rule: str, time_col: str, how: Functions, columns: str | Sequence[str] | None, by: str | Sequence[str] | None
) -> dict[str, Any]:
    """Returns the fields that select the aggregates in a resample request."""
    column_lists = {
        key: None if value is None else arguments.names(value, key.lower())
        for key, value in (("Columns", columns), ("By", by))
    }
    return {"Rule": rule, "TimeColumn": time_col, "Functions": _function_calls(how), **column_lists}


def _function_calls(how: Functions) -> list[str]:
    """Returns the functions of a resample request. A dict is as in pandas: {"high": "max", "size": ["sum", "mean"]}."""
    calls = []
    for column, names in how.items() if isinstance(how, Mapping) else [(None, how)]:
        for name in [names] if isinstance(names, str) or not isinstance(names, Iterable) else names:
            if not isinstance(name, str):
                place = "" if column is None else f" for column {column!r}"
                raise Misuse(
                    f"how: {name!r:.80}{place} has type {type(name).__name__}: pass a function's name, such as 'mean'"
                )
            calls += [call if column is None else f"{call}({column})" for call in _split_calls(name)]
    return calls


def _split_calls(text: str) -> list[str]:
    """Splits "first(open),max(high)" at its commas, but not at commas in a column's name."""
    calls, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth <= 0:
            calls.append("")
        else:
            calls[-1] += character
    return [call.strip() for call in calls]

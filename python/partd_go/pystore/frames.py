"""What pystore's items are, as tables: nested values as JSON, times of the index in UTC."""

from __future__ import annotations

import contextlib
from typing import Any

import pandas as pd
import pyarrow as pa

from ..frames import from_arrow, to_arrow
from .exceptions import ValidationError


def prepared(data: Any) -> pd.DataFrame | pd.Series[Any]:
    """A copy of what is to be written: of an item, a Series, or a DataFrame of pandas or dask."""
    if hasattr(data, "to_pandas"):  # an item
        data = data.to_pandas()
    elif hasattr(data, "dask"):
        data = data.compute()
    data = data.copy()
    if isinstance(data, pd.DataFrame):
        if not data.columns.is_unique:
            raise ValidationError(f"Duplicate column names found: {sorted(set(data.columns[data.columns.duplicated()]))}")
        if not len(data.columns):
            raise ValidationError("The data has no columns")
    if isinstance(data.index, pd.DatetimeIndex) and data.index.tz is not None:
        data.index = data.index.tz_convert("UTC")
    if data.index.name == "":
        data.index.name = "index"
    return data


def encoded(data: pd.DataFrame | pd.Series[Any]) -> pa.Table:
    """The data as a table, whose nested values are JSON."""
    return to_arrow(data, nested=isinstance(data, pd.DataFrame))


def fitted(table: pa.Table, to: pa.Schema) -> pa.Table:
    """The rows with the types that an item has, for the columns where each value stays what it is: whole numbers
    as floats, times of another unit. The server refuses the others."""
    for at, field in enumerate(table.schema):
        kind = to.field(field.name).type if field.name in to.names else field.type
        zones = [getattr(one, "tz", None) for one in (kind, field.type)]
        if kind != field.type and zones[0] == zones[1] and (_measures(kind) and _measures(field.type) or pa.types.is_null(field.type)):
            with contextlib.suppress(pa.ArrowException):
                values = table.column(at).cast(kind)
                if pa.types.is_null(field.type) or values.cast(field.type).equals(table.column(at)):
                    table = table.set_column(at, to.field(field.name) if pa.types.is_null(field.type) else field.with_type(kind), values)
    return table


def _measures(kind: pa.DataType) -> bool:
    one_of = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_timestamp, pa.types.is_duration)
    return any(known(kind) for known in one_of)


def decoded(table: pa.Table) -> Any:
    return from_arrow(table, "pandas", nested=True)

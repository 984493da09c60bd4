"""Converts the data of items to Arrow tables and back. Nested values become JSON, and index times are in UTC."""

from __future__ import annotations

import contextlib
from typing import Any

import pandas as pd
import pyarrow as pa

from ..frames import from_arrow, to_arrow
from .exceptions import ValidationError

# fit_types casts a column of new rows only within one of these groups of types, or from the null type.
_MEASURES = (
    (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
    (pa.types.is_timestamp,),
    (pa.types.is_duration,),
)
# widened_fields widens a column of the item only within one of these groups of types, or from integers to float64.
_WIDENABLE = ((pa.types.is_integer,), (pa.types.is_floating,))


def prepare(data: Any) -> pd.DataFrame | pd.Series[Any]:
    """Checks data before it is written and returns a pandas copy with index times in UTC. data is an Item, a Series, or
    a pandas or dask DataFrame."""
    if hasattr(data, "to_pandas"):  # an item
        data = data.to_pandas()
    elif hasattr(data, "dask"):
        data = data.compute()
    data = data.copy()
    if isinstance(data, pd.DataFrame):
        if not data.columns.is_unique:
            raise ValidationError(
                f"Duplicate column names found: {sorted(set(data.columns[data.columns.duplicated()]))}"
            )
        if not len(data.columns):
            raise ValidationError("The data has no columns")
    if isinstance(data.index, pd.DatetimeIndex) and data.index.tz is not None:
        data.index = data.index.tz_convert("UTC")
    if data.index.name == "":
        data.index.name = "index"
    return data


def encode(data: pd.DataFrame | pd.Series[Any]) -> pa.Table:
    """Converts data to an Arrow table, with nested values as JSON."""
    return to_arrow(data, nested=isinstance(data, pd.DataFrame))


def fit_types(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Casts each column of new rows to its type in the item, if that changes no value: for example, whole numbers to
    floats, or times to another unit. Columns that cannot be cast keep their types. The server then rejects the rows,
    unless the item's columns are widened first (see widened_fields)."""
    for position, field in enumerate(table.schema):
        item_type = schema.field(field.name).type if field.name in schema.names else field.type
        zones = [getattr(value, "tz", None) for value in (item_type, field.type)]
        if (
            item_type != field.type
            and zones[0] == zones[1]
            and (_in_same_group(item_type, field.type, _MEASURES) or pa.types.is_null(field.type))
        ):
            with contextlib.suppress(pa.ArrowException):  # after an error, the column keeps its type
                values = table.column(position).cast(item_type)
                if pa.types.is_null(field.type) or values.cast(field.type).equals(table.column(position)):
                    table = table.set_column(
                        position,
                        schema.field(field.name) if pa.types.is_null(field.type) else field.with_type(item_type),
                        values,
                    )
    return table


def widened_fields(rows_schema: pa.Schema, schema: pa.Schema) -> list[pa.Field]:
    """Returns the item's columns that must be widened before rows with rows_schema can be appended, with their new
    types: larger integers or floats, or float64 for integers. If some column cannot be widened to its type in the rows,
    it returns no columns, because the server then rejects the rows anyway."""
    widened = [
        field for field in rows_schema if field.name in schema.names and field.type != schema.field(field.name).type
    ]
    for position, field in enumerate(widened):
        item_type = schema.field(field.name).type
        if pa.types.is_integer(item_type) and pa.types.is_floating(field.type):
            widened[position] = field.with_type(pa.float64())
        elif not _in_same_group(item_type, field.type, _WIDENABLE):
            return []
    return widened


def _in_same_group(first: pa.DataType, second: pa.DataType, groups: Any) -> bool:
    """Reports whether both types are in the same group."""
    return any(
        any(is_kind(first) for is_kind in group) and any(is_kind(second) for is_kind in group) for group in groups
    )


def decode(table: pa.Table) -> Any:
    """Converts an Arrow table to pandas, and parses nested values from JSON."""
    return from_arrow(table, "pandas", nested=True)

"""Converts items to tables and back. Nested values become JSON, and index times are in UTC."""

from __future__ import annotations

import contextlib
from typing import Any

import pandas as pd
import pyarrow as pa

from ..frames import from_arrow, to_arrow
from .exceptions import ValidationError

# Groups of types. fit_types casts a column of new rows to the item's type only if both types are in the same group of
# _MEASURES, or if the new column has the null type. widened_fields widens a column of the item only within a group of
# _WIDENABLE, or from integers to float64.
_MEASURES = (
    (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
    (pa.types.is_timestamp,),
    (pa.types.is_duration,),
)
_WIDENABLE = ((pa.types.is_integer,), (pa.types.is_floating,))


def prepare(data: Any) -> pd.DataFrame | pd.Series[Any]:
    """Checks the data to be written. Returns a copy. data is an Item, a Series, or a pandas or dask DataFrame."""
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
    """Returns the data as a table, with nested values as JSON."""
    return to_arrow(data, nested=isinstance(data, pd.DataFrame))


def fit_types(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Casts each column to its type in the item if all values stay equal: for example, whole numbers to floats, or
    times to another unit. Other columns keep their types, so the server rejects the rows unless the item is widened."""
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
    """Returns the item's columns that must be widened before rows can be appended, with their new types: larger
    integers or floats, or float64 for integers. If widening cannot fix the type of some column, it returns no columns,
    because the server then rejects the rows anyway."""
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
    """Converts a table to pandas, with nested values parsed."""
    return from_arrow(table, "pandas", nested=True)

"""What pystore's items are, as tables: nested values as JSON, times of the index in UTC."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ..tables.frames import from_arrow, index_of, to_arrow
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
    if isinstance(data, pd.Series):
        return to_arrow(data)
    nested = {column: values for column, values in data.items() if values.dtype == object and values.map(_is_nested).any()}
    for column, values in nested.items():
        data[column] = values.map(_json).astype(object)
    table = to_arrow(data)
    for column in nested:
        at = table.schema.get_field_index(str(column))
        text = table.column(at).cast(pa.string())
        table = table.set_column(at, pa.field(str(column), pa.json_()), text.cast(pa.json_()))
    return table


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
                    table = table.set_column(at, field.with_type(kind), values)
    return table


def _measures(kind: pa.DataType) -> bool:
    one_of = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_timestamp, pa.types.is_duration)
    return any(known(kind) for known in one_of)


def decoded(table: pa.Table) -> Any:
    nested = [field.name for field in table.schema if isinstance(field.type, pa.JsonType)]
    for name in nested:
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, table.column(at).cast(pa.string()))
    frame = from_arrow(table, "pandas")
    columns = [name for name in table.schema.names if name not in index_of(table.schema)]
    for at in map(columns.index, nested):
        values = [None if text is None else json.loads(text) for text in frame.iloc[:, at]]
        frame.isetitem(at, pd.Series(values, frame.index, dtype=object))
    return frame


def _is_nested(value: Any) -> bool:
    return isinstance(value, (list, dict, set, tuple, np.ndarray, pd.DataFrame))


def _json(value: Any) -> str | None:
    if value is None or value is pd.NA or isinstance(value, float) and np.isnan(value):
        return None
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        return value.to_dict("list")
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return str(value)

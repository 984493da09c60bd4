"""Converts columns of pandas to Arrow arrays and back. A value comes back equal, or the column is refused.

A column's note holds what the array's type does not say. Its "as" selects the conversion back:

category  a categorical; "of" is the note of its categories, and "values" has them if the array has no dictionary
sparse    a sparse array; "of" is the note of the dense array, "fill" its fill value
period, interval, arrow, masked, string, json
object    Python objects
"""

from __future__ import annotations

import base64
import datetime
import decimal
import json
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

Note: TypeAlias = dict[str, Any]
Array: TypeAlias = "pa.Array | pa.ChunkedArray"
TEXT = pd.Series(["a"]).dtype  # pandas' dtype for strings: object before pandas 3
_MASKED = {pa.type_for_alias(f"{'u' * sign}int{size}"): f"{'U' * sign}Int{size}" for sign in (0, 1) for size in (8, 16, 32, 64)}
_MASKED |= {pa.float32(): "Float32", pa.float64(): "Float64", pa.bool_(): "boolean"}
_PLAIN = (datetime.date, decimal.Decimal, bytes)  # types that Arrow has, and whose values come back as such objects
_NULLS = {"nan": np.nan, "NA": pd.NA, "NaT": pd.NaT}


def to_array(values: Any, nested: bool = False, dictionaries: bool = True) -> tuple[Array, Note]:
    """Returns a Series or an Index as an array, and its note. With nested, lists and dicts become JSON."""
    kind = values.dtype
    if isinstance(kind, pd.CategoricalDtype):
        of, note = to_array(kind.categories)
        codes = np.asarray(values.array.codes)
        indices, note_of_codes = pa.array(codes, mask=codes < 0), {"as": "category", "of": note}
        of = of.combine_chunks() if isinstance(of, pa.ChunkedArray) else of
        if dictionaries:
            return pa.DictionaryArray.from_arrays(indices, of, ordered=bool(kind.ordered)), note_of_codes
        return of.take(indices), note_of_codes | {"values": to_text(pa.table({"v": of})), "ordered": bool(kind.ordered)}
    if isinstance(kind, pd.SparseDtype):
        fill = kind.fill_value.item() if isinstance(kind.fill_value, np.generic) else kind.fill_value
        if not isinstance(fill, (bool, int, float)):
            raise TypeError(f"its fill value {fill!r} is not a number: convert it to dense")
        array, note = to_array(pd.Series(values.array.to_dense()))
        return array, {"as": "sparse", "fill": fill, "of": note}
    if isinstance(kind, pd.PeriodDtype):
        return pa.array(values.array.asi8, mask=np.asarray(values.isna())), {"as": "period", "freq": str(kind)[len("period[") : -1]}
    if isinstance(kind, pd.IntervalDtype):
        (left, note), (right, _) = to_array(pd.Index(values.array.left)), to_array(pd.Index(values.array.right))
        array = pa.StructArray.from_arrays([left, right], ["left", "right"], mask=pa.array(np.asarray(values.isna())))
        return array, {"as": "interval", "closed": kind.closed, "of": note}
    if kind == object:
        return _from_object_array(values, nested)
    array = pa.array(values, from_pandas=True)
    if isinstance(kind, pd.ArrowDtype):
        return array, {"as": "arrow"}
    if isinstance(kind, pd.StringDtype) and kind != TEXT:
        return array, {"as": "string", "storage": kind.storage, "NA": getattr(kind, "na_value", pd.NA) is pd.NA}
    if isinstance(kind, pd.DatetimeTZDtype) and pa.chunked_array([], array.type).to_pandas().dtype != kind:
        return array, {"as": "dtype", "dtype": str(kind)}  # a zone of another library than pyarrow's
    return array, {"as": "masked"} if str(kind) in _MASKED.values() else {}


def _from_object_array(values: Any, nested: bool) -> tuple[Array, Note]:
    items, is_null = np.array(values, dtype=object), np.asarray(values.isna())
    null_values = items[is_null]
    null = next((name for name, one in _NULLS.items() if len(null_values) and all(isinstance(v, type(one)) for v in null_values)), None)
    note = {"null": null} if null else {}
    items[is_null] = None
    present = items[~is_null]
    kinds = set(map(type, present))
    if nested and any(issubclass(kind, (list, dict)) for kind in kinds):
        texts = pa.array([None if v is None else json.dumps(v) for v in items], pa.string())
        array, note = texts.cast(pa.json_()), {"as": "json"}
    else:
        array = pa.array(items)
        if kinds <= {str}:
            return array, note if TEXT == object or not kinds else note | {"as": "object"}
        if len(kinds) > 1 or not kinds <= {*_PLAIN, np.ndarray}:
            of = next((name for name, one in _OBJECT_KINDS.items() if all(issubclass(kind, one) for kind in kinds)), None)
            note |= {"as": "object", "of": of} if of else {"as": "object"}
        if len(kinds) == 1 and kinds <= _FLAT:
            return array, note
    zones = {str(getattr(v, "tzinfo", None)) for v in present}
    for value, restored in zip(present, from_array(pa.chunked_array([array]), note)[~is_null]):
        if len(zones) > 1 or not _same(value, restored):
            raise TypeError(f"the value {value!r:.80} of type {type(value).__name__} would come back as {restored!r:.80}: use values of one type")
    return array, note


_OBJECT_KINDS: dict[str, Any] = {"tuple": tuple, "pandas": (pd.Timestamp, pd.Timedelta)}
_FLAT = {bool, bytes, int, float, str, datetime.date, decimal.Decimal}  # equal values of these types are identical


def _same(a: Any, b: Any) -> bool:
    """Reports whether two values are equal and of the same types."""
    if isinstance(a, np.ndarray) and a.dtype != object:
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, np.generic) or isinstance(b, np.generic):
        a, b = (v.item() if isinstance(v, np.generic) else v for v in (a, b))
    if isinstance(a, (list, tuple, np.ndarray)):
        if type(a) is not type(b) or len(a) != len(b):
            return False
        kinds = set(map(type, a))
        return kinds <= _FLAT and kinds == set(map(type, b)) and a == b or all(map(_same, a, b))
    if isinstance(a, dict):
        return type(a) is type(b) and a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (datetime.datetime, datetime.time)):
        if not isinstance(b, (datetime.datetime, datetime.time)) or a.utcoffset() != b.utcoffset():
            return False
    return isinstance(a, type(b)) and bool(a == b or a != a and b != b)


def from_array(column: pa.ChunkedArray, note: Note) -> Any:
    """Returns the array of pandas or NumPy that a column and its note describe."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    how, of = note.get("as"), note.get("of", {})
    if how == "category":
        return _categories(column, note, of)
    if how == "sparse":
        dense = from_array(column, of)
        return pd.arrays.SparseArray(dense, fill_value=note["fill"]) if isinstance(dense, np.ndarray) else dense
    if how == "period":
        return pd.PeriodDtype(note["freq"]).__from_arrow__(column)
    if how == "interval":
        ends = column.type.field(0).type
        left, right = (from_array(pa.chunked_array([chunk.flatten()[at] for chunk in column.chunks], ends), of) for at in (0, 1))
        if column.null_count and pa.types.is_integer(ends):  # an IntervalArray would convert the ends to floats
            pairs = (None if pd.isna(a) else pd.Interval(a, b, note["closed"]) for a, b in zip(left, right))
            return np.fromiter(pairs, object, len(column))
        return pd.arrays.IntervalArray.from_arrays(left, right, note["closed"])
    if how == "arrow":
        return pd.arrays.ArrowExtensionArray(column)
    if how == "masked" and column.type in _MASKED:
        return pd.api.types.pandas_dtype(_MASKED[column.type]).__from_arrow__(column)
    if how == "string":
        return pd.StringDtype(note["storage"], **({} if note["NA"] else {"na_value": np.nan})).__from_arrow__(column)
    if how == "json":
        return np.fromiter((None if text is None else json.loads(text) for text in column.to_pylist()), object, len(column))
    if how == "dtype":
        return pd.Series(from_array(column, {})).astype(note["dtype"]).array
    if how == "object":
        return _from_objects(column, note)
    if column.null_count and (pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)):
        return from_array(column, {"as": "masked"})
    values = column.to_pandas()
    values = values.to_numpy() if isinstance(values.dtype, np.dtype) else values.array
    return _fill_nulls(values, column, note) if values.dtype == object else values


def _from_objects(column: pa.ChunkedArray, note: Note) -> Any:
    if note.get("of") == "pandas":
        values = column.to_pandas().astype(object).to_numpy()
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        values = column.to_numpy()
    else:
        restore = tuple if note.get("of") == "tuple" else None
        values = np.fromiter((restore(v) if restore and v is not None else v for v in column.to_pylist()), object, len(column))
    return _fill_nulls(values, column, note)


def _fill_nulls(values: Any, column: pa.ChunkedArray, note: Note) -> Any:
    if column.null_count and (note.get("null") or note.get("of") == "pandas"):
        values = values.copy()
        values[column.is_null().to_numpy()] = _NULLS.get(note.get("null", ""))
    return values


def _categories(column: pa.ChunkedArray, note: Note, of: Note) -> Any:
    if not pa.types.is_dictionary(column.type):
        values = pd.Index(from_array(column, of))
        if "values" not in note:
            return pd.Categorical(values)
        known = _index(from_text(note["values"]).column(0), of)
        more = values[~values.isin(known) & values.notna()].unique()
        labels = known.append(more) if len(more) else known
        place = {value: at for at, value in enumerate(labels)}
        return pd.Categorical.from_codes([place.get(value, -1) for value in values], labels, ordered=note["ordered"])
    if not pa.types.is_nested(column.type.value_type):
        column = column.unify_dictionaries()
    categories, place, codes, last = None, {}, [np.empty(0, np.int64)], None
    for chunk in column.chunks:
        if last is None or not chunk.dictionary.equals(last):
            last, labels = chunk.dictionary, _index(pa.chunked_array([chunk.dictionary]), of)
            fresh = np.array([value not in place for value in labels], bool) & labels.notna()
            place.update(zip(labels[fresh], range(len(place), len(labels) + len(place))))
            categories = labels[fresh] if categories is None else categories.append(labels[fresh])
            at = np.array([*(place.get(value, -1) for value in labels), -1])
        codes.append(at[chunk.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)])
    if categories is None:
        categories = _index(pa.chunked_array([], column.type.value_type), of)
    return pd.Categorical.from_codes(np.concatenate(codes), categories, ordered=column.type.ordered)


def to_text(table: pa.Table) -> str:
    """Returns a small table as text."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return base64.b64encode(sink.getvalue()).decode()


def from_text(text: str) -> pa.Table:
    return pa.ipc.open_stream(base64.b64decode(text)).read_all()


def _index(column: pa.ChunkedArray, note: Note, name: Any = None) -> Any:
    values = from_array(column, note)
    return pd.Index(values, dtype=values.dtype, name=name)

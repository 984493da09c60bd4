"""Converts pandas columns to Arrow arrays and back. Every value comes back equal, or the column is rejected.

A column's note (a dict) records properties that the array's type does not express. The note's entry "as" says how to
convert the array back:

category  a categorical; "of" is the note of its categories; "values" has the categories if the array has no dictionary
sparse    a sparse array; "fill" is its fill value; "of" is the note of the array's dense form, which is stored
dtype     "dtype" is the name of the pandas dtype
zone      times with a time zone; "of" is the library of the zone object
json      lists and dicts, stored as JSON
object    Python objects; "of" is "tuple" if all are tuples, and "pandas" if all are Timestamps or Timedeltas
arrow     pandas' ArrowDtype; "indices" and "ordered" describe a dictionary
period, interval, masked, string: the pandas dtype of this name
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import decimal
import json
import re
import zoneinfo
from typing import Any, TypeAlias

import dateutil.tz
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .arrowsafe import check
from .errors import SchemaMismatch

Note: TypeAlias = dict[str, Any]
Array: TypeAlias = "pa.Array | pa.ChunkedArray"
TEXT = pd.Series(["a"]).dtype  # pandas' dtype for strings: object before pandas 3
_MASKED = {
    pa.type_for_alias(f"{'u' * sign}int{size}"): f"{'U' * sign}Int{size}" for sign in (0, 1) for size in (8, 16, 32, 64)
}
_MASKED |= {pa.float32(): "Float32", pa.float64(): "Float64", pa.bool_(): "boolean"}
_MAX_DICTIONARY_BYTES = 48 << 10  # tables keep dictionaries of up to 64 KiB, which includes Arrow's framing
_PLAIN = (datetime.date, decimal.Decimal, bytes)  # values of these types have the same type when Arrow returns them
_ZONE_LIBRARIES = ("zoneinfo", "dateutil", "pytz")
# pandas 2 crashes when it shows an earlier time in a zone with changing offsets, as a number of each unit. With
# nanoseconds, there is no earlier time.
_EARLIEST_ZONED = {"s": -9223372037, "ms": -9223372036855, "us": -9223372036854776}
_NULLS = {"nan": np.nan, "NA": pd.NA, "NaT": pd.NaT, "decimal": decimal.Decimal("NaN")}


def to_array(values: Any, nested: bool = False, keep_dictionaries: bool = True) -> tuple[Array, Note]:
    """Converts a Series or an Index. Returns the array and its note. If nested is true, lists and dicts become JSON. If
    keep_dictionaries is false, or a table would not keep the dictionary, a categorical becomes an array of its values,
    and the note holds its categories."""
    array, note = _to_array(values, nested, keep_dictionaries)
    dtype = values.dtype
    # _to_array has already checked objects and the categories of a categorical.
    if not isinstance(dtype, (np.dtype, pd.CategoricalDtype)):
        restored = from_array(_no_rows(array), note).dtype
        if restored != dtype:
            raise TypeError(f"it would come back as {restored}: convert it to this type")
    return array, note


def _are_sorted_values(dtype: pd.CategoricalDtype, codes: np.ndarray) -> bool:
    """Reports whether a categorical is unordered, has no nulls, and has exactly its sorted values as categories."""
    return (
        not dtype.ordered
        and dtype.categories.is_monotonic_increasing
        and np.array_equal(np.unique(codes), np.arange(len(dtype.categories)))
    )


def _no_rows(array: Array) -> pa.ChunkedArray:
    return pa.chunked_array([], array.type)


def _to_array(values: Any, nested: bool, keep_dictionaries: bool) -> tuple[Array, Note]:
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        categories, note = to_array(dtype.categories)
        codes = np.asarray(values.array.codes)
        indices, codes_note = pa.array(codes, mask=codes < 0), {"as": "category", "of": note}
        categories = categories.combine_chunks() if isinstance(categories, pa.ChunkedArray) else categories
        if (
            keep_dictionaries
            and len(codes)
            and (categories.nbytes < _MAX_DICTIONARY_BYTES or _are_sorted_values(dtype, codes))
        ):
            return pa.DictionaryArray.from_arrays(indices, categories, ordered=bool(dtype.ordered)), codes_note
        return categories.take(indices), codes_note | {
            "values": to_text(pa.table({"v": categories})),
            "ordered": bool(dtype.ordered),
        }
    if isinstance(dtype, pd.SparseDtype):
        fill = dtype.fill_value.item() if isinstance(dtype.fill_value, np.generic) else dtype.fill_value
        if not isinstance(fill, (bool, int, float)):
            raise TypeError(f"its fill value {fill!r} is not a number: convert it to dense")
        array, note = to_array(pd.Series(values.array.to_dense()))
        return array, {"as": "sparse", "fill": fill, "of": note}
    if isinstance(dtype, pd.PeriodDtype):
        return pa.array(values.array.asi8, mask=np.asarray(values.isna())), {
            "as": "period",
            "freq": str(dtype)[len("period[") : -1],
        }
    if isinstance(dtype, pd.IntervalDtype):
        (left, note), (right, _) = to_array(pd.Index(values.array.left)), to_array(pd.Index(values.array.right))
        array = pa.StructArray.from_arrays([left, right], ["left", "right"], mask=pa.array(np.asarray(values.isna())))
        return array, {"as": "interval", "closed": dtype.closed, "of": note}
    if dtype == object:
        return _from_object_array(values, nested)
    if isinstance(dtype, pd.DatetimeTZDtype):
        return _from_zoned_times(values.array)
    array = pa.array(values, from_pandas=True)
    if isinstance(dtype, pd.ArrowDtype):
        if pa.types.is_run_end_encoded(array.type):
            raise TypeError("it would come back without run-end encoding: convert it to the type of its values")
        is_encoded = pa.types.is_dictionary(array.type)
        return array, {"as": "arrow"} | (
            {"indices": str(array.type.index_type), "ordered": array.type.ordered} if is_encoded else {}
        )
    if isinstance(dtype, pd.StringDtype) and dtype != TEXT:
        return array, {"as": "string", "storage": dtype.storage, "NA": getattr(dtype, "na_value", pd.NA) is pd.NA}
    return array, {"as": "masked"} if str(dtype) in _MASKED.values() else {}


def _from_zoned_times(times: Any) -> tuple[pa.Array, Note]:
    """Converts times with a zone. Returns the array and a note that restores the same zone, as an object of the same
    library."""
    offset = times.tz.utcoffset(None)
    array = pa.array(times if offset is None else times.tz_convert(datetime.timezone(offset)))
    dtypes = [f"datetime64[{times.unit}, {zone}]" for zone in (times.tz, array.type.tz)]
    for note in (
        {},
        *({"as": "dtype", "dtype": name} for name in dtypes),
        *({"as": "zone", "of": library} for library in _ZONE_LIBRARIES),
    ):
        with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):  # this note does not fit
            if from_array(_no_rows(array), note).dtype == times.dtype and (
                note or pd.api.types.pandas_dtype(dtypes[0]) == times.dtype
            ):
                return array, note
    raise TypeError(f"its zone {times.tz!r} would come back as {array.type.tz}: convert it with tz_convert")


def _zone(library: str, name: str) -> Any:
    """Returns the time zone with this Arrow name, as an object of the given library."""
    fixed = re.fullmatch(r"([+-])(\d\d):(\d\d)", name)
    minutes = int(f"{fixed[1]}1") * (int(fixed[2]) * 60 + int(fixed[3])) if fixed else 0
    if library == "zoneinfo":
        return datetime.timezone(datetime.timedelta(minutes=minutes)) if fixed else zoneinfo.ZoneInfo(name)
    if library == "dateutil":
        return dateutil.tz.tzoffset(None, minutes * 60) if fixed else dateutil.tz.gettz(name)
    import pytz

    return pytz.FixedOffset(minutes) if fixed else pytz.timezone(name)


def _from_object_array(values: Any, nested: bool) -> tuple[Array, Note]:
    items, is_null = np.array(values, dtype=object), np.asarray(values.isna())
    null_values = items[is_null]
    null = next(
        (
            name
            for name, candidate in _NULLS.items()
            if len(null_values) and all(isinstance(v, type(candidate)) for v in null_values)
        ),
        None,
    )
    note = {"null": null} if null else {}
    if null is None and any(isinstance(v, decimal.Decimal) for v in null_values):
        raise TypeError("Decimal('NaN') would come back as None: make all missing values the same kind")
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
            object_kind = next(
                (
                    name
                    for name, candidate in _OBJECT_KINDS.items()
                    if all(issubclass(kind, candidate) for kind in kinds)
                ),
                None,
            )
            note |= {"as": "object", "of": object_kind} if object_kind else {"as": "object"}
        if len(kinds) == 1 and kinds <= _FLAT:
            return array, note
    zones = {str(getattr(v, "tzinfo", None)) for v in present}
    if len(zones) > 1:
        raise TypeError(
            f"its values have several zones, which would come back as one: {', '.join(sorted(zones)):.200}: "
            "convert them to one zone"
        )
    for value, restored in zip(present, from_array(pa.chunked_array([array]), note)[~is_null]):
        if not is_identical(value, restored):
            raise TypeError(
                f"the value {value!r:.80} of type {type(value).__name__} would come back as {restored!r:.80}: "
                "make all values the same type"
            )
    return array, note


_OBJECT_KINDS: dict[str, Any] = {"tuple": tuple, "pandas": (pd.Timestamp, pd.Timedelta)}
_FLAT = {bool, bytes, int, float, str, datetime.date, decimal.Decimal}  # equal values of these types are identical


def is_identical(a: Any, b: Any) -> bool:
    """Reports whether two values are equal and have the same types, even inside them."""
    if isinstance(a, np.ndarray) and a.dtype != object:
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, np.generic) or isinstance(b, np.generic):
        a, b = (v.item() if isinstance(v, np.generic) else v for v in (a, b))
    if isinstance(a, (list, tuple, np.ndarray)):
        if type(a) is not type(b) or len(a) != len(b):
            return False
        kinds = set(map(type, a))
        return kinds <= _FLAT and kinds == set(map(type, b)) and a == b or all(map(is_identical, a, b))
    if isinstance(a, dict):
        return type(a) is type(b) and a.keys() == b.keys() and all(is_identical(a[key], b[key]) for key in a)
    if isinstance(a, (datetime.datetime, datetime.time)):
        if not isinstance(b, (datetime.datetime, datetime.time)) or a.utcoffset() != b.utcoffset():
            return False
    return type(a) is type(b) and bool(a is b or a == b or a != a and b != b)


def check_zoned(column: pa.ChunkedArray) -> None:
    """Raises SchemaMismatch if pandas would crash while it shows a time of the column."""
    column_type = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pd.__version__ >= "3" or not pa.types.is_timestamp(column_type) or column_type.tz in (None, "UTC"):
        return
    earliest = _EARLIEST_ZONED.get(column_type.unit)
    for chunk in column.chunks if earliest else ():
        values = chunk.dictionary if pa.types.is_dictionary(column.type) else chunk
        first = pc.min(values.cast(pa.int64())).as_py()
        if first is not None and first < earliest:
            raise SchemaMismatch(
                f"the times in the zone {column_type.tz} begin before September 21, 1677, which pandas 2 cannot show: "
                "upgrade pandas, or read them with polars or as Arrow"
            )


def from_array(column: pa.ChunkedArray, note: Note) -> Any:
    """Returns the pandas or NumPy array that a column and its note describe."""
    if note.get("as") != "arrow":
        check_zoned(column)
    if isinstance(column.type, pa.BaseExtensionType) and note.get("as") != "arrow":
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    conversion, inner_note = note.get("as"), note.get("of", {})
    if conversion == "category":
        return _categories(column, note, inner_note)
    if conversion == "sparse":
        dense = from_array(column, inner_note)
        return pd.arrays.SparseArray(dense, fill_value=note["fill"]) if isinstance(dense, np.ndarray) else dense
    if conversion == "period":
        return pd.PeriodDtype(note["freq"]).__from_arrow__(column)
    if conversion == "interval":
        end_type = column.type.field(0).type
        left, right = (
            from_array(pa.chunked_array([chunk.flatten()[side] for chunk in column.chunks], end_type), inner_note)
            for side in (0, 1)
        )
        # With nulls, an IntervalArray would convert integer ends to floats.
        if column.null_count and pa.types.is_integer(end_type):
            pairs = (None if pd.isna(a) else pd.Interval(a, b, note["closed"]) for a, b in zip(left, right))
            return np.fromiter(pairs, object, len(column))
        return pd.arrays.IntervalArray.from_arrays(left, right, note["closed"])
    if conversion == "arrow":
        if "indices" in note:
            column = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
            with contextlib.suppress(pa.ArrowInvalid):  # appends added more values than the index type can count
                column = column.cast(
                    pa.dictionary(pa.type_for_alias(note["indices"]), column.type.value_type, note["ordered"])
                )
        return pd.arrays.ArrowExtensionArray(column)
    if conversion == "masked" and column.type in _MASKED:
        return pd.api.types.pandas_dtype(_MASKED[column.type]).__from_arrow__(column)
    if conversion == "string":
        return pd.StringDtype(note["storage"], **({} if note["NA"] else {"na_value": np.nan})).__from_arrow__(column)
    if conversion == "json":
        return np.fromiter(
            (None if text is None else json.loads(text) for text in column.to_pylist()), object, len(column)
        )
    if conversion == "dtype":
        return pd.Series(from_array(column, {})).astype(note["dtype"]).array
    if conversion == "zone":
        times = pd.Series(from_array(column, {})).array
        with contextlib.suppress(ImportError):  # without pytz, use Python's zone with the same offset
            times = times.tz_convert(_zone(note["of"], column.type.tz))
        return times
    if conversion == "object":
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
        values = np.fromiter(
            (restore(v) if restore and v is not None else v for v in column.to_pylist()), object, len(column)
        )
    return _fill_nulls(values, column, note)


def _fill_nulls(values: Any, column: pa.ChunkedArray, note: Note) -> Any:
    if column.null_count and (note.get("null") or note.get("of") == "pandas"):
        values = values.copy()
        values[column.is_null().to_numpy()] = _NULLS.get(note.get("null", ""))
    return values


def _categories(column: pa.ChunkedArray, note: Note, inner_note: Note) -> Any:
    if not pa.types.is_dictionary(column.type):
        values = pd.Index(from_array(column, inner_note))
        if "values" not in note:
            return pd.Categorical(values)
        known_labels = _index(from_text(note["values"]).column(0), inner_note)
        new_labels = values[~values.isin(known_labels) & values.notna()].unique()
        labels = known_labels.append(new_labels) if len(new_labels) else known_labels
        code_of = {value: code for code, value in enumerate(labels)}
        return pd.Categorical.from_codes([code_of.get(value, -1) for value in values], labels, ordered=note["ordered"])
    if not pa.types.is_nested(column.type.value_type):
        column = column.unify_dictionaries()
    categories, code_of, codes, previous = None, {}, [np.empty(0, np.int64)], None
    for chunk in column.chunks:
        if previous is None or not chunk.dictionary.equals(previous):
            previous, labels = chunk.dictionary, _index(pa.chunked_array([chunk.dictionary]), inner_note)
            is_new = np.array([value not in code_of for value in labels], bool) & labels.notna()
            code_of.update(zip(labels[is_new], range(len(code_of), len(labels) + len(code_of))))
            categories = labels[is_new] if categories is None else categories.append(labels[is_new])
            code = np.array([*(code_of.get(value, -1) for value in labels), -1])
        codes.append(code[chunk.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)])
    if categories is None:
        categories = _index(pa.chunked_array([], column.type.value_type), inner_note)
    return pd.Categorical.from_codes(np.concatenate(codes), categories, ordered=column.type.ordered)


def to_text(table: pa.Table) -> str:
    """Returns a small table as base64 text, for a note."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return base64.b64encode(sink.getvalue()).decode()


def from_text(text: str) -> pa.Table:
    table = pa.ipc.open_stream(base64.b64decode(text)).read_all()
    check([table])
    return table


def _index(column: pa.ChunkedArray, note: Note, name: Any = None) -> Any:
    values = from_array(column, note)
    return pd.Index(values, dtype=values.dtype, name=name)

"""Data frames as Arrow record batches, cut by partition and put together again.

A block of rows is sorted by partition once, column by column, and each partition's
slice of it becomes one Arrow message, without a schema. What all slices of a task
share (labels, types, categories, how each column is held) is its layout.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

BLOCK_BYTES = 8 << 20  # of the rows that are sorted, and of the messages that are sent, at a time
NUMBERS = ("plain", "code", "time")


@dataclass
class Layout:
    """What a task's slices share: a frame without rows, and how its arrays are held."""

    empty: pd.DataFrame
    forms: list[str]  # of the columns, then of the index's levels

    def same(self, other: Layout) -> bool:
        """Reports whether slices of both can be joined as they are."""
        mine, others = _arrays(self.empty), _arrays(other.empty)
        return (
            self.forms == other.forms
            and self.empty.columns.equals(other.empty.columns)
            and self.empty.columns.names == other.empty.columns.names
            and self.empty.index.names == other.empty.index.names
            and all(_same_type(a.dtype, b.dtype) for a, b in zip(mine, others, strict=True))
        )


def _same_type(a: Any, b: Any) -> bool:
    if isinstance(a, pd.CategoricalDtype) and isinstance(b, pd.CategoricalDtype):
        # Two types that differ in the order of their categories are equal to pandas,
        # but codes of one mean something else in the other.
        return bool(a.ordered == b.ordered and a.categories.dtype == b.categories.dtype and a.categories.equals(b.categories))
    return bool(a == b)


def _arrays(df: pd.DataFrame) -> list[Any]:
    """The arrays of the columns, then those of the index's levels."""
    columns = [df.iloc[:, i].array for i in range(df.shape[1])]
    levels = [df.index.get_level_values(i).array for i in range(df.index.nlevels)]
    return [a.to_numpy() if type(a) is pd.arrays.NumpyExtensionArray else a for a in columns + levels]


def _form(array: Any) -> str:
    """How an array is held:

    plain   the bytes of a NumPy array
    code    a categorical's codes, as plain
    time    the integers of times with a zone and of periods, as plain
    arrow   as the type's own Arrow array
    text    strings and None
    pickle  each value pickled
    """
    dtype = array.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return "code"
    if isinstance(dtype, pd.DatetimeTZDtype | pd.PeriodDtype):
        return "time"
    if isinstance(dtype, np.dtype) and dtype.kind in "biufcmM":
        return "plain"
    if isinstance(dtype, pd.IntervalDtype) and isinstance(dtype.subtype, pd.DatetimeTZDtype):
        return "pickle"  # pandas 2 has no Arrow array of them
    if isinstance(dtype, pd.ArrowDtype) and "dictionary<" in str(dtype.pyarrow_dtype):
        return "pickle"  # its messages would need those of the dictionaries
    if hasattr(array, "__arrow_array__") and hasattr(dtype, "__from_arrow__"):
        return "arrow"
    return "text" if dtype == object and all(v is None or type(v) is str for v in array) else "pickle"


def _numbers(array: Any, form: str) -> np.ndarray[Any, Any]:
    """The NumPy array that holds a plain, code or time array."""
    if form == "code":
        return np.asarray(array.codes)
    if form == "time":
        return np.asarray(array.asi8)
    values = np.asarray(array)
    return values.astype(values.dtype.newbyteorder("="), copy=False)  # as pandas has them in a frame without rows


def _hold(array: Any, form: str, order: np.ndarray[Any, Any] | None = None) -> pa.Array:
    """The array in Arrow, its values in the order given."""
    if form in NUMBERS:
        values = _numbers(array, form)
        values = np.ascontiguousarray(values) if order is None else values.take(order)
        return pa.Array.from_buffers(pa.binary(values.dtype.itemsize), len(values), [None, pa.py_buffer(values.view(np.uint8))])
    if form == "arrow":
        held = pa.array(array)
    elif form == "text":
        held = pa.array(np.asarray(array, dtype=object), pa.large_string())
    else:
        held = pa.array([pickle.dumps(v, 5) for v in array], pa.large_binary())
    if isinstance(held, pa.ChunkedArray):
        held = held.combine_chunks()
    return held if order is None else held.take(pa.array(order))


def _give_back(held: pa.ChunkedArray, form: str, like: Any) -> Any:
    """The array that was held, of the type of another."""
    if form in NUMBERS:
        kept = _numbers(like, form).dtype
        size = kept.itemsize
        pieces = [
            np.frombuffer(c.buffers()[1], np.uint8, len(c) * size, c.offset * size) for c in held.chunks if len(c)
        ]
        values = (np.concatenate(pieces) if pieces else np.empty(0, np.uint8)).view(kept)
        if form == "code":
            return pd.Categorical.from_codes(values, dtype=like.dtype)
        if form == "plain":
            return values
        if isinstance(like.dtype, pd.PeriodDtype):
            return pd.arrays.PeriodArray(values, dtype=like.dtype)
        times = pd.Series(values.view(f"M8[{like.dtype.unit}]"))
        return times.dt.tz_localize("UTC").dt.tz_convert(like.dtype.tz).array
    if form == "arrow":
        return like.dtype.__from_arrow__(held)
    values = np.empty(len(held), dtype=object)
    values[:] = held.to_pylist() if form == "text" else [pickle.loads(v) for v in held.to_pylist()]
    return values if like.dtype == object else type(like)._from_sequence(values, dtype=like.dtype)


def layout_of(df: pd.DataFrame) -> Layout:
    """The layout of a frame, which must be pandas' own."""
    if type(df) is not pd.DataFrame:
        raise TypeError(
            "the partd shuffle takes a pandas.DataFrame, and a partition is a "
            f'{type(df).__module__}.{type(df).__name__}: shuffle it by another method, such as shuffle_method="tasks"'
        )
    empty = df.iloc[:0].copy()
    if isinstance(df.index, pd.RangeIndex):  # what is left of it has no step
        empty.index = pd.Index([], dtype=np.int64, name=df.index.name)
    elif df.index.nlevels > 1:  # whose levels may have another type where a value is missing
        levels = [df.index.get_level_values(i)[:0] for i in range(df.index.nlevels)]
        empty.index = pd.MultiIndex.from_arrays(levels, names=df.index.names)
    return Layout(empty, [_form(a) for a in _arrays(df)])


def split(
    df: pd.DataFrame, layout: Layout, ids: np.ndarray[Any, Any], compression: str | None
) -> Iterator[list[tuple[int, int, memoryview]]]:
    """Yields, for a block of rows after the other, the (partition, rows, message) of
    a frame whose rows go to the partitions of ids. A negative id leaves a row out."""
    names = [*df.columns, *df.index.names]
    columns = _arrays(df)  # of all rows, as those of some may have other types
    options = pa.ipc.IpcWriteOptions(compression=compression)
    step = max(1, len(df) * BLOCK_BYTES // max(1, int(df.memory_usage(deep=True).sum())))
    for start in range(0, len(df), step):
        part = ids[start : start + step]
        # Integers of 16 bits are sorted by radix, in a fraction of the time.
        order = (part.astype(np.int16) if part.max() < 1 << 15 else part).argsort(kind="stable")
        order = order[np.count_nonzero(part < 0) :]
        arrays = []
        for whole, form, name in zip(columns, layout.forms, names, strict=True):
            array = whole[start : start + step]
            try:
                arrays.append(_hold(array, form, order))
            except Exception as err:
                raise TypeError(
                    f"shuffling column {name!r} of type {array.dtype}: it has a value that neither Arrow nor "
                    f"pickle can hold: {err}"
                ) from err
        batch = pa.record_batch(arrays, [str(i) for i in range(len(arrays))])
        counts = np.bincount(part[order])
        sink = pa.BufferOutputStream()
        writer = pa.ipc.new_stream(sink, batch.schema, options=options)
        writer.write_batch(batch.slice(0, 0))  # the schema goes before it
        ends, row = [sink.tell()], 0
        partitions = np.flatnonzero(counts)
        for rows in counts[partitions]:
            writer.write_batch(batch.slice(row, rows))
            ends.append(sink.tell())
            row += rows
        del arrays, batch
        messages = memoryview(sink.getvalue())
        yield [
            (int(p), int(counts[p]), messages[a:b]) for p, a, b in zip(partitions, ends, ends[1:], strict=False)
        ]


def join(layout: Layout, messages: Iterable[memoryview]) -> pd.DataFrame:
    """Puts messages of one layout together again, in the order given."""
    like = _arrays(layout.empty)
    schema = pa.schema([(str(i), _hold(a, f).type) for i, (a, f) in enumerate(zip(like, layout.forms, strict=True))])
    table = pa.Table.from_batches((pa.ipc.read_record_batch(pa.py_buffer(m), schema) for m in messages), schema)
    arrays = [_give_back(table.column(i), form, like[i]) for i, form in enumerate(layout.forms)]
    width = layout.empty.shape[1]
    levels = [pd.Index(a, dtype=like[width + i].dtype, copy=False) for i, a in enumerate(arrays[width:])]
    index = levels[0] if len(levels) == 1 else pd.MultiIndex.from_arrays(levels)
    index.names = layout.empty.index.names
    columns = {i: pd.Series(a, index, like[i].dtype, copy=False) for i, a in enumerate(arrays[:width])}
    df = pd.DataFrame(columns, index, copy=False)
    df.columns = layout.empty.columns
    df.attrs = layout.empty.attrs
    return df

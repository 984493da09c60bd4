"""Data frames cut by partition and put together again.

A block of rows is sorted by partition once. Each partition's piece is the records of what
is held as numbers, a slice of the block's that is not copied for that, and one Arrow
message, without a schema, of the other columns. What all pieces of a task
share (labels, types, categories, how each column is held) is its layout.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

BLOCK_BYTES = 8 << 20  # of the rows that are sorted, and of the messages that are sent, at a time
NUMBERS = ("plain", "code", "time")
_CACHED = 1 << 20  # bytes of records that are taken apart at a time

Piece: TypeAlias = "list[bytes | memoryview]"  # its number of rows, their records, and a message of the rest
Block: TypeAlias = "list[tuple[int, int, Piece]]"  # partitions, how many rows go there, and those

_ROWS = struct.Struct("<Q")


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
    return "text" if dtype == object and all(map(_is_text, array)) else "pickle"


def _is_text(value: object) -> bool:
    if type(value) is not str:
        return value is None
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:  # it has half a pair of surrogates, which pickle can hold
        return False


def _numbers(array: Any, form: str) -> np.ndarray[Any, Any]:
    """The NumPy array that holds a plain, code or time array."""
    if form == "code":
        return np.asarray(array.codes)
    if form == "time":
        return np.asarray(array.asi8)
    return np.asarray(array)


def _hold(array: Any, form: str) -> pa.Array:
    """The array in Arrow, where it is not held as numbers."""
    if form == "arrow":
        held = pa.array(array)
    elif form == "text":
        held = pa.array(np.asarray(array, dtype=object), pa.large_string())
    else:
        held = pa.array([pickle.dumps(v, 5) for v in array], pa.large_binary())
    return held.combine_chunks() if isinstance(held, pa.ChunkedArray) else held


def _give_back(held: Any, form: str, like: Any) -> Any:
    """The array that was held, of the type of another."""
    if form == "code":
        return pd.Categorical.from_codes(held, dtype=like.dtype)
    if form == "plain":
        return held
    if form == "time":
        if isinstance(like.dtype, pd.PeriodDtype):
            return pd.arrays.PeriodArray(held, dtype=like.dtype)
        times = pd.Series(held.view(f"M8[{like.dtype.unit}]"))
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


def _record(layout: Layout) -> np.dtype[Any]:
    """What is held as numbers of a row, each named by its place."""
    arrays = enumerate(zip(_arrays(layout.empty), layout.forms, strict=True))
    return np.dtype([(str(i), _numbers(array, form).dtype) for i, (array, form) in arrays if form in NUMBERS])


def split(df: pd.DataFrame, layout: Layout, ids: np.ndarray[Any, Any], compression: str | None) -> Iterator[Block]:
    """Yields, for a block of rows after the other, the (partition, rows, piece) of
    a frame whose rows go to the partitions of ids. A negative id leaves a row out.
    The next block takes the memory of the last."""
    names = [*df.columns, *df.index.names]
    arrays = _arrays(df)
    step = max(1, -(-len(df) // max(1, -(-int(df.memory_usage(deep=True).sum()) // BLOCK_BYTES))))
    record = _record(layout)
    memory, ordered = (np.empty(min(step, len(df)), record) for _ in range(2))
    for start in range(0, len(df), step):
        part = ids[start : start + step]
        # Integers of 16 bits are sorted by radix, in a fraction of the time.
        order = (part.astype(np.int16) if part.max() < 1 << 15 else part).argsort(kind="stable")
        order = order[np.count_nonzero(part < 0) :]
        others: list[pa.Array] = []
        for i, (whole, form, name) in enumerate(zip(arrays, layout.forms, names, strict=True)):
            array = whole[start : start + step]
            try:
                if form in NUMBERS:
                    memory[str(i)][: len(part)] = _numbers(array, form)
                else:
                    others.append(_hold(array, form).take(pa.array(order)))
            except Exception as err:
                raise TypeError(
                    f"shuffling column {name!r} of type {array.dtype}: it has a value that neither Arrow nor "
                    f"pickle can hold: {err}"
                ) from err
        records = _taken(memory, order, ordered)
        counts = np.bincount(part[order])
        block: Block = []
        row = 0
        for partition, message in zip(np.flatnonzero(counts).tolist(), _messages(others, counts), strict=True):
            rows = int(counts[partition])
            numbers = records[row * record.itemsize : (row + rows) * record.itemsize]
            piece: Piece = [_ROWS.pack(rows), numbers, message]
            block.append((partition, rows, piece if compression is None else _compressed(piece, compression)))
            row += rows
        yield block


def _taken(records: np.ndarray[Any, Any], order: np.ndarray[Any, Any], to: np.ndarray[Any, Any]) -> memoryview:
    """The bytes of the records in that order, each copied as a whole."""
    size = records.dtype.itemsize
    if not size:
        return memoryview(b"")
    whole = np.dtype((np.void, size))
    taken = to[: len(order)]
    records.view(whole).take(order, out=taken.view(whole), mode="clip")  # "raise" would take a copy to be sure
    return taken.view(np.uint8).data


def _messages(arrays: list[pa.Array], counts: np.ndarray[Any, Any]) -> Iterator[memoryview]:
    """Arrow's messages of slices of so many rows, of those that have some."""
    counts = counts[counts > 0]
    if not arrays:
        yield from [memoryview(b"")] * len(counts)
        return
    batch = pa.record_batch(arrays, [str(i) for i in range(len(arrays))])
    sink = pa.BufferOutputStream()
    writer = pa.ipc.new_stream(sink, batch.schema)
    writer.write_batch(batch.slice(0, 0))  # the schema goes before it
    ends, row = [sink.tell()], 0
    for rows in counts:
        writer.write_batch(batch.slice(row, rows))
        ends.append(sink.tell())
        row += rows
    messages = memoryview(sink.getvalue())
    yield from (messages[a:b] for a, b in zip(ends, ends[1:], strict=False))


def _compressed(piece: Piece, compression: str) -> Piece:
    whole = b"".join(piece)
    return [_ROWS.pack(len(whole)), pa.compress(whole, compression, asbytes=True)]


def _expanded(piece: memoryview, compression: str) -> memoryview:
    (size,) = _ROWS.unpack_from(piece)
    return memoryview(pa.decompress(piece[_ROWS.size :], size, compression, asbytes=True))


def join(layout: Layout, pieces: Iterable[memoryview], compression: str | None) -> pd.DataFrame:
    """Puts pieces of one layout together again, in the order given."""
    like = _arrays(layout.empty)
    record = _record(layout)
    others = [_hold(a, form) for a, form in zip(like, layout.forms, strict=True) if form not in NUMBERS]
    schema = pa.schema([(str(i), held.type) for i, held in enumerate(others)])
    records: list[np.ndarray[Any, Any]] = []
    batches = []
    for piece in pieces:
        data = piece if compression is None else _expanded(piece, compression)
        (rows,), at = _ROWS.unpack_from(data), _ROWS.size
        size = rows * record.itemsize
        records.append(np.frombuffer(data, np.uint8, size, at))
        if schema.names:
            message = data[at + size :].tobytes()  # its arrays stay in the frame: they would keep the records there, too
            batches.append(pa.ipc.read_record_batch(pa.py_buffer(message), schema))
    numbers = iter(_columns(record, records))
    others_held = iter(pa.Table.from_batches(batches, schema).columns)
    held = [next(numbers if form in NUMBERS else others_held) for form in layout.forms]
    arrays = list(map(_give_back, held, layout.forms, like))
    width = layout.empty.shape[1]
    levels = [pd.Index(a, dtype=like[width + i].dtype, copy=False) for i, a in enumerate(arrays[width:])]
    index = levels[0] if len(levels) == 1 else pd.MultiIndex.from_arrays(levels)
    index.names = layout.empty.index.names
    columns = {i: pd.Series(a, index, like[i].dtype, copy=False) for i, a in enumerate(arrays[:width])}
    df = pd.DataFrame(columns, index, copy=False)
    df.columns = layout.empty.columns
    df.attrs = layout.empty.attrs
    return df


def _columns(record: np.dtype[Any], pieces: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Takes records apart, few enough at a time to stay in the processor's cache."""
    names = record.names or ()
    columns = [np.empty(sum(map(len, pieces)) // record.itemsize, record[name]) for name in names]
    at = size = 0
    batch: list[np.ndarray[Any, Any]] = []
    for i, piece in enumerate(pieces if names else ()):
        batch.append(piece)
        size += len(piece)
        if size >= _CACHED or i == len(pieces) - 1:
            records = np.concatenate(batch).view(record)
            for name, column in zip(names, columns, strict=True):
                column[at : at + len(records)] = records[name]
            at += len(records)
            batch, size = [], 0
    return columns

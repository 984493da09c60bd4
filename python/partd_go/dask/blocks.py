"""Splits data frames by partition and joins the pieces again.

A block of rows is sorted by partition and then divided into one piece for each partition. A piece has two parts.
Records hold the numeric columns; they are a slice of the sorted block, not a copy. One Arrow message, without a schema,
holds the other columns. A task's layout holds what its pieces have in common: labels, types, categories and the form of
each column.
"""

from __future__ import annotations

import pickle
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from ..arrowsafe import check
from ..errors import Corrupt, Misuse

BLOCK_BYTES = 8 << 20  # size of a block of rows that is sorted, and of a batch that is sent
NUMBERS = ("plain", "code", "time")  # columns in these forms (see _form) are in the records
_CACHED = 1 << 20  # bytes of records to split into columns at a time; they must fit into the processor's cache

Piece: TypeAlias = "list[bytes | memoryview]"  # the number of rows, their records, and an Arrow message
Block: TypeAlias = "list[tuple[int, int, Piece]]"  # (partition, number of rows, piece)

_ROWS = struct.Struct("<Q")
_lookups_lock = threading.Lock()


@dataclass
class Layout:
    """What all pieces of a task have in common: an empty frame, and the form of each array."""

    empty: pd.DataFrame
    forms: list[str]  # the form (see _form) of each column, then of each index level

    def is_compatible(self, layout: Layout) -> bool:
        """Reports whether pieces of both layouts can be joined without conversion."""
        mine, others = _arrays(self.empty), _arrays(layout.empty)
        return (
            self.forms == layout.forms
            and self.empty.columns.equals(layout.empty.columns)
            and self.empty.columns.names == layout.empty.columns.names
            and self.empty.index.names == layout.empty.index.names
            and all(_same_type(a.dtype, b.dtype) for a, b in zip(mine, others, strict=True))
        )


def _same_type(a: Any, b: Any) -> bool:
    if isinstance(a, pd.CategoricalDtype) and isinstance(b, pd.CategoricalDtype):
        # pandas ignores the order of categories when it compares types, but codes depend on it.
        return bool(
            a.ordered == b.ordered and a.categories.dtype == b.categories.dtype and a.categories.equals(b.categories)
        )
    return bool(a == b)


def _arrays(df: pd.DataFrame) -> list[Any]:
    """Returns the arrays of the columns, then of the index levels."""
    columns = [df.iloc[:, i].array for i in range(df.shape[1])]
    levels = [df.index.get_level_values(i).array for i in range(df.index.nlevels)]
    return [a.to_numpy() if type(a) is pd.arrays.NumpyExtensionArray else a for a in columns + levels]


def _form(array: Any) -> str:
    """Returns the form in which an array is stored:

    plain   the bytes of a NumPy array
    code    the codes of a categorical, stored as in plain
    time    the integers of times with a zone, or of periods, stored as in plain
    arrow   the Arrow array to which the type converts itself
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
        return "pickle"  # pandas 2 cannot convert these values to Arrow
    if isinstance(dtype, pd.ArrowDtype) and "dictionary<" in str(dtype.pyarrow_dtype):
        return "pickle"  # an Arrow dictionary would need extra messages
    if hasattr(array, "__arrow_array__") and hasattr(dtype, "__from_arrow__"):
        return "arrow"
    return "text" if dtype == object and all(map(_is_text, array)) else "pickle"


def _is_text(value: object) -> bool:
    if type(value) is not str:
        return value is None
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:  # an unpaired surrogate, which only pickle can store
        return False


def _numbers(array: Any, form: str) -> np.ndarray[Any, Any]:
    """Returns the NumPy array for an array in the form plain, code or time."""
    if form == "code":
        return np.asarray(array.codes)
    if form == "time":
        return np.asarray(array.asi8)
    return np.asarray(array)


def _to_arrow(array: Any, form: str) -> pa.Array:
    """Returns the Arrow array for an array in the form arrow, text or pickle."""
    if form == "arrow":
        stored = pa.array(array)
    elif form == "text":
        stored = pa.array(np.asarray(array, dtype=object), pa.large_string())
    else:
        stored = pa.array([pickle.dumps(v, 5) for v in array], pa.large_binary())
    return stored.combine_chunks() if isinstance(stored, pa.ChunkedArray) else stored


def _from_stored(stored: Any, form: str, like: Any) -> Any:
    """Converts the stored form of an array back to the original array, which has the type of like."""
    if form == "code":
        return pd.Categorical.from_codes(stored, dtype=like.dtype)
    if form == "plain":
        return stored
    if form == "time":
        if isinstance(like.dtype, pd.PeriodDtype):
            return pd.arrays.PeriodArray(stored, dtype=like.dtype)
        times = pd.Series(stored.view(f"M8[{like.dtype.unit}]"))
        return times.dt.tz_localize("UTC").dt.tz_convert(like.dtype.tz).array
    if form == "arrow":
        return like.dtype.__from_arrow__(stored)
    values = np.empty(len(stored), dtype=object)
    values[:] = stored.to_pylist() if form == "text" else [pickle.loads(v) for v in stored.to_pylist()]
    return values if like.dtype == object else type(like)._from_sequence(values, dtype=like.dtype)


def layout_of(df: pd.DataFrame) -> Layout:
    """Returns the layout of a frame, which must be a pandas.DataFrame."""
    if type(df) is not pd.DataFrame:
        raise Misuse(
            "the partd shuffle needs partitions of pandas.DataFrame, and one is a "
            f"{type(df).__module__}.{type(df).__name__}: "
            'use another method, such as shuffle_method="tasks"'
        )
    empty = df.iloc[:0].copy()
    # Shuffled row numbers do not form a range, so join() returns frames with an ordinary integer index.
    if isinstance(df.index, pd.RangeIndex):
        empty.index = pd.Index([], dtype=np.int64, name=df.index.name)
    elif df.index.nlevels > 1:
        # Use the type of the stored values, which can differ from the level's type if some values are missing.
        levels = [df.index.get_level_values(i)[:0] for i in range(df.index.nlevels)]
        empty.index = pd.MultiIndex.from_arrays(levels, names=df.index.names)
    return Layout(empty, [_form(a) for a in _arrays(df)])


def _record(layout: Layout) -> np.dtype[Any]:
    """Returns the NumPy type of a record. Its fields are the numeric columns, named by their positions."""
    columns = zip(_arrays(layout.empty), layout.forms, strict=True)
    return np.dtype(
        [(str(i), _numbers(array, form).dtype) for i, (array, form) in enumerate(columns) if form in NUMBERS]
    )


def split(df: pd.DataFrame, layout: Layout, ids: np.ndarray[Any, Any], compression: str | None) -> Iterator[Block]:
    """Yields the frame's rows as blocks of (partition, number of rows, piece). ids holds each row's partition; rows
    with a negative partition are skipped. Each block reuses the memory of the previous one."""
    names = [*df.columns, *df.index.names]
    arrays = _arrays(df)
    step = max(1, -(-len(df) // max(1, -(-int(df.memory_usage(deep=True).sum()) // BLOCK_BYTES))))
    record = _record(layout)
    memory, reorder_buffer = (np.empty(min(step, len(df)), record) for _ in range(2))
    for start in range(0, len(df), step):
        part = ids[start : start + step]
        # NumPy uses radix sort for 16-bit integers, which is much faster.
        order = (part.astype(np.int16) if part.max() < 1 << 15 else part).argsort(kind="stable")
        order = order[np.count_nonzero(part < 0) :]
        arrow_arrays: list[pa.Array] = []
        for i, (whole_array, form, name) in enumerate(zip(arrays, layout.forms, names, strict=True)):
            array = whole_array[start : start + step]
            try:
                if form in NUMBERS:
                    memory[str(i)][: len(part)] = _numbers(array, form)
                else:
                    arrow_arrays.append(_to_arrow(array, form).take(pa.array(order)))
            except Exception as err:
                raise Misuse(
                    f"shuffling column {name!r} of type {array.dtype}: neither Arrow nor pickle can store a value "
                    f"({err}): convert it, or drop the column"
                ) from err
        records = _reordered(memory, order, reorder_buffer)
        counts = np.bincount(part[order])
        block: Block = []
        row = 0
        for partition, message in zip(np.flatnonzero(counts).tolist(), _messages(arrow_arrays, counts), strict=True):
            rows = int(counts[partition])
            numbers = records[row * record.itemsize : (row + rows) * record.itemsize]
            piece: Piece = [_ROWS.pack(rows), numbers, message]
            block.append((partition, rows, piece if compression is None else _compress(piece, compression)))
            row += rows
        yield block


def _reordered(records: np.ndarray[Any, Any], order: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> memoryview:
    """Copies whole records, not single fields, to target in the given order. Returns their bytes."""
    size = records.dtype.itemsize
    if not size:
        return memoryview(b"")
    record_type = np.dtype((np.void, size))
    reordered = target[: len(order)]
    # With mode="raise", the default, NumPy would write to a buffer first.
    records.view(record_type).take(order, out=reordered.view(record_type), mode="clip")
    return reordered.view(np.uint8).data


def _messages(arrays: list[pa.Array], counts: np.ndarray[Any, Any]) -> Iterator[memoryview]:
    """Splits the arrays into consecutive slices, and yields an Arrow message for each slice that is not empty. counts
    holds the number of rows in each slice."""
    counts = counts[counts > 0]
    if not arrays:
        yield from [memoryview(b"")] * len(counts)
        return
    batch = pa.record_batch(arrays, [str(i) for i in range(len(arrays))])
    sink = pa.BufferOutputStream()
    writer = pa.ipc.new_stream(sink, batch.schema)
    writer.write_batch(batch.slice(0, 0))  # makes the writer write the schema, which is not part of the messages
    ends, row = [sink.tell()], 0
    for rows in counts:
        writer.write_batch(batch.slice(row, rows))
        ends.append(sink.tell())
        row += rows
    messages = memoryview(sink.getvalue())
    yield from (messages[a:b] for a, b in zip(ends, ends[1:], strict=False))


def _compress(piece: Piece, compression: str) -> Piece:
    data = b"".join(piece)
    return [_ROWS.pack(len(data)), pa.compress(data, compression, asbytes=True)]


def _decompress(piece: memoryview, compression: str) -> memoryview:
    (size,) = _ROWS.unpack_from(piece)
    return memoryview(pa.decompress(piece[_ROWS.size :], size, compression, asbytes=True))


def join(layout: Layout, pieces: Iterable[memoryview], compression: str | None) -> pd.DataFrame:
    """Returns the frame that consists of the given pieces, in order. All pieces must have this layout. Raises Corrupt
    if a piece is damaged."""
    try:
        return _join(layout, pieces, compression)
    except MemoryError:
        raise
    except Exception as error:
        raise Corrupt(f"rows of a shuffle are damaged ({error}): compute again") from error


def _join(layout: Layout, pieces: Iterable[memoryview], compression: str | None) -> pd.DataFrame:
    like = _arrays(layout.empty)
    _build_lookups(
        layout.empty.columns, *(a.dtype.categories for a in like if isinstance(a.dtype, pd.CategoricalDtype))
    )
    record = _record(layout)
    arrow_arrays = [_to_arrow(a, form) for a, form in zip(like, layout.forms, strict=True) if form not in NUMBERS]
    schema = pa.schema([(str(i), stored.type) for i, stored in enumerate(arrow_arrays)])
    records: list[np.ndarray[Any, Any]] = []
    batches = []
    for piece in pieces:
        data = piece if compression is None else _decompress(piece, compression)
        (rows,), offset = _ROWS.unpack_from(data), _ROWS.size
        size = rows * record.itemsize
        records.append(np.frombuffer(data, np.uint8, size, offset))
        if schema.names:
            # Copy the message: otherwise, the frame's arrays would keep the whole piece in memory.
            message = data[offset + size :].tobytes()
            batches.append(pa.ipc.read_record_batch(pa.py_buffer(message), schema))
    numbers = iter(_columns(record, records))
    table = pa.Table.from_batches(batches, schema)
    check([table])
    other_columns = iter(table.columns)
    stored = [next(numbers if form in NUMBERS else other_columns) for form in layout.forms]
    arrays = list(map(_from_stored, stored, layout.forms, like))
    width = layout.empty.shape[1]
    levels = [pd.Index(a, dtype=like[width + i].dtype, copy=False) for i, a in enumerate(arrays[width:])]
    index = levels[0] if len(levels) == 1 else pd.MultiIndex.from_arrays(levels)
    index.names = layout.empty.index.names
    columns = {i: pd.Series(a, index, like[i].dtype, copy=False) for i, a in enumerate(arrays[:width])}
    df = pd.DataFrame(columns, index, copy=False)
    df.columns = layout.empty.columns
    df.attrs = layout.empty.attrs
    return df


def _build_lookups(*indexes: pd.Index[Any]) -> None:
    """Makes pandas build the lookup tables of indexes that several threads share.

    If threads build the same table concurrently, pandas may report labels as missing or repeated.
    """
    with _lookups_lock:
        for index in indexes:
            _ = index.is_unique


def _columns(record: np.dtype[Any], pieces: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Splits records into columns, in batches that fit into the processor's cache."""
    names = record.names or ()
    columns = [np.empty(sum(map(len, pieces)) // record.itemsize, record[name]) for name in names]
    offset = size = 0
    batch: list[np.ndarray[Any, Any]] = []
    for i, piece in enumerate(pieces if names else ()):
        batch.append(piece)
        size += len(piece)
        if size >= _CACHED or i == len(pieces) - 1:
            records = np.concatenate(batch).view(record)
            for name, column in zip(names, columns, strict=True):
                column[offset : offset + len(records)] = records[name]
            offset += len(records)
            batch, size = [], 0
    return columns

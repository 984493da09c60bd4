"""Checks Arrow tables from stores, which may be damaged or hostile."""

from __future__ import annotations

import contextlib
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

np: Any = None
with contextlib.suppress(ModuleNotFoundError):  # pyarrow works without NumPy
    import numpy as np

_SMALL = 1000  # up to this number of rows in a piece, pyarrow's full validation is faster than _check
_MAX_EMPTY = 1 << 25  # number of values without bytes, such as nulls, that any column may have
# IDs of the types for which pyarrow's full validation is fast: it only compares sizes and counts nulls.
_FIXED = {
    pa.type_for_alias(name).id
    for name in ("bool", "float16", "float32", "float64", "date32", "timestamp[s]", "duration[s]")
    + tuple(f"{sign}int{size}" for sign in ("", "u") for size in (8, 16, 32, 64))
}
_OFFSETS = {"string": 4, "binary": 4, "list": 4, "map": 4, "large_string": 8, "large_binary": 8, "large_list": 8}


def check(tables: list[pa.Table], text: bool = False) -> None:
    """Raises ArrowInvalid if a table refers to memory outside its buffers, or claims many values without bytes. If text
    is true, all text must be UTF-8. pyarrow checks none of this when it reads a stream, and may crash later."""
    schema, is_nested, fixed, others = None, False, list[int](), list[int]()
    for table in tables:
        if schema is None or not table.schema.equals(schema):
            schema = table.schema
            is_nested = _is_nested(schema.to_string(show_field_metadata=False, show_schema_metadata=False))
            fixed = [i for i, field in enumerate(schema) if field.type.id in _FIXED]
            others = [i for i, field in enumerate(schema) if field.type.id not in _FIXED]
        pieces = table.column(0).num_chunks if len(schema) else 1
        if is_nested or table.num_rows > _SMALL * pieces or not _is_valid(table):
            table.validate()
            limit = _MAX_EMPTY + 8 * table.get_total_buffer_size()
            if fixed:  # validate these columns in one call
                table.select(fixed).validate(full=True)
                table = table.select(others)
            for rows in table.to_batches() if others else ():
                if is_nested or rows.num_rows > _SMALL or not _is_valid(rows):
                    for array in rows.columns:
                        _check(array, limit, text)


def _is_nested(kinds: str) -> bool:
    """Reports whether kinds, the text of one or more types, contains a nested type or a dictionary of nulls."""
    return "<" in kinds.replace("dictionary<", "") or "<values=null" in kinds


def _is_valid(rows: Any) -> bool:
    """Reports whether rows pass pyarrow's full validation. Rows that fail are not always dangerous: they may only
    contain an invalid value, such as a time after 24:00."""
    try:
        rows.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _check(array: pa.Array, limit: int, text: bool) -> None:
    if len(array) > limit:
        raise pa.ArrowInvalid(f"it claims {len(array)} values but has no bytes for them")
    if array.type.id in _FIXED:
        array.validate(full=True)
        return
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    kind = str(array.type)
    name = kind.partition("<")[0]
    is_small = len(array) <= _SMALL
    if name == "dictionary":
        is_small = len(array) <= 5 * _SMALL and len(array.dictionary) <= _SMALL
    if is_small and not _is_nested(kind) and _is_valid(array):
        return
    buffers, children = array.buffers(), []
    if np is None or name.endswith(("encoded", "union", "view")):
        array.validate(full=True)
    elif buffers[0]:  # check the null count, which pyarrow takes from the message
        bits = [buffers[0], buffers[0]]
        pa.Array.from_buffers(pa.bool_(), len(array), bits, array.null_count, array.offset).validate(full=True)
    if np is not None and name in _OFFSETS and len(array):
        size = _OFFSETS[name]
        ends = np.frombuffer(buffers[1], f"i{size}", len(array) + 1, array.offset * size)
        if not (ends[1:] >= ends[:-1]).all():
            raise pa.ArrowInvalid("its offsets are not in order")
    if text and name.endswith("string") and buffers[2] and (np is None or np.frombuffer(buffers[2], "i1").min() < 0):
        array.validate(full=True)  # not ASCII
    if name == "dictionary":
        children = [array.indices, array.dictionary]
        first, last = pc.min_max(array.indices).as_py().values()
        if first is not None and not 0 <= first <= last < len(array.dictionary):
            raise pa.ArrowInvalid("an index is outside its dictionary")
    elif name == "struct" or name.endswith("union"):
        children = [array.field(i) for i in range(array.type.num_fields)]
    elif hasattr(array, "values"):
        children = [array.values]
    for child in children:
        _check(child, limit, text)

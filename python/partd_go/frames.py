"""Converts pandas and polars tables to Arrow and back.

Every value that is read equals the value that was written, in any process. If a column cannot be restored, the table is
rejected, with an error that names the column and its type. Notes (dicts in the metadata) record properties that Arrow's
types do not express. A column's note is in the column's metadata, so that the note stays with the column when columns
are added, merged or renamed. The frame's note is in the schema's metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import pyarrow as pa

from .errors import Misuse, SchemaMismatch

As = Literal["pandas", "polars", "arrow"]
NOTE = b"partd_go.pandas"
VALUES = b"partd_go.values"  # the kind of a column's values, such as period[D], if its Arrow type does not show it


def to_arrow(
    data: Any, *, nested: bool = False, keep_dictionaries: bool = True, store_range_index: bool = False
) -> pa.Table:
    """Returns a pandas, polars or pyarrow table, or a Series, as a pyarrow table.

    For pandas: if nested is true, lists and dicts are converted to JSON. If keep_dictionaries is false, categories are
    stored in the columns' notes instead. If store_range_index is true, a RangeIndex is converted to a column.
    """
    kind = type(data).__module__.partition(".")[0]
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, pa.Table):
        return data
    if kind == "polars":
        return (data.to_frame() if type(data).__name__ == "Series" else data).to_arrow()
    if kind == "pandas":
        return _from_pandas(data, nested, keep_dictionaries, store_range_index)
    if hasattr(data, "__arrow_c_stream__"):
        return pa.table(data)
    raise Misuse(f"cannot store a value of type {type(data).__name__}: pass a pandas, polars or pyarrow table")


def to_stream(data: Any) -> pa.Table | pa.RecordBatchReader:
    """Returns data as a table or, if it can be read batch by batch, as a reader, which holds one batch in memory."""
    if isinstance(data, pa.RecordBatchReader):
        return data
    if hasattr(data, "__arrow_c_stream__") and type(data).__module__.partition(".")[0] not in (
        "pandas",
        "polars",
        "pyarrow",
    ):
        return pa.RecordBatchReader.from_stream(data)
    return to_arrow(data)


def _from_pandas(data: Any, nested: bool, keep_dictionaries: bool, store_range_index: bool) -> pa.Table:
    import numpy as np
    import pandas as pd

    from .columns import TEXT, to_array, to_text

    note: dict[str, Any] = {}
    if isinstance(data, pd.Series):
        note["series"] = data.name is not None
        data = data.to_frame()
    index, labels = data.index, data.columns
    if isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)) and index.freqstr:
        note["freq"] = index.freqstr
    is_range = isinstance(index, pd.RangeIndex) and not store_range_index
    levels = [] if is_range else [index.get_level_values(position) for position in range(index.nlevels)]
    arrays, notes = [], []
    columns = [*(data.iloc[:, position] for position in range(len(labels))), *levels]
    for values in columns:
        try:
            array, column_note = to_array(values, nested, keep_dictionaries)
        except (pa.ArrowException, ArithmeticError, LookupError, TypeError, ValueError) as error:
            name = "of the index" if values.name is None else values.name
            raise SchemaMismatch(f"column {name} of type {values.dtype} cannot be stored: {error}") from error
        arrays.append(array)
        notes.append(column_note)

    # pyarrow generates pandas' metadata from an empty frame with the same columns. Columns with a note get dtype
    # object.
    dtypes = [object if column_note else values.dtype for values, column_note in zip(columns, notes)]
    template = pd.DataFrame({position: pd.Series(dtype=dtype) for position, dtype in enumerate(dtypes[: len(labels)])})
    names = [*index.names, *labels.names]
    texts = [name if name is None else str(name) for name in names]
    if is_range:
        template.index = index[:0].rename(texts[0])
    else:
        empty_levels = [pd.Index([], dtype=dtype, name=name) for dtype, name in zip(dtypes[len(labels) :], texts)]
        template.index = empty_levels[0] if len(empty_levels) == 1 else pd.MultiIndex.from_arrays(empty_levels)
    label_levels = [labels.get_level_values(position) for position in range(labels.nlevels)]
    is_exact = all(
        level_labels.dtype == TEXT and all(type(label) is str for label in level_labels)
        for level_labels in label_levels
    )
    is_exact = (
        is_exact or labels.nlevels == 1 and isinstance(labels.dtype, np.dtype) and labels.dtype.kind in "iu"
    )  # pandas' metadata restores only strings and integers exactly
    template_labels = labels if is_exact or labels.nlevels > 1 else pd.Index(list(map(str, labels)), dtype=object)
    template.columns = template_labels.set_names(texts[index.nlevels :])
    template.attrs = data.attrs
    try:
        schema = pa.Schema.from_pandas(template, preserve_index=None if is_range else True)
    except ValueError as error:  # two columns have the same name
        raise Misuse(f"{error}: give each column a different name") from error
    try:
        if len(labels) and not is_exact:
            label_frame = pd.DataFrame(
                {str(position): _to_lists(level_labels) for position, level_labels in enumerate(label_levels)}
            )
            note["labels"] = to_text(to_arrow(label_frame.assign(field=schema.names[: len(labels)]), nested=True))
        if names != texts or "labels" in note:
            note["names"] = to_text(to_arrow(_to_lists(pd.Index(names, dtype=object)).to_frame("0"), nested=True))
    except SchemaMismatch as error:
        raise SchemaMismatch(
            f"names of columns, such as {labels[0]!r:.80}, of type {labels.dtype} cannot be stored: {error}"
        ) from error
    pandas_metadata = json.loads(schema.metadata[b"pandas"])
    field_names = schema.names
    if is_range:
        pandas_metadata["index_columns"][0].update(start=index.start, stop=index.stop, step=index.step)
    elif None in index.names:
        levels_named = [None if text is None else field for field, text in zip(field_names[len(labels) :], texts)]
        field_names[len(labels) :] = pandas_metadata["index_columns"] = index_names(
            levels_named, field_names[: len(labels)]
        )
        for column, name in zip(pandas_metadata["columns"][len(labels) :], pandas_metadata["index_columns"]):
            column["field_name"] = name
    fields = [
        pa.field(name, array.type, metadata=_metadata(column_note))
        for name, array, column_note in zip(field_names, arrays, notes)
    ]
    metadata = {b"pandas": json.dumps(pandas_metadata)} | ({NOTE: json.dumps(note)} if note else {})
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata))


def index_names(names: Sequence[Any], columns: Iterable[Any]) -> list[Any]:
    """Returns the column names for the levels of an index. As in pandas' reset_index, an unnamed index is called
    "index", or "level_0" if a column has that name. One of several levels is called "level_" with its number."""
    used, result = {*names, *columns}, list(names)
    for level, name in enumerate(names):
        candidates = [*(["index"] if len(names) == 1 else []), f"level_{level}", f"__index_level_{level}__"]
        result[level] = next(candidate for candidate in candidates if candidate not in used) if name is None else name
    return result


def _to_lists(labels: Any) -> Any:
    """Returns labels as a Series. If their dtype is object, their types can differ, so each label is wrapped in a list
    of length one, which preserves its type."""
    import pandas as pd

    return pd.Series([[label] for label in labels]) if labels.dtype == object else pd.Series(labels, dtype=labels.dtype)


def _from_lists(values: Any) -> Any:
    import pandas as pd

    return (
        pd.Index([label for (label,) in values], dtype=object)
        if values.dtype == object
        else pd.Index(values.array, dtype=values.dtype)
    )


def _metadata(note: dict[str, Any]) -> dict[bytes, Any] | None:
    return (
        {NOTE: json.dumps(note)} | ({VALUES: value_kind} if (value_kind := _value_kind(note)) else {}) if note else None
    )


def _value_kind(note: dict[str, Any]) -> str:
    """Returns the kind of a column's values from its note, or "" if the column's Arrow type already expresses it."""
    conversion, inner_note = note.get("as"), note.get("of", "")
    inner_kind = _value_kind(inner_note) if isinstance(inner_note, dict) else "tuple" * (inner_note == "tuple")
    if conversion in ("period", "interval"):
        return f"{conversion}[{note.get('freq', note.get('closed'))}]" + (inner_kind and f" of {inner_kind}")
    return inner_kind


def from_arrow(table: pa.Table, as_: As, *, nested: bool = False) -> Any:
    """Converts a pyarrow table to a table of the library as_. For pandas, JSON columns are parsed if nested is true."""
    if as_ == "arrow":
        return table
    if as_ == "polars":
        import polars

        return polars.from_arrow(table)
    if as_ != "pandas":
        raise Misuse(f"as_ is {as_!r}: pass 'pandas', 'polars' or 'arrow'")
    return _to_pandas(table, nested)


def _to_pandas(table: pa.Table, nested: bool) -> Any:
    import pandas as pd

    from .columns import check_zoned, from_array, from_text

    note, pandas_metadata = json.loads((table.schema.metadata or {}).get(NOTE, b"{}")), pandas_of(table.schema)
    index, described = (
        index_of(table.schema),
        {column["field_name"]: column for column in pandas_metadata.get("columns", [])},
    )
    values, plain_table = {}, table
    for position, field in enumerate(table.schema):
        column = table.column(position)
        column_note = _column_note(field, note, described.get(field.name, {}), column.null_count > 0, nested)
        if column_note:
            values[position] = from_array(column, column_note)
            plain_table = plain_table.set_column(position, field.name, pa.nulls(table.num_rows))
            described.get(field.name, {}).update(numpy_type="object", pandas_type="empty")
        else:
            check_zoned(column)
    labels = None
    if "labels" in note:
        labels = _to_pandas(from_text(note["labels"]), True).set_index("field")
        if set(table.schema.names) - {*index} <= {*labels.index}:
            pandas_metadata["column_indexes"] = []
        else:  # an append added columns, which the stored labels lack
            labels = None
    frame = plain_table.replace_schema_metadata(
        {b"pandas": json.dumps(pandas_metadata)} if pandas_metadata else None
    ).to_pandas()
    index_levels = {position: level for level, position in enumerate(map(table.schema.names.index, index))}
    columns = [position for position in range(len(table.schema)) if position not in index_levels]
    for column_position, position in enumerate(columns):
        if position in values:
            frame.isetitem(
                column_position, pd.Series(values[position], frame.index, dtype=values[position].dtype, copy=False)
            )
    if values.keys() & index_levels.keys():
        names, levels = frame.index.names, [frame.index.get_level_values(level) for level in range(frame.index.nlevels)]
        for position in values.keys() & index_levels.keys():
            levels[index_levels[position]] = pd.Index(values[position], dtype=values[position].dtype)
        frame.index = levels[0] if len(levels) == 1 else pd.MultiIndex.from_arrays(levels)
        frame.index.names = names
    if labels is not None:
        named = [table.schema.names[position] for position in columns]
        label_levels = [_from_lists(labels.loc[named, level_name]) for level_name in labels]
        frame.columns = label_levels[0] if len(label_levels) == 1 else pd.MultiIndex.from_arrays(label_levels)
    if note.get("index"):
        frame.index = frame.index.astype(note["index"])
    for level in pandas_metadata.get("index_columns", []):
        # pyarrow loses the name of a RangeIndex if appends have changed the number of rows.
        if isinstance(level, dict) and frame.index.name is None:
            frame.index.name = level["name"]
    if "names" in note:
        names = list(_from_lists(_to_pandas(from_text(note["names"]), True)["0"]))
        if len(names) == frame.index.nlevels + frame.columns.nlevels:
            frame.index.names, frame.columns.names = names[: frame.index.nlevels], names[frame.index.nlevels :]
    if note.get("freq") and isinstance(frame.index, (pd.DatetimeIndex, pd.TimedeltaIndex)):
        try:
            frame.index.freq = note["freq"]
        except ValueError:
            pass  # rows were appended, so the whole index no longer has this frequency
    if "series" in note and frame.shape[1] == 1:
        return frame.iloc[:, 0] if note["series"] else frame.iloc[:, 0].rename(None)
    return frame


def _column_note(
    field: pa.Field, frame: dict[str, Any], described: dict[str, Any], has_nulls: bool, nested: bool
) -> dict[str, Any]:
    """Returns the note for converting a column back, or {} if pyarrow converts it correctly. frame is the frame's note,
    and described is the column's entry in pandas' metadata."""
    metadata = field.metadata or {}
    if NOTE in metadata:
        column_note: dict[str, Any] = json.loads(metadata[NOTE])
        return column_note
    if field.name in frame.get("arrow", ()):
        return {"as": "arrow"}
    if kind := frame.get("dtypes", {}).get(field.name):
        return {"as": "dtype", "dtype": kind}
    if nested and isinstance(field.type, pa.JsonType):
        return {"as": "json"}
    if isinstance(field.type, pa.ExtensionType):
        name, text = field.type.extension_name, field.type.__arrow_ext_serialize__()
    else:  # pandas has not registered its extension types in this process
        name, text = (metadata.get(b"ARROW:extension:" + key, b"").decode() for key in (b"name", b"metadata"))
    if name in ("pandas.period", "pandas.interval"):
        return {"as": name.partition(".")[2], **json.loads(text)}
    if described.get("pandas_type") == "categorical" or pa.types.is_dictionary(field.type):
        return {"as": "category"}
    is_number = pa.types.is_integer(field.type) or pa.types.is_boolean(field.type)
    return (
        {"as": "masked"}
        if has_nulls and is_number and re.fullmatch(r"[a-z]+\d*", described.get("numpy_type", "int64"))
        else {}
    )


def pandas_of(schema: pa.Schema) -> dict[str, Any]:
    """Returns pandas' metadata for the columns and the index."""
    metadata: dict[str, Any] = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    return metadata


def index_of(schema: pa.Schema) -> list[str]:
    """Returns the names of the index columns, or an empty list for a RangeIndex."""
    return [
        name for name in pandas_of(schema).get("index_columns", []) if isinstance(name, str) and name in schema.names
    ]

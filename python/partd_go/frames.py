"""The one conversion between Arrow and the tables of pandas and polars.

A value comes back equal, in whatever process, or the table is refused with the name and the type of the column. What
Arrow's types do not tell is noted in the metadata: of each column in its own, which goes with it where columns are
added, merged and renamed; of the frame in the schema's.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import pyarrow as pa

from .errors import Misuse, SchemaMismatch

As = Literal["pandas", "polars", "arrow"]
NOTE = b"partd_go.pandas"
VALUES = b"partd_go.values"  # of a column: what its values are, where numbers of its type could be others


def to_arrow(data: Any, *, nested: bool = False, dictionaries: bool = True, ranges: bool = False) -> pa.Table:
    """A table of pandas, polars or pyarrow, or a Series of pandas, as pyarrow's.

    Of pandas, with nested, lists and what else is nested become JSON; without dictionaries, categories are in notes;
    with ranges, an index that only counts is a column.
    """
    kind = type(data).__module__.partition(".")[0]
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, pa.Table):
        return data
    if kind == "polars":
        return (data.to_frame() if type(data).__name__ == "Series" else data).to_arrow()
    if kind == "pandas":
        return _of_pandas(data, nested, dictionaries, ranges)
    if hasattr(data, "__arrow_c_stream__"):
        return pa.table(data)
    raise Misuse(f"a value of type {type(data).__name__}: give a table of pandas, polars or pyarrow")


def to_stream(data: Any) -> pa.Table | pa.RecordBatchReader:
    """What to_arrow makes; of what comes batch by batch a reader of it, which holds one."""
    if isinstance(data, pa.RecordBatchReader):
        return data
    if hasattr(data, "__arrow_c_stream__") and type(data).__module__.partition(".")[0] not in ("pandas", "polars", "pyarrow"):
        return pa.RecordBatchReader.from_stream(data)
    return to_arrow(data)


def _of_pandas(data: Any, nested: bool, dictionaries: bool, ranges: bool) -> pa.Table:
    import pandas as pd

    from .columns import TEXT, held, packed

    note: dict[str, Any] = {}
    if isinstance(data, pd.Series):
        note["series"] = data.name is not None
        data = data.to_frame()
    index, labels = data.index, data.columns
    if isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)) and index.freqstr:
        note["freq"] = index.freqstr
    counts = isinstance(index, pd.RangeIndex) and not ranges
    levels = [] if counts else [index.get_level_values(at) for at in range(index.nlevels)]
    arrays, notes = [], []
    columns = [*(data.iloc[:, at] for at in range(len(labels))), *levels]
    for values in columns:
        try:
            array, about = held(values, nested, dictionaries)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            name = "of the index" if values.name is None else values.name
            raise SchemaMismatch(f"column {name} of type {values.dtype} cannot be stored: {error}") from error
        arrays.append(array)
        notes.append(about)

    # pandas' own notes are of a frame without rows, and without the types that have notes here.
    kinds = [object if about else values.dtype for values, about in zip(columns, notes)]
    plain = pd.DataFrame({at: pd.Series(dtype=kind) for at, kind in enumerate(kinds[: len(labels)])})
    names = [*index.names, *labels.names]
    texts = [name if name is None else str(name) for name in names]
    if counts:
        plain.index = index[:0].rename(texts[0])
    else:
        made = [pd.Index([], dtype=kind, name=name) for kind, name in zip(kinds[len(labels) :], texts)]
        plain.index = made[0] if len(made) == 1 else pd.MultiIndex.from_arrays(made)
    parts = [labels.get_level_values(at) for at in range(labels.nlevels)]
    exact = all(part.dtype == TEXT and all(type(label) is str for label in part) for part in parts)
    exact = exact or labels.nlevels == 1 and labels.dtype.kind in "iu"  # of others pandas' notes make something else
    named = labels if exact or labels.nlevels > 1 else pd.Index(list(map(str, labels)), dtype=object)
    plain.columns = named.set_names(texts[index.nlevels :])
    plain.attrs = data.attrs
    schema = pa.Schema.from_pandas(plain, preserve_index=None if counts else True)
    try:
        if len(labels) and not exact:
            known = pd.DataFrame({str(at): _listed(part) for at, part in enumerate(parts)})
            note["labels"] = packed(to_arrow(known.assign(field=schema.names[: len(labels)]), nested=True))
        if names != texts or "labels" in note:
            note["names"] = packed(to_arrow(_listed(pd.Index(names, dtype=object)).to_frame("0"), nested=True))
    except SchemaMismatch as error:
        raise SchemaMismatch(f"names of columns, such as {labels[0]!r:.80}, of type {labels.dtype} cannot be stored: {error}") from error
    noted = json.loads(schema.metadata[b"pandas"])
    if counts:
        noted["index_columns"][0].update(start=index.start, stop=index.stop, step=index.step)
    fields = [pa.field(name, array.type, metadata=_written(about)) for name, array, about in zip(schema.names, arrays, notes)]
    metadata = {b"pandas": json.dumps(noted)} | ({NOTE: json.dumps(note)} if note else {})
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata))


def _listed(labels: Any) -> Any:
    """Labels as values: objects, which may be of several types, in lists of one."""
    import pandas as pd

    return pd.Series([[label] for label in labels]) if labels.dtype == object else pd.Series(labels, dtype=labels.dtype)


def _unlisted(values: Any) -> Any:
    import pandas as pd

    return pd.Index([label for (label,) in values], dtype=object) if values.dtype == object else pd.Index(values.array, dtype=values.dtype)


def _written(note: dict[str, Any]) -> dict[bytes, Any] | None:
    return {NOTE: json.dumps(note)} | ({VALUES: meant} if (meant := _meaning(note)) else {}) if note else None


def _meaning(note: dict[str, Any]) -> str:
    """What the values are, where another column of the same type may have others."""
    how, of = note.get("as"), note.get("of", "")
    within = _meaning(of) if isinstance(of, dict) else "tuple" * (of == "tuple")
    if how in ("period", "interval"):
        return f"{how}[{note.get('freq', note.get('closed'))}]" + (within and f" of {within}")
    return within


def from_arrow(table: pa.Table, as_: As, *, nested: bool = False) -> Any:
    """The table as one of a library. Of pandas, with nested, JSON is what it says."""
    if as_ == "arrow":
        return table
    if as_ == "polars":
        import polars

        return polars.from_arrow(table)
    if as_ != "pandas":
        raise Misuse(f"as_={as_!r}: write 'pandas', 'polars' or 'arrow'")
    return _to_pandas(table, nested)


def _to_pandas(table: pa.Table, nested: bool) -> Any:
    import pandas as pd

    from .columns import given, unpacked

    note, noted = json.loads((table.schema.metadata or {}).get(NOTE, b"{}")), pandas_of(table.schema)
    index, about = index_of(table.schema), {column["field_name"]: column for column in noted.get("columns", [])}
    values, shown = {}, table
    for at, field in enumerate(table.schema):
        column = table.column(at)
        how = _note(field, note, about.get(field.name, {}), column.null_count > 0, nested)
        if how:
            values[at] = given(column, how)
            shown = shown.set_column(at, field.name, pa.nulls(table.num_rows))
            about.get(field.name, {}).update(numpy_type="object", pandas_type="empty")
    labels = None
    if "labels" in note:
        labels = _to_pandas(unpacked(note["labels"]), True).set_index("field")
        if set(table.schema.names) - {*index} <= {*labels.index}:
            noted["column_indexes"] = []
        else:  # columns came that the frame did not have
            labels = None
    frame = shown.replace_schema_metadata({b"pandas": json.dumps(noted)} if noted else None).to_pandas()
    places = {at: level for level, at in enumerate(map(table.schema.names.index, index))}
    columns = [at for at in range(len(table.schema)) if at not in places]
    for place, at in enumerate(columns):
        if at in values:
            frame.isetitem(place, pd.Series(values[at], frame.index, dtype=values[at].dtype, copy=False))
    if values.keys() & places.keys():
        names, levels = frame.index.names, [frame.index.get_level_values(level) for level in range(frame.index.nlevels)]
        for at in values.keys() & places.keys():
            levels[places[at]] = pd.Index(values[at], dtype=values[at].dtype)
        frame.index = levels[0] if len(levels) == 1 else pd.MultiIndex.from_arrays(levels)
        frame.index.names = names
    if labels is not None:
        named = [table.schema.names[at] for at in columns]
        parts = [_unlisted(labels.loc[named, part]) for part in labels]
        frame.columns = parts[0] if len(parts) == 1 else pd.MultiIndex.from_arrays(parts)
    if note.get("index"):
        frame.index = frame.index.astype(note["index"])
    for described in noted.get("index_columns", []):
        if isinstance(described, dict) and frame.index.name is None:  # a range, which is another after an append
            frame.index.name = described["name"]
    if "names" in note:
        names = list(_unlisted(_to_pandas(unpacked(note["names"]), True)["0"]))
        if len(names) == frame.index.nlevels + frame.columns.nlevels:
            frame.index.names, frame.columns.names = names[: frame.index.nlevels], names[frame.index.nlevels :]
    if note.get("freq") and isinstance(frame.index, (pd.DatetimeIndex, pd.TimedeltaIndex)):
        try:
            frame.index.freq = note["freq"]
        except ValueError:
            pass  # other rows came
    if "series" in note and frame.shape[1] == 1:
        return frame.iloc[:, 0] if note["series"] else frame.iloc[:, 0].rename(None)
    return frame


def _note(field: pa.Field, frame: dict[str, Any], about: dict[str, Any], nulls: bool, nested: bool) -> dict[str, Any]:
    """How a column comes back, where pyarrow alone would have it otherwise."""
    metadata = field.metadata or {}
    if NOTE in metadata:
        known: dict[str, Any] = json.loads(metadata[NOTE])
        return known
    if field.name in frame.get("arrow", ()):
        return {"as": "arrow"}
    if kind := frame.get("dtypes", {}).get(field.name):
        return {"as": "dtype", "dtype": kind}
    if nested and isinstance(field.type, pa.JsonType):
        return {"as": "json"}
    if isinstance(field.type, pa.ExtensionType):
        name, text = field.type.extension_name, field.type.__arrow_ext_serialize__()
    else:  # as pandas writes them, in a process that has not asked it to read them
        name, text = (metadata.get(b"ARROW:extension:" + key, b"").decode() for key in (b"name", b"metadata"))
    if name in ("pandas.period", "pandas.interval"):
        return {"as": name.partition(".")[2], **json.loads(text)}
    if about.get("pandas_type") == "categorical" or pa.types.is_dictionary(field.type):
        return {"as": "category"}
    numbers = pa.types.is_integer(field.type) or pa.types.is_boolean(field.type)
    return {"as": "masked"} if nulls and numbers and re.fullmatch(r"[a-z]+\d*", about.get("numpy_type", "int64")) else {}


def pandas_of(schema: pa.Schema) -> dict[str, Any]:
    """What pandas noted of its columns and its index."""
    noted: dict[str, Any] = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    return noted


def index_of(schema: pa.Schema) -> list[str]:
    """The columns that are pandas' index; none of a range."""
    return [name for name in pandas_of(schema).get("index_columns", []) if isinstance(name, str) and name in schema.names]

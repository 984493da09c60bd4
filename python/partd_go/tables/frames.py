"""Tables of pandas and polars as pyarrow's, and back."""

from __future__ import annotations

import json
from typing import Any, Literal

import pyarrow as pa

from ..errors import Misuse

As = Literal["pandas", "polars", "arrow"]
_NOTE = b"partd_go.pandas"  # in a schema's metadata: what pandas' own leaves out


def to_arrow(data: Any) -> pa.Table:
    """A table of pandas, polars or pyarrow, or a Series of pandas, as pyarrow's."""
    kind = type(data).__module__.partition(".")[0]
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, pa.RecordBatchReader):
        return data.read_all()
    if isinstance(data, pa.Table):
        return data
    if kind == "polars":
        return (data.to_frame() if type(data).__name__ == "Series" else data).to_arrow()
    if kind != "pandas":
        if hasattr(data, "__arrow_c_stream__"):
            return pa.table(data)
        raise Misuse(f"a value of type {type(data).__name__}: give a table of pandas, polars or pyarrow")
    import pandas as pd

    note: dict[str, Any] = {}
    if isinstance(data, pd.Series):
        note["series"] = data.name is not None
        data = data.to_frame()
    if isinstance(data.index, (pd.DatetimeIndex, pd.TimedeltaIndex)) and data.index.freqstr:
        note["freq"] = data.index.freqstr
    kinds = list(data.dtypes)
    for at, kind in enumerate(kinds):
        if isinstance(kind, pd.SparseDtype):
            data = data.copy(deep=False)
            data.isetitem(at, data.iloc[:, at].sparse.to_dense())
    table = pa.Table.from_pandas(data)
    note["arrow"] = [name for name, kind in zip(table.schema.names, kinds) if isinstance(kind, pd.ArrowDtype)]
    back = _plain(table.schema.empty_table(), note["arrow"]).to_pandas()
    note["dtypes"] = {
        name: f"string[{kind.storage}]" if isinstance(kind, pd.StringDtype) and kind.na_value is pd.NA else str(kind)
        for name, kind, plain in zip(table.schema.names, kinds, back.dtypes)
        if name not in note["arrow"] and plain != kind
    }
    if data.index.nlevels == 1 and index_of(table.schema) and back.index.dtype != data.index.dtype:
        note["index"] = str(data.index.dtype)
    return table.replace_schema_metadata({**table.schema.metadata, _NOTE: json.dumps({k: v for k, v in note.items() if v != []}).encode()})


def _plain(table: pa.Table, arrow: list[str]) -> pa.Table:
    """The table without what pandas noted of columns of pyarrow's types, not all of which it can read."""
    noted = pandas_of(table.schema)
    for column in noted.get("columns", []):
        if column["field_name"] in arrow:
            column["numpy_type"] = "object"
    return table.replace_schema_metadata({**(table.schema.metadata or {}), b"pandas": json.dumps(noted)}) if arrow else table


def from_arrow(table: pa.Table, as_: As) -> Any:
    """The table as one of a library."""
    if as_ == "arrow":
        return table
    if as_ == "polars":
        import polars

        return polars.from_arrow(table)
    if as_ != "pandas":
        raise Misuse(f"as_={as_!r}: write 'pandas', 'polars' or 'arrow'")
    return _to_pandas(table)


def _to_pandas(table: pa.Table) -> Any:
    import pandas as pd

    note, noted = json.loads((table.schema.metadata or {}).get(_NOTE, b"{}")), pandas_of(table.schema)
    kept = {column["field_name"] for column in noted.get("columns", []) if column["pandas_type"] == "categorical"}
    values = [field.name for field in table.schema if field.name in kept and not pa.types.is_dictionary(field.type)]
    arrow = note.get("arrow", [])
    frame = _plain(table, arrow).to_pandas(categories=values)
    index = index_of(table.schema)
    for at, name in enumerate(name for name in table.schema.names if name not in index):
        if name in arrow:
            frame.isetitem(at, pd.Series(pd.arrays.ArrowExtensionArray(table.column(name)), index=frame.index))
        elif kind := note.get("dtypes", {}).get(name):
            frame.isetitem(at, frame.iloc[:, at].astype(kind))
    if index and note.get("index"):
        frame.index = frame.index.astype(note["index"])
    for described in noted.get("index_columns", []):
        if isinstance(described, dict) and frame.index.name is None:  # a range, which is another after an append
            frame.index.name = described["name"]
    if note.get("freq") and isinstance(frame.index, (pd.DatetimeIndex, pd.TimedeltaIndex)):
        try:
            frame.index.freq = note["freq"]
        except ValueError:
            pass  # other rows came
    if "series" in note and frame.shape[1] == 1:
        return frame.iloc[:, 0] if note["series"] else frame.iloc[:, 0].rename(None)
    return frame


def pandas_of(schema: pa.Schema) -> dict[str, Any]:
    """What pandas noted of its columns and its index."""
    noted: dict[str, Any] = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    return noted


def index_of(schema: pa.Schema) -> list[str]:
    """The columns that are pandas' index; none of a range."""
    return [name for name in pandas_of(schema).get("index_columns", []) if isinstance(name, str) and name in schema.names]

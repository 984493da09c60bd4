"""Tables that polars, DuckDB and dask read when they need them, and of which they read what they need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa
import pyarrow.dataset as dataset
import pyarrow.fs as fs

from ..errors import Refused
from . import pushdown
from ..frames import from_arrow

if TYPE_CHECKING:
    import dask.dataframe
    import polars

    from .client import Tables

_ALONE = "read a table by scanner(), to_batches() or to_table() of its dataset"


class Source:
    """A table, in one of its states, and a filter that holds for all that is read of it."""

    def __init__(self, tables: Tables, name: str, bucket: str, where: str | None, state: dict[str, Any]):
        self.tables, self.name, self.bucket, self.where, self.state = tables, name, bucket, where, state
        self.schema = tables.scan(name, bucket, limit=1, **state).schema

    def read(self, needed: set[str] | None, tree: pushdown.Tree, **options: Any) -> pa.RecordBatchReader:
        """Some columns of the rows for which the filter holds, and of others that the server cannot tell from them."""
        texts = [f"({text})" for text in (self.where, pushdown.text(tree, self.schema)) if text]
        columns = None if needed is None else [name for name in self.schema.names if name in needed] or self.schema.names[:1]
        return self.tables.scan(self.name, self.bucket, columns=columns, where=" and ".join(texts) or None, **self.state, **options)


def scan_polars(source: Source) -> polars.LazyFrame:
    """A LazyFrame, of whose filters and columns the server is told. Each collect() reads the table anew."""
    import polars
    from polars.io.plugins import register_io_source

    def frames(
        columns: list[str] | None, predicate: polars.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[polars.DataFrame]:
        tree: pushdown.Tree = None
        if predicate is not None:
            tree, predicate = pushdown.of_polars(predicate)
        needed = None if columns is None else {*columns, *([] if predicate is None else predicate.meta.root_names())}
        left = n_rows
        for batch in source.read(needed, tree, **({} if left is None or predicate is not None else {"limit": max(left, 1)})):
            frame = from_arrow(pa.Table.from_batches([batch]), "polars")
            frame = frame if predicate is None else frame.filter(predicate)
            frame = frame.select(columns) if columns else frame
            frame = frame if left is None else frame.head(left)
            left = left if left is None else left - frame.height
            yield frame
            if left == 0:
                break

    return register_io_source(frames, schema=from_arrow(source.schema.empty_table(), "polars").schema)


class Dataset(dataset.FileSystemDataset):  # type: ignore[misc]
    """A table as a dataset of pyarrow, as DuckDB takes one: the server is told of filters and columns. Each scanner reads
    the table anew."""

    def __init__(self, source: Source):
        # What reads the files itself, as a join of pyarrow's, finds that there is none, rather than no rows.
        form, files = dataset.ParquetFileFormat(), fs.LocalFileSystem()
        super().__init__([form.make_fragment(f"/{_ALONE}/{source.name}", files)], source.schema, form, files)
        self._source = source

    def __reduce__(self) -> Any:
        return Dataset, (self._source,)

    def scanner(self, columns: Any = None, filter: Any = None, **options: Any) -> dataset.Scanner:
        """Scans some columns, or expressions by their names, of the rows for which a filter holds."""
        tree, named = (None, set()) if filter is None else pushdown.of_arrow(filter)
        needed = [named, *(pushdown.of_arrow(one)[1] for one in columns.values())] if isinstance(columns, dict) else [named, columns]
        known = {name for names in needed for name in names or ()} if None not in needed else None
        rows = self._source.read(known, tree)
        return dataset.Scanner.from_batches(map(_aligned, rows), schema=rows.schema, columns=columns, filter=filter, **options)

    def count_rows(self, filter: Any = None, **options: Any) -> int:
        return int(self.scanner([], filter, **options).count_rows())

    def filter(self, expression: Any) -> NoReturn:
        raise NotImplementedError(f"a table's dataset is not filtered by itself: {_ALONE}, with a filter")


def _aligned(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A copy as pyarrow's engine wants it: Flight puts buffers anywhere, of which it warns at each."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return pa.ipc.open_stream(sink.getvalue()).read_next_batch()


class Part:
    """Reads one part of a table, in whatever process."""

    def __init__(self, tables: Tables, name: str, bucket: str, options: dict[str, Any]):
        self.tables, self.name, self.bucket, self.options = tables, name, bucket, options

    def __call__(self, part: int, columns: Sequence[str] | None = None) -> Any:
        return self.tables.get(self.name, self.bucket, columns=columns, part=part, **self.options)


def scan_dask(
    tables: Tables, name: str, bucket: str, columns: Sequence[str] | None, where: Any, state: dict[str, Any]
) -> dask.dataframe.DataFrame:
    """A DataFrame of dask, with a partition for each part. Parts are of one version: rows that are in none yet are folded
    into one, or else all are one partition."""
    import dask.dataframe

    found = tables.describe(name, bucket, **state)
    if not state:
        with contextlib.suppress(Refused):
            tables.action("partd.fold", Bucket=bucket, Tables=[name])
        found = tables.describe(name, bucket)
        if found["Version"] and tables.describe(name, bucket, version=found["Version"])["Rows"] == found["Rows"]:
            state = {"version": found["Version"]}
    read = Part(tables, name, bucket, {"where": where, **state})
    empty = tables.get(name, bucket, limit=1, columns=columns, **state).iloc[:0]
    parts = range(1, found["parts"] + 1) if state else [0]
    return dask.dataframe.from_map(read, parts, columns=list(getattr(empty, "columns", [])) or None, meta=empty, label=f"partd-{name}")

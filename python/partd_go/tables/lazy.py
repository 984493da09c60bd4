"""Reads tables lazily for polars, DuckDB and dask: only the columns and rows that a query needs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import pyarrow as pa
import pyarrow.dataset as dataset
import pyarrow.fs as fs

from ..errors import Refused
from ..frames import from_arrow
from . import pushdown
from .results import Described, Json, Read, State

if TYPE_CHECKING:
    import dask.dataframe
    import pandas
    import polars
    from typing_extensions import Unpack

_USAGE = "read a table with scanner(), to_batches() or to_table() of its dataset"


class Reader(Protocol):
    """The methods of Tables that this module uses."""

    def action(self, kind: str, /, **body: Any) -> list[Json]: ...

    def describe(self, name: str, bucket: str, **selection: Unpack[State]) -> Described: ...

    def get(self, name: str, bucket: str, **scan_options: Unpack[Read]) -> pandas.DataFrame: ...

    def scan(self, name: str, bucket: str, **scan_options: Unpack[Read]) -> pa.RecordBatchReader: ...


class Source:
    """A table in its current state or an earlier state, with a filter that every read applies."""

    def __init__(self, tables: Reader, name: str, bucket: str, where: str | None, state: dict[str, Any]):
        self.tables, self.name, self.bucket, self.where, self.state = tables, name, bucket, where, state
        self.schema = tables.scan(name, bucket, limit=1, **state).schema

    def read(self, needed: set[str] | None, tree: pushdown.Tree, **options: Any) -> pa.RecordBatchReader:
        """Returns a reader of the columns in needed, or of all columns if needed is None. The server leaves out rows
        that do not match the filter tree (see pushdown), as far as it can evaluate the tree."""
        texts = [f"({text})" for text in (self.where, pushdown.to_filter(tree, self.schema)) if text]
        columns = (
            None if needed is None else [name for name in self.schema.names if name in needed] or self.schema.names[:1]
        )
        return self.tables.scan(
            self.name, self.bucket, columns=columns, where=" and ".join(texts) or None, **self.state, **options
        )


def scan_polars(source: Source) -> polars.LazyFrame:
    """Implements Tables.scan_polars."""
    from polars.io.plugins import register_io_source

    def frames(
        columns: list[str] | None, predicate: polars.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[polars.DataFrame]:
        tree: pushdown.Tree = None
        if predicate is not None:
            tree, predicate = pushdown.parse_polars(predicate)
        needed = None if columns is None else {*columns, *([] if predicate is None else predicate.meta.root_names())}
        # polars applies n_rows before the predicate, but the server applies a limit after a filter. If n_rows is given,
        # the server therefore gets the limit without the predicate.
        rows = source.read(needed, tree) if n_rows is None else source.read(needed, None, limit=n_rows)
        for batch in rows:
            frame = from_arrow(pa.Table.from_batches([batch]), "polars")
            frame = frame if predicate is None else frame.filter(predicate)
            yield frame.select(columns) if columns else frame

    return register_io_source(frames, schema=from_arrow(source.schema.empty_table(), "polars").schema)


class Dataset(dataset.FileSystemDataset):  # type: ignore[misc]
    """A table as a pyarrow dataset, which DuckDB can query. Each scanner reads the table again. The server applies the
    filter and sends only the needed columns."""

    def __init__(self, source: Source):
        # Some operations, such as pyarrow's join, read a dataset's files without scanner(). The path does not exist, so
        # that these operations fail instead of finding no rows. The error shows the path, which says what to call.
        form, files = dataset.ParquetFileFormat(), fs.LocalFileSystem()
        super().__init__([form.make_fragment(f"/{_USAGE}/{source.name}", files)], source.schema, form, files)
        self._source = source

    def __reduce__(self) -> Any:
        return Dataset, (self._source,)

    def scanner(self, columns: Any = None, filter: Any = None, **options: Any) -> dataset.Scanner:
        """Returns a scanner of the rows that match filter. columns is a list of names or a dict of expressions."""
        tree, filter_columns = (None, set()) if filter is None else pushdown.parse_arrow(filter)
        needed = (
            [filter_columns, *(pushdown.parse_arrow(expression)[1] for expression in columns.values())]
            if isinstance(columns, dict)
            else [filter_columns, columns]
        )
        columns_needed = {name for names in needed for name in names or ()} if None not in needed else None
        rows = self._source.read(columns_needed, tree)
        return dataset.Scanner.from_batches(
            map(_align, rows), schema=rows.schema, columns=columns, filter=filter, **options
        )

    def count_rows(self, filter: Any = None, **options: Any) -> int:
        return int(self.scanner([], filter, **options).count_rows())

    def filter(self, expression: Any) -> NoReturn:
        raise NotImplementedError(f"a table's dataset has no filter(): {_USAGE}, with filter=")


def _align(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns an aligned copy of a batch. Flight's buffers are not aligned, which makes pyarrow's engine warn."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return pa.ipc.open_stream(sink.getvalue()).read_next_batch()


class Part:
    """Reads one part of a table, in any process."""

    def __init__(self, tables: Reader, name: str, bucket: str, options: dict[str, Any]):
        self.tables, self.name, self.bucket, self.options = tables, name, bucket, options

    def __call__(self, part: int, columns: str | Sequence[str] | None = None) -> Any:
        return self.tables.get(self.name, self.bucket, columns=columns, part=part, **self.options)


def parts(
    tables: Reader, name: str, bucket: str, state: dict[str, Any]
) -> tuple[Described, Sequence[int], dict[str, Any]]:
    """Returns a table's description, the part numbers for scan(), and the state to read. The state is a single version,
    so that all parts belong together. For the current state, the server first folds small appends, which belong to no
    version yet: it moves them into data files. If this user cannot fold, the only part is 0, which contains all rows of
    the current state."""
    described = tables.describe(name, bucket, **state)
    if not state:
        with contextlib.suppress(Refused):  # the user has no permission to fold, or the store is read-only
            tables.action("partd.fold", Buckets=[bucket], Tables=[name])
        described = tables.describe(name, bucket)
        with contextlib.suppress(Refused):  # a read-only store cannot fold
            if (
                described["Version"]
                and (folded := tables.describe(name, bucket, version=described["Version"]))["Rows"] == described["Rows"]
            ):
                described, state = folded, {"version": described["Version"]}
    return described, range(1, described["parts"] + 1) if state else [0], state


def scan_dask(
    tables: Reader, name: str, bucket: str, columns: str | Sequence[str] | None, where: Any, state: dict[str, Any]
) -> dask.dataframe.DataFrame:
    """Returns a dask DataFrame with one partition for each part of one version (see parts)."""
    import dask.dataframe

    _, numbers, state = parts(tables, name, bucket, state)
    read = Part(tables, name, bucket, {"where": where, **state})
    empty = tables.get(name, bucket, limit=1, columns=columns, **state).iloc[:0]
    return dask.dataframe.from_map(
        read, numbers, columns=list(getattr(empty, "columns", [])) or None, meta=empty, label=f"partd-{name}"
    )

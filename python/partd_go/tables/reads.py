"""Reads the rows of tables, and their changes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import pyarrow as pa

from ..errors import Misuse
from ..frames import As, from_arrow, index_of
from . import arguments
from . import filters as filtering
from .arguments import options_of
from .calls import call_each
from .catalog import Catalog
from .results import Changes, Read, State, Time, since_state, state

if TYPE_CHECKING:
    import dask.dataframe
    import pandas
    import polars
    import pyarrow.dataset
    from typing_extensions import Unpack

    from . import lazy


class Reads(Catalog):
    """A catalog with methods that read the rows of tables."""

    def scan(
        self,
        name: str,
        bucket: str = "",
        *,
        columns: str | Sequence[str] | None = None,
        where: str | filtering.Filters | None = None,
        limit: int | None = None,
        last: int | None = None,
        version: int | None = None,
        at: Time | None = None,
        snapshot: str = "",
        part: int = 0,
        index: bool = False,
        timeout: float | None = None,
    ) -> pa.RecordBatchReader:
        """Returns a reader of a table's rows, batch by batch. By default, it reads all rows in the current state.
        version, at or snapshot selects an earlier state.

        To stop early, delete all references to the reader: close() alone does not end the call on the server.

        Args:
            columns: Names of the columns to read.
            where: Selects rows: a string such as "price > 100", or a list of (column, operator, value), as in pyarrow.
                Times without a zone are in UTC.
            limit: The maximum number of rows to read, from the start.
            last: The maximum number of rows to read, from the end. It cannot be combined with limit.
            part: Read only the part with this number, from 1 to describe()["parts"]; 0 means all parts.
            index: Also read the columns of the pandas index, even if columns does not name them.
        """
        if limit is not None and last is not None:
            raise Misuse("pass only one of limit and last")
        selection = state(version, at, snapshot)
        call: dict[str, Any] = {
            "partd": "scan",
            "bucket": bucket,
            "name": name,
            **selection,
            "part": part,
            "dictionaries": True,
        }
        call.update(
            {key: arguments.whole(n, key) or 1 for key, n in (("limit", limit), ("last", last)) if n is not None}
        )
        columns = None if columns is None else arguments.names(columns, "columns")
        if (index and columns is not None) or not isinstance(where, (str, type(None))):
            index_columns = index_of(
                self.describe(name, bucket, version=version, at=at, snapshot=snapshot, timeout=timeout)["schema"]
            )
            columns = [*columns, *(index_columns if index else ())] if columns is not None else None
            where = where if isinstance(where, (str, type(None))) else filtering.text(where, index_columns)
        if columns is not None:
            call["columns"] = list(dict.fromkeys(columns))
        if where:
            call["where"] = where
        reads_all = self._shows_progress() and (where, limit, last, part) == (None, None, None, 0)
        total = limit
        if reads_all:
            info = self._ask("partd.describe", timeout, bucket=bucket, name=name, **selection)[0]["info"]
            total = info["Rows"] if info.get("RowsExact", True) else None
        rows = self._rows(call, f"get {name!r}", timeout, total)
        return pa.RecordBatchReader.from_batches(rows.schema, []) if 0 in (limit, last) else rows

    @overload
    def get(
        self, name: str, bucket: str = "", *, as_: Literal["pandas"] = "pandas", **scan_options: Unpack[Read]
    ) -> pandas.DataFrame: ...

    @overload
    def get(
        self, name: str, bucket: str = "", *, as_: Literal["polars"], **scan_options: Unpack[Read]
    ) -> polars.DataFrame: ...

    @overload
    def get(self, name: str, bucket: str = "", *, as_: Literal["arrow"], **scan_options: Unpack[Read]) -> pa.Table: ...

    @options_of(scan, Read)
    def get(self, name: str, bucket: str = "", *, as_: As = "pandas", **scan_options: Unpack[Read]) -> Any:
        """Returns the rows of a table as a pandas or polars DataFrame or a pyarrow Table: as_ is "pandas", "polars" or
        "arrow". The other options are those of scan(). For pandas, the index is always included, and a table that was
        put as a Series is returned as a Series."""
        arguments.check_options("get", scan_options, Read)
        return from_arrow(
            self._retry(lambda: self.scan(name, bucket, index=as_ == "pandas", **scan_options).read_all()), as_
        )

    @overload
    def get_many(
        self, names: Iterable[str], bucket: str = "", *, as_: Literal["pandas"] = "pandas", **scan_options: Unpack[Read]
    ) -> dict[str, pandas.DataFrame]: ...

    @overload
    def get_many(
        self, names: Iterable[str], bucket: str = "", *, as_: Literal["polars"], **scan_options: Unpack[Read]
    ) -> dict[str, polars.DataFrame]: ...

    @overload
    def get_many(
        self, names: Iterable[str], bucket: str = "", *, as_: Literal["arrow"], **scan_options: Unpack[Read]
    ) -> dict[str, pa.Table]: ...

    @options_of(scan, Read)
    def get_many(
        self, names: Iterable[str], bucket: str = "", *, as_: As = "pandas", **scan_options: Unpack[Read]
    ) -> Any:
        """Calls get() for several tables with the same options, a few calls at a time. Returns a dict of the results by
        table name."""
        return call_each(
            arguments.names(names, "names"), lambda name: self.get(name, bucket, as_=cast(Any, as_), **scan_options)
        )

    def changes(
        self,
        name: str,
        bucket: str = "",
        *,
        since: int | Time | None = None,
        since_snapshot: str = "",
        keys: str | Sequence[str] | None = None,
        uuid: str = "",
        as_: As = "pandas",
        version: int | None = None,
        at: Time | None = None,
        snapshot: str = "",
        timeout: float | None = None,
    ) -> Changes:
        """Returns the rows that changed between two states of a table. A row that was added and removed in between does
        not appear. The column _change is "insert", "delete", "update_before" or "update_after".

        To get the next changes, pass the result's version as since, and its uuid as uuid. changes() raises NotFound if
        the version has expired, or if the table was created again: then start again without since and uuid.

        Args:
            since: The earlier state, as a version or a time. Without since and since_snapshot, all rows are inserts.
            since_snapshot: The earlier state, as the name of a snapshot.
            version, at, snapshot: The later state; by default, the current state.
            keys: Names of the columns that identify a row, so that a deletion and an insertion with the same keys
                become an update. The default is the time and key columns in the table's settings.
            as_: The type of the rows: "pandas", "polars" or "arrow".
        """
        call = {
            "partd": "changes",
            "bucket": bucket,
            "name": name,
            "uuid": uuid,
            **state(version, at, snapshot),
            **since_state(since, since_snapshot),
        }
        if keys is not None:
            call["keys"] = arguments.names(keys, "keys")
        rows = self._retry(lambda: self._rows(call, f"changes of {name!r}", timeout).read_all())
        metadata = rows.schema.metadata or {}
        return Changes(from_arrow(rows, as_), int(metadata[b"partd.version"]), metadata[b"partd.uuid"].decode())

    def follow(
        self,
        name: str,
        bucket: str = "",
        *,
        since: int | Time | None = None,
        since_snapshot: str = "",
        keys: str | Sequence[str] | None = None,
        uuid: str = "",
        every: float = 10,
        as_: As = "pandas",
        timeout: float | None = None,
    ) -> Iterator[Changes]:
        """Yields the changes since an earlier state of a table, and then the later changes as they are made. Each item
        is a result of changes(). Experimental: it may change in any minor version.

        every is the number of seconds between two checks for changes. Reading changes moves small appends into files.
        The iterator ends only with an error, such as NotFound if a version that was not read has expired. To continue
        later, pass the version of the last changes as since, and their uuid as uuid.

            changes = tables.follow("trades")
            rows, version, uuid = next(changes)
        """
        last, version = None, -1
        while True:
            info = self.describe(name, bucket, timeout=timeout)
            if (info["Version"], info["Updated"]) != last:
                changes = self.changes(
                    name,
                    bucket,
                    since=since,
                    since_snapshot=since_snapshot,
                    keys=keys,
                    uuid=uuid,
                    as_=as_,
                    timeout=timeout,
                )
                if changes.version != version:
                    yield changes
                last, version = (info["Version"], info["Updated"]), changes.version
                since, since_snapshot, uuid = version, "", changes.uuid
            time.sleep(every)

    @options_of(scan, State)
    def scan_polars(
        self, name: str, bucket: str = "", *, where: str | filtering.Filters | None = None, **selection: Unpack[State]
    ) -> polars.LazyFrame:
        """Returns a polars LazyFrame that reads a table. Each collect() reads the table again. The server applies the
        query's filters and sends only the columns that the query needs."""
        from . import lazy

        return lazy.scan_polars(self._source(name, bucket, where, selection))

    @options_of(scan, State)
    def dataset(
        self, name: str, bucket: str = "", *, where: str | filtering.Filters | None = None, **selection: Unpack[State]
    ) -> pyarrow.dataset.Dataset:
        """Returns a pyarrow dataset that reads a table. DuckDB can query it. Each scanner() reads the table again. The
        server applies the query's filters and sends only the columns that the query needs."""
        from . import lazy

        return lazy.Dataset(self._source(name, bucket, where, selection))

    @options_of(scan, State)
    def scan_dask(
        self,
        name: str,
        bucket: str = "",
        *,
        columns: str | Sequence[str] | None = None,
        where: str | filtering.Filters | None = None,
        **selection: Unpack[State],
    ) -> dask.dataframe.DataFrame:
        """Returns a dask DataFrame with one partition for each part of a table. dask's workers read the parts from the
        server, which sends only the columns that dask needs. The server applies the filter in where, but not the
        filters in dask expressions."""
        from . import lazy

        return lazy.scan_dask(self, name, bucket, columns, where, {**selection})

    def _source(self, name: str, bucket: str, where: str | filtering.Filters | None, selection: State) -> lazy.Source:
        from . import lazy

        if not isinstance(where, (str, type(None))):
            where = filtering.text(where, index_of(self.describe(name, bucket, **selection)["schema"]))
        return lazy.Source(self, name, bucket, where, {**selection})

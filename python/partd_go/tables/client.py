"""The client of a table server."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import json
import os
import re
import time
import urllib.parse
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast, overload

import pyarrow as pa
import pyarrow.flight as flight

from ..errors import Error, Misuse, failure
from ..frames import As, from_arrow, index_of, to_arrow, to_stream
from ..server import START_TIMEOUT
from ..shown import Summary, Shown, row_count, size
from . import arguments, files, progress
from . import filters as filtering
from .calls import Call, to_json
from .connection import check_not_forked
from .errors import CHECK, REPEAT, REPEAT_ID, MissingColumns, NotFound
from .operations import Operations
from .results import (
    MODES,
    Changes,
    Data,
    Described,
    Mode,
    Query,
    Read,
    Replaced,
    Resampled,
    Since,
    State,
    Time,
    Version,
    moment,
    since_state,
    state,
    time_of,
)
from .server import location_of, open_server, server_flags

if TYPE_CHECKING:
    import dask.dataframe
    import pandas
    import polars
    import pyarrow.dataset
    from typing_extensions import Unpack

    from . import lazy

T = TypeVar("T")
Names: TypeAlias = list[str]  # an alias, because in the class Tables, list is a method
Versions: TypeAlias = list[Version]
Errors: TypeAlias = list[BaseException]
Functions: TypeAlias = "str | Sequence[str] | Mapping[Any, str | Sequence[str]]"
Missing = Literal["warn", "error", "ignore"]
_MESSAGE_BYTES = 4 << 20  # approximate size of a message of a put
_ABANDONED = b"partd.gave-up"  # metadata that tells the server to discard a put
_CONCURRENT = 4  # concurrent calls by get_many and put_many; by default, a server permits no more per connection
_REPR_TIMEOUT = 5.0  # timeout of each call that __repr__ makes, in seconds
_MAY_WRITE = re.compile(
    r"\b(insert|update|delete|merge|truncate|create|alter|drop)\b", re.I
)  # the pattern also matches some statements that only read
_CHANGED_ROWS = b"partd.changed_rows"  # metadata key in the answer to a statement that writes
_STATEMENT = b"type.googleapis.com/arrow.flight.protocol.sql.TicketStatementQuery"


class Tables(Operations, Shown):
    """The tables on a server, as connect() returns them. Several threads may use them until close().

        with connect("data") as tables:
            tables.put("trades", frame)
            tables["trades"].get(where="price > 100")

    A bucket is a namespace of tables; by default, tables are in the bucket "". The timeout of connect() limits each
    call, in seconds, unless the call has its own. Ctrl-C interrupts a call within a second.
    """

    if not TYPE_CHECKING:  # or else type checkers would accept all names

        def __getattr__(self, name: str) -> Any:
            raise arguments.no_attribute(self, name)

    def __enter__(self) -> Tables:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getitem__(self, name: str) -> Table:
        return self.table(name)

    def __iter__(self) -> Iterator[str]:
        """Yields the names of the tables in the bucket ""."""
        return iter(self.list())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self.list(pattern=re.sub(r"([][*?\\])", r"\\\1", name))

    def __len__(self) -> int:
        return len(self.list())

    def __bool__(self) -> bool:
        return True  # even if there are no tables

    def _ipython_key_completions_(self) -> Names:
        return self.list()

    def table(self, name: str, bucket: str = "", **selection: Unpack[State]) -> Table:
        """Returns a handle to a table: to its current state or, if version, at or snapshot is given, to an earlier one.
        The table need not exist. tables["trades"] is short for tables.table("trades")."""
        arguments.text(name, "name")
        return Table(self, name, arguments.text(bucket, "bucket"), **selection)

    def _summary(self) -> Summary:
        location = self._server.directory if self._server else self.url
        try:
            buckets = sorted(self._ask("partd.buckets", _REPR_TIMEOUT))
            tables = [
                table
                for bucket in buckets[:_CONCURRENT]
                for table in self._ask("partd.tables", _REPR_TIMEOUT, bucket=bucket, filter={})
            ]
        except Error as error:
            return f"Tables at {location}: {error}", (), ()
        rows = [
            ("/".join(filter(None, (table["Bucket"], table["Name"]))), row_count(table), size(table["Bytes"]))
            for table in tables
        ]
        more = f", and {len(buckets) - _CONCURRENT} more buckets" if len(buckets) > _CONCURRENT else ""
        return f"Tables at {location}: {len(tables)} tables{more}", ("name", "rows", "size"), rows

    def put(
        self,
        name: str,
        data: Data,
        mode: Mode = "error",
        bucket: str = "",
        *,
        id: str = "",
        metadata: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        upsert: str | Sequence[str] | None = None,
        null_keys: bool = False,
        missing: Missing = "warn",
        null: str | Sequence[str] = (),
        timeout: float | None = None,
    ) -> int:
        """Writes rows to a table, and creates the table if necessary. Either all rows appear, or none does. Returns the
        version of the table that contains them.

        data is a pandas, polars or pyarrow table or frame, another object that exports an Arrow stream, or the path of
        a .parquet, .arrow, .csv (with a header line) or .jsonl file. A RecordBatchReader is sent batch by batch, so it
        can be larger than memory.

        mode says what happens if the table exists: "error" raises Exists, "append" adds the rows, and "replace"
        replaces all rows. upsert names key columns, and is used instead of mode: a row whose key exists replaces the
        existing row, and other rows are appended. A null in a key is an error, unless null_keys is true; then nulls
        equal each other.

        A put that has an id can be repeated: if an earlier put with this id was applied, the later one changes nothing.
        metadata and settings are for a new table, such as settings={"time": "when", "on_duplicate": "keep_last"}.
        Columns that appended rows lack become null; missing says whether to "warn" about this, to raise an error
        ("error"), or to "ignore" it.

        null lists texts, such as ["NA"], that are null in a CSV or TSV file unless they are quoted.
        """
        arguments.text(name, "name")
        if mode not in MODES:
            raise Misuse(f"mode is {mode!r}: pass one of {', '.join(MODES)}")
        if missing not in ("warn", "error", "ignore"):
            raise Misuse(f"missing is {missing!r}: pass 'warn', 'error' or 'ignore'")
        nulls = arguments.names(null, "null")
        if nulls and not isinstance(data, (str, os.PathLike)):
            raise Misuse(f"put {name!r}: null is for a file, but data has type {type(data).__name__}: leave out null")
        call: dict[str, Any] = {"partd": "put", "bucket": bucket, "name": name, "mode": MODES.index(mode), "id": id}
        call["whole"] = (mode == "append" or upsert is not None) and missing == "error"
        if upsert is not None:
            if mode == "replace" or id or metadata is not None or settings is not None:
                raise Misuse(
                    f"put {name!r}: an upsert has no mode, id, metadata or settings: leave these out (repeating an "
                    "upsert needs no id)"
                )
            call["upsert"] = {"keys": arguments.names(upsert, "upsert"), "null_keys": null_keys}
        call.update(
            {key: value for key, value in (("metadata", metadata), ("settings", settings)) if value is not None}
        )
        advice_if_unknown = (
            REPEAT if upsert is not None else REPEAT_ID if id else f"{CHECK}; with id=, a put can be repeated"
        )
        is_upsert = upsert is not None
        result = self._send_rows(
            f"put {name!r}",
            call,
            data,
            timeout,
            advice_if_unknown,
            is_typed=is_upsert or mode == "append",
            is_idempotent=is_upsert or bool(id),
            null=nulls,
        )
        if missing == "warn" and result.get("lacks"):
            warnings.warn(
                f"put {name!r}: the rows lack columns of the table, which become null: {result['lacks']}",
                MissingColumns,
                stacklevel=2,
            )
        return int(result["version"])

    def replace_range(
        self,
        name: str,
        data: Data,
        start: Time | None = None,
        end: Time | None = None,
        bucket: str = "",
        *,
        time_col: str = "",
        timeout: float | None = None,
    ) -> Replaced:
        """Replaces the rows of a table whose times are at or after start and before end. The change is atomic. Returns
        the new version, and how many rows were deleted and written.

        If start or end is None, the range has no limit on that side. Every row in data must be in the range. time_col
        names the time column; the default is the one in the table's settings, or else the table's first column with
        times. Times without a zone are in UTC.
        """
        if start is None and end is None:
            raise Misuse('replace_range: pass start, end or both; to replace all rows, use put with mode="replace"')
        limits = {key: moment(limit) for key, limit in (("from", start), ("to", end)) if limit is not None}
        call = {
            "partd": "put",
            "bucket": bucket,
            "name": arguments.text(name, "name"),
            "mode": 0,
            "range": {**limits, "time_column": time_col},
        }
        result = self._send_rows(
            f"replace a range of {name!r}", call, data, timeout, REPEAT, is_typed=True, is_idempotent=True
        )
        return Replaced(result["version"], result["deleted"], result["written"])

    def _send_rows(
        self,
        op: str,
        call: dict[str, Any],
        data: Data,
        timeout: float | None,
        advice_if_unknown: str,
        *,
        is_typed: bool,
        is_idempotent: bool,
        null: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Sends rows with call, the command for a put, and returns the server's answer. If is_typed is true, a text
        file is read with the types of the table's columns, and with the texts in null as nulls. For advice_if_unknown,
        see convert_error, and for is_idempotent, see _repeat."""
        if isinstance(data, (str, os.PathLike)):
            table_schema = None
            with contextlib.suppress(NotFound):  # if the table does not exist, the put creates it
                table_schema = self.describe(call["name"], call["bucket"])["schema"] if is_typed else None
            data = files.reader(data, table_schema, null)
        rows = to_stream(data)
        if not rows.schema.names:
            raise Misuse(f"{op}: the table has no columns: pass at least one, or an index with a name")
        command = to_json(call, op)
        failed: Errors = []

        def pieces() -> Iterator[pa.RecordBatch]:
            try:
                for piece in [rows] if isinstance(rows, pa.Table) else map(to_arrow, rows):
                    for batch in piece.to_batches(
                        max(1, piece.num_rows * _MESSAGE_BYTES // max(_MESSAGE_BYTES, piece.nbytes))
                    ):
                        flight_call.check()
                        yield batch
            except GeneratorExit:  # the source did not fail: send stopped reading, because the server rejected the rows
                raise
            except BaseException as error:
                failed.append(error)
                raise

        def send() -> pa.Buffer | None:
            descriptor = flight.FlightDescriptor.for_command(command)
            writer, answer = flight_call.client.do_put(descriptor, rows.schema, flight_call.options)
            try:
                total = rows.num_rows if isinstance(rows, pa.Table) else None
                for piece in progress.with_bar(pieces(), op, total) if self._shows_progress() else pieces():
                    writer.write_batch(piece)
                flight_call.check()
                writer.done_writing()
                reply = answer.read()
                writer.close()
                return reply
            except BaseException:
                with contextlib.suppress(pa.ArrowException, OSError):  # the connection may be broken
                    writer.write_metadata(_ABANDONED)  # without this, the server would commit the rows received so far
                writer.close()  # raises the server's error, if there is one
                raise

        flight_call: Call

        def attempt() -> pa.Buffer | None:
            nonlocal flight_call
            with self._call(op, timeout, advice_if_unknown) as flight_call:
                return flight_call.wait(send)

        try:
            reply = self._repeat(attempt, is_idempotent) if isinstance(rows, pa.Table) else attempt()
        except Error:
            if failed:  # the source of the rows failed
                raise failed[0] from None
            raise
        if reply is None:
            raise failure(Error, op, self.url, "the server did not answer")
        return cast("dict[str, Any]", json.loads(reply.to_pybytes()))

    def put_many(
        self, tables: Mapping[str, Data], /, mode: Mode = "error", bucket: str = "", **options: Any
    ) -> dict[str, int]:
        """Calls put() for several tables concurrently, with the same mode and options. tables maps names to rows.
        Returns the version of each table, by name. After an error, no further put starts; finished puts are not
        undone."""
        return _call_each(tables, lambda name: self.put(name, tables[name], mode, bucket, **options))

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

    def get(self, name: str, bucket: str = "", *, as_: As = "pandas", **scan_options: Unpack[Read]) -> Any:
        """Returns the rows of a table as a pandas or polars DataFrame, or as a pyarrow Table. It takes the options of
        scan() to select rows and columns. For pandas, the index is always included, and a table that was put as a
        Series comes back as a Series."""
        arguments.check_options("get", scan_options, Read)
        return from_arrow(
            self._repeat(lambda: self.scan(name, bucket, index=as_ == "pandas", **scan_options).read_all()), as_
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

    def get_many(
        self, names: Iterable[str], bucket: str = "", *, as_: As = "pandas", **scan_options: Unpack[Read]
    ) -> Any:
        """Calls get() for several tables, a few at a time, with the same options. Returns the results, by name."""
        return _call_each(
            arguments.names(names, "names"), lambda name: self.get(name, bucket, as_=cast(Any, as_), **scan_options)
        )

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

        columns names the columns to read. where selects rows: a string such as "price > 100", or a list of (column,
        operator, value), as in pyarrow; times without a zone are in UTC. limit is the number of rows to read from the
        start, and last is the number to read from the end. part reads one part of the table; describe() returns how
        many parts there are. version, at or snapshot selects an earlier state. If index is true, the columns of a
        pandas index are always read.

        To stop early, delete all references to the reader: close() alone does not end the call on the server.
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
        """Returns the rows that changed between an earlier state of a table and its current state, or another state
        that version, at or snapshot selects. A row that was added and removed in between does not appear.

        The earlier state is selected by since, a version or a time, or by since_snapshot, the name of a snapshot.
        Without them, all rows are inserts. The column _change is "insert", "delete", "update_before" or "update_after".
        The columns in keys identify rows, so that updates can be recognized; the default is the table's time and key
        columns.

        To get the next changes, pass the result's version as since, and its uuid. changes() raises NotFound if the
        version has expired, or if the table was created again: then start again without since and uuid.
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
        rows = self._repeat(lambda: self._rows(call, f"changes of {name!r}", timeout).read_all())
        metadata = rows.schema.metadata or {}
        if b"partd.version" not in metadata:  # an older server sends all rows
            raise NotImplementedError("the server does not support changes: upgrade the server")
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
        """Yields the changes since an earlier state of a table, as changes() returns them, and then each later change.
        every is the number of seconds between two looks at the table; reading changes moves small appends into files.
        The iterator ends only with an error, such as NotFound if a version that was not read has expired. To continue
        later, pass the version and uuid of the last changes.

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

    def scan_polars(
        self, name: str, bucket: str = "", *, where: str | filtering.Filters | None = None, **selection: Unpack[State]
    ) -> polars.LazyFrame:
        """Returns a polars LazyFrame of a table. Each collect() reads the table again. The server applies the query's
        filters, and sends only the columns that the query needs."""
        from . import lazy

        return lazy.scan_polars(self._source(name, bucket, where, selection))

    def sink_polars(
        self, /, name: str, lazyframe: polars.LazyFrame, mode: Mode = "error", bucket: str = "", **options: Any
    ) -> int:
        """Runs a polars query, and writes its rows to a table as they are computed. So they can be larger than memory.
        Either all rows appear, or none does. mode, bucket, the options and the result are those of put()."""
        from . import bulk

        if type(lazyframe).__name__ != "LazyFrame":
            raise Misuse(
                f"sink_polars {name!r}: the rows have type {type(lazyframe).__name__}: pass a LazyFrame, or call put()"
            )
        return self.put(name, bulk.reader(lazyframe), mode, bucket, **options)

    def dataset(
        self, name: str, bucket: str = "", *, where: str | filtering.Filters | None = None, **selection: Unpack[State]
    ) -> pyarrow.dataset.Dataset:
        """Returns a pyarrow dataset of a table, which DuckDB can query. Each scanner() reads the table again. The
        server applies the query's filters, and sends only the columns that the query needs."""
        from . import lazy

        return lazy.Dataset(self._source(name, bucket, where, selection))

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

    @overload
    def sql(
        self,
        statement: str,
        bucket: str = "",
        *,
        id: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> int: ...

    @overload
    def sql(
        self, statement: str, bucket: str = "", *, as_: Literal["pandas"] = "pandas", **query: Unpack[Query]
    ) -> pandas.DataFrame: ...

    @overload
    def sql(
        self, statement: str, bucket: str = "", *, as_: Literal["polars"], **query: Unpack[Query]
    ) -> polars.DataFrame: ...

    @overload
    def sql(self, statement: str, bucket: str = "", *, as_: Literal["arrow"], **query: Unpack[Query]) -> pa.Table: ...

    def sql(
        self,
        statement: str,
        bucket: str = "",
        *,
        as_: As = "pandas",
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        id: str = "",
        version: int | None = None,
        at: Time | None = None,
        snapshot: str = "",
        since: int | Time | None = None,
        since_snapshot: str = "",
        timeout: float | None = None,
    ) -> Any:
        """Runs an SQL statement. Returns the rows of a SELECT, or the number of rows that an INSERT, UPDATE, DELETE or
        MERGE changed.

        bucket is the bucket of the tables that the statement names without a bucket. Write a table in another bucket as
        "bucket"."table". params has the values of the statement's parameters: a sequence for ? or $1, or a mapping for
        $name. as_ chooses the type of the rows. version, at or snapshot selects the state of all tables. If since or
        since_snapshot selects an earlier state, changes."bucket"."table" has the rows that changes() returns, and
        before."bucket"."table" is the table in the earlier state.

        A statement that writes can be repeated if it has an id: if it was already applied with this id, it changes
        nothing, and returns the same number again. Use a new id for each statement. DROP, ALTER and CREATE SCHEMA
        ignore the id.
        """
        call = {
            "sql": statement,
            "bucket": bucket,
            "write_id": id,
            **state(version, at, snapshot),
            **since_state(since, since_snapshot),
        }
        if params is not None and (row := arguments.parameters(params)):
            call["parameters"] = row
        ticket = _protobuf_field(1, _STATEMENT) + _protobuf_field(2, _protobuf_field(1, to_json(call, "sql")))
        advice_if_unknown = (REPEAT_ID if id else CHECK) if _MAY_WRITE.search(statement) else ""
        rows = self._repeat(
            lambda: self._rows(ticket, "sql", timeout, None, advice_if_unknown, bool(id)).read_all(), bool(id)
        )
        if _CHANGED_ROWS in (rows.schema.metadata or ()):
            return rows[0][0].as_py()
        return from_arrow(rows, as_)

    def list(
        self,
        bucket: str = "",
        pattern: str = "",
        *,
        metadata: Mapping[str, Any] | None = None,
        snapshot: str = "",
        timeout: float | None = None,
    ) -> Names:
        """Returns the names of a bucket's tables, sorted. pattern, such as "AA*", metadata (keys with their values) and
        snapshot restrict the tables; without them, it returns all names."""
        filter_ = {"Pattern": pattern, "Metadata": metadata, "Snapshot": snapshot}
        return [table["Name"] for table in self._ask("partd.tables", timeout, bucket=bucket, filter=filter_)]

    def describe(
        self,
        name: str,
        bucket: str = "",
        *,
        version: int | None = None,
        at: Time | None = None,
        snapshot: str = "",
        timeout: float | None = None,
    ) -> Described:
        """Returns a dict that describes a table: "schema" is a pyarrow schema, "parts" the number of parts that scan()
        can read separately, and "Rows", "Bytes", "Files", "Version", "Updated" and "Metadata" describe its state.
        "RowsExact": False is added if "Rows" is only a maximum, because other programs deleted some of the rows."""
        (answer,) = self._ask("partd.describe", timeout, bucket=bucket, name=name, **state(version, at, snapshot))
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(answer["schema"])))
        return cast(Described, {**answer["info"], "parts": answer["parts"], "schema": schema})

    def versions(self, name: str, bucket: str = "", *, timeout: float | None = None) -> Versions:
        """Returns the readable versions of a table, oldest first. All small appends that are not yet in data files
        count as one version."""
        (entries,) = self._ask("partd.versions", timeout, bucket=bucket, name=name)
        return [
            Version(
                entry["Version"],
                time_of(entry["Time"]),
                entry["Operation"],
                entry["Rows"],
                entry["Current"],
                entry.get("RowsExact", True),
            )
            for entry in entries or ()
        ]

    def delete(self, *names: str, bucket: str = "", timeout: float | None = None) -> None:
        """Deletes tables in a bucket. If one of them does not exist, it raises NotFound, and deletes none."""
        self._ask("partd.delete", timeout, bucket=bucket, names=arguments.names(names, "delete"))

    def buckets(self, *, timeout: float | None = None) -> Names:
        """Returns the names of the buckets, except the default bucket ""."""
        return [name for name in self._ask("partd.buckets", timeout) if name]

    def delete_bucket(self, name: str, *, tables: bool = False, timeout: float | None = None) -> None:
        """Deletes a bucket. If the bucket contains tables, the call fails, unless tables=True, which deletes them
        too."""
        self._ask("delete_bucket", timeout, name=name, mode="delete" if tables else "error")

    def resample(
        self,
        source: str,
        target: str,
        rule: str = "",
        time_col: str = "",
        how: Functions = "mean",
        *,
        columns: str | Sequence[str] | None = None,
        by: str | Sequence[str] | None = None,
        sql: str = "",
        mode: Mode = "append",
        bucket: str = "",
        target_bucket: str | None = None,
        timeout: float | None = None,
    ) -> tuple[int, int]:
        """Aggregates the rows of the source table in bins of time, and writes the result to the target table. If sql is
        given, the rows of that SELECT statement are written instead. Returns how many rows it read (0 for a SELECT) and
        wrote.

        rule is the length of a bin as a pandas offset, such as "5min". time_col names the time column. how is one or
        several functions, such as "mean" or "first(open),max(high)", or a dict from columns to functions, such as
        {"open": "first", "high": "max"}. columns names the columns to aggregate, by default all; it cannot be combined
        with functions that name a column, such as "max(high)". by names the columns to group by; the default is the
        table's keys, and [] means no grouping. mode is as in put(). target_bucket is the target's bucket; the default
        is the source's.
        """
        call: dict[str, Any] = {"SQL": sql} if sql else _resample_body(rule, time_col, how, columns, by)
        target_ = {"Bucket": bucket if target_bucket is None else target_bucket, "Name": target}
        source_ = {"Bucket": bucket, "Name": source}
        (reply,) = self._ask("partd.resample", timeout, Source=source_, Target=target_, Mode=MODES.index(mode), **call)
        return reply["SourceRows"], reply["TargetRows"]

    @overload
    def resampled(
        self,
        source: str,
        rule: str,
        time_col: str,
        how: Functions = "mean",
        *,
        as_: Literal["pandas"] = "pandas",
        **selection: Unpack[Resampled],
    ) -> pandas.DataFrame: ...

    @overload
    def resampled(
        self,
        source: str,
        rule: str,
        time_col: str,
        how: Functions = "mean",
        *,
        as_: Literal["polars"],
        **selection: Unpack[Resampled],
    ) -> polars.DataFrame: ...

    @overload
    def resampled(
        self,
        source: str,
        rule: str,
        time_col: str,
        how: Functions = "mean",
        *,
        as_: Literal["arrow"],
        **selection: Unpack[Resampled],
    ) -> pa.Table: ...

    def resampled(
        self,
        source: str,
        rule: str,
        time_col: str,
        how: Functions = "mean",
        *,
        as_: As = "pandas",
        columns: str | Sequence[str] | None = None,
        by: str | Sequence[str] | None = None,
        bucket: str = "",
        timeout: float | None = None,
    ) -> Any:
        """Returns the rows that resample() would write to a table. It takes the same arguments."""
        call = {
            "partd": "resample",
            "Source": {"Bucket": bucket, "Name": source},
            **_resample_body(rule, time_col, how, columns, by),
        }
        return from_arrow(self._repeat(lambda: self._rows(call, f"resample {source!r}", timeout).read_all()), as_)

    def combine(
        self,
        sources: Sequence[str | tuple[str, str]],
        target: str,
        how: str = "union",
        on: str | Sequence[str] = (),
        *,
        mode: Mode = "error",
        bucket: str = "",
        timeout: float | None = None,
    ) -> tuple[int, int]:
        """Writes the rows of several tables to the table target. If how is "union", it concatenates them. If how is
        "join", it joins them on the columns named by the argument on. A source in another bucket is given as
        (bucket, name). mode is as in put(). Returns how many rows it read and wrote."""
        qualified = [
            (bucket, source) if isinstance(source, str) else source
            for source in ([sources] if isinstance(sources, str) else sources)
        ]
        (reply,) = self._ask(
            "partd.combine",
            timeout,
            Sources=[{"Bucket": source_bucket, "Name": name} for source_bucket, name in qualified],
            How=how,
            On=arguments.names(on, "on"),
            Mode=MODES.index(mode),
            Target={"Bucket": bucket, "Name": target},
        )
        return reply["SourceRows"], reply["TargetRows"]


class Table(Shown):
    """A handle to the current state of a table, or to an earlier one. The table need not exist. The methods are those
    of Tables, without the arguments for the table and its state.

        trades = tables.table("trades", version=3)
        frame = trades.get(columns=["time", "price"])

    Libraries that import Arrow streams, such as polars, pandas 3 and DuckDB, can read it directly.
    """

    def __init__(self, tables: Tables, name: str, bucket: str = "", **selection: Unpack[State]):
        self.tables, self.name, self.bucket, self.state = tables, name, bucket, selection

    if not TYPE_CHECKING:  # or else type checkers would accept all names

        def __getattr__(self, name: str) -> Any:
            raise arguments.no_attribute(self, name)

    def _summary(self) -> Summary:
        label = f"Table {'/'.join(filter(None, (self.bucket, self.name)))}"
        try:
            found = self.tables.describe(self.name, self.bucket, timeout=5.0, **self.state)
        except Error as error:
            return f"{label}: {error}", (), ()
        columns = [(field.name, field.type) for field in found["schema"]]
        rows, version = row_count(found), found["Version"]
        title = f"{label}: {rows} rows, {len(columns)} columns, {size(found['Bytes'])}, version {version}"
        return title, ("column", "type"), columns

    def __len__(self) -> int:
        found = self.describe()
        if found.get("RowsExact", True):
            return found["Rows"]
        return sum(batch.num_rows for batch in self.scan(columns=found["schema"].names[:1]))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.scan().__arrow_c_stream__(requested_schema)

    @property
    def schema(self) -> pa.Schema:
        return self.describe()["schema"]

    def describe(self) -> Described:
        return self.tables.describe(self.name, self.bucket, **self.state)

    def versions(self) -> list[Version]:
        return self.tables.versions(self.name, self.bucket)

    def put(self, data: Data, mode: Mode = "error", **options: Any) -> int:
        return self.tables.put(self.name, data, mode, self.bucket, **options)

    def replace_range(self, data: Data, start: Time | None = None, end: Time | None = None, **options: Any) -> Replaced:
        return self.tables.replace_range(self.name, data, start, end, self.bucket, **options)

    @overload
    def get(self, *, as_: Literal["pandas"] = "pandas", **scan_options: Unpack[Read]) -> pandas.DataFrame: ...

    @overload
    def get(self, *, as_: Literal["polars"], **scan_options: Unpack[Read]) -> polars.DataFrame: ...

    @overload
    def get(self, *, as_: Literal["arrow"], **scan_options: Unpack[Read]) -> pa.Table: ...

    def get(self, *, as_: As = "pandas", **scan_options: Unpack[Read]) -> Any:
        options: Any = {**self.state, **scan_options, "as_": as_}
        return self.tables.get(self.name, self.bucket, **options)

    def scan(self, **scan_options: Unpack[Read]) -> pa.RecordBatchReader:
        options: Any = {**self.state, **scan_options}
        return self.tables.scan(self.name, self.bucket, **options)

    def changes(self, *, as_: As = "pandas", **since: Unpack[Since]) -> Changes:
        options: Any = {**self.state, **since, "as_": as_}
        return self.tables.changes(self.name, self.bucket, **options)

    def follow(self, *, every: float = 10, as_: As = "pandas", **since: Unpack[Since]) -> Iterator[Changes]:
        if self.state:
            raise Misuse("follow() reads the newest versions: call it for a table without a version")
        options: Any = {**since, "as_": as_, "every": every}
        return self.tables.follow(self.name, self.bucket, **options)

    def scan_polars(self) -> polars.LazyFrame:
        return self.tables.scan_polars(self.name, self.bucket, **self.state)

    def sink_polars(self, lazyframe: polars.LazyFrame, mode: Mode = "error", **options: Any) -> int:
        return self.tables.sink_polars(self.name, lazyframe, mode, self.bucket, **options)

    def dataset(self) -> pyarrow.dataset.Dataset:
        return self.tables.dataset(self.name, self.bucket, **self.state)


def _resample_body(
    rule: str, time_col: str, how: Functions, columns: str | Sequence[str] | None, by: str | Sequence[str] | None
) -> dict[str, Any]:
    """Returns the fields that select the aggregates in a resample request."""
    column_lists = {
        key: None if value is None else arguments.names(value, key.lower())
        for key, value in (("Columns", columns), ("By", by))
    }
    return {"Rule": rule, "TimeColumn": time_col, "Functions": _function_calls(how), **column_lists}


def _function_calls(how: Functions) -> list[str]:
    """Returns the functions in a resample request. A dict works as in pandas: {"high": "max", "price": ["first",
    "last"]}."""
    calls = []
    for column, names in how.items() if isinstance(how, Mapping) else [(None, how)]:
        for name in [names] if isinstance(names, str) or not isinstance(names, Iterable) else names:
            if not isinstance(name, str):
                place = "" if column is None else f" for column {column!r}"
                raise Misuse(
                    f"how: {name!r:.80}{place} has type {type(name).__name__}: pass a function's name, such as 'mean'"
                )
            calls += [call if column is None else f"{call}({column})" for call in _split_calls(name)]
    return calls


def _split_calls(text: str) -> list[str]:
    """Splits "first(open),max(high)" at its commas, but not at commas in a column's name."""
    calls, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth <= 0:
            calls.append("")
        else:
            calls[-1] += character
    return [call.strip() for call in calls]


def _call_each(names: Iterable[str], call: Callable[[str], T]) -> dict[str, T]:
    """Returns the result of call for each name. A few calls run concurrently. After an error, no further call
    starts."""
    all_names = list(names)
    pool = concurrent.futures.ThreadPoolExecutor(_CONCURRENT, "partd-tables")
    try:
        return dict(zip(all_names, pool.map(call, all_names)))
    finally:
        pool.shutdown(cancel_futures=True)


def _protobuf_field(number: int, value: bytes) -> bytes:
    """Returns a field of bytes for a protobuf message."""
    size, encoded_size = len(value), b""
    while size > 0x7F:
        encoded_size += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + encoded_size + bytes([size]) + value


def connect(
    url_or_dir: str | os.PathLike[str],
    token: str | None = None,
    tls_ca: str | None = None,
    *,
    flags: tuple[str, ...] = (),
    memory: int | str | None = None,
    read_only: bool = False,
    timeout: float | None = None,
    start_timeout: float = START_TIMEOUT,
    catalog: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Tables:
    """Opens tables on a server, in a directory or in a cloud bucket: connect("data"), or connect("grpc://host:8815",
    token="…").

    url_or_dir is a server's URL, grpc://HOST:PORT or grpc+tls://HOST:PORT; a directory; or s3://BUCKET/PREFIX or
    gs://BUCKET/PREFIX. For a directory or a bucket, connect starts a server on a socket that only this user can open.
    All of this user's clients on this machine share a directory's server, which stops when the last one closes. If the
    server was killed, the next call starts it again.

    token authenticates this client to a server. tls_ca is a PEM file, or its text, with the certificate authorities to
    trust for the server's certificate; the default is the system's. timeout limits each call, in seconds; None means no
    limit. progress says whether long puts, gets and scans show a bar, if tqdm is installed; by default, they do in a
    terminal or a notebook.

    The other arguments are only for a directory or a bucket. memory limits the server's memory, as "8GiB" or in bytes;
    the default is a quarter of the machine's memory. read_only opens the tables in their current state, and changes
    nothing in the directory; it is the default if this user cannot write there. start_timeout limits how long the
    server may take to start, in seconds. flags are more flags for `partd-tables serve`. catalog is where the list of
    tables and their current versions is kept: a directory on this machine, or postgres://HOST/DATABASE. For tables in a
    directory, the default is that directory; for a bucket, catalog is required.
    """
    location = location_of(url_or_dir)
    check_not_forked(location)
    scheme = urllib.parse.urlsplit(location).scheme if "://" in location else ""
    if scheme not in ("", "s3", "gs") and not scheme.startswith("grpc"):
        raise Misuse(f"{location} is neither a server's nor a bucket's URL: see help(connect)")
    if scheme.startswith("grpc"):
        if flags or memory is not None or read_only or catalog is not None:
            raise Misuse(
                f"flags, memory, read_only and catalog do not apply to the server {location}: pass them only with a "
                "directory or a bucket"
            )
        return Tables(location, token=token, tls_ca=tls_ca, timeout=timeout, progress=progress)
    catalog_flags = () if catalog is None else ("--catalog", location_of(catalog))
    server = open_server(location, (*server_flags(memory, read_only), *catalog_flags, *flags), start_timeout)
    return Tables(server.url, server=server, timeout=timeout, progress=progress)

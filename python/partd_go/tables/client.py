"""The client of a table server."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import json
import os
import re
import urllib.parse
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast, overload

import pyarrow as pa
import pyarrow.flight as flight

from ..errors import Error, Misuse, failure
from ..frames import As, from_arrow, index_of, to_arrow, to_stream
from ..server import START_TIMEOUT
from ..shown import Summary, Shown, size
from . import arguments, files, progress
from . import filters as filtering
from .calls import Call, to_json
from .connection import check_not_forked
from .errors import CHECK, REPEAT, REPEAT_ID, MissingColumns, NotFound
from .operations import Operations
from .results import (
    MODES, Changes, Data, Described, Mode, Query, Read, Replaced, Resampled, Since, State, Time, Version, moment, since_state, state,
    time_of,
)  # fmt: skip
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
_CONCURRENT = 4  # concurrent calls of get_many and put_many: as many as a server permits for a connection
_REPR_TIMEOUT = 5.0  # timeout of each call that __repr__ makes, in seconds
_MAY_WRITE = re.compile(r"\b(insert|update|delete|merge|truncate|create|alter|drop)\b", re.I)  # also matches some statements that only read
_CHANGED_ROWS = b"partd.changed_rows"  # metadata key of the answer to a statement that writes
_STATEMENT = b"type.googleapis.com/arrow.flight.protocol.sql.TicketStatementQuery"


class Tables(Operations, Shown):
    """The tables at a server. Several threads may use it until close().

    A bucket is a namespace of tables; by default, tables are in the bucket "". timeout limits each call, in seconds,
    unless the call has its own timeout. Ctrl-C ends a call within a second.
    """

    def __enter__(self) -> Tables:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getitem__(self, name: str) -> Table:
        return self.table(name)

    def __iter__(self) -> Iterator[str]:
        """Yields the names of the tables that are in no bucket."""
        return iter(self.list())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self.list(pattern=re.sub(r"([][*?\\])", r"\\\1", name))

    def __len__(self) -> int:
        return len(self.list())

    def __bool__(self) -> bool:
        return True  # a connection, even to no tables

    def _ipython_key_completions_(self) -> Names:
        return self.list()

    def table(self, name: str, bucket: str = "", **selection: Unpack[State]) -> Table:
        """Returns a handle to the current state of a table, or to an earlier one. tables["trades"] is short for table("trades")."""
        arguments.text(name, "name")
        return Table(self, name, arguments.text(bucket, "bucket"), **selection)

    def _summary(self) -> Summary:
        location = self._server.directory if self._server else self.url
        try:
            buckets = sorted(self._ask("partd.buckets", _REPR_TIMEOUT))
            tables = [table for bucket in buckets[:_CONCURRENT] for table in self._ask("partd.tables", _REPR_TIMEOUT, bucket=bucket, filter={})]
        except Error as error:
            return f"Tables at {location}: {error}", (), ()
        rows = [("/".join(filter(None, (table["Bucket"], table["Name"]))), table["Rows"], size(table["Bytes"])) for table in tables]
        more = f", and {len(buckets) - _CONCURRENT} more buckets" if len(buckets) > _CONCURRENT else ""
        return f"Tables at {location}: {len(tables)} tables{more}", ("name", "rows", "size"), rows

    def put(
        self, name: str, data: Data, mode: Mode = "error", bucket: str = "", *, id: str = "",
        metadata: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None, upsert: str | Sequence[str] | None = None,
        null_keys: bool = False, missing: Missing = "warn", timeout: float | None = None,
    ) -> int:  # fmt: skip
        """Puts a table as one atomic change, and returns the version that contains it. A RecordBatchReader, or another source of
        batches, is sent batch by batch. A path names a file: .parquet, .arrow, .csv with a header line, or .jsonl.

        If the table exists, mode "error" raises Exists, "append" adds the rows, and "replace" replaces all rows.
        upsert names key columns and is used instead of mode: rows with the key of an existing row replace that row, and
        other rows are appended. A null in a key is an error, unless null_keys is true: then nulls are equal. If a put has the id of an earlier put that was applied, it changes nothing.
        settings apply to a new table, for example {"time": "when", "on_duplicate": "keep_last"}. If appended rows lack
        columns of the table, the columns are null, and missing ("warn", "error" or "ignore") says how to report this.
        """
        arguments.text(name, "name")
        if mode not in MODES:
            raise Misuse(f"mode {mode!r}: write one of {', '.join(MODES)}")
        if missing not in ("warn", "error", "ignore"):
            raise Misuse(f"missing={missing!r}: write 'warn', 'error' or 'ignore'")
        call: dict[str, Any] = {"partd": "put", "bucket": bucket, "name": name, "mode": MODES.index(mode), "id": id}
        call["whole"] = (mode == "append" or upsert is not None) and missing == "error"
        if upsert is not None:
            if mode == "replace" or id or metadata is not None or settings is not None:
                raise Misuse(f"put {name!r}: an upsert has no mode, id, metadata or settings: leave these out (repeating an upsert needs no id)")
            call["upsert"] = {"keys": arguments.names(upsert, "upsert"), "null_keys": null_keys}
        call.update({key: value for key, value in (("metadata", metadata), ("settings", settings)) if value is not None})
        if_unknown = REPEAT if upsert is not None else REPEAT_ID if id else f"{CHECK}; with id=, a put can be repeated"
        is_upsert = upsert is not None
        result = self._send_rows(
            f"put {name!r}", call, data, timeout, if_unknown, is_typed=is_upsert or mode == "append", changes_once=is_upsert or bool(id)
        )
        if missing == "warn" and result.get("lacks"):
            warnings.warn(f"put {name!r}: the rows lack columns of the table, which become null: {result['lacks']}", MissingColumns, stacklevel=2)
        return int(result["version"])

    def replace_range(
        self, name: str, data: Data, start: Time | None = None, end: Time | None = None, bucket: str = "", *, time_col: str = "",
        timeout: float | None = None,
    ) -> Replaced:  # fmt: skip
        """Replaces the rows of a table at or after start and before end with other rows, as one atomic change. None as start or
        end means that the range has no limit there. A row outside the range is an error. time_col is the time column, by default that
        of the table's settings, or the first column with times. Times without a zone are in UTC."""
        if start is None and end is None:
            raise Misuse("replace_range: pass start, end or both; put with mode=\"replace\" replaces all rows")
        limits = {key: moment(limit) for key, limit in (("from", start), ("to", end)) if limit is not None}
        call = {"partd": "put", "bucket": bucket, "name": arguments.text(name, "name"), "mode": 0, "range": {**limits, "time_column": time_col}}
        result = self._send_rows(f"replace a range of {name!r}", call, data, timeout, REPEAT, is_typed=True, changes_once=True)
        return Replaced(result["version"], result["deleted"], result["written"])

    def _send_rows(
        self, op: str, call: dict[str, Any], data: Data, timeout: float | None, if_unknown: str, *, is_typed: bool, changes_once: bool
    ) -> dict[str, Any]:
        """Sends rows with the command call of a put, and returns the server's answer. If is_typed is true, a text file is read with the
        types of the table's columns. For if_unknown see convert_error, and for changes_once see _repeat."""
        if isinstance(data, (str, os.PathLike)):
            table_schema = None
            with contextlib.suppress(NotFound):
                table_schema = self.describe(call["name"], call["bucket"])["schema"] if is_typed else None
            data = files.reader(data, table_schema)
        rows = to_stream(data)
        if not rows.schema.names:
            raise Misuse(f"{op}: the table has no columns: pass at least one, or an index with a name")
        command = to_json(call, op)
        failed: Errors = []
        def pieces() -> Iterator[pa.RecordBatch]:
            try:
                for piece in [rows] if isinstance(rows, pa.Table) else map(to_arrow, rows):
                    for batch in piece.to_batches(max(1, piece.num_rows * _MESSAGE_BYTES // max(_MESSAGE_BYTES, piece.nbytes))):
                        flight_call.check()
                        yield batch
            except GeneratorExit:  # the source of the rows did not fail: send stopped reading, because the server rejected the rows
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
                with contextlib.suppress(pa.ArrowException, OSError):
                    writer.write_metadata(_ABANDONED)  # otherwise the server would commit the rows so far
                writer.close()  # raises the server's error, if there is one
                raise

        flight_call: Call

        def attempt() -> pa.Buffer | None:
            nonlocal flight_call
            with self._call(op, timeout, if_unknown) as flight_call:
                return flight_call.wait(send)

        try:
            reply = self._repeat(attempt, changes_once) if isinstance(rows, pa.Table) else attempt()
        except Error:
            if failed:  # the source of the rows failed
                raise failed[0] from None
            raise
        if reply is None:
            raise failure(Error, op, self.url, "the server did not answer")
        return cast("dict[str, Any]", json.loads(reply.to_pybytes()))

    def put_many(self, tables: Mapping[str, Data], /, mode: Mode = "error", bucket: str = "", **options: Any) -> dict[str, int]:
        """Calls put() with the options for several tables concurrently, and returns the versions by name. After an error,
        no further put starts; puts that have finished remain."""
        return _call_each(tables, lambda name: self.put(name, tables[name], mode, bucket, **options))

    @overload
    def get(self, name: str, bucket: str = "", *, as_: Literal["pandas"] = "pandas", **read: Unpack[Read]) -> pandas.DataFrame: ...

    @overload
    def get(self, name: str, bucket: str = "", *, as_: Literal["polars"], **read: Unpack[Read]) -> polars.DataFrame: ...

    @overload
    def get(self, name: str, bucket: str = "", *, as_: Literal["arrow"], **read: Unpack[Read]) -> pa.Table: ...

    def get(self, name: str, bucket: str = "", *, as_: As = "pandas", **read: Unpack[Read]) -> Any:
        """Returns a table, or a part of it, which the options of scan() select (columns, where, limit and others).

        For pandas, the index is always included, and a table that was put as a Series comes back as a Series.
        """
        return from_arrow(self._repeat(lambda: self.scan(name, bucket, index=as_ == "pandas", **read).read_all()), as_)

    @overload
    def get_many(
        self, names: Iterable[str], bucket: str = "", *, as_: Literal["pandas"] = "pandas", **read: Unpack[Read]
    ) -> dict[str, pandas.DataFrame]: ...

    @overload
    def get_many(
        self, names: Iterable[str], bucket: str = "", *, as_: Literal["polars"], **read: Unpack[Read]
    ) -> dict[str, polars.DataFrame]: ...

    @overload
    def get_many(self, names: Iterable[str], bucket: str = "", *, as_: Literal["arrow"], **read: Unpack[Read]) -> dict[str, pa.Table]: ...

    def get_many(self, names: Iterable[str], bucket: str = "", *, as_: As = "pandas", **read: Unpack[Read]) -> Any:
        """Calls get() for several tables, a few at a time, and returns the results by name."""
        return _call_each(arguments.names(names, "names"), lambda name: self.get(name, bucket, as_=cast(Any, as_), **read))

    def scan(
        self, name: str, bucket: str = "", *, columns: str | Sequence[str] | None = None, where: str | filtering.Filters | None = None,
        limit: int | None = None, last: int | None = None, version: int | None = None, at: Time | None = None, snapshot: str = "",
        part: int = 0, index: bool = False, timeout: float | None = None,
    ) -> pa.RecordBatchReader:  # fmt: skip
        """Returns a reader of a table's batches. By default it reads all rows. where selects rows by a condition. limit is a
        number of rows to read from the start, and last from the end. part selects one part of the table; describe()
        returns the number of parts. version, at and snapshot select an earlier state.

        where is a string such as "price > 100", or a list of (column, operator, value), as in pyarrow. Times without a zone
        are in UTC. The server ends the call when no reference to the reader remains: to stop early, del it, because close()
        does not end the call.
        """
        if limit is not None and last is not None:
            raise Misuse("pass only one of limit and last")
        selection = state(version, at, snapshot)
        call: dict[str, Any] = {"partd": "scan", "bucket": bucket, "name": name, **selection, "part": part, "dictionaries": True}
        call.update({key: arguments.whole(n, key) or 1 for key, n in (("limit", limit), ("last", last)) if n is not None})
        columns = None if columns is None else arguments.names(columns, "columns")
        if (index and columns is not None) or not isinstance(where, (str, type(None))):
            index_columns = index_of(self.describe(name, bucket, version=version, at=at, snapshot=snapshot, timeout=timeout)["schema"])
            columns = [*columns, *(index_columns if index else ())] if columns is not None else None
            where = where if isinstance(where, (str, type(None))) else filtering.text(where, index_columns)
        if columns is not None:
            call["columns"] = list(dict.fromkeys(columns))
        if where:
            call["where"] = where
        reads_all = self._shows_progress() and (where, limit, last, part) == (None, None, None, 0)
        total = self._ask("partd.describe", timeout, bucket=bucket, name=name, **selection)[0]["info"]["Rows"] if reads_all else limit
        rows = self._rows(call, f"get {name!r}", timeout, total)
        return pa.RecordBatchReader.from_batches(rows.schema, []) if 0 in (limit, last) else rows

    def changes(
        self, name: str, bucket: str = "", *, since: int | Time | None = None, since_snapshot: str = "", keys: str | Sequence[str] | None = None,
        uuid: str = "", as_: As = "pandas", version: int | None = None, at: Time | None = None, snapshot: str = "",
        timeout: float | None = None,
    ) -> Changes:  # fmt: skip
        """Returns the rows that changed since a version, a time or a snapshot, as the net difference between two states.
        Without since, all rows are inserts. The column _change is insert, delete, update_before or update_after. keys name
        the columns that identify rows, so that updates are recognized; by default they are the table's time and key columns.

        For the next changes, pass the result's version as since, and its uuid. If the version has expired, or the table was
        created again, the error is NotFound: start again without since and uuid.
        """
        call = {"partd": "changes", "bucket": bucket, "name": name, "uuid": uuid, **state(version, at, snapshot), **since_state(since, since_snapshot)}
        if keys is not None:
            call["keys"] = arguments.names(keys, "keys")
        rows = self._repeat(lambda: self._rows(call, f"changes of {name!r}", timeout).read_all())
        metadata = rows.schema.metadata or {}
        if b"partd.version" not in metadata:  # an older server sends all rows
            raise NotImplementedError("the server does not support changes: upgrade the server")
        return Changes(from_arrow(rows, as_), int(metadata[b"partd.version"]), metadata[b"partd.uuid"].decode())

    def scan_polars(
        self, name: str, bucket: str = "", *, where: str | filtering.Filters | None = None, **selection: Unpack[State]
    ) -> polars.LazyFrame:
        """Returns a polars LazyFrame. Each collect() reads the table again; the server applies the query's filters, and
        sends only the needed columns."""
        from . import lazy

        return lazy.scan_polars(self._source(name, bucket, where, selection))

    def dataset(
        self, name: str, bucket: str = "", *, where: str | filtering.Filters | None = None, **selection: Unpack[State]
    ) -> pyarrow.dataset.Dataset:
        """Returns a pyarrow dataset, which DuckDB can query. Each scanner() reads the table again; the server applies the
        query's filters, and sends only the needed columns."""
        from . import lazy

        return lazy.Dataset(self._source(name, bucket, where, selection))

    def scan_dask(
        self, name: str, bucket: str = "", *, columns: str | Sequence[str] | None = None, where: str | filtering.Filters | None = None,
        **selection: Unpack[State],
    ) -> dask.dataframe.DataFrame:  # fmt: skip
        """Returns a dask DataFrame with a partition for each part of the table. Workers read the parts from the server,
        which sends only the columns that dask needs. The server applies the argument where, but not filters in dask expressions."""
        from . import lazy

        return lazy.scan_dask(self, name, bucket, columns, where, {**selection})

    def _source(self, name: str, bucket: str, where: str | filtering.Filters | None, selection: State) -> lazy.Source:
        from . import lazy

        if not isinstance(where, (str, type(None))):
            where = filtering.text(where, index_of(self.describe(name, bucket, **selection)["schema"]))
        return lazy.Source(self, name, bucket, where, {**selection})

    @overload
    def sql(
        self, statement: str, bucket: str = "", *, id: str, params: Sequence[Any] | Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> int: ...

    @overload
    def sql(self, statement: str, bucket: str = "", *, as_: Literal["pandas"] = "pandas", **query: Unpack[Query]) -> pandas.DataFrame: ...

    @overload
    def sql(self, statement: str, bucket: str = "", *, as_: Literal["polars"], **query: Unpack[Query]) -> polars.DataFrame: ...

    @overload
    def sql(self, statement: str, bucket: str = "", *, as_: Literal["arrow"], **query: Unpack[Query]) -> pa.Table: ...

    def sql(
        self, statement: str, bucket: str = "", *, as_: As = "pandas", params: Sequence[Any] | Mapping[str, Any] | None = None,
        id: str = "", version: int | None = None, at: Time | None = None, snapshot: str = "", since: int | Time | None = None,
        since_snapshot: str = "", timeout: float | None = None,
    ) -> Any:  # fmt: skip
        """Returns the rows of a SELECT over tables of the bucket; "bucket"."table" names tables of other buckets. params is a
        sequence of the values for ? or $1, or a mapping with the values for $name. With since or since_snapshot,
        changes."bucket"."table" has the rows of changes(), and before."bucket"."table" is the table in that state.

        For a statement that writes, such as an UPDATE, it returns the number of rows changed. If the statement was already
        applied with this id, it changes nothing, and returns the same number. Use a new id for each statement. DROP, ALTER
        and CREATE SCHEMA ignore the id.
        """
        call = {"sql": statement, "bucket": bucket, "write_id": id, **state(version, at, snapshot), **since_state(since, since_snapshot)}
        if params is not None:
            call["parameters"] = arguments.parameters(params)
        ticket = _protobuf_field(1, _STATEMENT) + _protobuf_field(2, _protobuf_field(1, to_json(call, "sql")))
        if_unknown = (REPEAT_ID if id else CHECK) if _MAY_WRITE.search(statement) else ""
        rows = self._repeat(lambda: self._rows(ticket, "sql", timeout, None, if_unknown, bool(id)).read_all(), bool(id))
        if _CHANGED_ROWS in (rows.schema.metadata or ()):
            return rows[0][0].as_py()
        return from_arrow(rows, as_)

    def list(
        self, bucket: str = "", pattern: str = "", *, metadata: Mapping[str, Any] | None = None, snapshot: str = "",
        timeout: float | None = None,
    ) -> Names:  # fmt: skip
        """Returns the names of a bucket's tables that match a pattern such as "AA*" and have the metadata."""
        filter_ = {"Pattern": pattern, "Metadata": metadata, "Snapshot": snapshot}
        return [table["Name"] for table in self._ask("partd.tables", timeout, bucket=bucket, filter=filter_)]

    def describe(
        self, name: str, bucket: str = "", *, version: int | None = None, at: Time | None = None, snapshot: str = "",
        timeout: float | None = None,
    ) -> Described:  # fmt: skip
        """Returns a table's schema (pyarrow's), its number of parts, and its Rows, Bytes, Files, Version, Updated
        and Metadata."""
        (answer,) = self._ask("partd.describe", timeout, bucket=bucket, name=name, **state(version, at, snapshot))
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(answer["schema"])))
        return cast(Described, {**answer["info"], "parts": answer["parts"], "schema": schema})

    def versions(self, name: str, bucket: str = "", *, timeout: float | None = None) -> Versions:
        """Returns the versions of a table that can be read, oldest first. Small appends that are not yet in the table's files
        are one version together."""
        (entries,) = self._ask("partd.versions", timeout, bucket=bucket, name=name)
        return [Version(entry["Version"], time_of(entry["Time"]), entry["Operation"], entry["Rows"], entry["Current"]) for entry in entries or ()]

    def delete(self, *names: str, bucket: str = "", timeout: float | None = None) -> None:
        """Deletes tables, or none of them if one is missing."""
        self._ask("partd.delete", timeout, bucket=bucket, names=arguments.names(names, "delete"))

    def buckets(self, *, timeout: float | None = None) -> Names:
        """Returns the names of the buckets, except "", which holds the tables without a bucket."""
        return [name for name in self._ask("partd.buckets", timeout) if name]

    def delete_bucket(self, name: str, *, tables: bool = False, timeout: float | None = None) -> None:
        """Deletes a bucket, which must be empty unless tables is true."""
        self._ask("delete_bucket", timeout, name=name, mode="delete" if tables else "error")

    def resample(
        self, source: str, target: str, rule: str = "", time_col: str = "", how: Functions = "mean", *,
        columns: str | Sequence[str] | None = None, by: str | Sequence[str] | None = None, sql: str = "", mode: Mode = "append", bucket: str = "",
        target_bucket: str | None = None, timeout: float | None = None,
    ) -> tuple[int, int]:  # fmt: skip
        """Puts the aggregates of a table by time bins, or the rows of the SELECT sql, into the table target. rule is the length
        of a bin, a pandas offset such as "5min". how names one or several functions, such as "mean" or "first(open),max(high)", or is a
        dict from columns to functions, such as {"open": "first", "high": "max"}. by names columns by which rows are grouped, by default
        the table's keys; [] means none. It returns the number of source rows (0 for a SELECT) and of rows put."""
        call: dict[str, Any] = {"SQL": sql} if sql else _resample_body(rule, time_col, how, columns, by)
        target_ = {"Bucket": bucket if target_bucket is None else target_bucket, "Name": target}
        source_ = {"Bucket": bucket, "Name": source}
        (reply,) = self._ask("partd.resample", timeout, Source=source_, Target=target_, Mode=MODES.index(mode), **call)
        return reply["SourceRows"], reply["TargetRows"]

    @overload
    def resampled(
        self, source: str, rule: str, time_col: str, how: Functions = "mean", *, as_: Literal["pandas"] = "pandas", **selection: Unpack[Resampled]
    ) -> pandas.DataFrame: ...

    @overload
    def resampled(
        self, source: str, rule: str, time_col: str, how: Functions = "mean", *, as_: Literal["polars"], **selection: Unpack[Resampled]
    ) -> polars.DataFrame: ...

    @overload
    def resampled(
        self, source: str, rule: str, time_col: str, how: Functions = "mean", *, as_: Literal["arrow"], **selection: Unpack[Resampled]
    ) -> pa.Table: ...

    def resampled(
        self, source: str, rule: str, time_col: str, how: Functions = "mean", *, as_: As = "pandas",
        columns: str | Sequence[str] | None = None, by: str | Sequence[str] | None = None, bucket: str = "", timeout: float | None = None,
    ) -> Any:  # fmt: skip
        """Returns the rows that resample() would put, without putting them."""
        call = {"partd": "resample", "Source": {"Bucket": bucket, "Name": source}, **_resample_body(rule, time_col, how, columns, by)}
        return from_arrow(self._repeat(lambda: self._rows(call, f"resample {source!r}", timeout).read_all()), as_)

    def combine(
        self, sources: Sequence[str | tuple[str, str]], target: str, how: str = "union", on: str | Sequence[str] = (), *,
        mode: Mode = "error", bucket: str = "", timeout: float | None = None,
    ) -> tuple[int, int]:  # fmt: skip
        """Puts the concatenated rows of several tables, or their join on columns, into the table target. (bucket, name)
        names a source in another bucket. It returns the number of source rows and of rows put."""
        qualified = [(bucket, source) if isinstance(source, str) else source for source in ([sources] if isinstance(sources, str) else sources)]
        (reply,) = self._ask(
            "partd.combine", timeout, Sources=[{"Bucket": source_bucket, "Name": name} for source_bucket, name in qualified], How=how, On=arguments.names(on, "on"),
            Mode=MODES.index(mode), Target={"Bucket": bucket, "Name": target},
        )  # fmt: skip
        return reply["SourceRows"], reply["TargetRows"]


class Table(Shown):
    """A handle to the current state of a table, or to an earlier one. The table need not exist.

    Libraries that import Arrow streams, such as polars, pandas 3 and DuckDB, can read it directly.
    """

    def __init__(self, tables: Tables, name: str, bucket: str = "", **selection: Unpack[State]):
        self.tables, self.name, self.bucket, self.state = tables, name, bucket, selection

    def _summary(self) -> Summary:
        label = f"Table {'/'.join(filter(None, (self.bucket, self.name)))}"
        try:
            found = self.tables.describe(self.name, self.bucket, timeout=5.0, **self.state)
        except Error as error:
            return f"{label}: {error}", (), ()
        columns = [(field.name, field.type) for field in found["schema"]]
        title = f"{label}: {found['Rows']} rows, {len(columns)} columns, {size(found['Bytes'])}, version {found['Version']}"
        return title, ("column", "type"), columns

    def __len__(self) -> int:
        return self.describe()["Rows"]

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
    def get(self, *, as_: Literal["pandas"] = "pandas", **read: Unpack[Read]) -> pandas.DataFrame: ...

    @overload
    def get(self, *, as_: Literal["polars"], **read: Unpack[Read]) -> polars.DataFrame: ...

    @overload
    def get(self, *, as_: Literal["arrow"], **read: Unpack[Read]) -> pa.Table: ...

    def get(self, *, as_: As = "pandas", **read: Unpack[Read]) -> Any:
        options: Any = {**self.state, **read, "as_": as_}
        return self.tables.get(self.name, self.bucket, **options)

    def scan(self, **read: Unpack[Read]) -> pa.RecordBatchReader:
        options: Any = {**self.state, **read}
        return self.tables.scan(self.name, self.bucket, **options)

    def changes(self, *, as_: As = "pandas", **since: Unpack[Since]) -> Changes:
        options: Any = {**self.state, **since, "as_": as_}
        return self.tables.changes(self.name, self.bucket, **options)

    def scan_polars(self) -> polars.LazyFrame:
        return self.tables.scan_polars(self.name, self.bucket, **self.state)

    def dataset(self) -> pyarrow.dataset.Dataset:
        return self.tables.dataset(self.name, self.bucket, **self.state)


def _resample_body(
    rule: str, time_col: str, how: Functions, columns: str | Sequence[str] | None, by: str | Sequence[str] | None
) -> dict[str, Any]:
    """Returns the fields that select the aggregates in a resample request."""
    named = {key: None if value is None else arguments.names(value, key.lower()) for key, value in (("Columns", columns), ("By", by))}
    return {"Rule": rule, "TimeColumn": time_col, "Functions": _function_calls(how), **named}


def _function_calls(how: Functions) -> list[str]:
    """Returns the functions in a resample request. A dict is as in pandas: {"high": "max", "price": ["first", "last"]}."""
    calls = []
    for column, names in how.items() if isinstance(how, Mapping) else [(None, how)]:
        for name in [names] if isinstance(names, str) or not isinstance(names, Iterable) else names:
            if not isinstance(name, str):
                place = "" if column is None else f" for column {column!r}"
                raise Misuse(f"how: {name!r:.80}{place} is a {type(name).__name__}: pass the name of a function, such as 'mean'")
            calls += [call if column is None else f"{call}({column})" for call in _split_calls(name)]
    return calls


def _split_calls(text: str) -> list[str]:
    """Splits "first(open),max(high)" at its commas, except at those in a column's name."""
    calls, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth <= 0:
            calls.append("")
        else:
            calls[-1] += character
    return [call.strip() for call in calls]


def _call_each(names: Iterable[str], call: Callable[[str], T]) -> dict[str, T]:
    """Returns the result of call for each name, running a few calls concurrently. After an error, no further call starts."""
    all_names = list(names)
    pool = concurrent.futures.ThreadPoolExecutor(_CONCURRENT, "partd-tables")
    try:
        return dict(zip(all_names, pool.map(call, all_names)))
    finally:
        pool.shutdown(cancel_futures=True)


def _protobuf_field(number: int, value: bytes) -> bytes:
    """Returns a field of bytes for a protobuf message."""
    size, length = len(value), b""
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def connect(
    url_or_dir: str | os.PathLike[str], token: str | None = None, tls_ca: str | None = None, *, flags: tuple[str, ...] = (),
    memory: int | str | None = None, read_only: bool = False, timeout: float | None = None, start_timeout: float = START_TIMEOUT,
    catalog: str | os.PathLike[str] | None = None, progress: bool | None = None,
) -> Tables:  # fmt: skip
    """Connects to tables at grpc://HOST:PORT or grpc+tls://HOST:PORT, in a directory, or at s3://BUCKET/PREFIX or
    gs://BUCKET/PREFIX. For a directory or a bucket, it starts a server on a socket that only this user can open. All
    clients of this user on this machine share the server of a directory; it stops when the last one is closed. If it was
    killed, the next call starts it again.

    tls_ca is a PEM file, or its text, with the authorities that may sign the server's certificate (default: the system's).
    timeout limits each call, in seconds (default: no limit). progress shows a bar for long puts, gets and scans if tqdm
    is installed (default: only in a terminal or a notebook).

    For a directory, memory limits its server, as "8GiB" or in bytes (default: a quarter of the machine's memory).
    read_only opens the tables in their current state, and changes nothing in the directory; it is the default if this user
    cannot write there. start_timeout limits the server's start, in seconds. flags are flags of `partd-tables serve`.
    catalog is a directory, or postgres://HOST/DATABASE. Tables in a bucket need one: see docs/warehouses.md of the tables module.
    """
    location = location_of(url_or_dir)
    check_not_forked(location)
    scheme = urllib.parse.urlsplit(location).scheme if "://" in location else ""
    if scheme not in ("", "s3", "gs") and not scheme.startswith("grpc"):
        raise Misuse(f"{location} is neither a server's nor a bucket's URL: see help(connect)")
    if scheme.startswith("grpc"):
        if flags or memory is not None or read_only or catalog is not None:
            raise Misuse(f"flags, memory, read_only and catalog do not apply to the server {location}: pass them only with a directory or a bucket")
        return Tables(location, token=token, tls_ca=tls_ca, timeout=timeout, progress=progress)
    catalog_flags = () if catalog is None else ("--catalog", location_of(catalog))
    server = open_server(location, (*server_flags(memory, read_only), *catalog_flags, *flags), start_timeout)
    return Tables(server.url, server=server, timeout=timeout, progress=progress)

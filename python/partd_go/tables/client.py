"""A client of a server of tables."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import json
import os
import urllib.parse
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast, overload

import pyarrow as pa
import pyarrow.flight as flight

from ..errors import Error, Misuse, failure
from ..frames import As, from_arrow, index_of, to_arrow, to_stream
from ..server import START
from ..shown import Looks, Shown, size
from . import files, progress
from . import filters as filtering
from .connection import Connection, only_here
from .errors import MissingColumns, NotFound
from .results import MODES, Data, Described, Mode, Query, Read, Resampled, State, Time, Version, state, time_of
from .server import Server, own_flags
from .table import Table

if TYPE_CHECKING:
    import dask.dataframe
    import pandas
    import polars
    import pyarrow.dataset
    from typing_extensions import Unpack

    from . import lazy

T = TypeVar("T")
Names: TypeAlias = list[str]  # the class has a method of the name of list
Versions: TypeAlias = list[Version]
Errors: TypeAlias = list[BaseException]
Functions: TypeAlias = "str | Sequence[str]"
Missing = Literal["warn", "error", "ignore"]
_MESSAGE = 4 << 20  # bytes, about, that a message of a put has
_GAVE_UP = b"partd.gave-up"  # the note of a put that is not to be kept
_AT_ONCE = 4  # calls of get_many and put_many at a time, as many as a server gives to a connection
_LOOK = 5.0  # seconds that a repr may take
_STATEMENT = b"type.googleapis.com/arrow.flight.protocol.sql.TicketStatementQuery"


class Tables(Connection, Shown):
    """The tables at a server, until close(). Threads may share it.

    A bucket is a namespace of tables; "" is that of those without one. timeout is what each call may take, in
    seconds, which its own comes before; Ctrl-C ends a call within a second.
    """

    def __enter__(self) -> Tables:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getitem__(self, name: str) -> Table:
        return Table(self, name)

    def table(self, name: str, bucket: str = "", **of: Unpack[State]) -> Table:
        """One table, as it is or as it was; also as tables["trades"]."""
        return Table(self, name, bucket, **of)

    def _looks(self) -> Looks:
        place = self._server.directory if self._server else self.url
        try:
            buckets = sorted(self._ask("partd.buckets", _LOOK))
            known = [table for bucket in buckets[:_AT_ONCE] for table in self._ask("partd.tables", _LOOK, bucket=bucket, filter={})]
        except Error as error:
            return f"Tables at {place}: {error}", (), ()
        rows = [("/".join(filter(None, (table["Bucket"], table["Name"]))), table["Rows"], size(table["Bytes"])) for table in known]
        more = f", and {len(buckets) - _AT_ONCE} more buckets" if len(buckets) > _AT_ONCE else ""
        return f"Tables at {place}: {len(known)} tables{more}", ("name", "rows", "size"), rows

    def put(
        self, name: str, data: Data, mode: Mode = "error", bucket: str = "", *, id: str = "",
        metadata: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None, upsert: Sequence[str] | None = None,
        missing: Missing = "warn", timeout: float | None = None,
    ) -> int:  # fmt: skip
        """Puts a table, all of it or nothing, and returns the table's version. What comes batch by batch, as a
        RecordBatchReader does, is sent so. A path is that of a file: .parquet, .arrow, .csv with a line of names, or .jsonl.

        A name that is there is an error, or the rows are appended, or replace all. With the id of
        a put that was applied nothing changes. settings are the time column and so on of a new table,
        as {"time": "when", "on_duplicate": "keep_last"}. Instead of a mode, upsert names columns: rows
        that are equal in them are replaced. Columns of the table that an append lacks are null in its rows:
        missing is "warn", "error" or "ignore".
        """
        if mode not in MODES:
            raise Misuse(f"mode {mode!r}: write one of {', '.join(MODES)}")
        if missing not in ("warn", "error", "ignore"):
            raise Misuse(f"missing={missing!r}: write 'warn', 'error' or 'ignore'")
        call: dict[str, Any] = {"partd": "put", "bucket": bucket, "name": name, "mode": MODES.index(mode), "id": id}
        call["whole"] = (mode == "append" or upsert is not None) and missing == "error"
        if upsert is not None:
            call["upsert"] = {"keys": list(upsert)}
        call.update({key: value for key, value in (("metadata", metadata), ("settings", settings)) if value is not None})
        if isinstance(data, (str, os.PathLike)):
            known = None
            with contextlib.suppress(NotFound):
                known = self.describe(name, bucket)["schema"] if mode == "append" or upsert is not None else None
            data = files.reader(data, known)
        rows = to_stream(data)
        op = f"put {name!r}"
        failed: Errors = []
        def pieces() -> Iterator[pa.RecordBatch]:
            try:
                for piece in [rows] if isinstance(rows, pa.Table) else map(to_arrow, rows):
                    for batch in piece.to_batches(max(1, piece.num_rows * _MESSAGE // max(_MESSAGE, piece.nbytes))):
                        under.check()
                        yield batch
            except GeneratorExit:  # the server has refused them
                raise
            except BaseException as error:
                failed.append(error)
                raise

        def send() -> pa.Buffer | None:
            descriptor = flight.FlightDescriptor.for_command(json.dumps(call))
            writer, answer = under.client.do_put(descriptor, rows.schema, under.options)
            try:
                total = rows.num_rows if isinstance(rows, pa.Table) else None
                for piece in progress.barred(pieces(), op, total) if self._watched() else pieces():
                    writer.write_batch(piece)
                under.check()
                writer.done_writing()
                done = answer.read()
                writer.close()
                return done
            except BaseException:
                with contextlib.suppress(pa.ArrowException, OSError):
                    writer.write_metadata(_GAVE_UP)  # else the rows so far would be all
                writer.close()  # whose error says more
                raise

        try:
            with self._call(op, timeout, changes=not id) as under:
                done = under.wait(send)
        except Error:
            if failed:  # where the rows come from
                raise failed[0] from None
            raise
        if done is None:
            raise failure(Error, op, self.url, "the server gave no answer")
        told_of = json.loads(done.to_pybytes())
        if missing == "warn" and told_of.get("lacks"):
            warnings.warn(f"{op}: the rows lack columns of the table, which are null in them: {told_of['lacks']}", MissingColumns, stacklevel=2)
        return int(told_of["version"])

    def put_many(self, tables: Mapping[str, Data], /, mode: Mode = "error", bucket: str = "", **options: Any) -> dict[str, int]:
        """Puts tables by their names, a few at a time, as put() does with the options, and returns their versions. Each is put
        whole or not at all; after an error no other one is begun."""
        return _each(tables, lambda name: self.put(name, tables[name], mode, bucket, **options))

    @overload
    def get(self, name: str, bucket: str = "", *, as_: Literal["pandas"] = "pandas", **read: Unpack[Read]) -> pandas.DataFrame: ...

    @overload
    def get(self, name: str, bucket: str = "", *, as_: Literal["polars"], **read: Unpack[Read]) -> polars.DataFrame: ...

    @overload
    def get(self, name: str, bucket: str = "", *, as_: Literal["arrow"], **read: Unpack[Read]) -> pa.Table: ...

    def get(self, name: str, bucket: str = "", *, as_: As = "pandas", **read: Unpack[Read]) -> Any:
        """A table, of whose rows columns, where, limit and the others of scan() choose.

        pandas' index comes with any columns. What was put as a Series of pandas is one again.
        """
        return from_arrow(self.scan(name, bucket, index=as_ == "pandas", **read).read_all(), as_)

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
        """Tables by their names, each as get() returns it, of which a few are read at a time."""
        return _each(names, lambda name: self.get(name, bucket, as_=cast(Any, as_), **read))

    def scan(
        self, name: str, bucket: str = "", *, columns: Sequence[str] | None = None, where: str | filtering.Filters | None = None,
        limit: int | None = None, last: int | None = None, version: int | None = None, at: Time | None = None, snapshot: str = "",
        part: int = 0, index: bool = False, timeout: float | None = None,
    ) -> pa.RecordBatchReader:  # fmt: skip
        """Some columns of the rows for which a filter holds, the first ones, the last ones, or a part of those that
        describe() counts, batch by batch; as they are, or as they were in a version, at a time, or in a snapshot.

        where is a text, as "price > 100", or pyarrow's list of (column, operator, value). A time without a zone is in UTC.
        The server ends the call once nothing refers to the reader any more: del it, rather than close() it, to leave early.
        """
        of = state(version, at, snapshot)
        call: dict[str, Any] = {"partd": "scan", "bucket": bucket, "name": name, **of, "part": part, "dictionaries": True}
        call.update({key: n or 1 for key, n in (("limit", limit), ("last", last)) if n is not None})
        if (index and columns is not None) or not isinstance(where, (str, type(None))):
            named = index_of(self.describe(name, bucket, version=version, at=at, snapshot=snapshot, timeout=timeout)["schema"])
            columns = [*columns, *(named if index else ())] if columns is not None else None
            where = where if isinstance(where, (str, type(None))) else filtering.text([*where], named)
        if columns is not None:
            call["columns"] = list(dict.fromkeys(columns))
        if where:
            call["where"] = where
        whole = self._watched() and (where, limit, last, part) == (None, None, None, 0)
        total = self._ask("partd.describe", timeout, bucket=bucket, name=name, **of)[0]["info"]["Rows"] if whole else limit
        rows = self._rows(json.dumps(call).encode(), f"get {name!r}", timeout, total)
        return pa.RecordBatchReader.from_batches(rows.schema, []) if 0 in (limit, last) else rows

    def scan_polars(
        self, name: str, bucket: str = "", *, where: str | filtering.Filters | None = None, **of: Unpack[State]
    ) -> polars.LazyFrame:
        """A LazyFrame of polars, of whose filters and columns the server is told. Each collect() reads the table anew."""
        from . import lazy

        return lazy.scan_polars(self._source(name, bucket, where, of))

    def dataset(
        self, name: str, bucket: str = "", *, where: str | filtering.Filters | None = None, **of: Unpack[State]
    ) -> pyarrow.dataset.Dataset:
        """A dataset of pyarrow, as DuckDB takes one in its statements: the server is told of filters and columns. Each
        scanner() reads the table anew."""
        from . import lazy

        return lazy.Dataset(self._source(name, bucket, where, of))

    def scan_dask(
        self, name: str, bucket: str = "", *, columns: Sequence[str] | None = None, where: str | filtering.Filters | None = None,
        **of: Unpack[State],
    ) -> dask.dataframe.DataFrame:  # fmt: skip
        """A DataFrame of dask, with a partition for each part of the table, which each worker reads from the server. Columns that
        dask finds that it needs are all that it reads; rows are chosen here."""
        from . import lazy

        return lazy.scan_dask(self, name, bucket, columns, where, {**of})

    def _source(self, name: str, bucket: str, where: str | filtering.Filters | None, of: State) -> lazy.Source:
        from . import lazy

        if not isinstance(where, (str, type(None))):
            where = filtering.text([*where], index_of(self.describe(name, bucket, **of)["schema"]))
        return lazy.Source(self, name, bucket, where, {**of})

    @overload
    def sql(self, statement: str, bucket: str = "", *, as_: Literal["pandas"] = "pandas", **query: Unpack[Query]) -> pandas.DataFrame: ...

    @overload
    def sql(self, statement: str, bucket: str = "", *, as_: Literal["polars"], **query: Unpack[Query]) -> polars.DataFrame: ...

    @overload
    def sql(self, statement: str, bucket: str = "", *, as_: Literal["arrow"], **query: Unpack[Query]) -> pa.Table: ...

    def sql(
        self, statement: str, bucket: str = "", *, as_: As = "pandas", params: Sequence[Any] | Mapping[str, Any] | None = None,
        version: int | None = None, at: Time | None = None, snapshot: str = "", timeout: float | None = None,
    ) -> Any:  # fmt: skip
        """The rows of a SELECT over tables of the bucket, and of others as "bucket"."table". params are what stands
        for ? or $1, in their order, or for $name, by their names."""
        call = {"sql": statement, "bucket": bucket, **state(version, at, snapshot)}
        if params is not None:
            named = params if isinstance(params, Mapping) else {str(at): value for at, value in enumerate(params, 1)}
            row = pa.table({name: pa.array([value]) for name, value in named.items()})
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, row.schema) as writer:
                writer.write_table(row)
            call["parameters"] = base64.b64encode(sink.getvalue()).decode()
        ticket = _field(1, _STATEMENT) + _field(2, _field(1, json.dumps(call).encode()))
        return from_arrow(self._rows(ticket, "sql", timeout).read_all(), as_)

    def list(
        self, bucket: str = "", pattern: str = "", *, metadata: Mapping[str, Any] | None = None, snapshot: str = "",
        timeout: float | None = None,
    ) -> Names:  # fmt: skip
        """The names of a bucket's tables: those that a pattern such as "AA*" matches, with such metadata."""
        chosen = {"Pattern": pattern, "Metadata": metadata, "Snapshot": snapshot}
        return [table["Name"] for table in self._ask("partd.tables", timeout, bucket=bucket, filter=chosen)]

    def describe(
        self, name: str, bucket: str = "", *, version: int | None = None, at: Time | None = None, snapshot: str = "",
        timeout: float | None = None,
    ) -> Described:  # fmt: skip
        """What is known of a table: its schema (pyarrow's), its parts (how many there are), and its
        Rows, Bytes, Files, Version, Updated and Metadata."""
        (answer,) = self._ask("partd.describe", timeout, bucket=bucket, name=name, **state(version, at, snapshot))
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(answer["schema"])))
        return cast(Described, {**answer["info"], "parts": answer["parts"], "schema": schema})

    def versions(self, name: str, bucket: str = "", *, timeout: float | None = None) -> Versions:
        """The versions of a table that there are, oldest first. Rows of small appends are in one once they are folded."""
        (found,) = self._ask("partd.versions", timeout, bucket=bucket, name=name)
        return [Version(of["Version"], time_of(of["Time"]), of["Operation"], of["Rows"], of["Current"]) for of in found or ()]

    def delete(self, *names: str, bucket: str = "", timeout: float | None = None) -> None:
        """Deletes tables: all, or none if one is missing."""
        self._ask("partd.delete", timeout, bucket=bucket, names=names)

    def buckets(self, *, timeout: float | None = None) -> Names:
        """The names of the buckets that have one."""
        return [name for name in self._ask("partd.buckets", timeout) if name]

    def delete_bucket(self, name: str, *, tables: bool = False, timeout: float | None = None) -> None:
        """Deletes a bucket that is empty, or with its tables."""
        self._ask("delete_bucket", timeout, name=name, mode="delete" if tables else "error")

    def resample(
        self, source: str, target: str, rule: str = "", time_col: str = "", how: Functions = "mean", *,
        columns: Sequence[str] | None = None, sql: str = "", mode: Mode = "append", bucket: str = "", target_bucket: str | None = None,
        timeout: float | None = None,
    ) -> tuple[int, int]:  # fmt: skip
        """Puts aggregates of a table by bins of time, of pandas' offsets such as "5min", or the rows of
        a SELECT, into another. It returns how many rows the source has (0 with a SELECT) and were put."""
        call: dict[str, Any] = {"SQL": sql} if sql else _bins(rule, time_col, how, columns)
        to = {"Bucket": bucket if target_bucket is None else target_bucket, "Name": target}
        source_ = {"Bucket": bucket, "Name": source}
        (done,) = self._ask("partd.resample", timeout, Source=source_, Target=to, Mode=MODES.index(mode), **call)
        return done["SourceRows"], done["TargetRows"]

    @overload
    def resampled(
        self, source: str, rule: str, time_col: str, how: Functions = "mean", *, as_: Literal["pandas"] = "pandas", **of: Unpack[Resampled]
    ) -> pandas.DataFrame: ...

    @overload
    def resampled(
        self, source: str, rule: str, time_col: str, how: Functions = "mean", *, as_: Literal["polars"], **of: Unpack[Resampled]
    ) -> polars.DataFrame: ...

    @overload
    def resampled(
        self, source: str, rule: str, time_col: str, how: Functions = "mean", *, as_: Literal["arrow"], **of: Unpack[Resampled]
    ) -> pa.Table: ...

    def resampled(
        self, source: str, rule: str, time_col: str, how: Functions = "mean", *, as_: As = "pandas",
        columns: Sequence[str] | None = None, bucket: str = "", timeout: float | None = None,
    ) -> Any:  # fmt: skip
        """The rows that resample() would put into a table."""
        call = {"partd": "resample", "Source": {"Bucket": bucket, "Name": source}, **_bins(rule, time_col, how, columns)}
        return from_arrow(self._rows(json.dumps(call).encode(), f"resample {source!r}", timeout).read_all(), as_)

    def combine(
        self, sources: Sequence[str | tuple[str, str]], target: str, how: str = "union", on: Sequence[str] = (), *,
        mode: Mode = "error", bucket: str = "", timeout: float | None = None,
    ) -> tuple[int, int]:  # fmt: skip
        """Puts the rows of several tables, below each other or joined on columns, into one. A source of
        another bucket is (bucket, name). It returns how many rows the sources have and were put."""
        named = [(bucket, source) if isinstance(source, str) else source for source in sources]
        (done,) = self._ask(
            "partd.combine", timeout, Sources=[{"Bucket": of, "Name": name} for of, name in named], How=how, On=[*on],
            Mode=MODES.index(mode), Target={"Bucket": bucket, "Name": target},
        )  # fmt: skip
        return done["SourceRows"], done["TargetRows"]


def _bins(rule: str, time_col: str, how: Functions, columns: Sequence[str] | None) -> dict[str, Any]:
    """What the server is told of aggregates by bins of time."""
    return {"Rule": rule, "TimeColumn": time_col, "Functions": [how] if isinstance(how, str) else [*how], "Columns": columns}


def _each(names: Iterable[str], call: Callable[[str], T]) -> dict[str, T]:
    """What call returns for each name, of which a few are under way at a time. None is begun after an error."""
    known = list(names)
    pool = concurrent.futures.ThreadPoolExecutor(_AT_ONCE, "partd-tables")
    try:
        return dict(zip(known, pool.map(call, known)))
    finally:
        pool.shutdown(cancel_futures=True)


def _field(number: int, value: bytes) -> bytes:
    """A field of bytes of a message of protobuf."""
    size, length = len(value), b""
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def connect(
    url_or_dir: str | os.PathLike[str], token: str | None = None, tls_ca: str | None = None, *, flags: tuple[str, ...] = (),
    memory: int | str | None = None, read_only: bool = False, timeout: float | None = None, start_timeout: float = START,
    catalog: str | os.PathLike[str] | None = None, progress: bool | None = None,
) -> Tables:  # fmt: skip
    """The tables at grpc://HOST:PORT or grpc+tls://HOST:PORT; or in a directory, or at s3://BUCKET/PREFIX or gs://BUCKET/PREFIX,
    for which a server is started on a socket that only this user can open, and ends with the client.

    tls_ca is a file in PEM, or its text, with the authorities that the server's certificate may come
    from; without, the system's. timeout is what each call may take, in seconds; without, there is no limit here.
    progress is whether long puts, gets and scans show a bar, where tqdm is installed: in a terminal and a notebook, if nothing is said.

    For a directory, memory is what its server may take, as "8GiB" or in bytes: a quarter of the machine's, without.
    read_only opens the tables as they are now, and changes nothing of the directory; one that this user may not write
    is opened so by itself. The server has start_timeout seconds to be ready. flags are more of `partd-tables serve`.
    catalog is a directory, or postgres://HOST/DATABASE: tables in a bucket need one, as docs/warehouses.md of the module of tables says.
    """
    place = os.fspath(url_or_dir)
    only_here(place)
    scheme = urllib.parse.urlsplit(place).scheme if "://" in place else ""
    if scheme not in ("", "s3", "gs") and not scheme.startswith("grpc"):
        raise Misuse(f"{place} is the address of neither a server nor a bucket: see help(connect)")
    if scheme.startswith("grpc"):
        if flags or memory is not None or read_only or catalog is not None:
            raise Misuse(f"flags, memory, read_only or catalog for {place}: they are only for a directory, whose server is started here")
        return Tables(place, token=token, tls_ca=tls_ca, timeout=timeout, progress=progress)
    more = () if catalog is None else ("--catalog", os.fspath(catalog))
    server = Server(place, flags=(*own_flags(memory, read_only), *more, *flags), start_timeout=start_timeout)
    return Tables(server.url, server=server, timeout=timeout, progress=progress)

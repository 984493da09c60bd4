"""A client of a server of tables, over Arrow Flight."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import urllib.parse
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.flight as flight

from ..errors import Closed, Error, Refused, failure
from ..frames import As, from_arrow, index_of, to_arrow, to_stream
from . import filters as filtering
from .errors import MissingColumns, told
from .server import Server

Names: TypeAlias = list[str]  # the class has a method of the name of list
Answers: TypeAlias = list[Any]
Mode = Literal["error", "append", "replace"]
Missing = Literal["warn", "error", "ignore"]
_MODES = ("error", "append", "replace")
_MESSAGE = 4 << 20  # bytes, about, that a message of a put has
_GAVE_UP = b"partd.gave-up"  # the note of a put that is not to be kept
_user: int | None = None  # the process that gRPC runs in
_LOCAL = ("localhost", "127.0.0.1", "::1")
_STATEMENT = b"type.googleapis.com/arrow.flight.protocol.sql.TicketStatementQuery"


class Tables:
    """The tables at a server, until close(). Threads may share it.

    A bucket is a namespace of tables; "" is that of those without one.
    """

    def __init__(self, url: str, *, token: str | None = None, tls_ca: str | None = None, server: Server | None = None):
        only_here(url)
        parts = urllib.parse.urlsplit(url)
        if token and parts.scheme in ("grpc", "grpc+tcp") and parts.hostname not in _LOCAL:
            raise failure(Refused, "connect", url, "a token without TLS could be read on the way", "write grpc+tls://")
        self.url, self._server = url, server
        if tls_ca and "-----BEGIN" not in tls_ca:
            with open(tls_ca) as file:
                tls_ca = file.read()
        try:
            self._flight = flight.connect(url, tls_root_certs=tls_ca)
        except pa.ArrowException as error:
            raise told(error, "connect", url) from error
        headers = [(b"authorization", b"Bearer " + token.encode())] if token else []
        self._options = flight.FlightCallOptions(headers=headers)
        self._headers = headers
        _connected.add(self)
        self._ended = weakref.finalize(self, _end, self._flight, server, os.getpid())

    def __enter__(self) -> Tables:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def ended(self) -> bool:
        """Reports whether the server that connect() has started is no more, as after a kill."""
        return self._server is not None and self._server.ended()

    def close(self) -> None:
        """Closes the connection. A server that connect() has started writes everything and ends."""
        self._ended()

    def put(
        self, name: str, data: Any, mode: Mode = "error", bucket: str = "", *, id: str = "",
        metadata: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None, upsert: Sequence[str] | None = None,
        missing: Missing = "warn",
    ) -> int:  # fmt: skip
        """Puts a table, all of it or nothing, and returns the table's version. What comes batch by batch, as a
        RecordBatchReader does, is sent so.

        A name that is there is an error, or the rows are appended, or replace all. With the id of
        a put that was applied nothing changes. settings are the time column and so on of a new table,
        as {"time": "when", "on_duplicate": "keep_last"}. Instead of a mode, upsert names columns: rows
        that are equal in them are replaced. Columns of the table that an append lacks are null in its rows:
        missing is "warn", "error" or "ignore".
        """
        if mode not in _MODES:
            raise ValueError(f"mode {mode!r}: write one of {', '.join(_MODES)}")
        if missing not in ("warn", "error", "ignore"):
            raise ValueError(f"missing={missing!r}: write 'warn', 'error' or 'ignore'")
        call: dict[str, Any] = {"partd": "put", "bucket": bucket, "name": name, "mode": _MODES.index(mode), "id": id}
        call["whole"] = mode == "append" and upsert is None and missing == "error"
        if upsert is not None:
            call["upsert"] = {"keys": list(upsert)}
        call.update({key: value for key, value in (("metadata", metadata), ("settings", settings)) if value is not None})
        rows = to_stream(data)
        op = f"put {name!r}"
        try:
            descriptor = flight.FlightDescriptor.for_command(json.dumps(call))
            writer, answer = self._open().do_put(descriptor, rows.schema, self._options)
        except (pa.ArrowException, KeyError, OSError) as error:
            raise told(error, op, self.url) from error
        theirs = True  # what fails is where the rows come from
        try:
            for piece in [rows] if isinstance(rows, pa.Table) else map(to_arrow, rows):
                theirs = False
                writer.write_table(piece, max(1, piece.num_rows * _MESSAGE // max(_MESSAGE, piece.nbytes)))
                theirs = True
            theirs = False
            writer.done_writing()
            done = answer.read()
            writer.close()
        except BaseException as error:
            said: Any = error
            with contextlib.suppress(pa.ArrowException, OSError):
                writer.write_metadata(_GAVE_UP)  # else the rows so far would be all
            try:
                writer.close()
            except (pa.ArrowException, OSError) as why:
                said = why
            if theirs or not isinstance(error, (pa.ArrowException, KeyError, OSError)):
                raise
            raise told(said, op, self.url, changes=not id) from said
        if done is None:
            raise failure(Error, op, self.url, "the server gave no answer")
        told_of = json.loads(done.to_pybytes())
        if missing == "warn" and told_of.get("lacks"):
            warnings.warn(f"{op}: the rows lack columns of the table, which are null in them: {told_of['lacks']}", MissingColumns, stacklevel=2)
        return int(told_of["version"])

    def get(
        self, name: str, bucket: str = "", *, as_: As = "pandas", columns: Sequence[str] | None = None,
        where: str | filtering.Filters | None = None, limit: int | None = None, last: int | None = None, version: int | None = None,
        snapshot: str = "", part: int = 0,
    ) -> Any:  # fmt: skip
        """A table: some columns of the rows for which a filter holds, the first ones, the last ones, or
        a part of those that describe() counts; as it is, or as it was in a version or a snapshot.

        where is a text, as "price > 100", or pyarrow's list of (column, operator, value). pandas' index
        comes with any columns.
        """
        return from_arrow(
            self.scan(
                name, bucket, columns=columns, where=where, limit=limit, last=last, version=version, snapshot=snapshot,
                part=part, index=as_ == "pandas",
            ).read_all(),
            as_,
        )  # fmt: skip

    def scan(
        self, name: str, bucket: str = "", *, columns: Sequence[str] | None = None, where: str | filtering.Filters | None = None,
        limit: int | None = None, last: int | None = None, version: int | None = None, snapshot: str = "", part: int = 0, index: bool = False,
    ) -> pa.RecordBatchReader:  # fmt: skip
        """The rows that get() returns, batch by batch."""
        state = {"bucket": bucket, "name": name, **_state(version, snapshot)}
        call: dict[str, Any] = {"partd": "scan", **state, "part": part, "dictionaries": True}
        call.update({key: n or 1 for key, n in (("limit", limit), ("last", last)) if n is not None})
        if (index and columns is not None) or not isinstance(where, (str, type(None))):
            of = index_of(self.describe(name, bucket, version=version, snapshot=snapshot)["schema"])
            columns = [*columns, *(of if index else ())] if columns is not None else None
            where = where if isinstance(where, (str, type(None))) else filtering.text([*where], of)
        if columns is not None:
            call["columns"] = list(dict.fromkeys(columns))
        if where:
            call["where"] = where
        rows = self._rows(json.dumps(call).encode(), f"get {name!r}")
        return _Rows(rows.schema, iter(())) if 0 in (limit, last) else rows

    def sql(self, statement: str, bucket: str = "", *, as_: As = "pandas", version: int | None = None, snapshot: str = "") -> Any:
        """The rows of a SELECT over tables of the bucket, and of others as "bucket"."table"."""
        handle = json.dumps({"sql": statement, "bucket": bucket, **_state(version, snapshot)}).encode()
        ticket = _field(1, _STATEMENT) + _field(2, _field(1, handle))
        return from_arrow(self._rows(ticket, "sql").read_all(), as_)

    def list(self, bucket: str = "", pattern: str = "", *, metadata: Mapping[str, Any] | None = None, snapshot: str = "") -> Names:
        """The names of a bucket's tables: those that a pattern such as "AA*" matches, with such metadata."""
        chosen = {"Pattern": pattern, "Metadata": metadata, "Snapshot": snapshot}
        return [table["Name"] for table in self.action("partd.tables", bucket=bucket, filter=chosen)]

    def describe(self, name: str, bucket: str = "", *, version: int | None = None, snapshot: str = "") -> dict[str, Any]:
        """What is known of a table: its schema (pyarrow's), its parts (how many there are), and its
        Rows, Bytes, Files, Version, Updated and Metadata."""
        (answer,) = self.action("partd.describe", bucket=bucket, name=name, **_state(version, snapshot))
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(answer["schema"])))
        return {**answer["info"], "parts": answer["parts"], "schema": schema}

    def delete(self, *names: str, bucket: str = "") -> None:
        """Deletes tables: all, or none if one is missing."""
        self.action("partd.delete", bucket=bucket, names=names)

    def buckets(self) -> Names:
        """The names of the buckets that have one."""
        return [name for name in self.action("partd.buckets") if name]

    def delete_bucket(self, name: str, *, tables: bool = False) -> None:
        """Deletes a bucket that is empty, or with its tables."""
        self.action("delete_bucket", name=name, mode="delete" if tables else "error")

    def resample(
        self, source: str, target: str, rule: str = "", time_col: str = "", how: str | Sequence[str] = "mean", *,
        columns: Sequence[str] | None = None, sql: str = "", mode: Mode = "append", bucket: str = "", target_bucket: str | None = None,
    ) -> tuple[int, int]:  # fmt: skip
        """Puts aggregates of a table by bins of time, of pandas' offsets such as "5min", or the rows of
        a SELECT, into another. It returns how many rows the source has (0 with a SELECT) and were put."""
        call: dict[str, Any] = {"SQL": sql}
        if not sql:
            functions = [how] if isinstance(how, str) else [*how]
            call = {"Rule": rule, "TimeColumn": time_col, "Functions": functions, "Columns": columns}
        to = {"Bucket": bucket if target_bucket is None else target_bucket, "Name": target}
        (done,) = self.action("partd.resample", Source={"Bucket": bucket, "Name": source}, Target=to, Mode=_MODES.index(mode), **call)
        return done["SourceRows"], done["TargetRows"]

    def combine(
        self, sources: Sequence[str | tuple[str, str]], target: str, how: str = "union", on: Sequence[str] = (), *,
        mode: Mode = "error", bucket: str = "",
    ) -> tuple[int, int]:  # fmt: skip
        """Puts the rows of several tables, below each other or joined on columns, into one. A source of
        another bucket is (bucket, name). It returns how many rows the sources have and were put."""
        named = [(bucket, source) if isinstance(source, str) else source for source in sources]
        (done,) = self.action(
            "partd.combine", Sources=[{"Bucket": of, "Name": name} for of, name in named], How=how, On=[*on],
            Mode=_MODES.index(mode), Target={"Bucket": bucket, "Name": target},
        )  # fmt: skip
        return done["SourceRows"], done["TargetRows"]

    def action(self, kind: str, /, timeout: float | None = None, **body: Any) -> Answers:
        """Does one of the server's actions, of docs/flight.md and docs/snapshots.md of the module of
        tables, as action("partd.snapshot", bucket="b", name="before"), and returns what it answers."""
        options = self._options if timeout is None else flight.FlightCallOptions(timeout=timeout, headers=self._headers)
        try:
            answers = self._open().do_action(flight.Action(kind, json.dumps(body).encode()), options)
            return [json.loads(answer.body.to_pybytes()) for answer in answers]
        except (pa.ArrowException, KeyError, OSError) as error:
            raise told(error, kind, self.url, changes=True) from error

    def _open(self) -> Any:
        if not self._ended.alive:
            raise failure(Closed, "call", self.url, "the client was closed", "connect again")
        only_here(self.url)
        return self._flight

    def _rows(self, ticket: bytes, op: str) -> pa.RecordBatchReader:
        try:
            reader = self._open().do_get(flight.Ticket(ticket), self._options)
            schema = reader.schema
        except (pa.ArrowException, KeyError, OSError) as error:
            raise told(error, op, self.url) from error

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                for chunk in reader:
                    yield chunk.data
            except (pa.ArrowException, KeyError, OSError) as error:
                raise told(error, op, self.url) from error

        return _Rows(schema, batches())


class _Rows:
    """A RecordBatchReader, whose errors would not come through pyarrow's own."""

    def __init__(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]):
        self.schema, self._batches = schema, batches

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self._batches

    def read_all(self) -> pa.Table:
        return pa.Table.from_batches(self._batches, self.schema)


def _state(version: int | None, snapshot: str) -> dict[str, Any]:
    return {**({} if version is None else {"version": version}), **({"snapshot": snapshot} if snapshot else {})}


def _field(number: int, value: bytes) -> bytes:
    """A field of bytes of a message of protobuf."""
    size, length = len(value), b""
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def only_here(url: str) -> None:
    """Fails in a fork of a process with a client: gRPC does not live through it, and calls would wait for ever."""
    global _user
    _user = _user or os.getpid()
    if _user != os.getpid():
        what = "this process is a fork of one that has used tables"
        raise failure(Closed, "call", url, what, 'start processes with multiprocessing\'s "spawn" or "forkserver"')


def _end(connection: Any, server: Server | None, process: int) -> None:
    if process != os.getpid():
        return  # both are another process's
    connection.close()
    if server is not None:
        server.shutdown()


_connected: weakref.WeakSet[Tables] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """A forked process must not end connections: gRPC would wait for threads that are not there."""
    for tables in _connected:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(tables._flight))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def connect(
    url_or_dir: str | os.PathLike[str], token: str | None = None, tls_ca: str | None = None, *, flags: tuple[str, ...] = ()
) -> Tables:
    """The tables at grpc://HOST:PORT or grpc+tls://HOST:PORT, or in a directory, for which a server is
    started on a socket that only this user can open, and ends with the client.

    tls_ca is a file in PEM, or its text, with the authorities that the server's certificate may come
    from; without, the system's. flags are more of `partd-tables serve`, for a directory.
    """
    place = os.fspath(url_or_dir)
    only_here(place)
    if "://" in place:
        return Tables(place, token=token, tls_ca=tls_ca)
    server = Server(place, flags=flags)
    return Tables(server.url, server=server)


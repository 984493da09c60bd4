"""A client of a server of tables, over Arrow Flight."""

from __future__ import annotations

import base64
import ctypes
import json
import os
import urllib.parse
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.flight as flight

from ..errors import Closed, Error, Misuse, Refused, failure
from ..server import START
from . import filters as filtering
from .calls import Call
from .errors import told
from .frames import As, from_arrow, index_of, to_arrow
from .server import Server, own_flags

Names: TypeAlias = list[str]  # the class has a method of the name of list
Answers: TypeAlias = list[Any]
Mode = Literal["error", "append", "replace"]
_MODES = ("error", "append", "replace")
_MESSAGE = 4 << 20  # bytes, about, that a message of a put has
_user: int | None = None  # the process that gRPC runs in
_READS = {"partd.tables", "partd.describe", "partd.buckets", "partd.versions", "partd.settings", "partd.rules", "partd.snapshots"}
_LOCAL = ("localhost", "127.0.0.1", "::1")
_STATEMENT = b"type.googleapis.com/arrow.flight.protocol.sql.TicketStatementQuery"


class Tables:
    """The tables at a server, until close(). Threads may share it.

    A bucket is a namespace of tables; "" is that of those without one. timeout is what each call may take, in
    seconds, which its own comes before; Ctrl-C ends a call within a second.
    """

    def __init__(
        self, url: str, *, token: str | None = None, tls_ca: str | None = None, server: Server | None = None, timeout: float | None = None
    ):
        only_here(url)
        parts = urllib.parse.urlsplit(url)
        if token and parts.scheme in ("grpc", "grpc+tcp") and parts.hostname not in _LOCAL:
            raise failure(Refused, "connect", url, "a token without TLS could be read on the way", "write grpc+tls://")
        self.url, self._server, self._timeout = url, server, timeout
        if tls_ca and "-----BEGIN" not in tls_ca:
            with open(tls_ca) as file:
                tls_ca = file.read()
        try:
            self._flight = flight.connect(url, tls_root_certs=tls_ca)
        except pa.ArrowException as error:
            raise told(error, "connect", url) from error
        self._headers = [(b"authorization", b"Bearer " + token.encode())] if token else []
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
        timeout: float | None = None,
    ) -> int:  # fmt: skip
        """Puts a table, all of it or nothing, and returns the table's version.

        A name that is there is an error, or the rows are appended, or replace all. With the id of
        a put that was applied nothing changes. settings are the time column and so on of a new table,
        as {"time": "when", "on_duplicate": "keep_last"}. Instead of a mode, upsert names columns: rows
        that are equal in them are replaced.
        """
        if mode not in _MODES:
            raise Misuse(f"mode {mode!r}: write one of {', '.join(_MODES)}")
        call: dict[str, Any] = {"partd": "put", "bucket": bucket, "name": name, "mode": _MODES.index(mode), "id": id}
        if upsert is not None:
            call["upsert"] = {"keys": list(upsert)}
        call.update({key: value for key, value in (("metadata", metadata), ("settings", settings)) if value is not None})
        table = to_arrow(data)
        op = f"put {name!r}"

        def send() -> pa.Buffer | None:
            descriptor = flight.FlightDescriptor.for_command(json.dumps(call))
            writer, answer = under.client.do_put(descriptor, table.schema, under.options)
            with writer:
                writer.write_table(table, max(1, table.num_rows * _MESSAGE // max(_MESSAGE, table.nbytes)))
                writer.done_writing()
                return answer.read()

        with self._call(op, timeout, changes=not id) as under:
            done = under.wait(send)
        if done is None:
            raise failure(Error, op, self.url, "the server gave no answer")
        return int(json.loads(done.to_pybytes())["version"])

    def get(
        self, name: str, bucket: str = "", *, as_: As = "pandas", columns: Sequence[str] | None = None,
        where: str | filtering.Filters | None = None, limit: int = 0, last: int = 0, version: int | None = None,
        snapshot: str = "", part: int = 0, timeout: float | None = None,
    ) -> Any:  # fmt: skip
        """A table: some columns of the rows for which a filter holds, the first ones, the last ones, or
        a part of those that describe() counts; as it is, or as it was in a version or a snapshot.

        where is a text, as "price > 100", or pyarrow's list of (column, operator, value). pandas' index
        comes with any columns.
        """
        return from_arrow(
            self.scan(
                name, bucket, columns=columns, where=where, limit=limit, last=last, version=version, snapshot=snapshot,
                part=part, index=as_ == "pandas", timeout=timeout,
            ).read_all(),
            as_,
        )  # fmt: skip

    def scan(
        self, name: str, bucket: str = "", *, columns: Sequence[str] | None = None, where: str | filtering.Filters | None = None,
        limit: int = 0, last: int = 0, version: int | None = None, snapshot: str = "", part: int = 0, index: bool = False,
        timeout: float | None = None,
    ) -> pa.RecordBatchReader:  # fmt: skip
        """The rows that get() returns, batch by batch."""
        state = {"bucket": bucket, "name": name, **_state(version, snapshot)}
        call: dict[str, Any] = {"partd": "scan", **state, "limit": limit, "last": last, "part": part, "dictionaries": True}
        if (index and columns is not None) or not isinstance(where, (str, type(None))):
            of = index_of(self.describe(name, bucket, version=version, snapshot=snapshot, timeout=timeout)["schema"])
            columns = [*columns, *(of if index else ())] if columns is not None else None
            where = where if isinstance(where, (str, type(None))) else filtering.text([*where], of)
        if columns is not None:
            call["columns"] = list(dict.fromkeys(columns))
        if where:
            call["where"] = where
        return self._rows(json.dumps(call).encode(), f"get {name!r}", timeout)

    def sql(
        self, statement: str, bucket: str = "", *, as_: As = "pandas", version: int | None = None, snapshot: str = "",
        timeout: float | None = None,
    ) -> Any:  # fmt: skip
        """The rows of a SELECT over tables of the bucket, and of others as "bucket"."table"."""
        handle = json.dumps({"sql": statement, "bucket": bucket, **_state(version, snapshot)}).encode()
        ticket = _field(1, _STATEMENT) + _field(2, _field(1, handle))
        return from_arrow(self._rows(ticket, "sql", timeout).read_all(), as_)

    def list(
        self, bucket: str = "", pattern: str = "", *, metadata: Mapping[str, Any] | None = None, snapshot: str = "",
        timeout: float | None = None,
    ) -> Names:  # fmt: skip
        """The names of a bucket's tables: those that a pattern such as "AA*" matches, with such metadata."""
        chosen = {"Pattern": pattern, "Metadata": metadata, "Snapshot": snapshot}
        return [table["Name"] for table in self.action("partd.tables", timeout, bucket=bucket, filter=chosen)]

    def describe(
        self, name: str, bucket: str = "", *, version: int | None = None, snapshot: str = "", timeout: float | None = None
    ) -> dict[str, Any]:
        """What is known of a table: its schema (pyarrow's), its parts (how many there are), and its
        Rows, Bytes, Files, Version, Updated and Metadata."""
        (answer,) = self.action("partd.describe", timeout, bucket=bucket, name=name, **_state(version, snapshot))
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(answer["schema"])))
        return {**answer["info"], "parts": answer["parts"], "schema": schema}

    def delete(self, *names: str, bucket: str = "", timeout: float | None = None) -> None:
        """Deletes tables: all, or none if one is missing."""
        self.action("partd.delete", timeout, bucket=bucket, names=names)

    def buckets(self, *, timeout: float | None = None) -> Names:
        """The names of the buckets that have one."""
        return [name for name in self.action("partd.buckets", timeout) if name]

    def delete_bucket(self, name: str, *, tables: bool = False, timeout: float | None = None) -> None:
        """Deletes a bucket that is empty, or with its tables."""
        self.action("delete_bucket", timeout, name=name, mode="delete" if tables else "error")

    def resample(
        self, source: str, target: str, rule: str = "", time_col: str = "", how: str | Sequence[str] = "mean", *,
        columns: Sequence[str] | None = None, sql: str = "", mode: Mode = "append", bucket: str = "", target_bucket: str | None = None,
        timeout: float | None = None,
    ) -> tuple[int, int]:  # fmt: skip
        """Puts aggregates of a table by bins of time, of pandas' offsets such as "5min", or the rows of
        a SELECT, into another. It returns how many rows the source has (0 with a SELECT) and were put."""
        call: dict[str, Any] = {"SQL": sql}
        if not sql:
            functions = [how] if isinstance(how, str) else [*how]
            call = {"Rule": rule, "TimeColumn": time_col, "Functions": functions, "Columns": columns}
        to = {"Bucket": bucket if target_bucket is None else target_bucket, "Name": target}
        source_ = {"Bucket": bucket, "Name": source}
        (done,) = self.action("partd.resample", timeout, Source=source_, Target=to, Mode=_MODES.index(mode), **call)
        return done["SourceRows"], done["TargetRows"]

    def combine(
        self, sources: Sequence[str | tuple[str, str]], target: str, how: str = "union", on: Sequence[str] = (), *,
        mode: Mode = "error", bucket: str = "", timeout: float | None = None,
    ) -> tuple[int, int]:  # fmt: skip
        """Puts the rows of several tables, below each other or joined on columns, into one. A source of
        another bucket is (bucket, name). It returns how many rows the sources have and were put."""
        named = [(bucket, source) if isinstance(source, str) else source for source in sources]
        (done,) = self.action(
            "partd.combine", timeout, Sources=[{"Bucket": of, "Name": name} for of, name in named], How=how, On=[*on],
            Mode=_MODES.index(mode), Target={"Bucket": bucket, "Name": target},
        )  # fmt: skip
        return done["SourceRows"], done["TargetRows"]

    def action(self, kind: str, /, timeout: float | None = None, **body: Any) -> Answers:
        """Does one of the server's actions, of docs/flight.md and docs/snapshots.md of the module of
        tables, as action("partd.snapshot", bucket="b", name="before"), and returns what it answers."""
        with self._call(kind, timeout, changes=kind not in _READS) as under:
            action = flight.Action(kind, json.dumps(body).encode())
            answers = under.wait(lambda: [*under.client.do_action(action, under.options)])
        return [json.loads(answer.body.to_pybytes()) for answer in answers]

    def _open(self) -> Any:
        if not self._ended.alive:
            raise failure(Closed, "call", self.url, "the client was closed", "connect again")
        only_here(self.url)
        return self._flight

    def _call(self, op: str, timeout: float | None, changes: bool = False) -> Call:
        return Call(self._open(), op, self.url, self._headers, self._timeout if timeout is None else timeout, changes)

    def _rows(self, ticket: bytes, op: str, timeout: float | None) -> pa.RecordBatchReader:
        with self._call(op, timeout) as under:
            reader = under.wait(under.client.do_get, flight.Ticket(ticket), under.options)
            schema = reader.schema

        def batches() -> Iterator[pa.RecordBatch]:
            with under:
                while True:
                    try:
                        chunk = under.wait(reader.read_chunk)
                    except StopIteration:
                        return
                    yield chunk.data

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
    url_or_dir: str | os.PathLike[str], token: str | None = None, tls_ca: str | None = None, *, flags: tuple[str, ...] = (),
    memory: int | str | None = None, read_only: bool = False, timeout: float | None = None, start_timeout: float = START,
) -> Tables:  # fmt: skip
    """The tables at grpc://HOST:PORT or grpc+tls://HOST:PORT, or in a directory, for which a server is
    started on a socket that only this user can open, and ends with the client.

    tls_ca is a file in PEM, or its text, with the authorities that the server's certificate may come
    from; without, the system's. timeout is what each call may take, in seconds; without, there is no limit here.

    For a directory, memory is what its server may take, as "8GiB" or in bytes: a quarter of the machine's, without.
    read_only opens the tables as they are now, and changes nothing of the directory; one that this user may not write
    is opened so by itself. The server has start_timeout seconds to be ready. flags are more of `partd-tables serve`.
    """
    place = os.fspath(url_or_dir)
    only_here(place)
    if "://" in place:
        if flags or memory is not None or read_only:
            raise Misuse(f"flags, memory or read_only for {place}: they are for a directory, whose server is started here")
        return Tables(place, token=token, tls_ca=tls_ca, timeout=timeout)
    server = Server(place, flags=(*own_flags(memory, read_only), *flags), start_timeout=start_timeout)
    return Tables(server.url, server=server, timeout=timeout)

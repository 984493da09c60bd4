"""A connection to a server of tables, over Arrow Flight."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import time
import urllib.parse
import weakref
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from ..errors import Closed, Refused, failure
from . import progress
from .calls import Call
from .errors import told
from .results import Json
from .server import Server

_user: int | None = None  # the process that gRPC runs in
# What changes nothing, or ends by itself, as the lease of a lock does that nobody renews.
_READS = {"partd.lock", "partd.tables", "partd.describe", "partd.buckets", "partd.versions", "partd.settings", "partd.rules", "partd.snapshots"}
_LOCAL = ("localhost", "127.0.0.1", "::1")
_TOGETHER = 16 << 20  # bytes of batches that one thread waits for, if they come within
_MOMENT = 0.03  # seconds
_REOPENED = 8  # connections that are kept for handles that come pickled


class Connection:
    """A connection, until close(). Threads may share it. One that is pickled, with its token, connects again where it comes to."""

    def __init__(
        self, url: str, *, token: str | None = None, tls_ca: str | None = None, server: Server | None = None, timeout: float | None = None,
        progress: bool | None = None,
    ):  # fmt: skip
        only_here(url)
        parts = urllib.parse.urlsplit(url)
        if token and parts.scheme in ("grpc", "grpc+tcp") and parts.hostname not in _LOCAL:
            raise failure(Refused, "connect", url, "others could read a token sent without TLS", "write grpc+tls://")
        self.url, self._server, self._timeout, self._progress = url, server, timeout, progress
        if tls_ca and "-----BEGIN" not in tls_ca:
            with open(tls_ca) as file:
                tls_ca = file.read()
        try:
            self._flight = flight.connect(url, tls_root_certs=tls_ca)
        except pa.ArrowException as error:
            raise told(error, "connect", url) from error
        self._headers = [(b"authorization", b"Bearer " + token.encode())] if token else []
        self._again = (url, token, tls_ca, timeout, progress, server.again if server else None)
        _connected.add(self)
        _known[self._again] = self
        self._ended = weakref.finalize(self, _end, self._flight, server, os.getpid())

    def __reduce__(self) -> Any:
        return _reconnected, (type(self), self._again)

    def ended(self) -> bool:
        """Reports whether the server that connect() has started is no more, as after a kill."""
        return self._server is not None and self._server.ended()

    def close(self) -> None:
        """Closes the connection. A server that connect() has started writes everything and ends."""
        self._ended()

    def action(self, kind: str, /, timeout: float | None = None, **body: Any) -> list[Json]:
        """Does one of the server's actions, of docs/flight.md and docs/snapshots.md of the module of
        tables, as action("partd.snapshot", bucket="b", name="before"), and returns what it answers."""
        return self._ask(kind, timeout, **body)

    def _ask(self, kind: str, /, timeout: float | None = None, **body: Any) -> list[Any]:
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

    def _watched(self) -> bool:
        return progress.watched() if self._progress is None else self._progress

    def _rows(self, ticket: bytes, op: str, timeout: float | None, total: int | None = None) -> pa.RecordBatchReader:
        with self._call(op, timeout) as under:
            reader = under.wait(under.client.do_get, flight.Ticket(ticket), under.options)
            schema = reader.schema

        def batches() -> Iterator[pa.RecordBatch]:
            with under:
                while some := under.wait(_some, reader):
                    yield from some

        return pa.RecordBatchReader.from_batches(schema, progress.barred(batches(), op, total) if self._watched() else batches())


def _some(reader: Any) -> list[pa.RecordBatch]:
    """The next batches, none at the end. Waiting takes a thread, so those that come within a moment come together."""
    batches, size, until = list[pa.RecordBatch](), 0, time.monotonic() + _MOMENT
    while size < _TOGETHER and time.monotonic() < until:
        try:
            batches.append(reader.read_chunk().data)
        except StopIteration:
            break
        size += batches[-1].nbytes
    return batches


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


_connected: weakref.WeakSet[Connection] = weakref.WeakSet()
_known: weakref.WeakValueDictionary[Any, Connection] = weakref.WeakValueDictionary()


def _reconnected(kind: Any, again: Any) -> Connection:
    """The connection of this process that is such a one, or a new one."""
    known = _known.get(again)
    if known is None or not known._ended.alive:
        known = _opened(kind, again)
        if not known._ended.alive:  # somebody closed it
            _opened.cache_clear()
            known = _opened(kind, again)
    return known


@functools.lru_cache(_REOPENED)
def _opened(kind: Any, again: Any) -> Connection:
    url, token, tls_ca, timeout, progress, started = again
    server = None
    if started is not None and not os.path.exists(url.removeprefix("grpc+unix://")):  # it ended with who started it
        directory, flags, start_timeout = started
        server = Server(directory, flags=flags, start_timeout=start_timeout)
        url = server.url
    made: Connection = kind(url, token=token, tls_ca=tls_ca, server=server, timeout=timeout, progress=progress)
    return made


def _leave_to_parent() -> None:
    """A forked process must not end connections: gRPC would wait for threads that are not there."""
    for tables in _connected:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(tables._flight))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)

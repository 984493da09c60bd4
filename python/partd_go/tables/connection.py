"""A connection to a table server, over Arrow Flight."""

from __future__ import annotations

import ctypes
import functools
import itertools
import json
import os
import threading
import time
import urllib.parse
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.flight as flight

from ..errors import Closed, ConnectionFailed, Refused, UnknownOutcome, failure
from . import progress
from .calls import Call, Middleware, to_json
from .errors import CHECK, convert_error
from .results import Json
from .server import Server, SharedServer, open_server

T = TypeVar("T")

_grpc_process: int | None = None  # ID of the process that uses gRPC
# Actions that are safe to repeat. partd.lock is safe, because an unused lock expires.
_REPEATABLE_ACTIONS = {
    "partd.lock",
    "partd.tables",
    "partd.describe",
    "partd.maintenance",
    "partd.buckets",
    "partd.bucket_metadata",
    "partd.versions",
    "partd.settings",
    "partd.rules",
    "partd.snapshots",
}
_PROTOCOL = (b"partd-protocol", b"1")  # header and version; see tables/internal/faces/operations/wire.go
# Makes calls fail if the server does not answer pings, for example because the network silently loses all packets. The
# last option permits any number of pings during a call that transfers no data.
_KEEP_ALIVE = [
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
]
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
_KILL_TIME = 0.5  # how long, in seconds, _was_killed waits for a server to exit after its connection broke
_GROUP_BYTES = 16 << 20  # _read_batches returns once it has batches of this total size
_GROUP_TIME = 0.03  # after this time, in seconds, _read_batches returns the batches so far
_ATTEMPTS = 3  # maximum number of times a call is tried if the server is killed each time
_MAX_REOPENED = 8  # maximum number of connections kept open for unpickled handles


class Connection:
    """A connection to a table server. Several threads may use it. A pickle of a connection contains the token;
    unpickling connects again."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        tls_ca: str | None = None,
        server: Server | SharedServer | None = None,
        timeout: float | None = None,
        progress: bool | None = None,
    ):
        check_not_forked(url)
        parts = urllib.parse.urlsplit(url)
        if token and parts.scheme in ("grpc", "grpc+tcp") and parts.hostname not in _LOCAL_HOSTS:
            raise failure(
                Refused,
                "connect",
                url,
                "the token was not sent, because others could read it without TLS",
                "pass a grpc+tls:// URL",
            )
        self.url, self._server, self._timeout, self._progress = url, server, timeout, progress
        if tls_ca and "-----BEGIN" not in tls_ca:
            with open(tls_ca) as file:
                tls_ca = file.read()
        self._token, self._tls_ca = token, tls_ca
        self._headers = [_PROTOCOL, *([(b"authorization", b"Bearer " + token.encode())] if token else [])]
        self._restarting = threading.Lock()
        self._flights: list[Any] = []  # connections to the current server, and to earlier servers that were killed
        self._finalizer = weakref.finalize(self, _finish, self._flights, server, os.getpid())
        self._connect()
        _all_connections.add(self)

    def _connect(self) -> None:
        try:
            options = {"tls_root_certs": self._tls_ca, "generic_options": _KEEP_ALIVE, "middleware": [Middleware()]}
            self._flights.append(flight.connect(self.url, **options))
        except pa.ArrowException as error:
            raise convert_error(error, "connect", self.url) from error
        arguments = (
            self.url,
            self._token,
            self._tls_ca,
            self._timeout,
            self._progress,
            self._server.arguments if self._server else None,
        )
        numbers = itertools.count()  # distinguishes this process's connections with the same arguments
        while _by_arguments.setdefault(numbered_arguments := (*arguments, next(numbers)), self) is not self:
            pass
        self._arguments = numbered_arguments

    def __reduce__(self) -> Any:
        return _reconnect, (type(self), self._arguments)

    def ended(self) -> bool:
        """Reports whether the server that connect() started has exited, for example because it was killed. For a
        directory, the next call starts the server again."""
        return self._server is not None and self._server.ended()

    def close(self) -> None:
        """Closes the connection. When a directory's last client closes, the server writes all data and stops."""
        self._finalizer()

    def action(self, kind: str, /, timeout: float | None = None, **body: Any) -> list[Json]:
        """Calls one of the server's actions, as in action("partd.snapshot", bucket="b", name="before"). Returns the
        action's results. docs/dev/tables-wire.md lists the actions."""
        return self._ask(kind, timeout, **body)

    def _ask(self, kind: str, /, timeout: float | None = None, **body: Any) -> list[Any]:
        action = flight.Action(kind, to_json(body, kind))

        def ask() -> list[Any]:
            with self._call(kind, timeout, "" if kind in _REPEATABLE_ACTIONS else CHECK) as call:
                return call.wait(lambda: [*call.client.do_action(action, call.options)])

        return [json.loads(answer.body.to_pybytes()) for answer in self._retry(ask)]

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise failure(Closed, "call", self.url, "the client is closed", "connect again")

    def _live_client(self) -> Any:
        """Returns the current Flight client, after restarting the server if it has ended."""
        self._check_open()
        check_not_forked(self.url)
        if isinstance(self._server, SharedServer) and self._server.ended():
            with self._restarting:
                self._check_open()  # another thread may have closed the client in the meantime
                if self._server.ended():
                    self._server._connect_or_start()
                    self.url = self._server.url
                    self._connect()
        return self._flights[-1]

    def _call(self, op: str, timeout: float | None, unknown_outcome_advice: str = "") -> Call:
        timeout = self._timeout if timeout is None else timeout
        return Call(self._live_client(), op, self.url, self._headers, timeout, unknown_outcome_advice)

    def _retry(self, call: Callable[[], T], is_idempotent: bool = False) -> T:
        """Runs call. If a directory's server was killed during the call, _retry runs call again, which restarts the
        server. If call may already have changed data, _retry does this only if is_idempotent is true: then the server
        does not apply the change twice."""
        for _ in range(_ATTEMPTS - 1):
            connections_before = len(self._flights)
            try:
                return call()
            except ConnectionFailed:
                if not self._was_killed(connections_before):
                    raise
            except UnknownOutcome:
                if not is_idempotent or not self._was_killed(connections_before):
                    raise
        return call()

    def _was_killed(self, connections_before: int) -> bool:
        """Reports whether the server was killed, or was restarted after the first connections_before connections. It
        waits up to _KILL_TIME, because connections to a killed server may break before the process exits."""
        deadline = time.monotonic() + _KILL_TIME
        while isinstance(self._server, SharedServer) and self._finalizer.alive:
            if len(self._flights) > connections_before or self._server.ended():
                return True
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        return False

    def _shows_progress(self) -> bool:
        return progress.is_watched() if self._progress is None else self._progress

    def _rows(
        self,
        ticket: dict[str, Any] | bytes,
        op: str,
        timeout: float | None,
        total: int | None = None,
        unknown_outcome_advice: str = "",
        is_idempotent: bool = False,
    ) -> pa.RecordBatchReader:
        """Returns a reader of the batches that ticket selects. ticket is a Flight ticket, or a dict that is sent as
        JSON. total is the number of rows for the progress bar, or None if it is unknown. For unknown_outcome_advice,
        see convert_error; for is_idempotent, see _retry."""
        encoded = ticket if isinstance(ticket, bytes) else to_json(ticket, op)

        def start() -> tuple[Call, Any, pa.Schema]:
            with self._call(op, timeout, unknown_outcome_advice) as call:
                reader = call.wait(call.client.do_get, flight.Ticket(encoded), call.options)
                return call, reader, reader.schema

        call, reader, schema = self._retry(start, is_idempotent)

        def batches() -> Iterator[pa.RecordBatch]:
            with call:
                while group := call.wait(_read_batches, reader):
                    yield from group

        return pa.RecordBatchReader.from_batches(
            schema, progress.with_bar(batches(), op, total) if self._shows_progress() else batches()
        )


def _read_batches(reader: Any) -> list[pa.RecordBatch]:
    """Returns the next few batches, or an empty list at the end. Reading several at a time saves threads: Call.wait may
    start a thread each time."""
    batches, size, deadline = list[pa.RecordBatch](), 0, time.monotonic() + _GROUP_TIME
    while size < _GROUP_BYTES and time.monotonic() < deadline:
        try:
            batches.append(reader.read_chunk().data)
        except StopIteration:
            break
        size += batches[-1].nbytes
    return batches


def check_not_forked(url: str) -> None:
    """Raises Closed if this process was forked after its parent used gRPC: calls would block forever."""
    global _grpc_process
    _grpc_process = _grpc_process or os.getpid()
    if _grpc_process != os.getpid():
        reason = "this process was forked after its parent process had used tables"
        raise failure(Closed, "call", url, reason, 'start processes with multiprocessing\'s "spawn" or "forkserver"')


def _finish(connections: list[Any], server: Server | SharedServer | None, process: int) -> None:
    if process != os.getpid():
        return  # the connections and the server belong to the parent process
    for connection in connections:
        connection.close()
    if server is not None:
        server.shutdown()


_all_connections: weakref.WeakSet[Connection] = weakref.WeakSet()
_by_arguments: weakref.WeakValueDictionary[Any, Connection] = weakref.WeakValueDictionary()


def _reconnect(kind: Any, arguments: Any) -> Connection:
    """Returns this process's connection with these arguments, or a new connection of the class kind."""
    connection = _by_arguments.get(arguments)
    if connection is None or not connection._finalizer.alive:
        connection = _reopen(kind, arguments)
        if not connection._finalizer.alive:  # _reopen returned a cached connection that has been closed
            _reopen.cache_clear()
            connection = _reopen(kind, arguments)
    return connection


@functools.lru_cache(_MAX_REOPENED)
def _reopen(kind: Any, arguments: Any) -> Connection:
    url, token, tls_ca, timeout, progress, server_arguments, _ = arguments
    server = None
    # If the socket is gone, the server has ended, so start another server.
    if server_arguments is not None and not os.path.exists(url.removeprefix("grpc+unix://")):
        server = open_server(*server_arguments)
        url = server.url
    connection: Connection = kind(url, token=token, tls_ca=tls_ca, server=server, timeout=timeout, progress=progress)
    return connection


def _leave_to_parent() -> None:
    """Keeps connections open in a forked process: closing them would wait for threads that only the parent has."""
    for tables in _all_connections:
        for connection in tables._flights:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)

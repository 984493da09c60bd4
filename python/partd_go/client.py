"""The client of a partd-server. It has the methods of the stores in the Python package partd."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import struct
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar, overload

from . import pages, wire
from .address import Settings
from .channel import Channel
from .errors import Closed, Misuse, TimedOut, failure
from .link import Link
from .pythonserver import PythonChannel

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Stats(NamedTuple):
    """The number of keys in a store and, in bytes, the size of its values and its use of memory and disk."""

    keys: int
    bytes: int
    memory: int
    disk: int


class Client:
    """A client for the store of a partd-server.

        with Client("tcp://localhost:7000") as store:
            store.append({"a": b"piece "})
            store.get("a")

    Any number of threads may use it. The first call connects. If the connection breaks, a call reconnects and repeats
    its request; the server applies each append only once. At the end of a with block, the client is closed; the store
    keeps its data.

    Args:
        url: tcp://HOST:PORT, tls://HOST:PORT or ipc:///PATH.
        token: A user's token. It is sent only over TLS and local sockets, unless insecure_token is true.
        tls_ca: A file with the authorities that may sign the server's certificate; by default, the system's.
        timeout: The time limit of each call, in seconds; None means no limit.
        namespace: The name of one of the server's stores.
        tls_cert, tls_key: Files with the client's certificate and its key.
        tls_name: The name in the server's certificate, if it is not HOST.
        insecure_token: Send the token even to other machines without TLS.
        connect_timeout: The time limit of each attempt to connect, in seconds.
        retry_for: How long a call keeps trying to reconnect, in seconds.
        python_server: Use the protocol of the server in the Python package partd, which partd-server understands too.
            In this protocol, a change whose reply was lost raises UnknownOutcome, missing operations raise Unsupported,
            and the default timeout is 60 seconds.
    """

    def __init__(
        self,
        url: str | bytes,
        token: str | None = None,
        tls_ca: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
        *,
        namespace: str = "",
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        tls_name: str | None = None,
        insecure_token: bool = False,
        connect_timeout: float = 10.0,
        retry_for: float = 60.0,
        python_server: bool = False,
    ) -> None:
        if timeout is not None and timeout <= 0 or connect_timeout <= 0 or retry_for < 0:
            raise Misuse("timeout and connect_timeout must be above 0, and retry_for at least 0")
        files = {"tls_ca": tls_ca, "tls_cert": tls_cert, "tls_key": tls_key}
        self._begin(
            Settings(
                url=url.decode() if isinstance(url, bytes) else url,
                namespace=namespace,
                token=token,
                tls_name=tls_name,
                insecure_token=insecure_token,
                connect_timeout=connect_timeout,
                retry_for=retry_for,
                python_server=python_server,
                **{name: os.fspath(file) for name, file in files.items() if file is not None},
            ),
            60.0 if python_server and timeout is None else timeout,
        )

    def _begin(self, settings: Settings, timeout: float | None) -> None:
        self._settings, self.timeout = settings, timeout
        self._address = settings.parse()
        self.lock = NoLock()  # the wrapper classes of the Python package partd acquire this lock
        self._closed = False
        self._after_fork()
        _clients.add(self)

    def _after_fork(self) -> None:
        """Resets the client in a forked process, because the connection and the session belong to the parent."""
        # Use an RLock: unlike a Lock, it rejects a release by a thread that does not hold it. So an interrupted call
        # can try to release the lock without knowing whether the call acquired it.
        self._mutex = threading.RLock()
        self._busy = False  # whether the thread that holds the mutex is in a call
        self._channel = (PythonChannel if self._settings.python_server else Channel)(self._settings, self._address)

    @property
    def url(self) -> str:
        return self._settings.url

    def __repr__(self) -> str:
        return f"partd_go.Client({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), dataclasses.asdict(self._settings), self.timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        # The wrapper classes of the Python package partd call __del__ on a store that is still in use.
        with contextlib.suppress(Exception):  # nobody can handle an exception from __del__
            if self._mutex.acquire(blocking=False):
                try:
                    if not self._busy:
                        self._channel.close()
                finally:
                    self._mutex.release()

    def close(self) -> None:
        """Closes the connection. Later calls raise Closed. The store keeps its data."""
        with self._mutex:
            self._closed = True
            self._channel.close()

    def _call(self, op: int, work: Callable[[Channel], T]) -> T:
        self._channel.check(op)
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        # A KeyboardInterrupt can occur right after acquire, so always try to release.
        try:
            if not self._mutex.acquire(timeout=-1 if self.timeout is None else self.timeout):
                raise failure(
                    TimedOut,
                    wire.NAMES[op],
                    self.url,
                    "other threads used the connection for the whole timeout",
                    "give each thread its own client, or a longer timeout",
                )
            self._busy = True
            try:
                if self._closed:
                    raise failure(Closed, wire.NAMES[op], self.url, "the client is closed", "make a new client")
                self._channel.deadline = deadline
                return work(self._channel)
            finally:
                self._busy = False
        finally:
            try:
                self._mutex.release()
            except RuntimeError:
                pass  # the mutex was not acquired

    def _change(self, op: int, pieces: list[wire.Buffer]) -> None:
        self._call(op, lambda channel: channel.change(op, pieces))

    def append(self, data: Mapping[wire.Key, wire.Buffer], lock: object = None, fsync: bool = False) -> None:
        """Appends each value in data to its key. Either all values are appended or none is.

        It returns once the server has the values or, if fsync is true, once they would survive a power loss on the
        server's machine. lock is ignored: it exists because the package partd passes it.
        """
        if fsync:
            self._channel.check(wire.SYNC)
        if data:
            self._change(wire.APPEND, self._channel.entries(data))
        if fsync:
            self.sync()

    @overload
    def get(self, keys: list[K], lock: object = None) -> list[bytes]: ...

    @overload
    def get(self, keys: list[Any], lock: object = None) -> list[wire.Nested[bytes]]: ...

    @overload
    def get(self, keys: Hashable, lock: object = None) -> bytes: ...

    def get(self, keys: Any, lock: object = None) -> Any:
        """Returns the value of a key or, for a list of keys, a list of their values. A nested list of keys returns an
        equally nested list of values.

        The value of a key that does not exist is b"". Raises Error if the server has removed the namespace.
        """
        if not isinstance(keys, list):
            return self._get([keys])[0]
        flat = list(_flatten(keys))
        return _nest(keys, iter(self._get(flat)))

    def _get(self, keys: list[wire.Key], lock: object = None) -> list[bytes]:
        return self._call(wire.GET, lambda channel: channel.get(keys))

    def iget(self, key: wire.Key) -> bytes:
        """Returns the value of a key."""
        return self._get([key])[0]

    @overload
    def pop(self, keys: list[K], lock: object = None) -> list[bytes]: ...

    @overload
    def pop(self, keys: list[Any], lock: object = None) -> list[wire.Nested[bytes]]: ...

    @overload
    def pop(self, keys: Hashable, lock: object = None) -> bytes: ...

    def pop(self, keys: Any, lock: object = None) -> Any:
        """Like get(), but also removes the keys, in the same atomic step."""
        flat = list(_flatten(keys)) if isinstance(keys, list) else [keys]
        if not flat:
            return _nest(keys, iter(()))
        values = self._call(wire.POP, lambda channel: channel.pop(flat))
        return _nest(keys, iter(values)) if isinstance(keys, list) else values[0]

    def iset(self, key: wire.Key, value: wire.Buffer, lock: object = None) -> None:
        """Sets the value of a key, unless the key already exists."""
        self._change(wire.SET_ONCE, self._channel.entries({key: value}))

    _iset = iset

    def delete(self, keys: Any, lock: object = None) -> None:
        """Removes a key, or all keys in a list, in one atomic step. Keys that do not exist are ignored."""
        flat = list(_flatten(keys)) if isinstance(keys, list) else [keys]
        if flat:
            self._change(wire.DELETE, self._channel.keys(flat))

    _append, _delete = append, delete

    def drop(self) -> None:
        """Removes every key."""
        self._change(wire.DROP, [])

    def sync(self) -> None:
        """Waits until all earlier appends would survive a power loss on the server's machine."""
        self._ask(wire.SYNC, lambda link: link.ask(wire.SYNC))

    def stat(self) -> Stats:
        """Returns the store's number of keys and its sizes."""
        return self._ask(wire.STAT, lambda link: Stats(*struct.unpack_from("<4Q", link.ask(wire.STAT).body)))

    def _ask(self, op: int, attempt: Callable[[Link], T]) -> T:
        return self._call(op, lambda channel: channel.repeat(op, attempt))

    def keys(self) -> Iterator[str]:
        """Yields every key, as a string that get() accepts."""
        return self._pages(wire.KEYS, b"", pages.names)

    def scan(self) -> Iterator[tuple[str, bytes]]:
        """Yields every key with its value, in the store's order. Only a few pages and one value are in memory at a
        time. Raises Lost if the connection breaks; then start the scan again."""
        return self.scan_part(0, 1)

    def scan_part(self, part: int, parts: int) -> Iterator[tuple[str, bytes]]:
        """Yields the keys and values of one part of a scan, so that several readers can share the scan. parts is the
        number of parts, and part is a number from 0 to parts-1. Each key is in exactly one part."""
        return pages.joined(self.scan_chunks(part, parts))

    def scan_chunks(self, part: int = 0, parts: int = 1) -> Iterator[pages.Chunk]:
        """Like scan_part(), but yields each value in chunks, so that a value can be larger than memory."""
        if not (0 <= part < parts <= 65536):
            raise Misuse(f"part {part} of {parts}: parts must be from 1 to 65,536, and part from 0 to parts-1")
        return self._pages(wire.SCAN, struct.pack("<II", part, parts), pages.chunks)

    def _pages(self, op: int, body: bytes, parse: Callable[[bytes], list[T]]) -> Iterator[T]:
        self._channel.check(op)
        if self._closed:
            raise failure(Closed, wire.NAMES[op], self.url, "the client is closed", "make a new client")
        return pages.pages(self._settings, self._address, self.timeout, op, body, parse)

    def namespaces(self) -> list[pages.Namespace]:
        """Returns the namespaces that the token's user administers, or all namespaces if the server has no users."""
        result: list[pages.Namespace] = []
        last_name, has_more = "", True
        while has_more:
            has_more, last_name, page = self._ask(wire.NAMESPACES, functools.partial(pages.namespaces, last_name))
            result += page
        return result


class NoLock:
    """A lock that does nothing. The package partd locks every store that it wraps, but the server needs no locking."""

    def acquire(self) -> None:
        pass

    def release(self) -> None:
        pass

    def __enter__(self) -> NoLock:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


def _flatten(keys: list[Any]) -> Iterator[wire.Key]:
    for key in keys:
        if isinstance(key, list):
            yield from _flatten(key)
        else:
            yield key


def _nest(keys: list[Any], values: Iterator[bytes]) -> list[Any]:
    return [_nest(key, values) if isinstance(key, list) else next(values) for key in keys]


def _restore(kind: type[Client], settings: dict[str, Any], timeout: float | None) -> Client:
    client = kind.__new__(kind)
    client._begin(Settings(**settings), timeout)
    return client


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """Resets all clients in a forked process."""
    for client in _clients:
        client._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)

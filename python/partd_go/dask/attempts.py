"""Stores the output of tasks that may run several times, in the format that docs/dev/format.md describes. For each
task, readers see only the attempt (execution) that committed first."""

from __future__ import annotations

import errno
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import xxhash

from ..errors import NO_SPACE, QUOTA, Corrupt, Error
from ..wire import uvarint

T = TypeVar("T")

PIECE, COMMIT = 1, 2
_SPACE_WAIT = 60.0  # how long, in seconds, a task waits for space on a full disk


class Damaged(Corrupt, ValueError):
    """A key holds bytes that no attempt wrote."""


def retry_while_full(write: Callable[[], T]) -> T:
    """Returns the result of write(). While a disk is full, it calls write again, for up to a minute. One of several
    servers may have applied a write that failed, so readers must skip what was written twice."""
    deadline = time.monotonic() + _SPACE_WAIT
    while True:
        try:
            return write()
        except (Error, OSError) as error:
            if isinstance(error, Error):
                is_full = bool(error.codes & {NO_SPACE, QUOTA})
            else:
                is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            if not is_full or time.monotonic() >= deadline:
                raise
        time.sleep(min(1.0, _SPACE_WAIT / 10))


class Entries:
    """The entries of one append, with the methods of a dict. Unlike in a dict, a key can occur several times: a header
    and a large piece are separate entries, which saves a copy of the piece."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.pieces: list[bytes | memoryview] = []

    def add(self, key: str, *pieces: bytes | memoryview) -> None:
        self.keys += [key] * len(pieces)
        self.pieces += pieces

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys)

    def values(self) -> list[bytes | memoryview]:
        return self.pieces


class Store(Protocol):
    """The client methods that attempts use."""

    def append(self, data: Any) -> None: ...
    def get(self, keys: list[str]) -> list[bytes]: ...


def _text(s: str) -> bytes:
    data = s.encode()
    return uvarint(len(data)) + data


class _Reader:
    """A cursor that parses a frame."""

    def __init__(self, data: memoryview, offset: int = 0) -> None:
        self.data, self.offset = data, offset

    def number(self) -> int:
        n = shift = 0
        while shift < 64 and self.offset < len(self.data):
            byte = self.data[self.offset]
            self.offset += 1
            n |= (byte & 0x7F) << shift
            if byte < 0x80:
                return n
            shift += 7
        raise Damaged("a truncated number")

    def bytes(self, size: int) -> memoryview:
        if size > len(self.data) - self.offset:
            raise Damaged("a truncated frame")
        self.offset += size
        return self.data[self.offset - size : self.offset]

    def text(self) -> str:
        return str(self.bytes(self.number()), "utf-8")


@dataclass(frozen=True)
class Commit:
    """The record that an attempt writes when it commits."""

    task: str
    attempt: str
    batches: int


class Attempt:
    """One execution of a task. Readers ignore its appends until it commits."""

    def __init__(self, store: Store, control: str, task: str) -> None:
        self.store, self.control, self.task = store, control, task
        self.attempt = secrets.token_hex(8)
        self._names = _text(task) + _text(self.attempt)
        self._batches = self._pieces = self._bytes = self._sum = 0

    def append(self, pieces: Sequence[tuple[str, bytes | memoryview]]) -> None:
        """Appends pieces to distinct keys in one batch. Either all are appended or none is."""
        self._batches += 1
        entries = Entries()
        for index, (key, piece) in enumerate(pieces):
            head = self._names + uvarint(self._batches) + uvarint(index)
            size = uvarint(1 + len(head) + len(piece))
            entries.add(key, b"".join([size, bytes([PIECE]), head]), piece)
            hashed = xxhash.xxh3_128(_text(key))
            hashed.update(piece)
            self._sum = (self._sum + hashed.intdigest()) % (1 << 128)
            self._pieces += 1
            self._bytes += len(piece)
        retry_while_full(lambda: self.store.append(entries))

    def commit(self) -> None:
        """Makes the appends visible to readers, unless another attempt at the task committed first."""
        numbers = b"".join(uvarint(n) for n in (self._batches, self._pieces, self._bytes))
        frame = bytes([COMMIT]) + self._names + numbers + self._sum.to_bytes(16, "little")
        retry_while_full(lambda: self.store.append({self.control: uvarint(len(frame)) + frame}))


def _frames(key: str, value: bytes) -> Iterator[tuple[int, _Reader]]:
    data = _Reader(memoryview(value))
    while data.offset < len(value):
        start = data.offset
        try:
            frame = _Reader(data.bytes(data.number()))
            kind = frame.bytes(1)[0]
            yield kind, frame
        except (Damaged, UnicodeDecodeError) as err:
            raise Damaged(f"reading the pieces of {key!r}, at byte {start}: {err}") from err


def commits(store: Store, control: str) -> dict[str, Commit]:
    """Returns the first commit of each task. Later commits do not count."""
    results: dict[str, Commit] = {}
    for kind, frame in _frames(control, store.get([control])[0]):
        if kind != COMMIT:
            raise Damaged(f"reading {control!r}: a frame of kind {kind} among the commits")
        commit = Commit(frame.text(), frame.text(), frame.number())
        results.setdefault(commit.task, commit)
    return results


def pieces(key: str, value: bytes, winners: dict[str, Commit]) -> dict[str, list[memoryview]]:
    """Returns the pieces in a key's value, by task and in order. It omits pieces of attempts that are not in winners,
    the committed attempts by task."""
    results: dict[str, list[memoryview]] = {}
    last_offsets: dict[str, tuple[int, int]] = {}
    for kind, frame in _frames(key, value):
        if kind != PIECE:
            raise Damaged(f"reading {key!r}: a frame of kind {kind} among the pieces")
        task, attempt, offset = frame.text(), frame.text(), (frame.number(), frame.number())
        winner = winners.get(task)
        if winner is None or attempt != winner.attempt or offset[0] > winner.batches:
            continue
        if offset <= last_offsets.get(task, (0, 0)):
            continue  # the client sent this batch twice
        last_offsets[task] = offset
        results.setdefault(task, []).append(frame.data[frame.offset :])
    return results

"""Attempts at tasks, whose bytes docs/format.md has: of several attempts at a task
only what the first to commit has appended is ever read."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import xxhash

PIECE, COMMIT = 1, 2


class Damaged(ValueError):
    """A key holds what no attempt wrote."""


class Entries:
    """What one append adds. It may have a key twice, unlike a dict: so a head goes
    before a large piece, which is not copied for that."""

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
    def append(self, data: Any) -> None: ...
    def get(self, keys: list[str]) -> list[bytes]: ...


def _uvarint(n: int) -> bytes:
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def _text(s: str) -> bytes:
    data = s.encode()
    return _uvarint(len(data)) + data


class _Reader:
    """Takes a frame apart."""

    def __init__(self, data: memoryview, at: int = 0) -> None:
        self.data, self.at = data, at

    def number(self) -> int:
        n = shift = 0
        while shift < 64 and self.at < len(self.data):
            byte = self.data[self.at]
            self.at += 1
            n |= (byte & 0x7F) << shift
            if byte < 0x80:
                return n
            shift += 7
        raise Damaged("a number that does not end")

    def bytes(self, size: int) -> memoryview:
        if size > len(self.data) - self.at:
            raise Damaged("a frame that does not end")
        self.at += size
        return self.data[self.at - size : self.at]

    def text(self) -> str:
        return str(self.bytes(self.number()), "utf-8")


@dataclass(frozen=True)
class Commit:
    """What an attempt said when it committed."""

    task: str
    attempt: str
    batches: int


class Attempt:
    """One attempt at a task. Nothing that it appends counts before its commit."""

    def __init__(self, store: Store, control: str, task: str) -> None:
        self.store, self.control, self.task = store, control, task
        self.attempt = secrets.token_hex(8)
        self._names = _text(task) + _text(self.attempt)
        self._batches = self._pieces = self._bytes = self._sum = 0

    def append(self, pieces: Sequence[tuple[str, bytes | memoryview]]) -> None:
        """Appends pieces to keys, each key once, as one batch: all or none."""
        self._batches += 1
        entries = Entries()
        for index, (key, piece) in enumerate(pieces):
            head = self._names + _uvarint(self._batches) + _uvarint(index)
            size = _uvarint(1 + len(head) + len(piece))
            entries.add(key, b"".join([size, bytes([PIECE]), head]), piece)
            hashed = xxhash.xxh3_128(_text(key))
            hashed.update(piece)
            self._sum = (self._sum + hashed.intdigest()) % (1 << 128)
            self._pieces += 1
            self._bytes += len(piece)
        self.store.append(entries)

    def commit(self) -> None:
        """Makes what was appended count, unless another attempt has committed before."""
        numbers = b"".join(_uvarint(n) for n in (self._batches, self._pieces, self._bytes))
        frame = bytes([COMMIT]) + self._names + numbers + self._sum.to_bytes(16, "little")
        self.store.append({self.control: _uvarint(len(frame)) + frame})


def _frames(key: str, value: bytes) -> Iterator[tuple[int, _Reader]]:
    data = _Reader(memoryview(value))
    while data.at < len(value):
        start = data.at
        try:
            frame = _Reader(data.bytes(data.number()))
            kind = frame.bytes(1)[0]
            yield kind, frame
        except (Damaged, UnicodeDecodeError) as err:
            raise Damaged(f"reading the pieces of {key!r}, at byte {start}: {err}") from err


def commits(store: Store, control: str) -> dict[str, Commit]:
    """The commit of each task that counts: its first."""
    found: dict[str, Commit] = {}
    for kind, frame in _frames(control, store.get([control])[0]):
        if kind != COMMIT:
            raise Damaged(f"reading {control!r}: a frame of kind {kind} among the commits")
        commit = Commit(frame.text(), frame.text(), frame.number())
        found.setdefault(commit.task, commit)
    return found


def pieces(key: str, value: bytes, winners: dict[str, Commit]) -> dict[str, list[memoryview]]:
    """The pieces under a key that count, in order, by task."""
    found: dict[str, list[memoryview]] = {}
    last: dict[str, tuple[int, int]] = {}
    for kind, frame in _frames(key, value):
        if kind != PIECE:
            raise Damaged(f"reading {key!r}: a frame of kind {kind} among the pieces")
        task, attempt, at = frame.text(), frame.text(), (frame.number(), frame.number())
        winner = winners.get(task)
        if winner is None or attempt != winner.attempt or at[0] > winner.batches:
            continue
        if at <= last.get(task, (0, 0)):
            continue  # a batch that was sent again
        last[task] = at
        found.setdefault(task, []).append(frame.data[frame.at :])
    return found

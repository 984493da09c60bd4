"""A store within a process, for what its threads shuffle among themselves."""

from __future__ import annotations

import os
import tempfile
import threading
from typing import Any

from .. import Client
from .attempts import Entries

_VECTOR = 512  # pieces that the system takes at once


class _File:
    """A file without a name, of which the system takes back all when the process ends."""

    def __init__(self, directory: str | os.PathLike[str] | None) -> None:
        self.file = tempfile.TemporaryFile(dir=directory, buffering=0)
        self.lock = threading.Lock()
        self.end = 0
        self.extents: dict[str, list[tuple[int, int]]] = {}  # where the values are

    def append(self, keys: list[str], pieces: list[bytes | memoryview]) -> None:
        views = [memoryview(piece) for piece in pieces if len(piece)]
        with self.lock:
            at = self.end
            self.end += sum(map(len, views))
        self._write(views, at)
        with self.lock:  # all at once, as each value is a whole one
            for key, piece in zip(keys, pieces, strict=True):
                extents = self.extents.setdefault(key, [])
                if extents and sum(extents[-1]) == at:
                    extents[-1] = (extents[-1][0], extents[-1][1] + len(piece))
                else:
                    extents.append((at, len(piece)))
                at += len(piece)

    def _write(self, views: list[memoryview], at: int) -> None:
        while views:
            wrote = os.pwritev(self.file.fileno(), views[:_VECTOR], at)
            at += wrote
            done = 0
            while wrote >= len(views[done]):
                wrote -= len(views[done])
                done += 1
                if done == len(views):
                    return
            views = [views[done][wrote:], *views[done + 1 :]]

    def get(self, key: str) -> bytearray:
        with self.lock:
            extents = list(self.extents.get(key, ()))
        value = bytearray(sum(size for _, size in extents))
        view, filled = memoryview(value), 0
        for at, size in extents:
            end = filled + size
            while filled < end:
                read = os.preadv(self.file.fileno(), [view[filled:end]], at)
                if not read:
                    raise OSError(f"a temporary file ends before byte {at}: somebody has cut it")
                filled, at = filled + read, at + read
        return value


class Files:
    """A store whose keys begin with a name and that of a shuffle, which has a file. Other
    processes, to which it is sent, have the server instead."""

    def __init__(self, server: Client, directory: str | os.PathLike[str] | None) -> None:
        self.server, self.directory = server, directory
        self._files: dict[tuple[int, str], _File] = {}
        self._sent = False

    def __reduce__(self) -> Any:
        self._sent = True
        return self.server.__reduce__()

    def __repr__(self) -> str:
        return "files of this process"

    @staticmethod
    def _of(key: str) -> tuple[int, str]:
        return os.getpid(), key.rpartition("/")[0]  # a forked process begins with files of its own

    def append(self, entries: Entries | dict[str, bytes]) -> None:
        of = self._of(next(iter(entries)))
        file = self._files.get(of) or self._files.setdefault(of, _File(self.directory))
        file.append(list(entries), list(entries.values()))

    def get(self, keys: list[str]) -> list[bytearray]:
        files = [self._files.get(self._of(key)) for key in keys]
        return [file.get(key) if file else bytearray() for file, key in zip(files, keys, strict=True)]

    def delete(self, keys: list[str]) -> None:
        """Deletes shuffles, of which keys are given."""
        for shuffle in set(map(self._of, keys)):
            self._files.pop(shuffle, None)
        if self._sent:
            self.server.delete(keys)

    def close(self) -> None:
        self._files.clear()

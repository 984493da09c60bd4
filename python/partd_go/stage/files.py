"""Keeps the results of stages as files in directories."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..filelock import lock
from .formats import read, sync

_RESULT = re.compile(r"([0-9a-f]{64})(?:-(\d+))?(?:\.([0-9a-f]{8}))?(?:\.([0-9a-f]{64}))?\.\w+")
_REMOVED = ".removed"  # suffix of the empty files whose names record the hashes of removed results


class Damaged(Exception):
    """A kept result does not match its checksum, or the disk cannot read it (EIO)."""


class Kept(NamedTuple):
    """A kept or removed result. Times are in seconds since 1970."""

    stage: str
    key: str
    made: float
    expires: float  # math.inf means never
    bytes: int
    at: Any = None  # the path of the result's file or, on a partd-server, the result itself
    why: str = ""  # why it was removed
    content: str = ""  # the hash of the result; "" if equal bytes can have different values, as in a pickle
    removed: bool = False  # whether only the hash is kept


class Directory:
    """Keeps results as files named KEY[-EXPIRES].CHECKSUM[.HASH].FORMAT, in one directory per stage. EXPIRES is in
    milliseconds since 1970. The hash of a removed result is kept in the name of an empty file,
    KEY[-EXPIRES][.HASH].removed. Locks and unfinished results are hidden files."""

    def __init__(self, base: Path):
        self.base = base

    def find(self, stage: str, key: str) -> Kept | None:
        results = (entry for path in (self.base / stage).glob(f"{key}*") if (entry := _parse(path)))
        return max(results, key=lambda entry: (entry.made, not entry.removed), default=None)

    def read(self, entry: Kept, format: str | None) -> Any:
        path: Path = entry.at
        name = _RESULT.fullmatch(path.name)
        if not name or path.suffix[1:] not in ([format] if format else ["parquet", "pickle"]):
            raise FileNotFoundError(path)
        try:
            with open(path, "rb") as file:  # open it once, because another user could replace it after the checks
                if (
                    format is None
                    and path.suffix == ".pickle"
                    and os.name == "posix"
                    and os.fstat(file.fileno()).st_uid not in (0, os.getuid())
                ):
                    problem = f"{entry.stage}: {path} belongs to another user, and reading it may run their code"
                    raise PermissionError(f"{problem}: pass format='pickle' to trust it, or remove it")
                if name[3] != _checksum(file, entry.key):
                    raise Damaged
                file.seek(0)
                return read(file if path.suffix == ".pickle" else path, path.suffix[1:])
        except OSError as error:  # for example EMFILE or EACCES, which do not mean damage
            if error.errno == errno.EIO:
                raise Damaged from error
            raise

    def put(self, stage: str, key: str, expires: float, result_path: Path, value_hash: str) -> None:
        with open(result_path, "rb") as file:
            path = self._path(stage, key, expires, f".{_checksum(file, key)}", value_hash, result_path.suffix)
        # This machine's clock decides about expiry; a file server may have set the time by another clock.
        os.utime(result_path, (now := time.time(), now))
        os.replace(result_path, path)
        for old_path in path.parent.glob(f"{key}*"):
            if old_path != path:
                old_path.unlink(missing_ok=True)
        sync(path.parent)

    def _path(self, stage: str, key: str, expires: float, checksum: str, value_hash: str, suffix: str) -> Path:
        expiry = f"-{math.floor(expires * 1000)}" if expires < math.inf else ""
        return self.base / stage / f"{key}{expiry}{checksum}{value_hash and '.'}{value_hash}{suffix}"

    def all(self) -> Iterator[Kept]:
        return (entry for path in self.base.glob("*/*") if (entry := _parse(path)))

    def remove(self, entry: Kept, keep_hash: bool = False) -> bool:
        """Removes a result unless it has been replaced. Reports whether it was removed. The key's lock must be held."""
        if _parse(entry.at) != entry:
            return False
        if keep_hash:
            path = self._path(entry.stage, entry.key, entry.expires, "", entry.content, _REMOVED)
            with tempfile.TemporaryDirectory(prefix=f".{entry.key}-", dir=path.parent) as temp_directory:
                (empty := Path(temp_directory, entry.key)).touch()
                os.utime(empty, (entry.made, entry.made))
                os.replace(empty, path)
        os.unlink(entry.at)
        return True

    def sweep(self, stage: str, key: str) -> list[Kept]:
        """Removes and returns unfinished results of killed processes. The key's lock must be held."""
        removed = []
        for leftover in (self.base / stage).glob(f".{key}-*"):
            size = sum(file.stat().st_size for file in leftover.iterdir())
            removed.append(
                Kept(
                    stage, key, leftover.stat().st_mtime, math.inf, size, leftover, "left by a process that was killed"
                )
            )
            shutil.rmtree(leftover)
        return removed

    @contextlib.contextmanager
    def locked(self, stage: str, key: str, wait: bool = True) -> Iterator[bool]:
        """Holds a key's lock, which excludes other threads and processes, and yields True. If wait is false and the
        lock is not free, it yields False instead. If a process dies, the system releases its locks."""
        path = self.base / stage / f".{key}.lock"
        while True:
            f = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                try:
                    lock(f, path, wait)
                    acquired = os.path.samestat(os.fstat(f), os.stat(path))
                except FileNotFoundError:  # the previous holder removed the file
                    acquired = False
                except BlockingIOError:
                    yield False
                    return
                if acquired:
                    try:
                        yield True
                    finally:
                        os.unlink(path)
                    return
            finally:
                os.close(f)
            time.sleep(0.001)


def _checksum(file: Any, key: str) -> str:
    """Returns the CRC-32 checksum of a key and a file. With SHA-256, reading a pickle would take twice as long."""
    checksum = zlib.crc32(key.encode())
    while piece := file.read(1 << 20):
        checksum = zlib.crc32(piece, checksum)
    return f"{checksum:08x}"


def _parse(path: Path) -> Kept | None:
    """Returns the description of the result in a file, or None if the file is not a result."""
    try:
        match, stat = _RESULT.fullmatch(path.name), path.stat()
    except FileNotFoundError:  # removed in the meantime
        return None
    expires = int(match[2]) / 1000 if match and match[2] else math.inf
    if not match:
        return None
    return Kept(
        path.parent.name,
        match[1],
        stat.st_mtime,
        expires,
        stat.st_size,
        path,
        content=match[4] or "",
        removed=path.suffix == _REMOVED,
    )

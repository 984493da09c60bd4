"""Keeps results of stages in directories, and removes old ones."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import Misuse
from .stageformats import read, sync

if TYPE_CHECKING:
    from .client import Client
    from .stageshared import InStore, InTables
    from .tables import Tables

IDENTITY = 16  # leading digits of a key that identify the stage with the names of its inputs, and its arguments
_RESULT = re.compile(r"([0-9a-f]{64})(?:-(\d+))?\.\w+")
_UNFINISHED = re.compile(r"\.([0-9a-f]{64})(?:-.*|\.lock)")

_directory: Path | None = None
_shared: InTables | InStore | None = None


class Kept(NamedTuple):
    """A kept or removed result. Times are seconds since 1970."""

    stage: str
    key: str
    made: float
    expires: float  # math.inf means never
    bytes: int
    at: Any = None  # its location
    why: str = ""  # the reason for its removal


def set_directory(
    path: str | os.PathLike[str] | None, *, tables: Tables | None = None, bucket: str = "stages", store: Client | None = None
) -> None:
    """Sets where stages without cache_dir keep results. None means $PARTD_STAGES, by default ~/.partd_stages.

    With tables, results are kept in a bucket of these tables, which nothing else should use; with store, at a partd-server,
    in keys that begin with "pystage/". The directory then holds only locks and temporary files."""
    global _directory, _shared
    if tables is not None and store is not None:
        raise Misuse("tables and store exclude each other: pass one")
    _directory, _shared = None if path is None else Path(path), None
    if tables is not None:
        from .stageshared import InTables

        _shared = InTables(tables, bucket)
    elif store is not None:
        from .stageshared import InStore

        _shared = InStore(store)


def storage_of(path: str | os.PathLike[str] | None) -> tuple[Directory, Directory | InTables | InStore]:
    """Returns a directory on this machine, and the storage for results, which is this directory or shared storage."""
    base = path or _directory or os.environ.get("PARTD_STAGES") or Path.home() / ".partd_stages"
    if re.match(r"[a-z][a-z0-9+.-]+:/", os.fspath(base)):
        raise Misuse(f"{base} is a URL: pass a directory on this machine, and set_directory(tables=connect(…)) for results elsewhere")
    local = Directory(Path(base))
    return local, local if path else _shared or local


def gc(directory: str | os.PathLike[str] | None = None, *, max_bytes: float = math.inf) -> list[Kept]:
    """Removes results that have expired or are superseded by a newer result of the same stage, inputs (by name) and
    arguments; the oldest results over max_bytes; and temporary files of killed processes. It returns the removed results,
    with the reasons. It never waits, and skips results that a process is computing."""
    removed: list[Kept] = []
    identities: set[tuple[str, str]] = set()
    total, now, (local, storage) = 0, time.time(), storage_of(directory)
    for kept in sorted(storage.all(), key=lambda kept: kept.made, reverse=True):
        identity = kept.stage, kept.key[:IDENTITY]
        reason = "expired" if kept.expires <= now else "superseded" if identity in identities else ""
        identities.add(identity)
        if not reason:
            total += kept.bytes
            reason = "over max_bytes" if total > max_bytes else ""
        if reason:
            with storage.locked(kept.stage, kept.key, wait=False) as acquired:
                if acquired and storage.remove(kept):
                    removed.append(kept._replace(why=reason))
    for stage, key in {(path.parent.name, match[1]) for path in local.base.glob("*/.*") if (match := _UNFINISHED.fullmatch(path.name))}:
        with local.locked(stage, key, wait=False) as acquired:
            removed += local.sweep(stage, key) if acquired else ()
    return removed


class Directory:
    """Keeps results as files, in a directory for each stage. The files are KEY.FORMAT, or KEY-EXPIRES.FORMAT with the
    time of expiry in milliseconds. Locks and unfinished results are hidden files."""

    def __init__(self, base: Path):
        self.base = base

    def find(self, stage: str, key: str) -> Kept | None:
        results = (kept for path in (self.base / stage).glob(f"{key}*") if (kept := _parse(path)))
        return max(results, key=lambda kept: kept.made, default=None)

    def read(self, kept: Kept, format: str | None) -> Any:
        path: Path = kept.at
        if format is None and path.suffix == ".pickle" and os.name == "posix" and path.stat().st_uid not in (0, os.getuid()):
            problem = f"{kept.stage}: {path} belongs to another user, and reading it may run their code"
            raise PermissionError(f"{problem}: pass format='pickle' to trust it, or remove it")
        if path.suffix[1:] not in ([format] if format else ["parquet", "pickle"]):
            raise FileNotFoundError(path)
        return read(path, path.suffix[1:])

    def put(self, stage: str, key: str, expires: float, written: Path) -> None:
        path = self.base / stage / (key + (f"-{math.floor(expires * 1000)}" if expires < math.inf else "") + written.suffix)
        os.utime(written, (now := time.time(), now))  # the same clock decides when the result expires
        os.replace(written, path)
        for old_path in path.parent.glob(f"{key}*"):
            if old_path != path:
                old_path.unlink()
        sync(path.parent)

    def all(self) -> Iterator[Kept]:
        return (kept for path in self.base.glob("*/*") if (kept := _parse(path)))

    def remove(self, kept: Kept) -> bool:
        """Removes a result, unless it has been replaced. The caller must hold its lock."""
        if _parse(kept.at) != kept:
            return False
        os.unlink(kept.at)
        return True

    def sweep(self, stage: str, key: str) -> list[Kept]:
        """Removes and returns unfinished results of killed processes. The caller must hold the key's lock."""
        removed = []
        for leftover in (self.base / stage).glob(f".{key}-*"):
            size = sum(file.stat().st_size for file in leftover.iterdir())
            removed.append(Kept(stage, key, leftover.stat().st_mtime, math.inf, size, leftover, "left by a process that was killed"))
            shutil.rmtree(leftover)
        return removed

    @contextlib.contextmanager
    def locked(self, stage: str, key: str, wait: bool = True) -> Iterator[bool]:
        """Holds a key's lock, which excludes other threads and processes. If wait is false and the lock is not free, it yields
        False. The system releases the lock of a dead process."""
        import fcntl

        path = self.base / stage / f".{key}.lock"
        while True:
            f = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                try:
                    fcntl.flock(f, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
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


def _parse(path: Path) -> Kept | None:
    """Returns the result in a file, or None if the file is not a result."""
    try:
        match, stat = _RESULT.fullmatch(path.name), path.stat()
    except FileNotFoundError:  # removed in the meantime
        return None
    expires = int(match[2]) / 1000 if match and match[2] else math.inf
    return Kept(path.parent.name, match[1], stat.st_mtime, expires, stat.st_size, path) if match else None

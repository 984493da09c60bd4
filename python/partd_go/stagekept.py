"""Where results of stages are kept, and what goes from there."""

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

from .stageformats import read, sync

if TYPE_CHECKING:
    from .client import Client
    from .stageshared import InStore, InTables
    from .tables import Tables

IDENTITY = 16  # digits of a key that say which stage it is of, with which inputs and arguments, by their names
_RESULT = re.compile(r"([0-9a-f]{64})(?:-(\d+))?\.\w+")
_MADE = re.compile(r"\.([0-9a-f]{64})(?:-.*|\.lock)")

_directory: Path | None = None
_shared: InTables | InStore | None = None


class Kept(NamedTuple):
    """A result that is kept, or was. Times are seconds since 1970."""

    stage: str
    key: str
    made: float
    expires: float  # math.inf: never
    bytes: int
    at: Any = None  # where its place has it
    why: str = ""  # it was removed


def set_directory(
    path: str | os.PathLike[str] | None, *, tables: Tables | None = None, bucket: str = "stages", store: Client | None = None
) -> None:
    """Sets where results are kept by stages without a directory of their own. None is $PARTD_STAGES, or
    ~/.partd_stages without that.

    With tables they are kept in a bucket of those, which nothing else should use, or with store at a partd-server, in keys
    that begin with "pystage/". The directory has locks then, and what is being made."""
    global _directory, _shared
    if tables is not None and store is not None:
        raise ValueError("results go to tables or to store: give one of them")
    _directory, _shared = None if path is None else Path(path), None
    if tables is not None:
        from .stageshared import InTables

        _shared = InTables(tables, bucket)
    elif store is not None:
        from .stageshared import InStore

        _shared = InStore(store)


def places(path: str | os.PathLike[str] | None) -> tuple[Directory, Directory | InTables | InStore]:
    """A directory of this machine, and where results are kept: it, or what is shared."""
    base = path or _directory or os.environ.get("PARTD_STAGES") or Path.home() / ".partd_stages"
    if re.match(r"[a-z][a-z0-9+.-]+:/", os.fspath(base)):
        raise ValueError(f"{base} is a URL: give a directory on this machine, and set_directory(tables=connect(…)) for results elsewhere")
    own = Directory(Path(base))
    return own, own if path else _shared or own


def gc(directory: str | os.PathLike[str] | None = None, *, max_bytes: float = math.inf) -> list[Kept]:
    """Removes results that expired, those of which the same stage has made a newer one of the same inputs and arguments, by
    their names, the oldest until the others have max_bytes, and what processes left that were killed. It returns what it
    removed, and why, and waits for nobody: what somebody makes is left alone."""
    removed: list[Kept] = []
    seen: set[tuple[str, str]] = set()
    total, now, (own, place) = 0, time.time(), places(directory)
    for kept in sorted(place.all(), key=lambda kept: kept.made, reverse=True):
        identity = kept.stage, kept.key[:IDENTITY]
        why = "expired" if kept.expires <= now else "superseded" if identity in seen else ""
        seen.add(identity)
        if not why:
            total += kept.bytes
            why = "over max_bytes" if total > max_bytes else ""
        if why:
            with place.locked(kept.stage, kept.key, wait=False) as mine:
                if mine and place.remove(kept):
                    removed.append(kept._replace(why=why))
    for stage, key in {(path.parent.name, made[1]) for path in own.base.glob("*/.*") if (made := _MADE.fullmatch(path.name))}:
        with own.locked(stage, key, wait=False) as mine:
            removed += own.sweep(stage, key) if mine else ()
    return removed


class Directory:
    """Results as files, in a directory for each stage: KEY.FORMAT, or KEY-EXPIRES.FORMAT, in milliseconds. Hidden are
    locks, and what is being made."""

    def __init__(self, base: Path):
        self.base = base

    def find(self, stage: str, key: str) -> Kept | None:
        found = (kept for path in (self.base / stage).glob(f"{key}*") if (kept := _kept(path)))
        return max(found, key=lambda kept: kept.made, default=None)

    def read(self, kept: Kept, format: str | None) -> Any:
        path: Path = kept.at
        if format is None and path.suffix == ".pickle" and os.name == "posix" and path.stat().st_uid not in (0, os.getuid()):
            what = f"{kept.stage}: {path} belongs to another user, whose code it may run"
            raise PermissionError(f"{what}: choose format='pickle' to trust it, or remove it")
        if path.suffix[1:] not in ([format] if format else ["parquet", "pickle"]):
            raise FileNotFoundError(path)
        return read(path, path.suffix[1:])

    def put(self, stage: str, key: str, expires: float, written: Path) -> None:
        path = self.base / stage / (key + (f"-{math.floor(expires * 1000)}" if expires < math.inf else "") + written.suffix)
        os.utime(written, (now := time.time(), now))  # of the clock that it expires by
        os.replace(written, path)
        for other in path.parent.glob(f"{key}*"):
            if other != path:
                other.unlink()
        sync(path.parent)

    def all(self) -> Iterator[Kept]:
        return (kept for path in self.base.glob("*/*") if (kept := _kept(path)))

    def remove(self, kept: Kept) -> bool:
        """Removes a result, unless it was made anew meanwhile, for who has the lock."""
        if _kept(kept.at) != kept:
            return False
        os.unlink(kept.at)
        return True

    def sweep(self, stage: str, key: str) -> list[Kept]:
        """Removes what those were making that were killed, for who has the lock, and returns it."""
        left = []
        for made in (self.base / stage).glob(f".{key}-*"):
            size = sum(file.stat().st_size for file in made.iterdir())
            left.append(Kept(stage, key, made.stat().st_mtime, math.inf, size, made, "left by a process that was killed"))
            shutil.rmtree(made)
        return left

    @contextlib.contextmanager
    def locked(self, stage: str, key: str, wait: bool = True) -> Iterator[bool]:
        """Has the lock of a key among threads and processes, or without wait not where others have it. The system
        frees it when a process dies."""
        import fcntl

        path = self.base / stage / f".{key}.lock"
        while True:
            f = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                try:
                    fcntl.flock(f, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
                    mine = os.path.samestat(os.fstat(f), os.stat(path))
                except FileNotFoundError:  # who had it before has removed the file
                    mine = False
                except BlockingIOError:
                    yield False
                    return
                if mine:
                    try:
                        yield True
                    finally:
                        os.unlink(path)
                    return
            finally:
                os.close(f)
            time.sleep(0.001)


def _kept(path: Path) -> Kept | None:
    """What a file is, if it is a result."""
    try:
        named, stat = _RESULT.fullmatch(path.name), path.stat()
    except FileNotFoundError:  # somebody has removed it
        return None
    expires = int(named[2]) / 1000 if named and named[2] else math.inf
    return Kept(path.parent.name, named[1], stat.st_mtime, expires, stat.st_size, path) if named else None

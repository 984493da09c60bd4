"""Chooses where the results of stages are kept. Removes old results."""

from __future__ import annotations

import math
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Misuse
from .files import Directory, Kept

if TYPE_CHECKING:
    from ..client import Client
    from ..tables import Tables
    from .shared import ServerStorage, TableStorage

# The first IDENTITY digits of a key depend only on the stage's name, input names and arguments. The next PART digits
# depend only on the code, and the PART digits after them only on the contents of the raw files.
IDENTITY = 16
PART = 8
_UNFINISHED = re.compile(r"\.([0-9a-f]{64})(?:-.*|\.lock)")

_directory: Path | None = None
_shared: TableStorage | ServerStorage | None = None


def set_directory(
    path: str | os.PathLike[str] | None,
    *,
    tables: Tables | None = None,
    bucket: str = "stages",
    store: Client | None = None,
) -> None:
    """Sets where stages without cache_dir keep their results: in the directory path. If path is None, this is
    $PARTD_STAGES or, if that is not set, ~/.partd_stages.

    If tables is given, results are kept in a bucket of these tables, which nothing else should use. If store is given,
    they are kept on its partd-server, under keys that begin with "pystage/". The directory then holds only locks and
    temporary files.
    """
    global _directory, _shared
    if tables is not None and store is not None:
        raise Misuse("pass either tables or store, not both")
    _directory, _shared = None if path is None else Path(path), None
    if tables is not None:
        from .shared import TableStorage

        _shared = TableStorage(tables, bucket)
    elif store is not None:
        from .shared import ServerStorage

        _shared = ServerStorage(store)


def storage_of(path: str | os.PathLike[str] | None) -> tuple[Directory, Directory | TableStorage | ServerStorage]:
    """Returns a directory on this machine, and the storage for results: either this directory or shared storage."""
    base = path or _directory or os.environ.get("PARTD_STAGES") or Path.home() / ".partd_stages"
    if re.match(r"[a-z][a-z0-9+.-]+:/", os.fspath(base)):
        raise Misuse(
            f"{base} is a URL: pass a directory on this machine, and set_directory(tables=connect(…)) for results "
            "elsewhere"
        )
    local = Directory(Path(base).expanduser())
    return local, local if path else _shared or local


def gc(directory: str | os.PathLike[str] | None = None, *, max_bytes: float = math.inf) -> list[Kept]:
    """Removes and returns old results of stages. The attribute why of a result is the reason: "expired"; "superseded"
    by a newer result of the same stage, input names and arguments; or "over max_bytes". If all results together have
    more than max_bytes bytes, the oldest are removed.

    The hashes of results over max_bytes are kept, so that later stages still know their keys. Temporary files of killed
    processes are removed too. gc does not wait: it skips results that a process is computing.
    """
    removed: list[Kept] = []
    newest: dict[tuple[str, str], Kept] = {}
    total, now, (local, storage) = 0, time.time(), storage_of(directory)
    for entry in sorted(storage.all(), key=lambda entry: (entry.made, not entry.removed), reverse=True):
        first = newest.setdefault((entry.stage, entry.key[:IDENTITY]), entry)
        # The hash of a removed result is not superseded by the result itself: a killed gc can leave both.
        is_superseded = first is not entry and not (entry.removed and first.key == entry.key)
        reason = "expired" if entry.expires <= now else "superseded" if is_superseded else ""
        if keep_hash := not reason:
            total += entry.bytes
            reason = "over max_bytes" if total > max_bytes and not entry.removed else ""
        if reason:
            with storage.locked(entry.stage, entry.key, wait=False) as acquired:
                if acquired and storage.remove(entry, keep_hash) and not entry.removed:
                    removed.append(entry._replace(why=reason))
    for stage, key in {
        (path.parent.name, match[1]) for path in local.base.glob("*/.*") if (match := _UNFINISHED.fullmatch(path.name))
    }:
        with local.locked(stage, key, wait=False) as acquired:
            removed += local.sweep(stage, key) if acquired else ()
    return removed

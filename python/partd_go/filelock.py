"""Locks files."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from .errors import Unsupported, failure


def lock(file: int, path: Path, wait: bool = True) -> None:
    """Locks an open file exclusively. Raises BlockingIOError if wait is false and the file is already locked, and
    Unsupported if flock has no effect on this file system."""
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    # Check that the file cannot be locked a second time. Any error counts as a refusal. Closing the second open file
    # keeps the first lock: see CheckExcludes in internal/disk/vfs/lock.go.
    with contextlib.suppress(OSError), open(path, "rb") as second:
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file), os.fstat(second.fileno())):
            problem = "flock excludes no other process on this file system"
            raise failure(Unsupported, "lock", str(path), problem, "use another disk")

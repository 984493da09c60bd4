"""Hashes raw files, and detects whether they change afterwards."""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any

# If a file last changed more than this many nanoseconds ago, any further change shows in its times. FAT has the
# coarsest times: they advance every two seconds.
_MIN_SETTLED_AGE = 3 * 10**9


class RawFiles:
    """Raw files whose contents are part of a stage's key."""

    def __init__(self) -> None:
        # by path: the time before the file was hashed, the file's state at that time, and the hash
        self.states: dict[str, tuple[int, tuple[int, ...], str]] = {}

    def hash(self, path: Any) -> str:
        """Records a file's state and returns the hash of its content."""
        start, state, content = time.time_ns(), _state(path), content_hash(path)
        # The stage may change the working directory, so the path must be absolute.
        self.states.setdefault(os.path.abspath(path), (start, state, content))
        return content

    def have_changed(self) -> bool:
        """Reports whether a file was changed or removed after it was first hashed. For a file that had changed shortly
        before that, it compares the content, because a further change may not show in the file's times."""
        for path, (start, state, content) in self.states.items():
            is_settled = start - max(state[:2]) > _MIN_SETTLED_AGE
            try:
                if _state(path) != state or not is_settled and content_hash(path) != content:
                    return True
            except FileNotFoundError:
                return True
        return False


def _state(path: Any) -> tuple[int, ...]:
    info = os.stat(path)
    return info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_dev, info.st_ino


def content_hash(path: Any) -> str:
    hasher = hashlib.sha256()
    with open(path, "rb") as f:
        while piece := f.read(1 << 20):
            hasher.update(piece)
    return hasher.hexdigest()

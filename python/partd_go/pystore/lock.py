"""A lock of a collection, among threads, processes and clients."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ..errors import Error, TimedOut
from ..tables import NotFound
from .exceptions import TransactionError

if TYPE_CHECKING:
    from .collection import Collection


class CollectionLock:
    """A lock by name, which is renewed while this process lives, and ends with it."""

    def __init__(self, collection: Collection, lock_name: str = "collection", wait: float = 30.0):
        self.collection, self.lock_name, self._wait = collection, lock_name, wait
        self._lease = ""
        self._ended = threading.Event()

    def _call(self, action: str, **options: Any) -> Any:
        return self.collection._tables.action(action, **options)[0]

    def acquire(self, timeout: float = 30.0) -> bool:
        """Waits for the lock, and reports whether it was to be had in time."""
        try:
            got = self._call("partd.lock", bucket=self.collection.collection, name=self.lock_name, timeout=timeout)
        except TimedOut:
            return False
        self._lease, self._ended = got["lease"], threading.Event()
        threading.Thread(target=self._renew, args=(self._lease, self._ended, got["seconds"]), daemon=True).start()
        return True

    def _renew(self, lease: str, ended: threading.Event, seconds: float) -> None:
        while not ended.wait(seconds / 3):
            try:
                self._call("partd.lock", lease=lease)
            except Error:
                return  # it has ended, or its server has

    def held(self) -> bool:
        """Reports whether this process has it still, which it may not where it was stopped for long, or its server was."""
        try:
            self._call("partd.lock", lease=self._lease)
        except NotFound:
            return False
        return True

    def release(self) -> None:
        if self._lease:
            self._ended.set()
            lease, self._lease = self._lease, ""
            self._call("partd.unlock", lease=lease)

    def __enter__(self) -> CollectionLock:
        if not self.acquire(self._wait):
            raise TransactionError(f"Could not acquire lock '{self.lock_name}' in {self._wait:.0f} seconds: see who holds it, or try again")
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

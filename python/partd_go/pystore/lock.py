"""A lock on a collection that excludes other threads, processes and clients."""

from __future__ import annotations

import threading
from typing import Any, Protocol

from ..errors import Error, TimedOut
from ..tables import NotFound, Tables
from .exceptions import TransactionError


class CollectionLike(Protocol):
    """The part of a Collection that a lock uses."""

    collection: str

    @property
    def _tables(self) -> Tables: ...


class CollectionLock:
    """A named lock on the server. A thread renews it while it is held. If the process ends, the lock expires."""

    def __init__(self, collection: CollectionLike, lock_name: str = "collection", wait: float = 30.0):
        self.collection, self.lock_name, self._wait = collection, lock_name, wait
        self._lease = ""
        self._stop_renewing = threading.Event()

    def _call(self, action: str, **options: Any) -> Any:
        return self.collection._tables.action(action, **options)[0]

    def acquire(self, timeout: float = 30.0) -> bool:
        """Waits for the lock. Reports whether it was acquired before the timeout."""
        try:
            granted = self._call("partd.lock", bucket=self.collection.collection, name=self.lock_name, timeout=timeout)
        except TimedOut:
            return False
        self._lease, self._stop_renewing = granted["lease"], threading.Event()
        threading.Thread(
            target=self._renew, args=(self._lease, self._stop_renewing, granted["seconds"]), daemon=True
        ).start()
        return True

    def _renew(self, lease: str, stop: threading.Event, seconds: float) -> None:
        while not stop.wait(seconds / 3):
            try:
                self._call("partd.lock", lease=lease)
            except Error:
                return  # the lock has expired, or the server has stopped

    def held(self) -> bool:
        """Reports whether this process still holds the lock. The lock expires if this process or the server is
        suspended for too long."""
        try:
            self._call("partd.lock", lease=self._lease)
        except NotFound:
            return False
        return True

    def release(self) -> None:
        if self._lease:
            self._stop_renewing.set()
            lease, self._lease = self._lease, ""
            self._call("partd.unlock", lease=lease)

    def __enter__(self) -> CollectionLock:
        if not self.acquire(self._wait):
            raise TransactionError(
                f"Could not acquire lock '{self.lock_name}' in {self._wait:.0f} seconds: try again, or end the "
                "process that holds it"
            )
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

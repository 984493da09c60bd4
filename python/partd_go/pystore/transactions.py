"""Atomic changes to several items in a collection."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import pandas as pd

from . import undo
from .collection import Collection
from .exceptions import TransactionError
from .frames import prepare
from .lock import CollectionLock


class Transaction:
    """A list of changes that commit() applies atomically."""

    def __init__(self, collection: Collection):
        self.collection = collection
        self.operations: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = []
        self._state = ""

    def _add(self, kind: str, item: str, *data: Any, **kwargs: Any) -> None:
        if self._state:
            raise TransactionError(f"Transaction already {self._state}")
        self.operations.append((kind, item, tuple(map(prepare, data)), kwargs))

    def write(self, item: str, data: Any, **kwargs: Any) -> None:
        self._add("_write", item, data, **kwargs)

    def append(self, item: str, data: Any, **kwargs: Any) -> None:
        self._add("_append", item, data, **kwargs)

    def delete(self, item: str) -> None:
        self._add("_delete", item)

    def commit(self) -> None:
        """Applies the changes. If one fails, commit restores the items from a snapshot. If this process is killed, the
        next process that uses the collection restores them."""
        if self._state:
            raise TransactionError(f"Transaction already {self._state}")
        collection, name = self.collection, f"pystore.{uuid.uuid4().hex}"
        with collection._changing() as lock:
            undo.begin(collection._tables, collection.collection, name, (item for _, item, _, _ in self.operations))
            try:
                for kind, item, data, kwargs in self.operations:
                    _check_lock(lock)
                    getattr(collection, kind)(item, *data, **kwargs)
                _check_lock(lock)
                self._state = "committed"
            except BaseException as error:  # includes KeyboardInterrupt
                self._state = "rolled back"
                # If this process has lost the lock, another process undoes this transaction. The collection's note may
                # then describe that process's own transaction, which must not be undone.
                if lock.held():
                    undo.undo(collection._tables, collection.collection)
                if not isinstance(error, Exception):
                    raise
                raise TransactionError(f"Transaction failed: {error}") from error
            undo.end(collection._tables, collection.collection, name)

    def rollback(self) -> None:
        """Discards the changes, which only commit() would apply."""
        if self._state:
            raise TransactionError(f"Transaction already {self._state}")
        self._state = "rolled back"


T = TypeVar("T", bound=Transaction)


def _check_lock(lock: CollectionLock) -> None:
    if not lock.held():
        raise TransactionError(
            "the transaction lost its lock, for example because a process or server was suspended: repeat the changes "
            "in a new transaction"
        )


class BatchTransaction(Transaction):
    """A Transaction that first deletes, then writes, then appends. It combines appends to the same item."""

    def commit(self) -> None:
        by_kind = {
            kind: [operation for operation in self.operations if operation[0] == kind]
            for kind in ("_delete", "_write", "_append")
        }
        appends: dict[str, list[tuple[list[Any], dict[str, Any]]]] = {}
        for _, item, (data,), kwargs in by_kind["_append"]:
            batches = appends.setdefault(item, [])
            frames, options = batches[-1] if batches else ([], {})
            if frames and options == kwargs and _concat_key(frames[0]) == _concat_key(data):
                frames.append(data)
            else:
                batches.append(([data], kwargs))
        joined = [
            ("_append", item, (pd.concat(frames),), kwargs)
            for item, batches in appends.items()
            for frames, kwargs in batches
        ]
        self.operations = [*by_kind["_delete"], *by_kind["_write"], *joined]
        super().commit()


def _concat_key(data: Any) -> Any:
    """Returns the properties of a frame that must be equal for pandas.concat to change no types."""
    columns = list(data.dtypes.items()) if isinstance(data, pd.DataFrame) else [data.name, data.dtype]
    return columns, type(data.index), data.index.dtype, list(data.index.names)


@contextmanager
def _commit_at_end(txn: T) -> Iterator[T]:
    try:
        yield txn
    except BaseException:
        if not txn._state:
            txn.rollback()
        raise
    txn.commit()


def transaction(collection: Collection) -> AbstractContextManager[Transaction]:
    """Returns a context manager that commits the changes in its block atomically, or discards them if the block raises.

        collection = pystore.store("market").collection("trades")
        with pystore.transaction(collection) as txn:
            txn.write("AAPL", frame, overwrite=True)

    The collection does not change before the end of the block.
    """
    return _commit_at_end(Transaction(collection))


def batch_transaction(collection: Collection) -> AbstractContextManager[BatchTransaction]:
    """Like transaction(), but with a BatchTransaction."""
    return _commit_at_end(BatchTransaction(collection))


def with_lock(collection: Collection, lock_name: str = "collection") -> CollectionLock:
    """Returns a lock for a with block. Only one thread in all processes can hold it at a time."""
    return CollectionLock(collection, lock_name)

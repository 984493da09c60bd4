"""Changes of several items, all or none."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import pandas as pd

from . import undo
from .collection import Collection
from .exceptions import TransactionError
from .frames import prepared
from .lock import CollectionLock


class Transaction:
    """Changes that commit() makes: of one that fails none remains."""

    def __init__(self, collection: Collection):
        self.collection = collection
        self.operations: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = []
        self._ended = ""

    def _add(self, kind: str, item: str, *data: Any, **kwargs: Any) -> None:
        if self._ended:
            raise TransactionError(f"Transaction already {self._ended}")
        self.operations.append((kind, item, tuple(map(prepared, data)), kwargs))

    def write(self, item: str, data: Any, **kwargs: Any) -> None:
        self._add("_write", item, data, **kwargs)

    def append(self, item: str, data: Any, **kwargs: Any) -> None:
        self._add("_append", item, data, **kwargs)

    def delete(self, item: str) -> None:
        self._add("_delete", item)

    def commit(self) -> None:
        """Makes the changes; where one fails, or this process is killed, the items are as a snapshot has kept them."""
        if self._ended:
            raise TransactionError(f"Transaction already {self._ended}")
        collection, name = self.collection, f"pystore.{uuid.uuid4().hex}"
        with collection._changing() as lock:
            undo.begin(collection, name, (item for _, item, _, _ in self.operations))
            try:
                for kind, item, data, kwargs in self.operations:
                    _must_hold(lock)
                    getattr(collection, kind)(item, *data, **kwargs)
                _must_hold(lock)
                self._ended = "committed"
            except BaseException as error:  # also Ctrl-C
                self._ended = "rolled back"
                if lock.held():  # else others take it back, and what is noted may be theirs
                    undo.undo(collection)
                if not isinstance(error, Exception):
                    raise
                raise TransactionError(f"Transaction failed: {error}") from error
            undo.end(collection, name)

    def rollback(self) -> None:
        """Forgets the changes, of which none was made."""
        if self._ended:
            raise TransactionError(f"Transaction already {self._ended}")
        self._ended = "rolled back"


T = TypeVar("T", bound=Transaction)


def _must_hold(lock: CollectionLock) -> None:
    if not lock.held():
        raise TransactionError("its lock was lost, for example because a process or server was stopped: commit the changes in another one")


class BatchTransaction(Transaction):
    """A Transaction that deletes first, then writes, and appends to each item at once."""

    def commit(self) -> None:
        order = {kind: [part for part in self.operations if part[0] == kind] for kind in ("_delete", "_write", "_append")}
        appends: dict[str, list[tuple[list[Any], dict[str, Any]]]] = {}
        for _, item, (data,), kwargs in order["_append"]:
            known = appends.setdefault(item, [])
            if known and known[-1][1] == kwargs and _kind(known[-1][0][0]) == _kind(data):
                known[-1][0].append(data)
            else:
                known.append(([data], kwargs))
        joined = [("_append", item, (pd.concat(parts),), kwargs) for item, known in appends.items() for parts, kwargs in known]
        self.operations = [*order["_delete"], *order["_write"], *joined]
        super().commit()


def _kind(data: Any) -> Any:
    """What is equal of data that can be joined without a change of its columns, their types or its index."""
    columns = list(data.dtypes.items()) if isinstance(data, pd.DataFrame) else [data.name, data.dtype]
    return columns, type(data.index), data.index.dtype, list(data.index.names)


@contextmanager
def _running(made: T) -> Iterator[T]:
    try:
        yield made
    except BaseException:
        if not made._ended:
            made.rollback()
        raise
    made.commit()


def transaction(collection: Collection) -> AbstractContextManager[Transaction]:
    """with transaction(collection) as txn: txn.write(...); all is committed at the end, or nothing."""
    return _running(Transaction(collection))


def batch_transaction(collection: Collection) -> AbstractContextManager[BatchTransaction]:
    """The same for a BatchTransaction."""
    return _running(BatchTransaction(collection))


def with_lock(collection: Collection, lock_name: str = "collection") -> CollectionLock:
    """with with_lock(collection): nobody else, in any process, who asks for it has this lock."""
    return CollectionLock(collection, lock_name)

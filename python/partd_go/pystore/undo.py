"""Taking back a transaction of which a part was made.

Until it has ended, the collection's metadata tells of it: who was killed meanwhile does not
take it back, and the next to change the collection, or to open it, does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .collection import Collection

_KEY = "pystore.transaction"


def begin(collection: Collection, snapshot: str, items: Iterable[str]) -> None:
    """Notes what a transaction is about to change, and takes the snapshot of how it was."""
    of, tables = collection.collection, collection._tables
    tables._ask("partd.change-metadata", bucket=of, set={_KEY: {"snapshot": snapshot, "items": sorted(set(items))}})
    tables._ask("partd.snapshot", bucket=of, name=snapshot)


def end(collection: Collection, snapshot: str) -> None:
    """Forgets it. Once its snapshot has gone, nothing is taken back."""
    of, tables = collection.collection, collection._tables
    tables._ask("partd.delete-snapshots", bucket=of, name=snapshot)
    tables._ask("partd.change-metadata", bucket=of, remove=[_KEY])


def begun(collection: Collection) -> bool:
    """Reports whether a transaction has not ended."""
    return _noted(collection) is not None


def _noted(collection: Collection) -> Any:
    return (collection._tables._ask("partd.bucket-metadata", bucket=collection.collection)[0] or {}).get(_KEY)


def undo(collection: Collection) -> None:
    """Makes the items of a transaction that has not ended what they were. The caller has the lock of changes."""
    of, tables = collection.collection, collection._tables
    noted = _noted(collection)
    if noted is None:
        return
    snapshot, items = noted["snapshot"], set(noted["items"])
    if snapshot in collection.list_snapshots():
        before = set(tables.list(of, snapshot=snapshot))
        if restored := sorted(before & items):
            tables._ask("partd.restore", bucket=of, name=snapshot, tables=restored)
        if made := sorted((collection.list_items() & items) - before):
            tables.delete(*made, bucket=of)
    end(collection, snapshot)

"""Undoes unfinished transactions.

While a transaction runs, the collection's metadata has a note of it. If its process is killed,
the next process that changes or opens the collection undoes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .collection import Collection

_KEY = "pystore.transaction"


def begin(collection: Collection, snapshot: str, items: Iterable[str]) -> None:
    """Records the items that a transaction will change, and takes a snapshot of their state."""
    bucket, tables = collection.collection, collection._tables
    tables._ask("partd.change-metadata", bucket=bucket, set={_KEY: {"snapshot": snapshot, "items": sorted(set(items))}})
    tables._ask("partd.snapshot", bucket=bucket, name=snapshot)


def end(collection: Collection, snapshot: str) -> None:
    """Removes the snapshot and then the note. Without its snapshot, a transaction can no longer be undone."""
    bucket, tables = collection.collection, collection._tables
    tables._ask("partd.delete-snapshots", bucket=bucket, name=snapshot)
    tables._ask("partd.change-metadata", bucket=bucket, remove=[_KEY])


def has_unfinished(collection: Collection) -> bool:
    """Reports whether there is an unfinished transaction."""
    return _read_note(collection) is not None


def _read_note(collection: Collection) -> Any:
    return (collection._tables._ask("partd.bucket-metadata", bucket=collection.collection)[0] or {}).get(_KEY)


def undo(collection: Collection) -> None:
    """Restores the items of an unfinished transaction. The caller must hold the collection's lock for changes."""
    bucket, tables = collection.collection, collection._tables
    note = _read_note(collection)
    if note is None:
        return
    snapshot, items = note["snapshot"], set(note["items"])
    if snapshot in collection.list_snapshots():
        before = set(tables.list(bucket, snapshot=snapshot))
        if restored := sorted(before & items):
            tables._ask("partd.restore", bucket=bucket, name=snapshot, tables=restored)
        if new_items := sorted((collection.list_items() & items) - before):
            tables.delete(*new_items, bucket=bucket)
    end(collection, snapshot)

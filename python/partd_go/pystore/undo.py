"""Undoes unfinished transactions.

While a transaction runs, a note in the collection's metadata names the transaction's snapshot and the items that it
changes. If the process is killed, the next process that changes or opens the collection undoes the transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..tables import Tables

_KEY = "pystore.transaction"


def begin(tables: Tables, bucket: str, snapshot: str, items: Iterable[str]) -> None:
    """Records the items that a transaction will change and takes a snapshot of their state."""
    tables._ask("partd.change_metadata", bucket=bucket, set={_KEY: {"snapshot": snapshot, "items": sorted(set(items))}})
    tables._ask("partd.snapshot", bucket=bucket, name=snapshot)


def end(tables: Tables, bucket: str, snapshot: str) -> None:
    """Ends a transaction. The order matters: once the snapshot is removed, the transaction can no longer be undone."""
    tables._ask("partd.delete_snapshots", bucket=bucket, name=snapshot)
    tables._ask("partd.change_metadata", bucket=bucket, remove=[_KEY])


def has_unfinished(tables: Tables, bucket: str) -> bool:
    """Reports whether there is an unfinished transaction."""
    return _read_note(tables, bucket) is not None


def _read_note(tables: Tables, bucket: str) -> Any:
    return (tables._ask("partd.bucket_metadata", bucket=bucket)[0] or {}).get(_KEY)


def undo(tables: Tables, bucket: str) -> None:
    """Restores the items of an unfinished transaction. The caller must hold the collection's lock for changes."""
    note = _read_note(tables, bucket)
    if note is None:
        return
    snapshot, items = note["snapshot"], set(note["items"])
    if any(kept.name == snapshot for kept in tables.snapshots(bucket)):
        before = set(tables.list(bucket, snapshot=snapshot))
        if restored := sorted(before & items):
            tables._ask("partd.restore", bucket=bucket, name=snapshot, tables=restored)
        if new_items := sorted((set(tables.list(bucket)) & items) - before):
            tables.delete(*new_items, bucket=bucket)
    end(tables, bucket, snapshot)

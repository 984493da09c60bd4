"""Methods for snapshots, settings, metadata, rules, column changes, maintenance and locks."""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from ..errors import Error, failure
from .arguments import names as to_names
from .connection import Connection
from .errors import NotFound
from .results import Json, time_of

_POLL = 0.1  # how often, in seconds, a lock checks that its server is still running

T = TypeVar("T")
Names = str | Sequence[str]


class Snapshot(NamedTuple):
    """A snapshot of a bucket: a name for the state of its tables at one point in time.

        tables.snapshot("before")
        print(tables.snapshots())

    The field tables is the number of tables in the snapshot.
    """

    name: str
    time: datetime.datetime
    tables: int
    metadata: dict[str, Json]


class Operations(Connection):
    """Operations on a server's tables.

    If an optional table name is omitted, a method applies to the bucket. timeout limits a call, in seconds.
    """

    def snapshot(self, name: str, bucket: str = "", *, timeout: float | None = None) -> None:
        """Gives a name to the current state of all tables in a bucket. This state does not expire until the snapshot is
        deleted, and get(…, snapshot=name) reads it. Raises Exists if the bucket already has a snapshot of this name."""
        self._ask("partd.snapshot", timeout, bucket=bucket, name=name)

    def snapshots(self, bucket: str = "", *, timeout: float | None = None) -> list[Snapshot]:
        """Returns the snapshots of a bucket, oldest first."""
        (entries,) = self._ask("partd.snapshots", timeout, bucket=bucket)
        return [
            Snapshot(entry["name"], time_of(entry["time"]), entry["tables"], entry.get("metadata") or {})
            for entry in entries or ()
        ]

    def delete_snapshots(self, *names: str, bucket: str = "", timeout: float | None = None) -> None:
        """Deletes snapshots of a bucket. The tables and their rows stay."""
        for name in to_names(names, "delete_snapshots"):
            self._ask("partd.delete_snapshots", timeout, bucket=bucket, name=name)

    def restore(self, snapshot: str, *tables: str, bucket: str = "", timeout: float | None = None) -> None:
        """Restores the named tables in a bucket to their state in a snapshot. Without names, it restores the whole
        bucket, and deletes tables created since the snapshot. A restored table gets a new version, and keeps its older
        ones."""
        self._ask("partd.restore", timeout, bucket=bucket, name=snapshot, tables=to_names(tables, "restore"))

    def settings(self, name: str, bucket: str = "", *, timeout: float | None = None) -> dict[str, Json]:
        """Returns the settings of a table that are not empty, by name: time, keys, on_duplicate, partition, evolution,
        compression, maintenance, keep_versions or keep_age."""
        (current,) = self._ask("partd.settings", timeout, bucket=bucket, name=name)
        return {key: value for key, value in current.items() if value}

    def set_settings(
        self, name: str, settings: Mapping[str, Any], bucket: str = "", *, timeout: float | None = None
    ) -> None:
        """Changes the given settings of a table and keeps the others. For example, {"evolution": "add_only"} lets puts
        add columns. None or an empty value unsets a setting."""
        self._ask("partd.set_settings", timeout, bucket=bucket, name=name, settings={**settings}, only=[*settings])

    def metadata(self, name: str = "", bucket: str = "", *, timeout: float | None = None) -> dict[str, Json]:
        """Returns the metadata of a table or a bucket: the values that set_metadata has set, by key."""
        if not name:
            return self._ask("partd.bucket_metadata", timeout, bucket=bucket)[0] or {}
        return self._ask("partd.describe", timeout, bucket=bucket, name=name)[0]["info"]["Metadata"] or {}

    def set_metadata(
        self,
        name: str = "",
        set: Mapping[str, Any] | None = None,
        bucket: str = "",
        *,
        remove: Names = (),
        replace: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Changes the metadata of a table or a bucket: adds or replaces the keys in set, with their values, and removes
        the keys in remove. If replace is true, it removes every key that is not in set."""
        self._ask(
            "partd.change_metadata",
            timeout,
            bucket=bucket,
            name=name,
            set={**(set or {})},
            remove=to_names(remove, "remove"),
            replace=replace,
        )

    def rules(self, name: str = "", bucket: str = "", *, timeout: float | None = None) -> list[dict[str, Json]]:
        """Returns the rules that the rows of a table, or of all tables in a bucket, must satisfy."""
        (current,) = self._ask("partd.rules", timeout, bucket=bucket, name=name)
        return current or []

    def edit_rules(
        self,
        name: str = "",
        add: Sequence[Mapping[str, Any]] = (),
        bucket: str = "",
        *,
        sets: Names = (),
        time: str = "",
        remove: Names = (),
        disable: Names = (),
        enable: Names = (),
        timeout: float | None = None,
    ) -> None:
        """Adds rules to a table or a bucket. Then removes, disables and enables the named rules.

        Args:
            add: The rules to add, such as {"name": "positive", "kind": "range", "column": "price", "min": "0"}. A rule
                replaces an existing one of the same name.
            sets: Names of sets of predefined rules to add, "time_series" or "prices".
            time: The time column that predefined rules check. The default is the one in the table's settings, or else
                the table's first column with times or dates.
            remove, disable, enable: Names of rules.
        """
        named = {"sets": sets, "remove": remove, "disable": disable, "enable": enable}
        edit: dict[str, Any] = {key: to_names(value, key) for key, value in named.items()}
        self._ask(
            "partd.edit_rules", timeout, bucket=bucket, name=name, add=[{**rule} for rule in add], time=time, **edit
        )

    def delete_rows(self, name: str, where: str, bucket: str = "", *, timeout: float | None = None) -> int:
        """Deletes the rows of a table that match a filter such as "price > 100". Returns how many rows it deleted."""
        return int(self._ask("partd.delete_rows", timeout, bucket=bucket, name=name, where=where)[0]["deleted"])

    def evolve(self, name: str, *changes: Mapping[str, str], bucket: str = "", timeout: float | None = None) -> None:
        """Changes the columns of a table. A change is one of

            {"op": "add", "column": "x", "type": "double"}
            {"op": "widen", "column": "x", "type": "int64"}
            {"op": "rename", "column": "x", "to": "y"}
            {"op": "drop", "column": "x"}

        All changes take effect together.
        """
        self._ask("partd.evolve", timeout, bucket=bucket, name=name, changes=[{**change} for change in changes])

    def fold(self, *names: str, bucket: str = "", timeout: float | None = None) -> dict[str, int]:
        """Moves the small appends of the named tables, or of all tables in the bucket, into data files. Returns counts:
        "Tables" is the number of changed tables, and "Rows" the number of moved rows."""
        return self._maintain("partd.fold", names, bucket, timeout)

    def compact(self, *names: str, bucket: str = "", timeout: float | None = None) -> dict[str, int]:
        """Merges the small data files of the named tables, or of all tables in the bucket. Returns counts:
        "FilesBefore" files were replaced by "FilesAfter" files, in "Tables" tables."""
        return self._maintain("partd.compact", names, bucket, timeout)

    def expire(
        self,
        *names: str,
        bucket: str = "",
        older_than: datetime.timedelta = datetime.timedelta(days=7),
        keep: int = 1,
        grace: datetime.timedelta = datetime.timedelta(days=1),
        timeout: float | None = None,
    ) -> dict[str, int]:
        """Removes old versions of the named tables, or of all tables in the bucket, and then files that nothing uses.
        It keeps all versions in snapshots. Returns counts: "Versions", "FilesRemoved", "BytesRemoved", and
        "FilesWaiting", the number of unused files that grace still protects.

        Args:
            older_than: How old a version must be to be removed.
            keep: How many of the newest versions of each table are kept, whatever their age.
            grace: How long a file must have been unused before it is removed. It may be timedelta(0) if no other
                program uses the directory or bucket and nothing is being read.
        """
        age, unused = (int(limit.total_seconds() * 1e9) for limit in (older_than, grace))
        return self._maintain("partd.expire", names, bucket, timeout, OlderThan=age, Keep=keep, Grace=unused or -1)

    def _maintain(
        self, kind: str, names: Sequence[str], bucket: str, timeout: float | None, **options: Any
    ) -> dict[str, int]:
        (counts,) = self._ask(kind, timeout, Buckets=[bucket], Tables=to_names(names, kind) or None, **options)
        return dict(counts)

    @contextlib.contextmanager
    def lock(
        self, name: str, bucket: str = "", *, seconds: float = 30.0, timeout: float | None = None
    ) -> Iterator[None]:
        """Holds a lock on the server for the duration of a with block, such as with tables.lock("daily job"). No other
        client can hold the same lock.

        Raises TimedOut if the lock is not granted within timeout. If this process dies, the server releases the lock
        after the given number of seconds. If the server restarts, the lock is acquired again. If another client
        acquired it first, leaving the block raises Error."""
        request = {"bucket": bucket, "name": name, "seconds": seconds}
        (granted,) = self._ask("partd.lock", timeout, **request)
        stop = threading.Event()
        interval = granted["seconds"] / 3  # if seconds is 0, the server chooses how long the lock lasts

        def renew() -> None:
            renewed = time.monotonic()
            while not stop.wait(min(interval, _POLL)):
                if time.monotonic() - renewed < interval and not self.ended():
                    continue
                renewed = time.monotonic()
                with contextlib.suppress(Error):  # the server may have stopped
                    try:
                        self._ask("partd.lock", interval, lease=granted["lease"])
                    except NotFound:  # the server dropped the lock when it stopped
                        granted["lease"] = ""  # means "lost" below, unless the next line gets the lock again
                        granted.update(self._ask("partd.lock", interval, **request)[0])

        renewer = threading.Thread(target=renew, name="partd lock", daemon=True)
        renewer.start()
        try:
            yield
        finally:
            stop.set()
            renewer.join(interval)
            with contextlib.suppress(Error):  # if unlocking fails, the lock expires by itself
                self._ask("partd.unlock", lease=granted["lease"])
        if not granted["lease"]:
            raise failure(
                Error,
                "lock",
                self.url,
                f"the lock {name!r} was lost when the server stopped",
                "another client may have held it since",
            )

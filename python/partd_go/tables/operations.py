"""Methods for snapshots, settings, metadata, rules, changes of columns, upkeep and locks."""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from ..errors import Error, Unsupported, failure
from .arguments import names as to_names
from .connection import Connection
from .errors import NotFound
from .results import Json, time_of

_POLL = 0.1  # seconds between checks whether the server of a lock has ended

T = TypeVar("T")
Names = str | Sequence[str]


class Snapshot(NamedTuple):
    """A snapshot of a bucket: a name for the state of its tables at a time."""

    name: str
    time: datetime.datetime
    tables: int
    metadata: dict[str, Json]


class Operations(Connection):
    """Each method calls an action of the server. A call without a table's name, if that is possible, is about the bucket."""

    def snapshot(self, name: str, bucket: str = "", *, timeout: float | None = None) -> None:
        """Names the current state of all tables of a bucket, which then never expires: get(…, snapshot=name) reads it."""
        self._ask("partd.snapshot", timeout, bucket=bucket, name=name)

    def snapshots(self, bucket: str = "", *, timeout: float | None = None) -> list[Snapshot]:
        """Returns the snapshots of a bucket, oldest first."""
        (entries,) = self._ask("partd.snapshots", timeout, bucket=bucket)
        return [Snapshot(entry["name"], time_of(entry["time"]), entry["tables"], entry.get("metadata") or {}) for entry in entries or ()]

    def delete_snapshots(self, *names: str, bucket: str = "", timeout: float | None = None) -> None:
        """Deletes snapshots, but no tables."""
        for name in to_names(names, "delete_snapshots"):
            self._ask("partd.delete_snapshots", timeout, bucket=bucket, name=name)

    def restore(self, snapshot: str, *tables: str, bucket: str = "", timeout: float | None = None) -> None:
        """Makes the state in a snapshot the current state of tables (default: of all tables in the snapshot)."""
        self._ask("partd.restore", timeout, bucket=bucket, name=snapshot, tables=to_names(tables, "restore"))

    def settings(self, name: str, bucket: str = "", *, timeout: float | None = None) -> dict[str, Json]:
        """Returns a table's settings: time, keys, on_duplicate, partition, evolution, compression, maintenance, keep_versions, keep_age."""
        (found,) = self._ask("partd.settings", timeout, bucket=bucket, name=name)
        return {key: value for key, value in found.items() if value}

    def set_settings(self, name: str, settings: Mapping[str, Any], bucket: str = "", *, timeout: float | None = None) -> None:
        """Changes some of a table's settings. For example, {"evolution": "add_only"} lets puts add columns. None or an empty value
        unsets a setting. A server of an earlier version gets all settings, which can undo another client's concurrent change."""
        try:
            self._ask("partd.set_settings", timeout, bucket=bucket, name=name, settings={**settings}, only=[*settings])
        except Unsupported:
            current = self.settings(name, bucket, timeout=timeout)
            self._ask("partd.set_settings", timeout, bucket=bucket, name=name, settings={**current, **settings})

    def metadata(self, name: str = "", bucket: str = "", *, timeout: float | None = None) -> dict[str, Json]:
        """Returns the metadata of a table or a bucket."""
        if not name:
            return self._ask("partd.bucket_metadata", timeout, bucket=bucket)[0] or {}
        return self._ask("partd.describe", timeout, bucket=bucket, name=name)[0]["info"]["Metadata"] or {}

    def set_metadata(
        self, name: str = "", set: Mapping[str, Any] | None = None, bucket: str = "", *, remove: Names = (), replace: bool = False, timeout: float | None = None
    ) -> None:  # fmt: skip
        """Sets keys in the metadata of a table or a bucket, and removes others. replace removes all keys that are not in set."""
        self._ask("partd.change_metadata", timeout, bucket=bucket, name=name, set={**(set or {})}, remove=to_names(remove, "remove"), replace=replace)

    def rules(self, name: str = "", bucket: str = "", *, timeout: float | None = None) -> list[dict[str, Json]]:
        """Returns the rules that rows must satisfy; docs/rules.md of the tables module describes them."""
        (found,) = self._ask("partd.rules", timeout, bucket=bucket, name=name)
        return found or []

    def edit_rules(
        self, name: str = "", add: Sequence[Mapping[str, Any]] = (), bucket: str = "", *, sets: Names = (), time: str = "",
        remove: Names = (), disable: Names = (), enable: Names = (), timeout: float | None = None,
    ) -> None:  # fmt: skip
        """Adds rules, such as {"name": "positive", "kind": "range", "column": "price", "min": "0"}, and predefined sets of rules,
        "time_series" or "prices". remove, disable and enable are names of rules."""
        named = {"sets": sets, "remove": remove, "disable": disable, "enable": enable}
        edit: dict[str, Any] = {key: to_names(value, key) for key, value in named.items()}
        self._ask("partd.edit_rules", timeout, bucket=bucket, name=name, add=[{**rule} for rule in add], time=time, **edit)

    def delete_rows(self, name: str, where: str, bucket: str = "", *, timeout: float | None = None) -> int:
        """Deletes the rows that match a filter such as "price > 100", and returns their number."""
        return int(self._ask("partd.delete_rows", timeout, bucket=bucket, name=name, where=where)[0]["deleted"])

    def evolve(self, name: str, *changes: Mapping[str, str], bucket: str = "", timeout: float | None = None) -> None:
        """Changes a table's columns: {"op": "add", "column": "x", "type": "double"}, {"op": "widen", …}, {"op": "rename",
        "column": "x", "to": "y"}, or {"op": "drop", "column": "x"}."""
        self._ask("partd.evolve", timeout, bucket=bucket, name=name, changes=[{**change} for change in changes])

    def fold(self, *names: str, bucket: str = "", timeout: float | None = None) -> dict[str, int]:
        """Moves small appends into files (default: of all tables of the bucket), and returns what was done."""
        return self._maintain("partd.fold", names, bucket, timeout)

    def compact(self, *names: str, bucket: str = "", timeout: float | None = None) -> dict[str, int]:
        """Merges the small files of tables, and returns what was done."""
        return self._maintain("partd.compact", names, bucket, timeout)

    def expire(
        self, *names: str, bucket: str = "", older_than: datetime.timedelta = datetime.timedelta(days=7), keep: int = 1,
        grace: datetime.timedelta = datetime.timedelta(days=1), timeout: float | None = None,
    ) -> dict[str, int]:  # fmt: skip
        """Removes versions of tables (default: of all tables of the bucket) older than older_than, except the newest keep and those in
        snapshots, and the files that have been unused for the time grace. If no other program uses the directory or bucket, and no
        read is running, grace can be timedelta(0)."""
        age, unused = (int(limit.total_seconds() * 1e9) for limit in (older_than, grace))
        return self._maintain("partd.expire", names, bucket, timeout, OlderThan=age, Keep=keep, Grace=unused or -1)

    def _maintain(self, kind: str, names: Sequence[str], bucket: str, timeout: float | None, **options: Any) -> dict[str, int]:
        (done,) = self._ask(kind, timeout, Bucket=bucket, Tables=to_names(names, kind) or None, **options)
        return dict(done)

    @contextlib.contextmanager
    def lock(self, name: str, bucket: str = "", *, seconds: float = 30.0, timeout: float | None = None) -> Iterator[None]:
        """Holds a lock at the server in a with block: with tables.lock("daily job"). It excludes all other clients, and raises
        TimedOut if it does not get the lock before the timeout. If this process is killed, the lock ends after seconds. If the
        server starts again, the lock is taken again at once; if another client was faster, the block's end raises Error."""
        wanted = {"bucket": bucket, "name": name, "seconds": seconds}
        (granted,) = self._ask("partd.lock", timeout, **wanted)
        stop, interval = threading.Event(), granted["seconds"] / 3  # for seconds=0, the server chooses

        def renew() -> None:
            renewed = time.monotonic()
            while not stop.wait(min(interval, _POLL)):
                if time.monotonic() - renewed < interval and not self.ended():
                    continue
                renewed = time.monotonic()
                with contextlib.suppress(Error):  # the server may have ended
                    try:
                        self._ask("partd.lock", interval, lease=granted["lease"])
                    except NotFound:  # the server released the lock when it ended
                        granted["lease"] = ""
                        granted.update(self._ask("partd.lock", interval, **wanted)[0])

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
            raise failure(Error, "lock", self.url, f"the lock {name!r} was lost when the server ended", "another client may have held it meanwhile")

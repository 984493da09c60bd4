"""Shares pandas DataFrames among nodes by name.

    with pullframe({"nats://a:4222"}, "frames") as pf:
        pf.save("prices", frame)
        frame = pf.load("prices")

It needs pandas, pyarrow, and the wheel partd-go-tables, which contains the node's program.

Experimental: it may change in any minor version.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .errors import (
    Closed,
    Error,
    Killed,
    Misuse,
    UnknownOutcome,
    extra,
    failure,
    meaning,
    parse_output,
    start_failure,
)

with extra("tables"):
    import pyarrow as pa

from .frames import NOTE, from_arrow, index_names, to_arrow
from .shared import SharedProcess
from .shown import Summary, Shown, size
from .tables.errors import KINDS, NotFound
from .tables.server import IGNORED_ENV_PREFIXES, program

if TYPE_CHECKING:
    import pandas

__all__ = ["AllSyncFailed", "Conflict", "NoResourceAvailable", "NotFound", "PullFrame", "SyncFailed", "pullframe"]


class SyncFailed(Error, ConnectionError):
    """No other node could supply the missing rows."""


class Conflict(Error):
    """Another node saved the table at the same time. Nothing was saved: save again."""


AllSyncFailed, NoResourceAvailable = SyncFailed, NotFound  # the names in the package pullframe

_ERRORS: dict[str, type[Error]] = {"sync_failed": SyncFailed, "conflict": Conflict, "not_found": NotFound}
_ERRORS_BY_KIND = {**KINDS, **{kind: (error, "") for kind, error in _ERRORS.items()}}


class PullFrame(SharedProcess, Shown):
    """A node, as returned by pullframe(). It shares the frames in its directory with other nodes until close().

        with pullframe({"nats://a:4222"}, "frames") as pf:
            pf.save("prices", frame)
            frame = pf.load("prices")

    Several threads may use it.
    """

    _ignored_env_prefixes = IGNORED_ENV_PREFIXES

    def __init__(
        self,
        hosts: Iterable[str] | str,
        directory: str | os.PathLike[str],
        sync_timeout: float = 60.0,
        *,
        max_staleness: float = 0.0,
        listen: str = "localhost:0",
        flags: tuple[str, ...] = (),
    ) -> None:
        self.directory = os.path.abspath(os.path.expanduser(directory))
        self._program = program()
        host_list = [hosts] if isinstance(hosts, str) else sorted(hosts)
        registry = ",".join(host if "://" in host else f"nats://{host}" for host in host_list)
        self._flags = ["--dir", self.directory, f"--sync-timeout={float(sync_timeout):f}s"]
        self._flags += [f"--registry={registry}"] if registry else []
        self._flags += flags
        self._serve_command = [
            self._program,
            "pull",
            "serve",
            f"--listen={listen}",
            f"--max-staleness={float(max_staleness):f}s",
            *self._flags,
        ]
        working_directory = os.getcwd() if flags else ""  # flags may contain relative paths
        digest = hashlib.sha256(
            json.dumps([*self._serve_command, working_directory, os.uname().nodename]).encode()
        ).hexdigest()[:16]
        super().__init__(directory, f"node-{os.getuid()}-{digest}")
        self._connect_or_start()

    def __enter__(self) -> PullFrame:
        return self

    def _command(self, socket_directory: str) -> list[str]:
        return self._serve_command

    def save(self, name: str, df: Any) -> None:
        """Saves a DataFrame with a DatetimeIndex under a name. If there is already a table of this name, the frame is
        merged into it: for timestamps that are already in the table, the frame's values replace the table's, except in
        columns that the frame lacks. New columns are null in rows that existed before. Raises Conflict if another
        node saved the table at the same time."""
        import pandas as pd

        if not isinstance(df, pd.DataFrame) or not isinstance(df.index, pd.DatetimeIndex):
            raise Misuse(f"save {name!r}: pass a pandas DataFrame with a DatetimeIndex")
        index = index_names([df.index.name], df.columns)[0]
        if index in df.columns:
            raise Misuse(f"save {name!r}: a column has the index's name {index!r}: rename one")
        for label, role in ((index, "the index"), *((column, "a column") for column in df.columns)):
            if not isinstance(label, str):
                raise Misuse(
                    f"save {name!r}: the name {label!r} of {role} has type {type(label).__name__} and would come "
                    "back as text: rename it"
                )
        rows = to_arrow(df, keep_dictionaries=False).replace_schema_metadata()  # a node does not store dictionaries
        rows = rows.select([df.shape[1], *range(df.shape[1])]).rename_columns([index, *df.columns])
        if df.index.name is None:
            field = rows.schema.field(0)
            note = json.dumps({**_note_of(field), "unnamed": True})  # keep the rest of the note, such as the time zone
            rows = rows.cast(rows.schema.set(0, field.with_metadata({**(field.metadata or {}), NOTE: note})))
        with tempfile.NamedTemporaryFile() as file:
            with pa.ipc.new_file(file, rows.schema) as writer:
                writer.write_table(rows)
            file.flush()
            self._run("save", ["--format=arrow", "--", name, file.name], name).close()

    def load(self, name: str, start: datetime | None = None, end: datetime | None = None) -> pandas.DataFrame:
        """Returns a table's rows from start to end, both inclusive, as a DataFrame ordered by time. None means no
        limit. load() first fetches missing rows from other nodes. Times without a zone are in UTC. Raises NotFound if
        there is no such table, and SyncFailed if no other node could supply the rows."""
        import pandas as pd

        flags = ["--format=arrow"]
        if start is not None:
            flags.append(f"--from={_utc_text(pd.Timestamp(start))}")
        if end is not None:
            flags.append(f"--to={_utc_text(pd.Timestamp(end).as_unit('ns') + pd.Timedelta(1, 'ns'))}")
        with self._run("get", [*flags, "--", name], name) as file:
            rows = pa.ipc.open_stream(file).read_all()
        index = next(field for field in rows.schema if pa.types.is_timestamp(field.type))
        frame = from_arrow(rows, "pandas").set_index(index.name)
        return frame.rename_axis(index=None) if _note_of(index).get("unnamed") else frame

    def _summary(self) -> Summary:
        title = f"PullFrame in {self.directory}"
        try:
            with self._run("list", []) as file:
                lines = [
                    re.fullmatch(r"(.*?) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)", line)
                    for line in file.read().decode().splitlines()[1:]
                ]
        except Error as error:
            return f"{title}: {error}", (), ()
        rows = [
            (name, version, count, size(int(n)), holders)
            for name, version, count, n, _, holders in (line.groups() for line in lines if line)
        ]
        return f"{title}: {len(rows)} tables", ("name", "version", "rows", "size", "nodes"), rows

    def _run(self, command: str, arguments: list[str], name: str = "") -> Any:
        """Runs a command of `partd-tables pull` on the node. Returns the command's output file."""
        op = f"{command} {name!r}" if name else command
        out = tempfile.NamedTemporaryFile()
        try:
            call = json.dumps({"Args": [command, *arguments], "Out": out.name}).encode()
            reply = self._ask(op, call)
            if reply is None and command != "save":
                reply = self._ask(op, call)  # the node was killed: try once more, with a new node
            if reply is None:
                error_class = UnknownOutcome if command == "save" else Killed
                raise failure(error_class, op, self.directory, "the node was killed during the call", "repeat the call")
            if reply:
                details, cause = parse_output(reply)
                kind, advice = meaning(details["kinds"], _ERRORS_BY_KIND) or (Error, "")
                raise failure(kind, op, self.directory, cause, advice)
        except BaseException:
            out.close()
            raise
        return out

    def _ask(self, op: str, call: bytes) -> str | None:
        """Sends a call to the node, after starting a new one if the last node was killed. Returns "" for success, the
        text of an error, or None if the node was killed during the call."""
        if self._connection is None:
            raise failure(Closed, op, self.directory, "the node is closed", "call pullframe() again")
        try:
            connection = self._connect()
        except OSError:
            self._connect_or_start()
            try:
                connection = self._connect()
            except OSError as error:
                raise start_failure(self.directory, error) from error
        with connection:
            try:
                connection.sendall(call + b"\n")
                with connection.makefile("rb") as reply:
                    answer = reply.readline()
            except ConnectionError:  # the node was killed
                return None
        return str(json.loads(answer)) if answer.endswith(b"\n") else None


def _note_of(field: pa.Field) -> dict[str, Any]:
    """Returns the note (see frames) in a column's metadata. The note of an unnamed index has the key "unnamed"."""
    note: dict[str, Any] = json.loads((field.metadata or {}).get(NOTE, b"{}"))
    return note


def _utc_text(time: Any) -> str:
    return str((time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")).isoformat())


def pullframe(
    hosts: Iterable[str] | str,
    directory: str | os.PathLike[str],
    sync_timeout: float = 60.0,
    *,
    sync_timeo: float | None = None,
    max_staleness: float = 0.0,
    listen: str = "localhost:0",
    flags: tuple[str, ...] = (),
) -> PullFrame:
    """Starts a node that shares the frames in a directory. Returns the node.

        with pullframe({"nats://a:4222"}, "frames") as pf:
            frame = pf.load("prices")

    Args:
        hosts: The NATS servers of the registry through which nodes find each other, such as "a:4222" or
            "nats://a:4222". If empty, the first node on this machine runs the registry.
        directory: Where this node stores its frames.
        sync_timeout: How long load() waits for other nodes, in seconds.
        sync_timeo: Another name for sync_timeout, as in the package pullframe.
        max_staleness: If no other node answers, load() returns this node's own version, provided that it was the newest
            at most this number of seconds ago. Otherwise, load() raises SyncFailed.
        listen: HOST:PORT at which other nodes reach this node.
        flags: Additional flags for `partd-tables pull`, such as ("--lease=5s",).
    """
    timeout = sync_timeout if sync_timeo is None else sync_timeo
    return PullFrame(hosts, directory, timeout, max_staleness=max_staleness, listen=listen, flags=flags)

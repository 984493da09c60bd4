"""partd_go.pull: frames of pandas that all nodes see under one name.

with pullframe({"nats://a:4222"}, "frames") as pf:
    pf.save("prices", frame)
    frame = pf.load("prices")

It needs pandas, pyarrow, and the wheel partd-go-tables, which has the node.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pyarrow as pa

from .errors import Error, NoServer, UnknownOutcome, failure
from .frames import from_arrow, to_arrow
from .server import Process
from .tables.errors import NotFound
from .tables.server import program

__all__ = ["AllSyncFailed", "Conflict", "NoResourceAvailable", "NotFound", "PullFrame", "SyncFailed", "pullframe"]

_UNNAMED = "__index__"  # the column of an index without a name
_CAUSE = re.compile(r'^.*?pull: \w+ "(?:[^"\\]|\\.)*": ', re.S)  # what stands before a cause
_VARIABLES = ("PARTD_TABLES_", "SHOOTS_")


class SyncFailed(Error, ConnectionError):
    """What is missing here could be had from nobody."""


class Conflict(Error):
    """Another node saved the table at the same time, and nothing of this was saved: save again."""


AllSyncFailed, NoResourceAvailable = SyncFailed, NotFound  # pullframe's names

_KINDS: tuple[tuple[str, type[Error]], ...] = (
    ("what is missing here could be had from nobody", SyncFailed),
    ("another node saved the table at the same time", Conflict),
    ("outcome is unknown", UnknownOutcome),
    ("not found", NotFound),
)


class PullFrame(Process):
    """A node, until close(): a directory of frames, and its share in those of others. Threads may share it."""

    def __init__(
        self, hosts: Iterable[str] | str, directory: str | os.PathLike[str], sync_timeout: float = 60.0, *,
        listen: str = "localhost:0", flags: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.directory = os.path.abspath(directory)
        self._program = program()
        named = [hosts] if isinstance(hosts, str) else sorted(hosts)
        registry = ",".join(host if "://" in host else f"nats://{host}" for host in named)
        self._flags = ["--dir", self.directory, f"--sync-timeout={float(sync_timeout):f}s"]
        self._flags += [f"--registry={registry}"] if registry else []
        self._flags += flags
        try:
            command = [self._program, "pull", "serve", f"--listen={listen}", *self._flags]
            self.url = self._start(self.directory, command, self._make("partd-", None), _VARIABLES)
        except BaseException as error:
            self._kill()
            if isinstance(error, OSError) and not isinstance(error, NoServer):
                raise failure(NoServer, "serve", self.directory, str(error), "mend what it says") from error
            raise

    def __enter__(self) -> PullFrame:
        return self

    def save(self, name: str, df: Any) -> None:
        """Saves a frame whose index is of times. At times that the table has, its columns take the place of
        the table's, and the table's others stay; new columns are null in older rows."""
        import pandas as pd

        if not isinstance(df, pd.DataFrame) or not isinstance(df.index, pd.DatetimeIndex):
            raise TypeError(f"save {name!r}: give a DataFrame of pandas whose index is a DatetimeIndex")
        index = df.index.name if df.index.name is not None else _UNNAMED
        if index in df.columns:
            raise ValueError(f"save {name!r}: a column has the index's name {index!r}: rename one")
        if not all(isinstance(column, str) for column in (index, *df.columns)):
            raise ValueError(f"save {name!r}: a name of a column or of the index is no text, and would come back as one: rename it")
        rows = to_arrow(df, dictionaries=False).replace_schema_metadata()  # a node keeps no dictionaries
        rows = rows.select([df.shape[1], *range(df.shape[1])]).rename_columns([index, *df.columns])
        with tempfile.TemporaryFile() as file:
            with pa.ipc.new_file(file, rows.schema) as writer:
                writer.write_table(rows)
            file.seek(0)
            self._run("save", name, ["--format=arrow"], ["-"], stdin=file).close()

    def load(self, name: str, start: datetime | None = None, end: datetime | None = None) -> Any:
        """The rows from a time to another, both included, in the order of time; what is missing here is
        fetched before. Times without a zone are in UTC."""
        import pandas as pd

        flags = ["--format=arrow"]
        if start is not None:
            flags.append(f"--from={_text(pd.Timestamp(start))}")
        if end is not None:
            flags.append(f"--to={_text(pd.Timestamp(end).as_unit('ns') + pd.Timedelta(1, 'ns'))}")
        with self._run("get", name, flags) as file:
            rows = pa.ipc.open_stream(file).read_all()
        index = next(field.name for field in rows.schema if pa.types.is_timestamp(field.type))
        frame = from_arrow(rows, "pandas").set_index(index)
        frame.index.name = None if index == _UNNAMED else index
        return frame

    def _run(self, command: str, name: str, flags: list[str], more: list[str] | None = None, stdin: Any = subprocess.DEVNULL) -> Any:
        """Runs a command of `partd-tables pull` on the directory, and returns the file that it wrote to."""
        if self._process is None or self._process.stdin is None or self._process.stdin.closed:
            raise failure(NoServer, command, self.directory, "the node was closed", "open it again")
        out = tempfile.TemporaryFile()
        try:
            ran = subprocess.run(
                [self._program, "pull", command, *self._flags, *flags, "--", name, *(more or [])],
                stdin=stdin, stdout=out, stderr=subprocess.PIPE,
                env={key: value for key, value in os.environ.items() if not key.startswith(_VARIABLES)},
            )  # fmt: skip
            if ran.returncode:
                said = ran.stderr.decode(errors="replace").strip()
                cause = _CAUSE.sub("", said, count=1)
                kind = next((kind for text, kind in _KINDS if text in cause), Error)
                raise failure(kind, f"{command} {name!r}", self.directory, cause)
            out.seek(0)
        except BaseException:
            out.close()
            raise
        return out


def _text(time: Any) -> str:
    return str((time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")).isoformat())


def pullframe(
    hosts: Iterable[str] | str, directory: str | os.PathLike[str], sync_timeout: float = 60.0, *,
    sync_timeo: float | None = None, listen: str = "localhost:0", flags: tuple[str, ...] = (),
) -> PullFrame:  # fmt: skip
    """Opens a node in a directory: with pullframe(hosts, directory) as pf. hosts are NATS servers of the
    registry, as "a:4222" or "nats://a:4222"; of none it is one that this machine's first node runs. listen
    is the HOST:PORT at which other nodes fetch. flags are more of `partd-tables pull`, as ("--lease=5s",).
    sync_timeo is pullframe's name of sync_timeout."""
    return PullFrame(hosts, directory, sync_timeout if sync_timeo is None else sync_timeo, listen=listen, flags=flags)

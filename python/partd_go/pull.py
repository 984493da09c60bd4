"""partd_go.pull: frames of pandas that all nodes see under one name.

with pullframe({"nats://a:4222"}, "frames") as pf:
    pf.save("prices", frame)
    frame = pf.load("prices")

It needs pandas, pyarrow, and the wheel partd-go-tables, which has the node.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import struct
import sys
import tempfile
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .errors import Error, NoServer, UnknownOutcome, failure, not_started
from .frames import from_arrow, to_arrow
from .server import _END, START, Process, _servers
from .shown import Looks, Shown, size
from .tables.errors import NotFound
from .tables.server import program

if TYPE_CHECKING:
    import pandas

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


class PullFrame(Process, Shown):
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
        self._serve = [self._program, "pull", "serve", f"--listen={listen}", *self._flags]
        place = os.getcwd() if flags else ""  # they may name files of it
        same = hashlib.sha256(json.dumps([*self._serve, place, os.uname().nodename]).encode()).hexdigest()[:16]
        self._key = f"node-{os.getuid()}-{same}"
        self._held: socket.socket | None = None  # the node's program ends with the last of such connections
        _servers.add(self)
        self._join()

    def __enter__(self) -> PullFrame:
        return self

    def _join(self) -> None:
        """Connects to the program that this directory's node has, of whatever process of this user, or starts it."""
        import fcntl

        try:
            os.makedirs(self.directory, exist_ok=True)
            with _own(Path(self.directory, f".{self._key}.lock"), "ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                try:
                    self._rejoin()
                finally:
                    fcntl.flock(lock, fcntl.LOCK_UN)  # a process that was forked meanwhile has the file open
        except Error:
            raise
        except OSError as error:
            raise not_started(self.directory, error) from error

    def _rejoin(self) -> None:
        try:
            made = self._connect()
        except OSError:
            self._begin()
            made = self._connect()
        old, self._held = self._held, made
        if old is not None:
            old.close()

    def _begin(self) -> None:
        """Starts the node's program, and notes the address of its socket."""
        self._process, self._directories = None, []
        try:
            directory = self._sockets()
            self._start(self.directory, [*self._serve, f"--share={directory}/socket"], directory, _VARIABLES, shared=True)
            super()._hang_up()
            assert self._process
            self._process.wait()  # the shell, which leaves the program behind
            new = Path(self.directory, f".{self._key}.new")
            new.unlink(missing_ok=True)
            with _own(new, "xb") as file:
                file.write(os.fsencode(f"{directory}/socket"))
            new.replace(self._address())
        except BaseException:
            held, self._held = self._held, None  # it stays open: the next call tries again
            self._kill()
            self._held = held
            raise

    def _address(self) -> Path:
        return Path(self.directory, f".{self._key}")

    def _connect(self) -> socket.socket:
        """A connection to the node's program, which has told its URL. The address may be an old one, at which another
        user has put something."""
        with _own(self._address(), "rb") as file:
            path = file.read(4096).partition(b"\0")[0]
        if os.lstat(os.path.dirname(path)).st_uid != os.getuid():
            raise PermissionError(f"{os.fsdecode(path)} belongs to another user")
        made = socket.socket(socket.AF_UNIX)
        try:
            made.settimeout(START)
            made.connect(path)
            if sys.platform == "linux":
                _, user, _ = struct.unpack("3i", made.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                if user != os.getuid():
                    raise PermissionError(f"the program at {os.fsdecode(path)} belongs to another user")
            with made.makefile("rb", 0) as said:
                url = said.readline()
            if not url:
                raise ConnectionResetError("the node ends")
            made.settimeout(None)
        except BaseException:
            made.close()
            raise
        self.url = os.fsdecode(url.rstrip())
        return made

    def ended(self) -> bool:
        return self._held is None

    def close(self) -> None:
        """Lets the node end, if nobody else uses it, and waits for that."""
        held, self._held = self._held, None
        if held is None:
            return
        with held:
            held.settimeout(_END)
            try:
                held.shutdown(socket.SHUT_WR)
                while held.recv(4096):
                    pass
            except TimeoutError as error:
                raise failure(NoServer, "close", self.directory, f"the node did not end in {_END:.0f} seconds") from error
            except OSError:
                pass  # it was killed

    def _hang_up(self) -> None:
        super()._hang_up()
        if self._held is not None:
            self._held.close()
            self._held = None

    def save(self, name: str, df: Any) -> None:
        """Saves a frame whose index is of times. At times that the table has, its columns take the place of
        the table's, and the table's others stay; new columns are null in older rows."""
        import pandas as pd

        if not isinstance(df, pd.DataFrame) or not isinstance(df.index, pd.DatetimeIndex):
            raise TypeError(f"save {name!r}: give a DataFrame of pandas whose index is a DatetimeIndex")
        index = df.index.name if df.index.name is not None else _UNNAMED
        if index in df.columns:
            raise ValueError(f"save {name!r}: a column has the index's name {index!r}: rename one")
        for label, of in ((index, "the index"), *((column, "a column") for column in df.columns)):
            if not isinstance(label, str):
                raise ValueError(f"save {name!r}: the name {label!r} of {of}, a {type(label).__name__}, is not text, and would come back as text: rename it")
        rows = to_arrow(df, dictionaries=False).replace_schema_metadata()  # a node keeps no dictionaries
        rows = rows.select([df.shape[1], *range(df.shape[1])]).rename_columns([index, *df.columns])
        with tempfile.NamedTemporaryFile() as file:
            with pa.ipc.new_file(file, rows.schema) as writer:
                writer.write_table(rows)
            file.flush()
            self._run("save", ["--format=arrow", "--", name, file.name], name).close()

    def load(self, name: str, start: datetime | None = None, end: datetime | None = None) -> pandas.DataFrame:
        """The rows from a time to another, both included, in the order of time; what is missing here is
        fetched before. Times without a zone are in UTC."""
        import pandas as pd

        flags = ["--format=arrow"]
        if start is not None:
            flags.append(f"--from={_text(pd.Timestamp(start))}")
        if end is not None:
            flags.append(f"--to={_text(pd.Timestamp(end).as_unit('ns') + pd.Timedelta(1, 'ns'))}")
        with self._run("get", [*flags, "--", name], name) as file:
            rows = pa.ipc.open_stream(file).read_all()
        index = next(field.name for field in rows.schema if pa.types.is_timestamp(field.type))
        frame = from_arrow(rows, "pandas").set_index(index)
        frame.index.name = None if index == _UNNAMED else index
        return frame

    def _looks(self) -> Looks:
        place = f"PullFrame in {self.directory}"
        try:
            with self._run("list", []) as file:
                lines = [re.fullmatch(r"(.*?) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)", line) for line in file.read().decode().splitlines()[1:]]
        except Error as error:
            return f"{place}: {error}", (), ()
        rows = [(name, version, count, size(int(n)), holders) for name, version, count, n, _, holders in (line.groups() for line in lines if line)]
        return f"{place}: {len(rows)} tables", ("name", "version", "rows", "size", "nodes"), rows

    def _run(self, command: str, arguments: list[str], name: str = "") -> Any:
        """Has the node do a command of `partd-tables pull`, and returns the file that it wrote to."""
        op = f"{command} {name!r}" if name else command
        out = tempfile.NamedTemporaryFile()
        try:
            call = json.dumps({"Args": [command, *arguments], "Out": out.name}).encode()
            said = self._ask(op, call)
            if said is None and command != "save":
                said = self._ask(op, call)  # as many as two are killed seldom
            if said is None:
                kind = UnknownOutcome if command == "save" else NoServer
                raise failure(kind, op, self.directory, "the node was killed during the call", "call again")
            if said:
                cause = _CAUSE.sub("", said.strip(), count=1)
                raise failure(next((kind for text, kind in _KINDS if text in cause), Error), op, self.directory, cause)
        except BaseException:
            out.close()
            raise
        return out

    def _ask(self, op: str, call: bytes) -> str | None:
        """What the node says to a call: "" if it was done, None if it was killed meanwhile. One that was killed before
        is started anew."""
        if self._held is None:
            raise failure(NoServer, op, self.directory, "the node was closed", "open it again")
        try:
            under = self._connect()
        except OSError:
            self._join()
            try:
                under = self._connect()
            except OSError as error:
                raise not_started(self.directory, error) from error
        with under:
            try:
                under.sendall(call + b"\n")
                with under.makefile("rb") as said:
                    answer = said.readline()
            except ConnectionError:
                return None
        return str(json.loads(answer)) if answer.endswith(b"\n") else None


def _own(path: Path, mode: str) -> Any:
    """Opens a file that is this user's, and no link: others may use the directory, too."""
    file = open(path, mode, opener=lambda name, how: os.open(name, how | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600))
    if os.fstat(file.fileno()).st_uid != os.getuid():
        file.close()
        raise PermissionError(f"{path} belongs to another user: let them remove it, or use another directory")
    return file


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

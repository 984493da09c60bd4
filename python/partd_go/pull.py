"""Shares pandas DataFrames among nodes by name.

with pullframe({"nats://a:4222"}, "frames") as pf:
    pf.save("prices", frame)
    frame = pf.load("prices")

It needs pandas, pyarrow, and the wheel partd-go-tables, which contains the node's program.
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

from .errors import Error, Misuse, NoServer, UnknownOutcome, extra, failure, not_started

with extra("tables"):
    import pyarrow as pa

from .frames import from_arrow, to_arrow
from .server import _STOP_TIMEOUT, START_TIMEOUT, Process, _servers
from .shown import Summary, Shown, size
from .tables.errors import NotFound
from .tables.server import program

if TYPE_CHECKING:
    import pandas

__all__ = ["AllSyncFailed", "Conflict", "NoResourceAvailable", "NotFound", "PullFrame", "SyncFailed", "pullframe"]

_UNNAMED = "__index__"  # the column for an unnamed index
_CAUSE = re.compile(r'^.*?pull: \w+ "(?:[^"\\]|\\.)*": ', re.S)  # the text before an error's cause
_IGNORED_ENV_PREFIXES = ("PARTD_TABLES_", "SHOOTS_")  # prefixes of environment variables that the node does not inherit


class SyncFailed(Error, ConnectionError):
    """No other node could supply the missing rows."""


class Conflict(Error):
    """Another node saved the table at the same time. Nothing was saved: save again."""


AllSyncFailed, NoResourceAvailable = SyncFailed, NotFound  # pullframe's names

_KINDS: tuple[tuple[str, type[Error]], ...] = (
    ("no other node could supply the missing data", SyncFailed),
    ("another node saved the table at the same time", Conflict),
    ("outcome is unknown", UnknownOutcome),
    ("not found", NotFound),
)


class PullFrame(Process, Shown):
    """A node that shares the frames in its directory with other nodes until close(). Several threads may use it."""

    def __init__(
        self, hosts: Iterable[str] | str, directory: str | os.PathLike[str], sync_timeout: float = 60.0, *,
        listen: str = "localhost:0", flags: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.directory = os.path.abspath(directory)
        self._program = program()
        host_list = [hosts] if isinstance(hosts, str) else sorted(hosts)
        registry = ",".join(host if "://" in host else f"nats://{host}" for host in host_list)
        self._flags = ["--dir", self.directory, f"--sync-timeout={float(sync_timeout):f}s"]
        self._flags += [f"--registry={registry}"] if registry else []
        self._flags += flags
        self._serve = [self._program, "pull", "serve", f"--listen={listen}", *self._flags]
        working_directory = os.getcwd() if flags else ""  # flags may contain relative paths
        digest = hashlib.sha256(json.dumps([*self._serve, working_directory, os.uname().nodename]).encode()).hexdigest()[:16]
        self._key = f"node-{os.getuid()}-{digest}"
        # The node's program ends when its last connection is closed, so this connection keeps it running.
        self._connection: socket.socket | None = None
        _servers.add(self)
        self._connect_or_start()

    def __enter__(self) -> PullFrame:
        return self

    def _connect_or_start(self) -> None:
        """Connects to the directory's node program, and starts it if no process of this user has done so."""
        import fcntl

        try:
            os.makedirs(self.directory, exist_ok=True)
            with _open_own(Path(self.directory, f".{self._key}.lock"), "ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                try:
                    self._reconnect()
                finally:
                    fcntl.flock(lock, fcntl.LOCK_UN)  # while a forked process has the file open, closing it does not unlock it
        except Error:
            raise
        except OSError as error:
            raise not_started(self.directory, error) from error

    def _reconnect(self) -> None:
        try:
            connection = self._connect()
        except OSError:
            self._start_program()
            connection = self._connect()
        old, self._connection = self._connection, connection
        if old is not None:
            old.close()

    def _start_program(self) -> None:
        """Starts the node's program, and writes the path of its socket to a file."""
        self._process, self._directories = None, []
        try:
            directory = self._sockets()
            self._start(self.directory, [*self._serve, f"--share={directory}/socket"], directory, _IGNORED_ENV_PREFIXES, shared=True)
            super()._close_pipes()
            assert self._process
            self._process.wait()  # waits only for the shell that started the program; the program itself runs on
            new = Path(self.directory, f".{self._key}.new")
            new.unlink(missing_ok=True)
            with _open_own(new, "xb") as file:
                file.write(os.fsencode(f"{directory}/socket"))
            new.replace(self._address())
        except BaseException:
            # Hide the connection from _kill, which would close it. Without a connection, the next call would report that the
            # node is closed, instead of trying again.
            connection, self._connection = self._connection, None
            self._kill()
            self._connection = connection
            raise

    def _address(self) -> Path:
        return Path(self.directory, f".{self._key}")

    def _connect(self) -> socket.socket:
        """Connects to the node's program, and reads the node's URL from it. The program must belong to this user: another
        user could have created a socket at an old socket's path."""
        with _open_own(self._address(), "rb") as file:
            path = file.read(4096).partition(b"\0")[0]
        if os.lstat(os.path.dirname(path)).st_uid != os.getuid():
            raise PermissionError(f"{os.fsdecode(path)} belongs to another user")
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(START_TIMEOUT)
            connection.connect(path)
            if sys.platform == "linux":
                _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                if user != os.getuid():
                    raise PermissionError(f"the program at {os.fsdecode(path)} belongs to another user")
            with connection.makefile("rb", 0) as reply:
                url = reply.readline()
            if not url:
                raise ConnectionResetError("the node is ending")
            connection.settimeout(None)
        except BaseException:
            connection.close()
            raise
        self.url = os.fsdecode(url.rstrip())
        return connection

    def ended(self) -> bool:
        return self._connection is None

    def close(self) -> None:
        """Closes the connection. If no other process uses the node, close waits until the node has stopped."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with connection:
            connection.settimeout(_STOP_TIMEOUT)
            try:
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass
            except TimeoutError as error:
                raise failure(NoServer, "close", self.directory, f"the node did not end within {_STOP_TIMEOUT:.0f} seconds") from error
            except OSError:
                pass  # the node was killed

    def _close_pipes(self) -> None:
        super()._close_pipes()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def save(self, name: str, df: Any) -> None:
        """Saves a frame with a DatetimeIndex. For times that the table already has, the frame's values replace the
        table's; columns that the frame lacks keep their values. New columns are null in older rows."""
        import pandas as pd

        if not isinstance(df, pd.DataFrame) or not isinstance(df.index, pd.DatetimeIndex):
            raise Misuse(f"save {name!r}: pass a pandas DataFrame with a DatetimeIndex")
        index = df.index.name if df.index.name is not None else _UNNAMED
        if index in df.columns:
            raise Misuse(f"save {name!r}: a column has the index's name {index!r}: rename one")
        for label, role in ((index, "the index"), *((column, "a column") for column in df.columns)):
            if not isinstance(label, str):
                raise Misuse(f"save {name!r}: the name {label!r} of {role} is of type {type(label).__name__}, and would come back as text: rename it")
        rows = to_arrow(df, keep_dictionaries=False).replace_schema_metadata()  # a node does not store dictionaries
        rows = rows.select([df.shape[1], *range(df.shape[1])]).rename_columns([index, *df.columns])
        with tempfile.NamedTemporaryFile() as file:
            with pa.ipc.new_file(file, rows.schema) as writer:
                writer.write_table(rows)
            file.flush()
            self._run("save", ["--format=arrow", "--", name, file.name], name).close()

    def load(self, name: str, start: datetime | None = None, end: datetime | None = None) -> pandas.DataFrame:
        """Returns the rows from start to end (inclusive), ordered by time. It first fetches missing rows from other
        nodes. Times without a zone are in UTC."""
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

    def _summary(self) -> Summary:
        title = f"PullFrame in {self.directory}"
        try:
            with self._run("list", []) as file:
                lines = [re.fullmatch(r"(.*?) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)", line) for line in file.read().decode().splitlines()[1:]]
        except Error as error:
            return f"{title}: {error}", (), ()
        rows = [(name, version, count, size(int(n)), holders) for name, version, count, n, _, holders in (line.groups() for line in lines if line)]
        return f"{title}: {len(rows)} tables", ("name", "version", "rows", "size", "nodes"), rows

    def _run(self, command: str, arguments: list[str], name: str = "") -> Any:
        """Runs a command of `partd-tables pull` at the node, and returns the command's output file."""
        op = f"{command} {name!r}" if name else command
        out = tempfile.NamedTemporaryFile()
        try:
            call = json.dumps({"Args": [command, *arguments], "Out": out.name}).encode()
            reply = self._ask(op, call)
            if reply is None and command != "save":
                reply = self._ask(op, call)  # the node was killed: try once more, with a new one
            if reply is None:
                kind = UnknownOutcome if command == "save" else NoServer
                raise failure(kind, op, self.directory, "the node was killed during the call", "repeat the call")
            if reply:
                cause = _CAUSE.sub("", reply.strip(), count=1)
                raise failure(next((kind for text, kind in _KINDS if text in cause), Error), op, self.directory, cause)
        except BaseException:
            out.close()
            raise
        return out

    def _ask(self, op: str, call: bytes) -> str | None:
        """Sends a call to the node, after starting a new node if the last one was killed. Returns "" for success, an
        error's text, or None if the node was killed during the call."""
        if self._connection is None:
            raise failure(NoServer, op, self.directory, "the node is closed", "call pullframe() again")
        try:
            connection = self._connect()
        except OSError:
            self._connect_or_start()
            try:
                connection = self._connect()
            except OSError as error:
                raise not_started(self.directory, error) from error
        with connection:
            try:
                connection.sendall(call + b"\n")
                with connection.makefile("rb") as reply:
                    answer = reply.readline()
            except ConnectionError:
                return None
        return str(json.loads(answer)) if answer.endswith(b"\n") else None


def _open_own(path: Path, mode: str) -> Any:
    """Opens a file. It rejects links and other users' files, because other users may be able to write to the directory."""
    file = open(path, mode, opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600))
    if os.fstat(file.fileno()).st_uid != os.getuid():
        file.close()
        raise PermissionError(f"{path} belongs to another user: ask them to remove it, or use another directory")
    return file


def _text(time: Any) -> str:
    return str((time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")).isoformat())


def pullframe(
    hosts: Iterable[str] | str, directory: str | os.PathLike[str], sync_timeout: float = 60.0, *,
    sync_timeo: float | None = None, listen: str = "localhost:0", flags: tuple[str, ...] = (),
) -> PullFrame:  # fmt: skip
    """Opens a node in a directory: with pullframe(hosts, directory) as pf. hosts are the NATS servers of the registry,
    through which nodes find each other, such as "a:4222" or "nats://a:4222". If hosts is empty, the first node on this
    machine runs the registry. listen is the HOST:PORT for other nodes. flags are flags of `partd-tables pull`, such as
    ("--lease=5s",). sync_timeo is another name for sync_timeout, as in the package pullframe."""
    return PullFrame(hosts, directory, sync_timeout if sync_timeo is None else sync_timeo, listen=listen, flags=flags)

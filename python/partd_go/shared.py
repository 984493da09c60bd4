"""Connects to a server that all of this user's processes on this machine share, after starting it if necessary.

The files of a server called NAME are in its directory: .NAME contains the path of the server's Unix socket. .NAME.lock
is locked while a process connects. If only one server can have the directory open, the server keeps .NAME.alive locked.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

from .errors import Error, NoServer, failure, seconds, start_failure
from .filelock import lock
from .server import _STOP_TIMEOUT, START_TIMEOUT, Process, _servers

_POLL = 0.02  # seconds between attempts to connect while another server is ending or starting


class SharedProcess(Process):
    """A handle to a server program that ends when its last connection is closed. This handle's connection keeps the
    program running."""

    _exclusive = False  # whether only one server can have the directory open
    _ignored_env_prefixes: tuple[str, ...] = ()
    _start_timeout = START_TIMEOUT
    _connection: socket.socket | None = None
    _socket_dir = b""

    def __init__(self, directory: str | os.PathLike[str], key: str) -> None:
        super().__init__()
        self.directory, self._key = os.path.abspath(os.path.expanduser(directory)), key
        _servers.add(self)

    def _command(self, socket_directory: str) -> list[str]:
        """Returns the command for a new server, which creates its sockets in socket_directory."""
        raise NotImplementedError

    def _connect_or_start(self) -> None:
        """Connects to the directory's server, after starting it if none of this user's processes has done so."""
        import fcntl

        try:
            os.makedirs(self.directory, 0o750, exist_ok=True)
            with _open_own(path := Path(f"{self._address_file()}.lock"), "ab") as file:
                lock(file.fileno(), path)
                try:
                    self._reconnect()
                finally:
                    # Closing the file does not unlock it while a forked process has it open.
                    fcntl.flock(file, fcntl.LOCK_UN)
        except Error:
            raise
        except OSError as error:
            raise start_failure(self.directory, error) from error

    def _reconnect(self) -> None:
        deadline = time.monotonic() + self._start_timeout
        while True:
            try:
                connection = self._connect()
                break
            except OSError:
                pass  # no server is running, or the server is shutting down
            if self._start_program():
                connection = self._connect()
                break
            if time.monotonic() > deadline:
                problem = f"the previous server has not stopped within {seconds(self._start_timeout)}"
                raise failure(NoServer, "serve", self.directory, problem, "pass a longer start_timeout")
            time.sleep(_POLL)
        old, self._connection = self._connection, connection
        if old is not None:
            old.close()

    def _start_program(self) -> bool:
        """Starts the server's program, after writing the path of its socket to a file. Returns False if another server
        still has the directory open."""
        if not self._exclusive:
            self._start_locked(())
            return True
        with _open_own(path := Path(f"{self._address_file()}.alive"), "ab") as alive:
            try:
                lock(alive.fileno(), path, wait=False)
            except BlockingIOError:
                return False
            self._start_locked((alive.fileno(),))  # the program inherits the lock
        return True

    def _start_locked(self, pass_fds: tuple[int, ...]) -> None:
        self._process, self._directories = None, []
        try:
            directory = self._make_socket_directory()
            new = Path(f"{self._address_file()}.new")
            new.unlink(missing_ok=True)
            with _open_own(new, "xb") as file:
                file.write(b"\0".join([os.fsencode(f"{directory}/share"), *self._description()]))
            new.replace(self._address_file())
            command = [*self._command(directory), f"--share={directory}/share"]
            self._start(
                self.directory,
                command,
                directory,
                self._ignored_env_prefixes,
                self._start_timeout,
                shared=True,
                pass_fds=pass_fds,
            )
            super()._close_pipes()
            assert self._process
            self._process.wait()  # only the shell ends; the program that it started runs on
        except BaseException:
            # Hide the connection from _kill, which would close it: the next call would then not try again.
            connection, self._connection = self._connection, None
            self._kill()
            self._connection = connection
            raise

    def _description(self) -> list[bytes]:
        """Returns a description of a server that this handle starts, which other handles pass to _check_description."""
        return []

    def _check_description(self, description: bytes) -> None:
        """Raises Misuse if this handle cannot share the running server that has this description."""

    def _address_file(self) -> Path:
        return Path(self.directory, f".{self._key}")

    def _connect(self) -> socket.socket:
        """Connects to the running server and reads its URL. It checks that the server belongs to this user: once a
        server has ended, another user could create a socket at the same path."""
        with _open_own(self._address_file(), "rb") as file:
            path, _, description = file.read(1 << 16).partition(b"\0")
        if os.lstat(os.path.dirname(path)).st_uid != os.getuid():
            raise PermissionError(f"{os.fsdecode(path)} belongs to another user")
        self._socket_dir = os.path.dirname(path)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(self._start_timeout)
            connection.connect(path)
            if sys.platform == "linux":
                _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                if user != os.getuid():
                    raise PermissionError(f"the program at {os.fsdecode(path)} belongs to another user")
            with connection.makefile("rb", 0) as reply:
                url = reply.readline()
            if b"://" not in url:
                raise ConnectionResetError("the server is shutting down")
            self._check_description(description)
            connection.settimeout(None)
        except BaseException:
            connection.close()
            raise
        self.url = os.fsdecode(url.rstrip())
        return connection

    def ended(self) -> bool:
        """Reports whether this handle is closed, or its server has ended."""
        connection = self._connection
        try:
            if connection is not None:
                # This reads "stopped" if the server ended by itself, and nothing if it was killed.
                connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            pass  # the connection broke, so the server has ended
        return True

    def close(self) -> None:
        """Closes the connection. If no other handle uses the server, waits until the server has stopped. Raises
        NoServer if the server failed, unless the directory has been deleted: then there is nothing to lose."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with connection:
            connection.settimeout(_STOP_TIMEOUT)
            try:
                connection.shutdown(socket.SHUT_WR)
                with connection.makefile("rb") as messages:
                    message = messages.read()
                deadline = time.monotonic() + _STOP_TIMEOUT
                while message and os.path.exists(self._socket_dir) and time.monotonic() < deadline:
                    time.sleep(_POLL / 10)  # the program's shell removes the sockets after the program has exited
            except TimeoutError as error:
                raise failure(
                    NoServer, "close", self.directory, f"the server did not end within {seconds(_STOP_TIMEOUT)}"
                ) from error
            except OSError:
                return  # the server was killed
        if message.startswith(b"failed: ") and os.path.exists(self.directory):
            problem = message.decode(errors="replace").strip()
            raise failure(
                NoServer, "close", self.directory, f"the server {problem}", f"check its store with {self._verify}"
            )

    def _close_pipes(self) -> None:
        super()._close_pipes()
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _open_own(path: Path, mode: str) -> Any:
    """Opens a file. It rejects links and files of other users, because they may be able to write to the directory."""
    file = open(path, mode, opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600))
    if os.fstat(file.fileno()).st_uid != os.getuid():
        file.close()
        raise PermissionError(f"{path} belongs to another user: ask them to remove it, or use another directory")
    return file

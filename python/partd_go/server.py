"""Starts a private server for this program."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import weakref
from pathlib import Path

from .errors import Error, Killed, NoServer, failure, seconds, start_failure

_BIN = Path(__file__).parent / "_bin"
_MAX_SOCKET = 90  # maximum length of a socket's directory, in bytes; systems allow paths of 104 or 108 bytes
_STOP_TIMEOUT = 60.0  # how long, in seconds, a server may take to write all data and exit
START_TIMEOUT = 60.0  # how long, in seconds, a server may take to become ready; recovery after a crash can take long

# This shell script runs a server and then removes directories, even if this process has ended or the server was killed.
# Its arguments are the directories, "--" and the server's command. 130 is the code of a program that was interrupted
# and has said so itself.
_RUN = """
trap : HUP INT TERM
n=0
for word do [ "$word" = -- ] && break; n=$((n + 1)); done
(shift $((n + 1)); exec "$@")
code=$?
[ $code -le 128 ] || [ $code = 130 ] ||
    echo '{"kinds": ["killed"], "error": "it was killed, with exit code '$code'"}' >&2
while [ $n -gt 0 ]; do rm -rf -- "$1" || { sleep 5; rm -rf -- "$1"; }; shift; n=$((n - 1)); done
exit $code
"""
_RUN_SHARED = f"({_RUN}) &"  # outlives the process that started it


def find(program: str, directory: Path | None = None, wheel: str = "partd-go", script: str | None = None) -> str:
    """Returns the path of a program: in directory (default: this wheel's directory) or else on the PATH. It never
    returns script, the wheel's own script of this name, which only starts the program."""
    wheel_path = (directory or _BIN) / (program + (".exe" if sys.platform == "win32" else ""))
    path = str(wheel_path) if os.access(wheel_path, os.X_OK) else shutil.which(program)
    if path is None or (script and os.path.realpath(path) == os.path.realpath(script)):
        raise failure(
            NoServer,
            f"run {program}",
            str(wheel_path),
            "this installation lacks the program",
            f"install Go, then {wheel} with pip, or put {program} on the PATH",
        )
    return path


def run_partd() -> None:
    _exec("partd")


def run_server() -> None:
    _exec("partd-server")


def environment_of(ignored_prefixes: str | tuple[str, ...] = ()) -> dict[str, str]:
    """Returns the environment for a program that this process starts: this process's variables, except those whose
    names begin with one of ignored_prefixes. It makes the program print errors as JSON, which parse_output reads."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ignored_prefixes)}
    return {**inherited, "PARTD_ERRORS": "json"}


def _exec(program: str) -> None:
    try:
        path = find(program, script=sys.argv[0])
    except NoServer as error:
        sys.exit(str(error))
    os.execv(path, [program, *sys.argv[1:]])


class Process:
    """A server started by this process. It runs until close(), or until this process ends or is killed."""

    _process: subprocess.Popen[bytes] | None = None
    _verify = "partd verify"  # the command that checks the store
    url = ""

    def __init__(self) -> None:
        self._directories: list[str] = []

    def _make_socket_directory(self) -> str:
        """Creates a directory for a socket. Returns its path, which is short because systems limit paths of sockets."""
        directory = self._make_directory("partd-", None)
        return directory if len(os.fsencode(directory)) <= _MAX_SOCKET else self._make_directory("partd-", "/tmp")

    def _start(
        self,
        store: str,
        command: list[str],
        logs: str,
        ignored_prefixes: str | tuple[str, ...],
        timeout: float = START_TIMEOUT,
        shared: bool = False,
        pass_fds: tuple[int, ...] = (),
    ) -> str:
        """Starts a server with a command and returns the URL from the line "ready URL" that it prints. The line must
        arrive before the timeout.

        The value of the flag --catalog is passed in an environment variable: it may contain a password, and all users
        can see a program's arguments.

        Args:
            logs: The directory for the server's log.
            ignored_prefixes: Prefixes of environment variables that are not passed on; see environment_of.
            shared: If true, the server outlives this process and must stop by itself.
            pass_fds: File descriptors that the server inherits.
        """
        environment = environment_of(ignored_prefixes)
        words, command = iter(command), []
        for word in words:
            flag, _, value = word.partition("=")
            if flag == "--catalog":
                environment["PARTD_TABLES_CATALOG"] = value or next(words, "")
            else:
                command.append(word)
        script, extra_flags = (_RUN_SHARED, ()) if shared else (_RUN, ("--exit-on-stdin-close",))
        with open(os.path.join(logs, "log"), "w+b") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", script, "sh", *self._directories, "--", *command, *extra_flags],
                stdin=subprocess.DEVNULL if shared else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                pass_fds=pass_fds,
                env=environment,
            )
            _servers.add(self)
            line, is_complete = self._first_line(time.monotonic() + timeout)
            if is_complete and not line.startswith(b"ready "):
                code = self._process.wait()
                log.seek(0)
                raise start_failure(store, log.read(64 << 10).decode(errors="replace"), code)
            if not is_complete:
                advice = "check whether the disk or the machine is busy, or pass a longer start_timeout"
                raise failure(NoServer, "serve", store, f"the server was not ready within {seconds(timeout)}", advice)
        return os.fsdecode(line[len(b"ready ") :].rstrip())

    def _first_line(self, deadline: float) -> tuple[bytes, bool]:
        """Returns the server's output up to the first newline or its end, and whether that came before the deadline."""
        line = b""
        while not line.endswith(b"\n"):
            data = self._read(deadline)
            if data is None:
                return line, False
            if not data:
                break
            line += data
        return line, True

    def _read(self, deadline: float) -> bytes | None:
        """Returns the next bytes of the server's output, no bytes at its end, or None at the deadline."""
        assert self._process and self._process.stdout
        out = self._process.stdout.fileno()
        ready = select.poll()  # select.select fails for file descriptors above 1,023
        ready.register(out, select.POLLIN)
        if not ready.poll(1000 * max(0, deadline - time.monotonic())):
            return None
        return os.read(out, 4096)

    def _make_directory(self, prefix: str, parent: str | os.PathLike[str] | None) -> str:
        self._directories.append(tempfile.mkdtemp(prefix=prefix, dir=parent))
        return self._directories[-1]

    def __exit__(self, *exception: object) -> None:
        self.close()

    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def close(self) -> None:
        """Stops the server, which first writes all data to its store. Raises NoServer if the server failed."""
        assert self._process
        self._close_pipes()
        try:
            code = self._process.wait(_STOP_TIMEOUT)
            kind = NoServer if 0 <= code <= 128 else Killed  # a shell adds 128 to a signal's number
            problem = f"the server ended with exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            kind, problem = NoServer, f"the server did not stop within {seconds(_STOP_TIMEOUT)}"
        except BaseException:
            self._kill()
            raise
        if problem:
            self._kill()
            raise failure(kind, "serve", self.url, problem, f"check its store with {self._verify}")

    def _close_pipes(self) -> None:
        """Closes the server's standard input, which makes the server stop."""
        for pipe in (self._process.stdin, self._process.stdout) if self._process else ():
            if pipe:
                pipe.close()

    def _kill(self) -> None:
        if self._process:
            with contextlib.suppress(ProcessLookupError):  # the process may have exited
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            # The server can outlive the shell. Until its output ends, it holds the store's locks.
            output, deadline = self._process.stdout, time.monotonic() + 10
            while output and not output.closed and self._read(deadline):
                pass
            self._close_pipes()
        for directory in self._directories:
            shutil.rmtree(directory, ignore_errors=True)


class Server(Process):
    """A partd-server on a Unix socket that only this user can open.

        with Server("log:dir") as url, Client(url) as store:
            store.append({"a": b"piece"})

    The with block gets the server's URL. Its end stops the server.
    """

    def __init__(
        self,
        store: str | None,
        *,
        directory: str | os.PathLike[str] | None = None,
        flags: tuple[str, ...] = (),
        command: list[str] | None = None,
    ) -> None:
        super().__init__()
        command = command or [find("partd-server")]
        try:
            socket_directory = self._make_socket_directory()
            self.directory = "" if store else os.path.abspath(self._make_directory("partd-data-", directory))
            store = store or "log:" + urllib.parse.quote(self.directory + "/store")
            self.url = "ipc://" + urllib.parse.quote(socket_directory + "/socket")
            self._start(
                store, [*command, "--store", store, "--listen", self.url, *flags], socket_directory, "PARTD_SERVER_"
            )
        except BaseException as error:
            self._kill()
            if isinstance(error, OSError) and not isinstance(error, Error):
                raise start_failure(store or "a new directory", error) from error
            raise

    def __enter__(self) -> str:
        return self.url


def serve(
    store: str | None = None, *, directory: str | os.PathLike[str] | None = None, flags: tuple[str, ...] = ()
) -> Server:
    """Starts a partd-server. Returns a context manager that yields the server's URL and stops the server at the end of
    the with block. The server also stops when this program ends.

        with partd_go.serve("log:dir") as url, partd_go.Client(url) as store:
            store.append({"a": b"piece"})

    Args:
        store: The URL of a store, as in partd-server's flag --store. By default, serve makes a temporary store, which
            is removed when the server stops.
        directory: Where the temporary store is; by default, in the system's directory for temporary files.
        flags: Additional flags for partd-server, such as ("--memory=2GiB",).
    """
    return Server(store, directory=directory, flags=flags)


_servers: weakref.WeakSet[Process] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """Closes the pipe to the server in a forked process, because an open pipe would keep the server running."""
    for server in _servers:
        server._close_pipes()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)

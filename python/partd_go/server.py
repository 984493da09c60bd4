"""A server for this program alone."""

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

from .errors import Error, NoServer, failure, not_started

_BIN = Path(__file__).parent / "_bin"
_MAX_SOCKET = 90  # bytes of a Unix socket's path, of which systems take 104 or 108
_END = 60.0  # seconds that a server has to write everything and end
START = 60.0  # seconds that one has to be ready, which takes long where it was killed in the midst of much

# A shell outlives the server, however that and this process end, and removes its
# directories: those before "--", behind which stands the server's command.
_RUN = """
trap : HUP INT TERM
n=0
for word do [ "$word" = -- ] && break; n=$((n + 1)); done
(shift $((n + 1)); exec "$@")
code=$?
while [ $n -gt 0 ]; do rm -rf -- "$1" || { sleep 5; rm -rf -- "$1"; }; shift; n=$((n - 1)); done
exit $code
"""
_RUN_SHARED = f"({_RUN}) &"  # it outlives who started it


def find(program: str, directory: Path | None = None, wheel: str = "partd-go") -> str:
    """The path of a program: in the directory of its wheel, this one's if none is given, or else on the PATH."""
    own = (directory or _BIN) / (program + (".exe" if sys.platform == "win32" else ""))
    found = str(own) if os.access(own, os.X_OK) else shutil.which(program)
    if found is None:
        raise failure(
            NoServer, f"run {program}", str(own), "this installation does not have it",
            f"install {wheel} by pip where there is Go, or put {program} on the PATH",
        )  # fmt: skip
    return found


def run_partd() -> None:
    _become("partd")


def run_server() -> None:
    _become("partd-server")


def _become(program: str) -> None:
    try:
        path = find(program)
    except NoServer as error:
        sys.exit(str(error))
    os.execv(path, [program, *sys.argv[1:]])


class Process:
    """A server that this process started, until close(). It also ends when this process does, however it does."""

    _process: subprocess.Popen[bytes] | None = None
    url = ""

    def __init__(self) -> None:
        self._directories: list[str] = []

    def _sockets(self) -> str:
        """A new directory for a socket, whose path must not be long."""
        made = self._make("partd-", None)
        return made if len(os.fsencode(made)) <= _MAX_SOCKET else self._make("partd-", "/tmp")

    def _start(
        self, what: str, command: list[str], logs: str, variables: str | tuple[str, ...], timeout: float = START, shared: bool = False
    ) -> str:
        """Starts a command that says "ready URL" in time, without variables of its own, and returns the URL. One that is
        shared ends by itself."""
        run, more = (_RUN_SHARED, ()) if shared else (_RUN, ("--exit-on-stdin-close",))
        with open(os.path.join(logs, "log"), "w+b") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", run, "sh", *self._directories, "--", *command, *more],
                stdin=subprocess.DEVNULL if shared else subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
                env={name: value for name, value in os.environ.items() if not name.startswith(variables)},
            )  # fmt: skip
            _servers.add(self)
            line, ended = self._first_line(time.monotonic() + timeout)
            if ended and not line.startswith(b"ready "):
                self._process.wait()
                log.seek(0)
                raise not_started(what, log.read(64 << 10).decode(errors="replace").strip())
            if not ended:
                do = "see whether the disk or the machine is busy, or give a longer start_timeout"
                raise failure(NoServer, "serve", what, f"the server was not ready within {timeout:g} seconds", do)
        return os.fsdecode(line[len(b"ready ") :].rstrip())

    def _first_line(self, latest: float) -> tuple[bytes, bool]:
        """The first line that the server writes, and whether it came, or the server's end did, in time."""
        assert self._process and self._process.stdout
        out, line = self._process.stdout.fileno(), b""
        while not line.endswith(b"\n"):
            ready = select.poll()  # select takes no file above 1,023
            ready.register(out, select.POLLIN)
            if not ready.poll(1000 * max(0, latest - time.monotonic())):
                return line, False
            got = os.read(out, 4096)
            if not got:
                break
            line += got
        return line, True

    def _make(self, prefix: str, parent: str | os.PathLike[str] | None) -> str:
        self._directories.append(tempfile.mkdtemp(prefix=prefix, dir=parent))
        return self._directories[-1]

    def __exit__(self, *exception: object) -> None:
        self.close()

    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def close(self) -> None:
        """Lets the server write everything to its store and end, and waits for that."""
        assert self._process
        self._hang_up()
        try:
            code = self._process.wait(_END)
        except BaseException as error:
            self._kill()
            if isinstance(error, subprocess.TimeoutExpired):
                raise failure(NoServer, "serve", self.url, f"it did not end in {_END:.0f} seconds", "verify its store") from error
            raise
        if code:
            self._kill()
            raise failure(NoServer, "serve", self.url, f"the server ended with exit code {code}", "verify its store")

    def _hang_up(self) -> None:
        """Closes the server's standard input, upon which it ends."""
        for pipe in (self._process.stdin, self._process.stdout) if self._process else ():
            if pipe:
                pipe.close()

    def _kill(self) -> None:
        if self._process:
            self._hang_up()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for directory in self._directories:
            shutil.rmtree(directory, ignore_errors=True)


class Server(Process):
    """A partd-server on a Unix socket that only this user can open, until close()."""

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
            sockets = self._sockets()
            self.directory = "" if store else os.path.abspath(self._make("partd-data-", directory))
            store = store or "log:" + urllib.parse.quote(self.directory + "/store")
            self.url = "ipc://" + urllib.parse.quote(sockets + "/socket")
            self._start(store, [*command, "--store", store, "--listen", self.url, *flags], sockets, "PARTD_SERVER_")
        except BaseException as error:
            self._kill()
            if isinstance(error, OSError) and not isinstance(error, Error):
                raise not_started(store or "a new directory", error) from error
            raise

    def __enter__(self) -> str:
        return self.url


def serve(
    store: str | None = None, *, directory: str | os.PathLike[str] | None = None, flags: tuple[str, ...] = ()
) -> Server:
    """Starts a server for this program: with partd_go.serve("log:dir") as url.

    store is the URL of its store, as partd-server --store takes it. Without one it is
    kept in a new directory below directory, or the system's for temporary files, which
    is removed when the server ends. flags are more of partd-server's, as ("--memory=2GiB",).
    """
    return Server(store, directory=directory, flags=flags)


_servers: weakref.WeakSet[Process] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """A forked process must not keep the pipe open at whose end the server ends."""
    for server in _servers:
        server._hang_up()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)

"""Stores that a private server of each process has open: several servers as one, and buckets."""

from __future__ import annotations

import collections
import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.parse
import weakref
from collections.abc import Callable
from typing import TypeVar

from .. import Client, Error
from ..errors import NoServer, failure
from ..server import Server

T = TypeVar("T")

_AGAIN = 5  # times that work is begun anew, where its server ended each time
_RECENT = 4  # servers that stay for a while without work
_IDLE = 120.0  # seconds of that while: each keeps as much memory as a bucket's segments took
_FLAGS = (
    "--memory=512MiB",  # of which half is for a bucket's segments
    "--stop-timeout=10s",  # of a dead worker's, whose store may be gone: what was not committed is nobody's
    "--log-format=json",
)

_BUCKET = re.compile(r"(s3|gs)://")
_SEVERAL = re.compile(r"(tcp|tls)://[^/?]*,")


class Private:
    """A store of the Go library, which each process opens by a server of its own, on a
    socket that nobody else can open. That ends with the process.

    A server that ends on its own, killed by the system for its memory for example, takes
    with it what attempts had not committed. So they begin again, with another one.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def __repr__(self) -> str:
        return re.sub(r"\?.*", "", self.url)

    def work(self, name: str, work: Callable[[Client], T]) -> T:
        """Works in the store. In a bucket it is one below this name."""
        for left in reversed(range(_AGAIN)):
            server = None
            try:
                server = _served(self._store(name))
                return work(server.client)
            except _Killed:
                if not left:
                    raise
            except Error:
                if not left or server is None or not server.has_ended():
                    raise
        raise AssertionError

    def _store(self, name: str) -> str:
        return self.url


class Bucket(Private):
    """A prefix of a bucket, with a store for each shuffle: so one's rows are deleted at once,
    and none is read through another's."""

    def _store(self, name: str) -> str:
        path, mark, query = self.url.partition("?")
        return f"{path.rstrip('/')}/{name}{mark}{query}"

    def remove(self, name: str) -> None:
        """Deletes the stores below a name."""
        path, _, query = self._store(name).partition("?")
        kept = [(k, v) for k, v in urllib.parse.parse_qsl(query) if k in ("endpoint", "region")]
        store = f"{path.replace('#', '%23')}?{urllib.parse.urlencode(kept)}"
        run = subprocess.run([_partd_cloud(), "remove", "--store", store], capture_output=True, text=True)
        if run.returncode:
            raise failure(Error, "remove", store, run.stderr.strip(), "delete these objects, or let a lifecycle rule of the bucket do so")


def of(url: str) -> Private | None:
    """What opens a URL of a bucket, or of several servers."""
    return Bucket(url) if _BUCKET.match(url) else Private(url) if _SEVERAL.match(url) else None


class _Killed(NoServer):
    """It was killed before it was ready."""


class _Served(Server):
    """A private server, and its only client."""

    def __init__(self, store: str) -> None:
        command = [_partd_cloud(), "serve"] if _BUCKET.match(store) else None
        try:
            super().__init__(store, command=command, flags=_FLAGS)
        except NoServer as error:
            if self._process and self._process.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL):
                raise _Killed(*error.args) from error
            raise
        assert self._process
        # Its socket is never another server's, so there is nothing to wait for when it is gone.
        self.client = Client(self.url, retry_for=0)
        self.wanted = 0.0  # when it was last
        weakref.finalize(self, _let_end, self._process)

    def has_ended(self) -> bool:
        """Reports whether the server, whose connection broke, has ended."""
        assert self._process
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            return False
        return True


def _let_end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
    with contextlib.suppress(RuntimeError):  # at the end of the program nobody needs to wait
        threading.Thread(target=process.wait, name="partd_go.dask end", daemon=True).start()


_starting = threading.Lock()
_running: weakref.WeakValueDictionary[tuple[int, str], _Served] = weakref.WeakValueDictionary()
_recent: collections.deque[_Served] = collections.deque(maxlen=_RECENT)


def _served(store: str) -> _Served:
    """This process's server of a store."""
    with _starting:
        server = _running.get((os.getpid(), store))
        if server is None or server.ended():
            server = _Served(store)
            _running[os.getpid(), store] = server
        server.wanted = time.monotonic()
        if server not in _recent:
            _recent.append(server)
            if len(_recent) == 1:
                threading.Thread(target=_end_idle, name="partd_go.dask idle", daemon=True).start()
        return server


def _end_idle() -> None:
    """Lets go of servers that nobody has wanted for a while, as long as there are some."""
    while _recent:
        time.sleep(_IDLE / 8)
        with _starting:
            stay = [server for server in _recent if server.wanted > time.monotonic() - _IDLE]
            _recent.clear()
            _recent.extend(stay)
            del stay


def _partd_cloud() -> str:
    found = shutil.which("partd-cloud")
    if found is None:
        raise failure(
            NoServer, "run partd-cloud", "the PATH", "this machine does not have it, and stores in buckets need it",
            "build it by Go (cd objstore/cloud && go install ./cmd/partd-cloud), and put it on the PATH of each worker, the "
            "scheduler and the client",
        )  # fmt: skip
    return found

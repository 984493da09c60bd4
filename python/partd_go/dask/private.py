"""Stores that each process opens through its own private server: a store spread over several servers, or a bucket."""

from __future__ import annotations

import collections
import contextlib
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import weakref
from collections.abc import Callable
from typing import TypeVar

from .. import Client, Error
from ..errors import Killed, NoServer, failure, parse_output
from ..server import Server, environment_of

T = TypeVar("T")

_ATTEMPTS = 5  # number of servers that Private.work tries before it fails
_RECENT = 4  # maximum number of idle servers
_IDLE = 120.0  # seconds until an idle server is stopped; until then, it holds a bucket's segments in memory
_FLAGS = (
    "--memory=512MiB",  # half is for a bucket's segments
    # A dead worker's server ends soon, even if its store is unreachable. The server may lose uncommitted appends.
    "--stop-timeout=10s",
    "--log-format=json",
)

_BUCKET = re.compile(r"(s3|gs)://")
_SEVERAL = re.compile(r"(tcp|tls)://[^/?]*,")


class Private:
    """A store that each process opens with its own server, on a socket that no other user can
    open. The server ends with the process.

    If a server dies, for example because the system runs out of memory, the uncommitted appends of the running tasks
    are lost. The tasks start again with a new server.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def __repr__(self) -> str:
        return re.sub(r"\?.*", "", self.url)

    def work(self, name: str, work: Callable[[Client], T]) -> T:
        """Returns work(client), where client accesses the store or, in a bucket, the store called name. If the server
        dies, it calls work again."""
        for remaining in reversed(range(_ATTEMPTS)):
            server = None
            try:
                server = _server_of(self._store(name))
                return work(server.client)
            except Killed:
                if not remaining:
                    raise
            except Error:
                if not remaining or server is None or not server.wait_for_exit():
                    raise
        raise AssertionError

    def _store(self, name: str) -> str:
        return self.url


class Bucket(Private):
    """A prefix in a bucket. Each shuffle has its own store there, so that deleting its rows is one operation, and
    reading them does not scan other shuffles' rows."""

    def _store(self, name: str) -> str:
        path, mark, query = self.url.partition("?")
        return f"{path.rstrip('/')}/{name}{mark}{query}"

    def remove(self, name: str) -> None:
        """Deletes the stores below a name."""
        path, _, query = self._store(name).partition("?")
        kept = [(k, v) for k, v in urllib.parse.parse_qsl(query) if k in ("endpoint", "region")]
        store = f"{path.replace('#', '%23')}?{urllib.parse.urlencode(kept)}"
        command = [_partd_cloud(), "remove", "--store", store]
        run = subprocess.run(command, capture_output=True, text=True, env=environment_of())
        if run.returncode:
            raise failure(
                Killed if run.returncode < 0 else Error,
                "remove",
                store,
                parse_output(run.stderr)[1],
                "delete these objects, or add a lifecycle rule to the bucket",
            )


def open_url(url: str) -> Private | None:
    """Returns the store for the URL of a bucket or of several servers, or None for another URL."""
    return Bucket(url) if _BUCKET.match(url) else Private(url) if _SEVERAL.match(url) else None


class _Served(Server):
    """A private server with its only client."""

    def __init__(self, store: str) -> None:
        command = [_partd_cloud(), "serve"] if _BUCKET.match(store) else None
        super().__init__(store, command=command, flags=_FLAGS)
        assert self._process
        # If the server ends, no other server will listen on this socket, so do not retry.
        self.client = Client(self.url, retry_for=0)
        self.last_use = 0.0
        weakref.finalize(self, _end_process, self._process)

    def wait_for_exit(self) -> bool:
        """Reports whether the server exits within 5 seconds. Call it after the connection has broken."""
        assert self._process
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            return False
        return True


def _end_process(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
    with contextlib.suppress(RuntimeError):  # no thread can start while the program ends: no need to wait
        threading.Thread(target=process.wait, name="partd_go.dask end", daemon=True).start()


_starting = threading.Lock()
_running: weakref.WeakValueDictionary[tuple[int, str], _Served] = weakref.WeakValueDictionary()
_recent: collections.deque[_Served] = collections.deque(maxlen=_RECENT)


def _server_of(store: str) -> _Served:
    """Returns this process's server for a store, after starting it if necessary."""
    with _starting:
        server = _running.get((os.getpid(), store))
        if server is None or server.ended():
            server = _Served(store)
            _running[os.getpid(), store] = server
        server.last_use = time.monotonic()
        if server not in _recent:
            _recent.append(server)
            if len(_recent) == 1:
                threading.Thread(target=_end_idle, name="partd_go.dask idle", daemon=True).start()
        return server


def _end_idle() -> None:
    """Stops idle servers, by dropping the references to them, until no server remains."""
    while _recent:
        time.sleep(_IDLE / 8)
        with _starting:
            active = [server for server in _recent if server.last_use > time.monotonic() - _IDLE]
            _recent.clear()
            _recent.extend(active)
            del active


def _partd_cloud() -> str:
    path = shutil.which("partd-cloud")
    if path is None:
        raise failure(
            NoServer,
            "run partd-cloud",
            "the PATH",
            "a store in a bucket needs it, and it is not installed",
            "build it with Go (cd objstore/cloud && go install ./cmd/partd-cloud), and put it on the PATH of each "
            "worker, the scheduler and the client",
        )
    return path

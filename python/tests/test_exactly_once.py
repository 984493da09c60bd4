"""Tests that changes are applied exactly once despite broken connections, killed servers and missing replies."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

import partd_go
from partd_go.server import find

CUTS = int(os.environ.get("PARTD_CUTS", 60))
KILLS = int(os.environ.get("PARTD_KILLS", 5))
INTERRUPTS = int(os.environ.get("PARTD_INTERRUPTS", 150))


class Proxy:
    """Forwards connections to a Unix socket. It can cut them, and hold back the server's replies."""

    def __init__(self, path: str, server_path: str):
        self.path, self.server_path = path, server_path
        self.holding = threading.Event()  # while set, the proxy holds back replies
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                client_end, _ = self.listener.accept()
            except OSError:
                return
            server_end = socket.socket(socket.AF_UNIX)
            try:
                server_end.connect(self.server_path)
            except OSError:  # no server is running
                client_end.close()
                server_end.close()
                continue
            self.pairs.append((client_end, server_end))
            threading.Thread(target=self.pump, args=(client_end, server_end, False), daemon=True).start()
            threading.Thread(target=self.pump, args=(server_end, client_end, True), daemon=True).start()

    def pump(self, source: socket.socket, sink: socket.socket, from_server: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                while from_server and self.holding.is_set():
                    time.sleep(0.01)
                sink.sendall(data)
        except OSError:
            pass
        for sock in (source, sink):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self) -> None:
        pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for sock in pair:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                sock.close()

    def close(self) -> None:
        self.listener.close()
        self.cut()


@pytest.fixture
def proxy(url: str, tmp_path) -> Iterator[Proxy]:
    proxy = Proxy(str(tmp_path / "proxy"), url.removeprefix("ipc://"))
    yield proxy
    proxy.holding.clear()
    proxy.close()


def test_cut_connections(proxy, store):
    done = threading.Event()

    def cut() -> None:
        while not done.wait(random.uniform(0, 0.02)):
            proxy.cut()
            cuts.append(1)

    cuts: list[int] = []
    cutting = threading.Thread(target=cut)
    cutting.start()
    appended = popped = 0
    popped_values = []
    try:
        with partd_go.Client("ipc://" + proxy.path) as client:
            while len(cuts) < CUTS:
                client.append({"x": b"%d;" % appended, "y": os.urandom(random.choice((10, 100_000)))})
                appended += 1
                if appended % 5 == 0:
                    popped_values.append(client.pop("y"))
                    popped += 1
                assert client.get("x").count(b";") == appended
    finally:
        done.set()
        cutting.join()
    assert store.get("x") == b"".join(b"%d;" % i for i in range(appended))
    assert all(popped_values)


def test_missing_reply(proxy, store):
    """A change whose reply is missing is applied before the next change, or never."""
    with partd_go.Client("ipc://" + proxy.path, timeout=0.3) as client:
        client.append({"x": b"1"})
        proxy.holding.set()
        with pytest.raises(partd_go.UnknownOutcome, match="append at .*: read the keys"):
            client.append({"x": b"2"})
        with pytest.raises(partd_go.TimedOut):
            client.get("x")
        proxy.holding.clear()
        client.append({"x": b"3"})
        assert client.get("x") in (b"123", b"13")
        client.append({"x": b"4"})
        assert store.get("x") in (b"1234", b"134")


@pytest.mark.parametrize(
    "next_request", [lambda c: c.delete("none"), lambda c: c.get("x"), lambda c: c.stat(), lambda c: list(c.scan())]
)
def test_abandoned_change_is_never_late(url, store, monkeypatch, next_request):
    """Any later request, even a read, invalidates the number of an abandoned change, so that the server ignores the
    change if it arrives late."""
    with partd_go.Client(url) as client:
        client.append({"x": b"1"})
        channel = client._channel
        ask = partd_go.link.Link.ask
        abandoned = []

        def interrupted(link, op, pieces=(), **header):
            if op == partd_go.wire.APPEND and not abandoned:
                abandoned.append((pieces, header))
                raise KeyboardInterrupt
            return ask(link, op, pieces, **header)

        monkeypatch.setattr(partd_go.link.Link, "ask", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.append({"x": b"late"})
        next_request(client)
        pieces, header = abandoned[0]
        with contextlib.suppress(partd_go.Error):  # another change has used its number
            ask(channel.connected(), partd_go.wire.APPEND, pieces, **header)
        client.append({"x": b"2"})
        assert client.get("x") == b"12"


INTERRUPTED = {
    "append": lambda c: c.append({"z": b"1"}),
    "get": lambda c: c.get(["z", "y"]),
    "pop": lambda c: c.pop("none"),
    "delete": lambda c: c.delete("none"),
    "scan": lambda c: list(c.scan()),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # an interrupt may leave a socket open
@pytest.mark.parametrize("name", INTERRUPTED)
def test_interrupted(name, url):
    """After an interrupt at any time, the client still works, and the interrupted change is applied once or not at
    all."""
    with partd_go.Client(url) as client, partd_go.Client(url) as other:
        client.append({"z": b"1", "y": b"2"})
        for _ in range(INTERRUPTS):
            try:
                try:
                    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
                    signal.setitimer(
                        signal.ITIMER_REAL, random.uniform(1e-5, 8e-4), 0.5
                    )  # repeats, because one interrupt may be lost in a __del__
                    while True:
                        INTERRUPTED[name](client)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    signal.signal(signal.SIGALRM, handler)
            except KeyboardInterrupt as interrupt:  # keeps the interrupted frames alive
                client.timeout = 10
                before = len(client.get("z"))
                client.append({"z": b"1"})
                assert len(other.get("z")) == before + 1, interrupt
                client.timeout = None
        client.drop()


def test_closed_while_reading(proxy, store):
    store.append({f"{i}": bytes(1 << 20) for i in range(8)})
    with partd_go.Client("ipc://" + proxy.path) as client:
        scan = client.scan()
        next(scan)
        proxy.cut()
        with pytest.raises(partd_go.Lost, match="read again from the start"):
            list(scan)
        assert client.get("3") == bytes(1 << 20)


def start(store: str, url: str) -> subprocess.Popen:
    server = subprocess.Popen(
        [find("partd-server"), "--store", store, "--listen", url], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert server.stdout.readline().startswith(b"ready")
    return server


def stop(server: subprocess.Popen) -> None:
    server.kill()
    server.wait()
    server.stdout.close()


def test_killed_servers(tmp_path):
    """Appends are applied once although the server is killed and restarted repeatedly, with the same directory."""
    url, directory = f"ipc://{tmp_path}/socket", f"log:{tmp_path}/store"
    server = start(directory, url)
    counts, stopping = [0] * 3, threading.Event()

    def append(i: int) -> None:
        with partd_go.Client(url) as client:
            while not stopping.is_set():
                client.append({f"{i}": b"%d;" % counts[i]})
                counts[i] += 1

    threads = [threading.Thread(target=append, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(KILLS):
        time.sleep(random.uniform(0.05, 0.3))
        stop(server)
        server = start(directory, url)
    stopping.set()
    for thread in threads:
        thread.join()
    with partd_go.Client(url) as client:
        for i, count in enumerate(counts):
            assert count and client.get(f"{i}") == b"".join(b"%d;" % n for n in range(count))
    stop(server)


@pytest.mark.parametrize("kind", ["mem:", "buffer+file:"])
def test_store_without_sessions(tmp_path, kind):
    """If the server is killed and its store keeps no sessions, the outcome of a change is unknown, and it is not sent
    again."""
    url, directory = f"ipc://{tmp_path}/socket", kind if kind == "mem:" else f"{kind}{tmp_path}/files"
    server = start(directory, url)
    proxy = Proxy(f"{tmp_path}/proxy", f"{tmp_path}/socket")
    with partd_go.Client("ipc://" + proxy.path) as client:
        client.append({"x": b"1"})
        proxy.holding.set()
        failed = []

        def append() -> None:
            try:
                client.append({"x": b"2"})
            except partd_go.Error as error:
                failed.append(error)

        appending = threading.Thread(target=append)
        appending.start()
        time.sleep(0.2)
        stop(server)
        proxy.cut()
        proxy.holding.clear()
        server = start(directory, url)
        appending.join()
        assert isinstance(failed[0], partd_go.UnknownOutcome)
        client.append({"x": b"3"})
        assert client.get("x").endswith(b"3") and client.get("x").count(b"2") == 0
    proxy.close()
    stop(server)


def test_no_server(tmp_path):
    client = partd_go.Client(f"ipc://{tmp_path}/none", retry_for=0.3)
    for call in (lambda: client.get("x"), lambda: client.append({"x": b""}), lambda: list(client.keys())):
        start = time.monotonic()
        with pytest.raises(
            partd_go.ConnectionFailed, match=r"no connection for 0\.[3-9] seconds .*check that the server is running"
        ):
            call()
        assert time.monotonic() - start >= 0.3
    with pytest.raises(partd_go.TimedOut):
        partd_go.Client(f"ipc://{tmp_path}/none", timeout=0.2).append({"x": b""})


def test_not_a_server(tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{tmp_path}/http")
    listener.listen()

    def answer() -> None:
        client_end, _ = listener.accept()
        client_end.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n".ljust(100))
        client_end.recv(1)
        client_end.close()

    threading.Thread(target=answer, daemon=True).start()
    with pytest.raises(partd_go.ConnectionFailed, match="the reply did not come from a partd-server"):
        partd_go.Client(f"ipc://{tmp_path}/http", retry_for=1).get("x")
    listener.close()

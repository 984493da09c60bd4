"""Tests the client with partd.Server and with our server, over the same protocol, so that either side can migrate
first."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import partd_go
from partd_go import pythonserver
from partd_go.errors import error_of_codes
from partd_go.server import find

partd = pytest.importorskip("partd")
pytest.importorskip("zmq")

PROGRAM = """
import os, sys, threading, partd
path = sys.argv[2]
class Buffer(partd.Buffer):
    def drop(self):
        super().drop()
        self.lengths.clear()  # partd.Buffer continues to count what it dropped, and then reorders small values
        self.memory_usage = 0
store = {
    "Dict": partd.Dict, "File": lambda: partd.File(path),
    "Buffer": lambda: Buffer(partd.Dict(), partd.File(path), available_memory=1000),
}[sys.argv[1]]()
server = partd.Server(store, hostname="127.0.0.1")
print(server.address.decode(), flush=True)
threading.Thread(target=lambda: (server._listen_thread.join(), print("ended", flush=True)), daemon=True).start()
sys.stdin.read()
os._exit(0)
"""


@contextmanager
def python_server(kind: str, path: object) -> Iterator[tuple[str, subprocess.Popen]]:
    server = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, kind, f"{path}/store"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield server.stdout.readline().strip(), server
    finally:
        server.kill()
        server.communicate()


@pytest.fixture(scope="module", params=["Dict", "File", "Buffer", "ours"])
def url(request, tmp_path_factory) -> Iterator[str]:
    """Yields the address of a server that speaks the protocol of the Python package partd."""
    if request.param == "ours":
        with partd_go.serve() as url:
            yield url
    else:
        with python_server(request.param, tmp_path_factory.mktemp("server")) as (url, _):
            yield url


@pytest.fixture
def store(url) -> Iterator[partd_go.Client]:
    with partd_go.Client(url, python_server=True) as store:
        yield store
        store.drop()


def test_append_and_get(store):
    store.append({"x": b"Hello", "y": b"abc"}, lock=False)
    store.append({"x": b"World!", "y": b""})
    store.append({})
    assert store.get("x") == b"HelloWorld!"
    assert store.get(["y", ["x", ["y", "none"]], []]) == [b"abc", [b"HelloWorld!", [b"abc", b""]], []]
    assert store._get(["x"]) == [b"HelloWorld!"] and store.iget("y") == b"abc" and store.get([]) == []
    store._append({"x": b"."})
    assert store.get("x") == b"HelloWorld!."


def test_all_keys_and_values(store):
    keys = ["é", ("a", 1, b"b"), 17, 2.5, None, ("nested", ("a", "b")), "k" * 200]
    store.append({key: repr(key).encode() for key in keys})
    assert store.get(keys) == [repr(key).encode() for key in keys]
    assert store.get("a-|-1-|-b") == repr(("a", 1, b"b")).encode()
    store.append(
        {"array": bytearray(b"ab"), "view": memoryview(b"123456")[::2], "words": memoryview(b"12345678").cast("I")}
    )
    store.append({"ack": b"ack", "error": b"error: no"})
    assert store.get(["array", "view", "words", "ack", "error"]) == [b"ab", b"135", b"12345678", b"ack", b"error: no"]
    assert store.get("ack") == b"ack" and store.get("error") == b"error: no"
    with pytest.raises(TypeError, match="str: encode it to bytes"):
        store.append({"fine": b"", "text": "text"})


def test_equal_keys(store):
    """The client joins the values of keys with equal encodings, because Python's server would keep only the last
    value."""
    store.append({"x": b"1", b"x": b"2", ("a", "b"): b"3", "a-|-b": b"4", "y": b"5"})
    assert store.get(["x", "a-|-b", "y"]) == [b"12", b"34", b"5"]


def test_iset_delete_drop(store):
    store.iset("x", b"1")
    store.iset("x", b"2")
    store._iset("x", b"3")
    assert store.get("x") == b"1"
    store.append({"y": b"5", "z": b"6"})
    store.delete(["x", "none"])
    store.delete("y")
    store.delete([])
    assert store.get(["x", "y", "z"]) == [b"", b"", b"6"]
    store.drop()
    assert store.get(["x", "z"]) == [b"", b""]


@pytest.mark.parametrize("size", [255, 256, 64 << 10, 64 << 20])
def test_large_values(store, size, request):
    value = os.urandom(1 << 16) * (size >> 16) + bytes(size % (1 << 16))
    store.append({"big": value, "small": b"s"})
    store.append({"big": b"!"})
    want = value + b"!"
    if (
        "Buffer" in request.node.name and size > 1000
    ):  # partd.Buffer returns the data in memory before the older data on disk
        want = b"!" + value
    assert store.get(["small", "big", "small"]) == [b"s", want, b"s"]


def test_many_keys(store):
    data = {f"key {i}": b"v" * (i % 300) for i in range(5000)}
    store.append(data)
    assert store.get(list(data)) == list(data.values())


def test_with_clients_of_partd(store, url):
    """No append is lost if clients of both kinds append to the same keys."""

    def work(client, name: str) -> None:
        for i in range(100):
            client.append({name: b"%d," % i, "both": b"."})

    theirs = partd.Client(url)
    threads = [
        threading.Thread(target=work, args=(store, "ours")),
        threading.Thread(target=work, args=(theirs, "theirs")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    want = b"".join(b"%d," % i for i in range(100))
    for client in (theirs, store):  # theirs first, because it does not wait for its last append
        assert client.get(["ours", "theirs", "both"]) == [want, want, b"." * 200]
    theirs.close()


def test_layers(store):
    for layer, value in (
        (partd.Pickle, [1, "two"]),
        (partd.Python, [1, "two"]),
        (partd.ZLib, b"12"),
        (partd.BZ2, b"12"),
    ):
        layered = layer(store)
        layered.append({("k", 1): value})
        layered.append({("k", 1): value})
        assert layered.get(("k", 1)) == value + value
        layered.drop()
    with partd.Buffer(partd.Dict(), store, available_memory=100) as buffer:
        for i in range(50):
            buffer.append({"x": b"%d," % i})
        buffer.flush()
        assert store.get("x") == b"".join(b"%d," % i for i in range(50))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_pickled_and_forked(store):
    store.append({"x": b"1"})
    other = pickle.loads(pickle.dumps(store))
    other.append({"x": b"2"})
    other.close()
    child = os.fork()
    if not child:
        store.append({"x": b"3"})
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    store.append({"x": b"4"})
    assert store.get("x") == b"1234"


REFUSED = {
    "pop": lambda store: store.pop("x"),
    "append": lambda store: store.append({"x": b"2"}, fsync=True),
    "sync": lambda store: store.sync(),
    "stat": lambda store: store.stat(),
    "keys": lambda store: list(store.keys()),
    "scan": lambda store: list(store.scan()),
    "namespaces": lambda store: store.namespaces(),
}


def test_unsupported_requests(store, url):
    """Unsupported requests change nothing, and the server keeps running."""
    store.append({"x": b"1"})
    for name, call in REFUSED.items():
        with pytest.raises(partd_go.Unsupported, match=f"{'sync' if name == 'append' else name} at .*partd-server"):
            call(store)
    assert store.get("x") == b"1"
    for options in ({"token": "t"}, {"namespace": "n"}, {"tls_ca": "file"}):
        with pytest.raises(partd_go.Misuse):
            partd_go.Client(url, python_server=True, **options)
    with pytest.raises(partd_go.Misuse, match="no users, namespaces or TLS"):
        partd_go.Client("tls://localhost:1", python_server=True)


@pytest.mark.parametrize(
    "call", [lambda store: store.append({"x": b"2"}), lambda store: store.get("x"), lambda store: list(store.scan())]
)
def test_wrong_protocol(call, tmp_path):
    """A client without python_server must not send its first message, which would end Python's server and block all its
    clients."""
    with python_server("Dict", tmp_path) as (url, _), partd_go.Client(url, python_server=True, timeout=10) as store:
        store.append({"x": b"1"})
        start = time.monotonic()
        with pytest.raises(partd_go.ConnectionFailed, match="python_server=True"), partd_go.Client(url) as wrong:
            call(wrong)
        assert time.monotonic() - start < 20  # a broken connection is retried for 60 seconds
        assert store.get("x") == b"1"
        with partd_go.Client(url, python_server=True, timeout=10) as other:
            assert other.get("x") == b"1"


def test_server_that_dies(tmp_path):
    with python_server("Dict", tmp_path) as (url, server):
        with partd_go.Client(url, python_server=True, retry_for=1) as store:
            assert store.timeout == 60
            store.append({"x": b"1"})
            server.kill()
            server.wait()
            start = time.monotonic()
            for call in (lambda: store.append({"x": b"2"}), lambda: store.get("x")):
                with pytest.raises(
                    partd_go.ConnectionFailed
                ):  # the client detects the closed connection before it sends anything
                    call()
            assert time.monotonic() - start < 10


@pytest.mark.parametrize("kill", [False, True])
def test_server_that_is_stopped(kill, tmp_path):
    """If a sent change gets no reply, the call raises UnknownOutcome within its timeout, and does not send the change
    again."""
    with python_server("Dict", tmp_path) as (url, server):
        with partd_go.Client(url, python_server=True, timeout=30 if kill else 3, retry_for=0.5) as store:
            store.append({"x": b"1"})
            os.kill(server.pid, signal.SIGSTOP)
            os.waitpid(server.pid, os.WUNTRACED)  # waits until the server is stopped
            if kill:
                threading.Timer(0.3, server.kill).start()
            start = time.monotonic()
            with pytest.raises(partd_go.UnknownOutcome, match="read the keys"):
                store.append({"x": b"2"})
            assert time.monotonic() - start < 10
            if kill:
                return
            with pytest.raises(partd_go.TimedOut):
                store.get("x")
            os.kill(server.pid, signal.SIGCONT)
            store.timeout = 20
            assert store.get("x") == b"12"  # applied once


def test_server_that_never_answers(tmp_path):
    """Calls to a server that accepts connections but never replies end at their timeout."""
    with python_server("Dict", tmp_path) as (url, server), partd_go.Client(url, python_server=True, timeout=3) as store:
        store.append({"x": b"1"})
        killer = partd.Client(url)
        killer.send(b"explode", [])
        assert server.stdout.readline() == "ended\n"
        with pytest.raises(partd_go.UnknownOutcome):
            store.append({"x": b"2"})
        with pytest.raises(partd_go.TimedOut), partd_go.Client(url, python_server=True, timeout=2) as other:
            other.append({"x": b"3"})
        killer.socket.close(0)
        killer.context.destroy(0)


def test_server_restarted(tmp_path):
    """If the server is restarted between calls, the client reconnects, because no change was pending."""
    store = partd_go.Client(f"ipc://{tmp_path}/socket", python_server=True)
    for i in range(3):
        server = subprocess.Popen(
            [find("partd-server"), "--store", f"log:{tmp_path}/log", "--listen", f"ipc://{tmp_path}/socket"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout.readline().startswith("ready")
        store.append({"x": b"%d" % i})
        value = store.get("x")
        server.kill()
        server.communicate()
    assert value == b"012"
    store.close()


def test_error_of_our_server():
    with partd_go.serve(flags=("--max-message=1MiB",)) as url, partd_go.Client(url, python_server=True) as store:
        with pytest.raises(partd_go.Error, match="append at .*too large") as caught:
            store.append({"x": bytes(2 << 20)})
        assert not isinstance(caught.value, partd_go.UnknownOutcome)
        store.append({"x": b"1"})
        assert store.get("x") == b"1"


def test_codes_of_errors():
    """The class of an error depends on its codes, not on its text."""
    match = pythonserver._ERROR.fullmatch(b"error 3 6: x\n: y")
    assert match.groups() == (b" 3 6", b"x\n: y") and pythonserver._ERROR.fullmatch(b"error: x")[1] == b""
    assert type(error_of_codes([3, 6], "append", "u", "x")) is partd_go.UnknownOutcome
    assert type(error_of_codes([], "append", "u", "x")) is partd_go.Error


REPLIES = {
    "wrong number of values": b"\x01\x01a\x00\x01b\x00\x03ack",
    "no ack": b"\x00\x01a\x00\x01b",
    "message of 2**62 bytes": b"\x02" + struct.pack(">Q", 1 << 62) + b"x",
    "command of 2**62 bytes": b"\x06" + struct.pack(">Q", 1 << 62) + b"x",
    "unknown flags": b"\x80\x01a",
}


@pytest.mark.parametrize("name", REPLIES)
def test_hostile_server(name, tmp_path):
    """An invalid reply is an error, whatever size it claims to have."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{tmp_path}/socket")
    listener.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as file:
                connection.sendall(
                    b"\xff" + bytes(7) + b"\x01\x7f\x03\x00NULL".ljust(24, b"\0") + bytes(32) + b"\x04\x06\x05READY"
                )
                file.read(64 + 43 + 5)
                connection.sendall(b"\x00\x03ack")
                file.read(5)
                connection.sendall(REPLIES[name])
                if "command" not in name:
                    file.read(100)

    threading.Thread(target=serve, daemon=True).start()
    with partd_go.Client(f"ipc://{tmp_path}/socket", python_server=True, retry_for=0.2, timeout=2) as store:
        with pytest.raises((partd_go.ConnectionFailed, partd_go.TimedOut)):
            store.get("x")
    listener.close()

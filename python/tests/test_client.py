"""Tests the client's calls without failures, and its errors for invalid arguments."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

import partd_go
from partd_go import address


def test_append_and_get(store):
    store.append({"x": b"Hello", "y": b"abc"}, lock=False)
    store.append({"x": b"World!", "y": b""}, fsync=True)
    store.append({})
    assert store.get("x") == b"HelloWorld!"
    assert store.get(["y", ["x", ["y", "none"]], []]) == [b"abc", [b"HelloWorld!", [b"abc", b""]], []]
    assert store._get(["x"]) == [b"HelloWorld!"] and store.iget("y") == b"abc"
    store._append({"x": b"."})
    assert store.get("x") == b"HelloWorld!."


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has TCP_USER_TIMEOUT")
def test_limited_silence():
    """Checks that the kernel ends a connection if the server acknowledges nothing for too long."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = address.Settings(url=f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        with address.connect(settings, settings.parse(), 5) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 45_000


@pytest.mark.parametrize("layer", [lambda store: store, partd_go.Arrow])
def test_unknown_options(store, layer):
    """Checks that no method ignores an option, such as a misspelt fsync."""
    wrapped = layer(store)
    for call in (
        lambda: wrapped.append({}, fsnyc=True),
        lambda: wrapped.get("k", default=b""),
        lambda: wrapped.get(["k"], kind="polars"),
        lambda: wrapped.pop("k", timeout=1),
        lambda: wrapped.delete("k", fsync=True),
        lambda: store.iset("k", b"x", fsync=True),
    ):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            call()
    assert list(store.keys()) == []


def test_keys_of_all_kinds(store):
    keys = ["", "é", b"\xff\x00", ("a", 1, b"b"), 17, 2.5, None, ("nested", ("a", "b")), "k" * 65535]
    store.append({key: repr(key).encode() for key in keys})
    assert store.get(keys) == [repr(key).encode() for key in keys]
    assert store.get("a-|-1-|-b") == repr(("a", 1, b"b")).encode()
    listed = list(store.keys())
    assert len(listed) == len(keys) and store.get(listed) == [value for _, value in store.scan()]
    with pytest.raises(ValueError, match="65536 bytes: shorten"):
        store.append({"k" * 65536: b""})


def test_values_of_all_kinds(store):
    big = os.urandom(3 << 20)
    store.append({"array": bytearray(b"ab"), "view": memoryview(big)[::2], "words": memoryview(b"12345678").cast("I")})
    store.append({"none": memoryview(b"")})
    assert store.get(["array", "view", "words"]) == [b"ab", big[::2], b"12345678"]
    with pytest.raises(TypeError, match="str: encode it to bytes"):
        store.append({"fine": b"", "text": "text"})
    assert "fine" not in list(store.keys())


@pytest.mark.parametrize("size", [1, 32 << 10, (1 << 20) - 100, 1 << 20, 5 << 20, 256 << 20])
def test_large_values(url, size):
    value = os.urandom(1 << 20) * (size >> 20) + bytes(size % (1 << 20))
    with partd_go.Client(url) as store:
        store.append({"big": value, "small": b"s"})
        assert store.get(["small", "big", "small"]) == [b"s", value, b"s"]
        assert dict(store.scan()) == {"big": value, "small": b"s"}
        if size < 1 << 28:  # the server keeps popped data in memory
            assert store.pop("big") == value
        store.drop()


def test_too_large():
    with partd_go.serve(flags=("--max-message=1MiB",)) as url, partd_go.Client(url) as store:
        store.append({"k": bytes(1 << 20)})
        for _ in range(2):
            with pytest.raises(partd_go.TooLarge, match="the server accepts at most 1179648: send smaller batches"):
                store.append({"x": b"1", "k": bytes(1200 << 10)})
        with pytest.raises(partd_go.TooLarge):
            store.pop([str(i).rjust(60_000) for i in range(20)])
        store.append({"k": b"end"})
        assert store.get("k") == bytes(1 << 20) + b"end" and list(store.keys()) == ["k"]


def test_iset_delete_pop(store):
    store.iset("x", b"1")
    store.iset("x", b"2")
    store._iset("x", b"3")
    assert store.get("x") == b"1"
    store.append({"y": b"5", "z": b"6"})
    store.delete(["x", "none"])
    assert store.pop(["x", ["y"]]) == [b"", [b"5"]] and store.pop("z") == b"6" and store.pop([]) == []
    assert list(store.keys()) == []
    store.iset("x", b"7")  # x was deleted
    assert store.get("x") == b"7"


def test_many_pops(store):
    for i in range(600):  # the server keeps only 256 unconfirmed results
        store.append({"x": b"%d" % i})
        assert store.pop("x") == b"%d" % i


def test_scan_in_parts(store):
    data = {f"key {i}": os.urandom(1 + i % 700) for i in range(9000)} | {"large": os.urandom(5 << 20)}
    store.append(data)
    assert dict(store.scan()) == data and set(store.keys()) == set(data)
    parts = [dict(store.scan_part(i, 3)) for i in range(3)]
    assert sum(map(len, parts)) == len(data) and parts[0] | parts[1] | parts[2] == data
    chunks = [chunk for chunk in store.scan_chunks() if chunk.key == "large"]
    assert len(chunks) > 1 and chunks[-1].last and chunks[1].offset == len(chunks[0].data)
    scan = store.scan()
    next(scan)
    store.append({"while it": b"is read"})
    scan.close()
    assert "partd scan" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(ValueError, match="part 3 of 3"):
        store.scan_part(3, 3)


def test_abandoned_scan(store):
    """A scan can be closed early, even while prefetched pages wait to be read."""
    for i in range(16):
        store.append({f"{i}": bytes(1 << 20)})
    for wait in (0, 0.3):
        scan = store.scan()
        next(scan)
        time.sleep(wait)
        closing = threading.Thread(target=scan.close, daemon=True)
        closing.start()
        closing.join(10)
        assert not closing.is_alive()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_during_scan(store):
    store.append({f"{i}": bytes(1 << 20) for i in range(16)})
    scan = store.scan()
    next(scan)
    child = os.fork()
    if not child:
        scan.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert len(list(scan)) == 15


def test_scan_in_little_memory(store):
    for i in range(64):
        store.append({f"{i}": bytes(1 << 20)})
    tracemalloc.start()
    try:
        assert sum(len(chunk.data) for chunk in store.scan_chunks()) == 64 << 20
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()


def test_threads(store):
    def work(i: int) -> None:
        for j in range(100):
            store.append({"shared": b"%d,%d;" % (i, j), f"own {i}": b"%d;" % j})
            assert store.get(f"own {i}") == b"".join(b"%d;" % n for n in range(j + 1))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(store.get("shared").split(b";"))) == 801


def _append_in_child(store):
    store.append({"x": b"child"})


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes(store, method):
    store.append({"x": b"parent, "})  # opens a session and a connection
    child = multiprocessing.get_context(method).Process(target=_append_in_child, args=(store,))
    child.start()
    child.join()
    assert child.exitcode == 0
    store.append({"x": b", parent"})
    assert store.get("x") == b"parent, child, parent"


def test_pickle(url, store):
    store.append({"x": b"1"})
    secret = partd_go.Client(url, "s3cret", timeout=5, namespace="n", retry_for=7)
    assert "s3cret" not in f"{secret!r} {secret.__dict__!r}"
    copy = pickle.loads(pickle.dumps(secret))
    assert copy._settings == secret._settings and copy.timeout == 5
    with pickle.loads(pickle.dumps(store)) as other:
        assert other.get("x") == b"1"


def test_namespaces(url, store):
    with partd_go.Client(url, namespace="one") as one, partd_go.Client(url, namespace="two") as two:
        one.append({"x": b"1"})
        two.append({"x": b"2"})
        assert one.get("x") == b"1" and two.get("x") == b"2" and store.get("x") == b""
        found = {namespace.name: namespace for namespace in store.namespaces()}
        assert set(found) == {"one", "two"} and abs(found["one"].last_used - time.time()) < 60
    with pytest.raises(ValueError, match="'a/b'"):
        partd_go.Client(url, namespace="a/b")


def test_close(url, store):
    with partd_go.Client(url) as other:
        other.append({"x": b"1"})
    other.close()
    for call in (lambda: other.get("x"), lambda: other.append({"x": b""}), lambda: list(other.scan())):
        with pytest.raises(partd_go.Closed, match="make a new client"):
            call()
    assert store.get("x") == b"1"  # the store was not dropped
    other = partd_go.Client(url)
    other.__del__()  # partd's layers do this
    assert other.get("x") == b"1"

    def delete_during_call(channel):  # runs __del__ in the thread of the call, and in another thread
        other.__del__()
        thread = threading.Thread(target=other.__del__)
        thread.start()
        thread.join()
        return channel.link

    assert other._call(partd_go.wire.GET, delete_during_call)
    other.close()


def test_stat(store):
    store.append({"x": b"12345"})
    stats = store.stat()
    assert (stats.keys, stats.bytes) == (1, 5) and stats.disk > 0


@pytest.mark.parametrize(
    "url",
    [
        "http://x:1",
        "tcp://x",
        "tcp://user:secret@x:1",
        "tcp://x:99999",
        "tcp://x:1/",
        "tcp://x:1?token=secret",
        "ipc://",
    ],
)
def test_wrong_urls(url):
    with pytest.raises(ValueError, match="pass") as caught:
        partd_go.Client(url)
    assert "secret" not in str(caught.value)


def test_wrong_options(url):
    for options in ({"timeout": 0}, {"tls_ca": "x"}, {"retry_for": -1}):
        with pytest.raises(ValueError):
            partd_go.Client(url, **options)
    with pytest.raises(ValueError, match="names the namespace 'a', but the argument namespace is 'b'"):
        partd_go.Client("tcp://127.0.0.1:1/a", namespace="b")


@pytest.mark.parametrize(
    "code, package, extra",
    [
        ("partd_go.Arrow", "pyarrow", "arrow"),
        ("import partd_go.tables", "pyarrow", "tables"),
        ("import partd_go.pull", "pyarrow", "tables"),
        ("import partd_go.pystore", "pandas", "pystore"),
        ("import partd_go.dask", "dask", "dask"),
        ("import partd_go.stage; partd_go.stage.formats.pandas_functions('csv')", "pandas", "stage"),
    ],
)
def test_missing_package_names_the_extra(code, package, extra):
    code = f"import sys; sys.modules[{package!r}] = None; import partd_go; {code}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    advice = f"in a clone of partd for Go, run pip install './python[{extra}]'"
    assert run.stderr.splitlines()[-1] == f"ModuleNotFoundError: {package} is not installed: {advice}"


def test_extra_of_dask_has_local_clusters():
    extras = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert re.search(r'^dask = \["dask\[dataframe,distributed\]', extras, re.MULTILINE)

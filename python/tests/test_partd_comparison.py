"""Checks the statements of docs/seeds.md about partd 1.4.2 and this client."""

from __future__ import annotations

import gc
import os
import pickle

import pytest

import partd_go

partd = pytest.importorskip("partd")


@pytest.fixture
def ours(tmp_path):
    """Yields the client of a server that keeps a file for each key."""
    with partd_go.serve(f"file:{tmp_path}/ours") as url, partd_go.Client(url) as client:
        yield client


@pytest.fixture
def theirs(tmp_path):
    return partd.File(f"{tmp_path}/theirs")


def test_version():
    assert partd.__version__ == "1.4.2"


def test_files_are_the_same(ours, theirs, tmp_path):
    data = {"x": b"1", ("a", "b", 1): b"2", "with space.txt": b"3"}
    for store in (ours, theirs):
        store.append(data)
        assert store.get(list(data)) == list(data.values())
    ours.append({"theirs only": b""})
    shared = partd.File(f"{tmp_path}/ours")
    assert shared.get(list(data)) == list(data.values())
    shared.append({"x": b"!"})
    assert ours.get("x") == b"1!"


def test_keys_share_no_file(ours, theirs):
    for store, values in ((ours, [b"1", b"2"]), (theirs, [b"12", b"12"])):
        store.append({"x!": b"1"})
        store.append({"x": b"2"})
        assert store.get(["x!", "x"]) == values


def test_keys_cannot_leave_the_directory(ours, theirs, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    theirs = partd.File(f"{tmp_path}/a/b/theirs")
    for store in (ours, theirs):
        store.append({"../../out": b"1"})
        assert store.get("../../out") == b"1"
    assert os.path.exists(tmp_path / "a" / "out") and not os.path.exists(tmp_path.parent / "out")


@pytest.mark.parametrize(
    "bad", ["", "k" * 300, ("x", "in the way")], ids=["empty", "too long for a file name", "below another key"]
)
def test_keys_of_all_kinds(ours, theirs, bad):
    for store in (ours, theirs):
        store.append({"x": b"1"})
    ours.append({bad: b"2", "y": b"3"})
    assert ours.get([bad, "x", "y"]) == [b"2", b"1", b"3"]
    with pytest.raises(OSError):
        theirs.append({"y": b"3", bad: b"2"})
    assert theirs.get("y") == b"3"  # partd kept part of the failed append


def test_append_is_atomic(ours):
    with pytest.raises(partd_go.Error):
        ours.append({"y": b"3", "k" * 65536: b"2"})
    assert ours.get("y") == b""


def test_iset(ours, theirs, tmp_path):
    other = partd.File(theirs.path)
    with partd_go.Client(ours.url) as second:
        for first, second_client, value, deleted in ((ours, second, b"1", b"4"), (theirs, other, b"3", b"")):
            first.iset("i", b"1")
            first.iset("i", b"2")
            second_client.iset("i", b"3")
            assert first.get("i") == value
            first.delete("i")
            first.iset("i", b"4")
            assert first.get("i") == deleted


def test_pop(ours, tmp_path):
    for store in (partd.Dict(), partd.File(f"{tmp_path}/p"), partd.Buffer(partd.Dict(), partd.Dict())):
        store.append({"x": b"1"})
        with pytest.raises(AttributeError):
            store.pop("x")
    encoded = partd.Pickle(partd.Dict())
    encoded.append({"x": [1]})
    assert encoded.pop("x") != [1]
    ours.append({"x": b"1"})
    assert ours.pop("x") == b"1" and ours.get("x") == b""


def test_drop(ours, theirs, tmp_path):
    for store in (ours, theirs):
        store.append({"x": b"1"})
    for path in (f"{tmp_path}/ours", theirs.path):
        os.mkdir(f"{path}/mine,too")
    ours.drop()
    theirs.drop()
    assert os.listdir(theirs.path) == [] and os.path.exists(f"{tmp_path}/ours/mine,too")
    assert ours.get("x") == theirs.get("x") == b""


def test_context_manager(ours, theirs):
    with partd_go.Client(ours.url) as client:
        client.append({"x": b"1"})
    assert ours.get("x") == b"1"
    with theirs:
        theirs.append({"x": b"1"})
    assert not os.path.exists(theirs.path)


def test_pickled(ours, theirs):
    for store in (ours, theirs):
        store.append({"x": b"1"})
        assert pickle.loads(pickle.dumps(store)).get("x") == b"1"


def test_values(ours):
    theirs, array = partd.Dict(), bytearray(b"1")
    for store in (ours, theirs):
        store.append({"x": array})
    array[0] = ord("2")
    assert ours.get("x") == b"1" and theirs.get("x") == b"2"
    with pytest.raises(TypeError):
        ours.append({"t": "text"})
    theirs.append({"t": "text"})
    with pytest.raises(TypeError):
        theirs.get("t")


def test_order_of_a_buffer(theirs, tmp_path):
    buffer = partd.Buffer(partd.Dict(), theirs, available_memory=10)
    with partd_go.serve(f"buffer+file:{tmp_path}/b?memory=64KiB") as url, partd_go.Client(url) as ours:
        for store, value in ((buffer, b"!" + b"1" * 100_000), (ours, b"1" * 100_000 + b"!")):
            store.append({"x": b"1" * 100_000})
            store.append({"x": b"!"})
            assert store.get("x") == value
    buffer.append({"y": b"12345"})
    before = buffer.memory_usage
    buffer.delete("y")
    assert buffer.memory_usage == before


def test_numpy(ours):
    np = pytest.importorskip("numpy")
    for store in (partd.Dict(), ours):
        store.__del__ = lambda: None  # partd's Numpy expects every store to have __del__
        arrays = partd.Numpy(store)
        arrays.append({"x": np.arange(2)})
        arrays.append({"x": np.arange(2.0)})
        assert list(arrays.get("x")) != [0, 1, 0, 1]
        arrays.delete(["x"])
        assert store.get("x") and not store.get("x.dtype")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_server_of_partd(tmp_path, monkeypatch):
    pytest.importorskip("zmq")
    monkeypatch.chdir(tmp_path)  # the socket is created in the working directory
    for wrong in ({"address": "ipc://server"}, {"bind": "ipc://server"}, {"bind": b"tcp://127.0.0.1:0"}):
        with pytest.raises(TypeError):
            partd.Server(partd.Dict(), start=False, **wrong)
    gc.collect()  # collects the contexts that these servers leave open


def test_client_of_partd(ours):
    pytest.importorskip("zmq")
    theirs = partd.Client(ours.url)
    assert theirs.get([]) == [b"ack"] and ours.get([]) == []
    theirs.socket.close(0)
    theirs.context.destroy(0)


def test_files_of_a_server(tmp_path):
    zmq = pytest.importorskip("zmq")
    server = partd.Server(partd.File(f"{tmp_path}/served"), hostname="127.0.0.1")
    try:
        with partd_go.Client(server.address, python_server=True) as client:
            client.append({"x": b"1", ("a", "b"): b"2"})
    finally:
        server.close()  # otherwise its thread would keep the process alive
    assert zmq and sorted(os.listdir(f"{tmp_path}/served")) == [".lock", "ba", "bx"]


def test_columns(ours):
    pd = pytest.importorskip("pandas")
    frames = partd.PandasColumns(ours)
    for a, b in (1, "x"), (2, "y"):  # partd accepts text only as objects, which pandas 3 would turn into str
        frames.append({"x": pd.DataFrame({"a": [a], "b": [b]}).astype({"b": object})})
    assert frames.get("x", columns=["a"]).to_dict("list") == {"a": [1, 2]}


def test_frames():
    from partd.utils import frame, framesplit

    assert list(framesplit(frame(b"one") + frame(b"two")[:-1])) == [b"one", b"tw"]

"""Tests shared results of stages, in tables and at a partd-server."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import pickle
import socket
import subprocess
import sys
import time
from pathlib import Path

import pages
import pytest
from pipelines import directory, pop_runs, record_run  # noqa: F401

import partd_go
import partd_go.stage
from partd_go.stage import gc, set_directory

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")


class TablesStorage:
    """Storage in tables. Its methods read and change results without using stages, as another program could."""

    def __init__(self, url):
        import partd_go.tables

        self.options_code = f"tables=partd_go.tables.connect({url!r})"
        self.tables = partd_go.tables.connect(url)
        self.options = {"tables": self.tables}

    def result(self, key):
        return b"".join(self.tables.get(key, "stages", as_="arrow").column("data").to_pylist())

    def change(self, key, data):
        known = self.tables.describe(key, "stages")["Metadata"]
        self.tables.put(key, pa.table({"data": [data]}), "replace", "stages", metadata=known)

    def garble(self, key, text):
        self.tables.put(key, pa.table({"data": [b""]}), "replace", "stages", metadata={"partd_go.stage": text})

    def names(self):
        return self.tables.list("stages") if "stages" in self.tables.buckets() else []

    def close(self):
        for name in self.names():
            self.tables.delete(name, bucket="stages")
        self.tables.close()


class ServerStorage:
    def __init__(self, url):
        self.options_code = f"store=partd_go.Client({url!r})"
        self.store = partd_go.Client(url)
        self.options = {"store": self.store}

    def result(self, key):
        return self.store.get(f"pystage/{key}").partition(b"\n")[2]

    def change(self, key, data):
        self.garble(key, self.store.get(f"pystage/{key}").partition(b"\n")[0].decode(), data)

    def garble(self, key, text, data=b""):
        self.store.delete(f"pystage/{key}")
        self.store.iset(f"pystage/{key}", text.encode() + b"\n" + data)

    def names(self):
        return [key.removeprefix("pystage/") for key in self.store.keys()]

    def close(self):
        self.store.drop()
        self.store.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pytest.importorskip("partd_go_tables")
    import partd_go.tables

    with partd_go.tables.serve(tmp_path_factory.mktemp("tables"), port=0) as server:
        yield server


@pytest.fixture(params=["tables", "store"])
def storage(request, directory):
    """Sets shared storage for all stages, and yields it."""
    storage = (
        TablesStorage(request.getfixturevalue("server").url)
        if request.param == "tables"
        else ServerStorage(request.getfixturevalue("url"))
    )
    set_directory("here", **storage.options)
    yield storage
    set_directory(None)
    storage.close()


@pytest.fixture
def clock(monkeypatch):
    real, ahead = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])
    return lambda seconds: ahead.__setitem__(0, ahead[0] + seconds)


def switch_machine(storage):
    """Simulates another machine, with its own directory."""
    set_directory(f"machine-{len(list(Path().glob('machine-*')))}", **storage.options)


def load(body="pandas.DataFrame({'a': [1]})", options="", before=""):
    sys.modules.pop("pipe", None)
    text = (
        "import pandas, partd_go.tables, time\nfrom pathlib import Path\n"
        "from partd_go.stage import stage\nclass A: pass\n"
    )
    text += f"@stage(cache=True{options})\ndef one():\n{record_run('one')}{before}    return {body}\n"
    text += f"@stage(rows=one, cache=True{options})\ndef two(rows):\n{record_run('two')}    return rows\n"
    Path("pipe.py").write_text(text)
    importlib.invalidate_caches()
    return importlib.import_module("pipe")


FRAMES = [
    "pandas.DataFrame({'a': ['007', 'NA', None], 'b': pandas.to_datetime(['2024-01-01'] * 3)}, index=[2, 0, 1])",
    "pandas.Series(['007', 'NA'], name='s')",
    "pandas.DataFrame({'a': pandas.Categorical(['x', None, 'y']), 'p': pandas.period_range('2024', periods=3, "
    "freq='D')})",
    "pandas.DataFrame({'a': range(300_000), 'b': 0.5})",
    "pandas.DataFrame()",
]


@pytest.mark.parametrize("body", FRAMES)
def test_result_of_another_machine(storage, body):
    pipe, want = load(body), eval(body, {"pandas": pd})
    for _ in range(3):
        got = pipe.two()
        assert type(got) is type(want) and got.equals(want)
        switch_machine(storage)
    assert pop_runs() == "one two" and sorted(storage.names()) == sorted([pipe.one.key(), pipe.two.key()])
    assert not [path for path in Path().glob("machine-*/*/*")]  # the machines' directories have no results


@pytest.mark.parametrize(
    "options, body, error, message",
    [
        ("", "3", TypeError, "use format='pickle'"),
        ("", "pandas.DataFrame({'a': [1j]})", (TypeError, ValueError), "a of type complex128"),
        (
            ", format='json'",
            "pandas.DataFrame({'a': [1]})",
            ValueError,
            "as json could run another user.s code: pass parquet, csv or pickle",
        ),
        (", format='hdf'", "pandas.DataFrame({'a': [1]})", ValueError, "reading a shared result as hdf"),
        (", cache_dir='s3://b/c'", "3", ValueError, "set_directory"),
    ],
)
def test_values_that_are_not_kept(storage, options, body, error, message):
    with pytest.raises(error, match=message):
        load(body, options).one()
    assert storage.names() == []


@pytest.mark.parametrize(
    "options, body, want",
    [(", format='csv'", "pandas.DataFrame({'a': [1, 2]})", [1, 2]), (", format='pickle'", "{'a': 7}", 7)],
)
def test_formats(storage, options, body, want):
    for _ in range(2):
        got = load(body, options).one()["a"]
        assert (list(got) if isinstance(want, list) else got) == want
        switch_machine(storage)
    assert pop_runs() == "one"


def test_own_directory(storage):
    """A stage with its own directory keeps its results only there."""
    load(options=", cache_dir='own'").one()
    assert storage.names() == [] and len([*Path("own/pipe.one").iterdir()]) == 1
    with pytest.raises(ValueError, match="not both"):
        set_directory(None, tables=storage, store=storage)


class Runs:
    """Runs code when it is unpickled, as a hostile pickle does."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def with_checksum(data):
    """Returns the data's checksum, followed by the data."""
    return hashlib.sha256(data).digest() + data


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_hostile(storage, format):
    """A stage does not load a pickle that another user has stored with valid metadata, unless its format is pickle."""
    one = load(options=f", format='{format}'").one
    one()
    storage.change(one.key(), with_checksum(pickle.dumps(Runs())))
    switch_machine(storage)
    with pytest.raises(partd_go.Corrupt, match=one.key()):
        one()
    assert not Path("executed").exists() and pop_runs() == "one"
    one = load(options=", format='pickle'").one  # this stage asks for pickles
    one()
    storage.change(one.key(), with_checksum(pickle.dumps(Runs())))
    one()
    assert Path("executed").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
        lambda data: with_checksum(data[32:200]),
    ],
    ids=["short", "empty", "shorter", "a bit", "half"],
)
def test_damaged(storage, damage):
    one = load("pandas.DataFrame({'a': range(1000)})").one
    one()
    storage.change(one.key(), damage(storage.result(one.key())))
    switch_machine(storage)
    with pytest.raises(
        partd_go.Corrupt, match=f"result of pipe.one under {one.key()} is damaged.*so that the stage computes it again"
    ):
        one()
    assert gc(max_bytes=0)[0].key == one.key()
    assert len(one()) == 1000 and pop_runs() == "one one"


INVALID_METADATA = [
    "",
    "{",
    "[]",
    "3",
    "null",
    "[1, 2, 3, 4]",
    "[" * 5000,
    '["s", "yesterday", 9, 2]',
    '[["s"], 1, 9e99, 2]',
    '["s", NaN, NaN, 1]',
    '["s", 9, 1, 1]',
    '["s", 1, 9e99, "x"]',
    '["s", 1, 9e99, 1e999]',
]


@pytest.mark.parametrize("text", INVALID_METADATA)
def test_invalid_metadata(storage, text):
    """A result with invalid metadata counts as missing."""
    one = load().one
    one()
    storage.garble(one.key(), text.replace("KEY", one.key()))
    assert gc() == []
    assert list(one().a) == [1]
    switch_machine(storage)
    pop_runs()
    assert list(one().a) == [1] and pop_runs() == ""


def test_ttl_and_gc(storage, clock):
    load(options=", ttl=100").two()
    clock(60)
    switch_machine(storage)
    load(options=", ttl=100").two()
    assert pop_runs() == "one two" and gc() == []
    clock(60)
    load().two()  # the results were kept with a ttl, and have expired
    assert pop_runs() == "one two"
    pipe = load("pandas.DataFrame({'a': [2]})")
    assert sorted(r.why for r in gc(max_bytes=1)) == ["over max_bytes"] * 2
    assert {kept.removed for kept in partd_go.stage.storage._shared.all()} == {True}
    pipe.two()
    load("pandas.DataFrame({'a': [3]})", ", ttl=10").two()
    assert sorted((r.stage, r.why) for r in gc()) == [("pipe.one", "superseded"), ("pipe.two", "superseded")]
    clock(20)
    assert sorted((r.stage, r.why) for r in gc()) == [("pipe.one", "expired"), ("pipe.two", "expired")]
    assert storage.names() == [] and gc() == []
    if isinstance(storage, ServerStorage):
        assert list(storage.store.keys()) == []


def test_result_that_expires_while_computed(storage):
    """A result that expires while it is computed is not used, and gc() removes it."""
    one = load(options=", ttl=0.05", before="    time.sleep(0.2)\n").one
    one()
    one()
    assert pop_runs() == "one one" and storage.names() == [one.key()]
    assert [(kept.key, kept.why) for kept in gc()] == [(one.key(), "expired")] and storage.names() == []


def test_early_cutoff(storage):
    """If the code of a stage changes, but not its result, later stages do not run on any machine, even after gc."""
    for value, runs in (("1", "one two"), ("3 - 2", "one"), ("2 - 1", "one")):
        pipe = load(f"pandas.DataFrame({{'a': [{value}]}})")
        switch_machine(storage)
        assert list(pipe.two().a) == [1] and pop_runs() == runs
        switch_machine(storage)
        assert {step.action for step in pipe.two.explain()} == {"kept"}
        (old,) = [kept for kept in partd_go.stage.storage._shared.all() if kept.key == pipe.one.key()]
        assert partd_go.stage.storage._shared.remove(old, keep_hash=True)
        assert list(pipe.two().a) == [1] and pop_runs() == ""
        assert [step.action for step in pipe.two.explain()] == ["skipped", "kept"]
    assert sorted(kept.why for kept in gc(max_bytes=0)) == ["over max_bytes"]  # two; gc removes the old hashes of one
    assert sorted(storage.names()) == sorted([pipe.one.key(), pipe.two.key()])
    assert list(pipe.two().a) == [1] and pop_runs() == "one two"


def test_removed_while_read(storage):
    """If gc removes a result between the look-up and the read, the stage computes it again."""
    one = load().one
    one()
    shared = partd_go.stage.storage._shared
    kept = shared.find("pipe.one", one.key())
    shared.remove(kept, keep_hash=True)
    if isinstance(storage, TablesStorage):
        with pytest.raises(FileNotFoundError):
            shared.read(kept, None)
    assert list(one().a) == [1] and pop_runs() == "one one"


def test_result_with_another_hash(storage):
    """A stage does not use a result whose hash differs from the one in its description, because the keys of later
    stages contain the hash. If the result was replaced after the stage had read the description, the stage reads the
    new result."""
    pipe = load()
    pipe.two()
    shared, key = partd_go.stage.storage._shared, pipe.one.key()
    old = shared.find("pipe.one", key)
    pd.DataFrame({"a": [2]}).to_parquet("other.parquet")
    shared.put("pipe.one", key, float("inf"), Path("other.parquet"), "0" * 64)
    if isinstance(storage, TablesStorage):
        with pytest.raises(FileNotFoundError):
            shared.read(old, "parquet")
    with pytest.raises(partd_go.Corrupt, match="hash differs from the one in its description"):
        pipe.one()


def start(storage, directory, lease="30"):
    program = f"import partd_go, partd_go.stage as s, partd_go.stage.shared as shared\nshared._LEASE = {lease}\n"
    program += (
        f"import partd_go.tables, pipe\ns.set_directory({directory!r}, {storage.options_code})\nprint(len(pipe.one()))"
    )
    path = os.pathsep.join([os.getcwd(), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )


def test_gc_does_not_wait_for_locks(storage, clock):
    """gc() keeps a locked result instead of waiting for its lock, and does not block later users of the lock."""
    pipe = load(options=", ttl=100")
    pipe.one()
    clock(200)
    shared, begun = partd_go.stage.storage._shared, time.monotonic()
    with shared.locked("pipe.one", pipe.one.key()):
        assert isinstance(storage, ServerStorage) or gc() == []
    pipe.one()
    assert time.monotonic() - begun < 20 and pop_runs() == "one one"
    clock(200)
    assert [kept.why for kept in gc()] == ["expired"]


def test_repr(storage, monkeypatch):
    assert storage.options[next(iter(storage.options))].url in repr(load().one)
    set_directory(None)
    monkeypatch.setenv("PARTD_STAGES", "s3://bucket")
    assert "s3://bucket is a URL: pass a directory" in repr(load().one)


def wait_until_ran(times):
    deadline = time.monotonic() + 120
    while not (Path("ran").exists() and Path("ran").read_text().count("one") >= times) and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize("killed", [False, True])
def test_processes(storage, killed):
    """With a table server, one machine computes and the others wait; if that one is killed, another takes over. With a
    partd-server, all machines compute, and one result is kept."""
    load("pandas.DataFrame({'a': range(1000)})", before="    while Path('hold').exists():\n        time.sleep(0.01)\n")
    Path("hold").touch()
    first = start(storage, "first", "2.0")
    wait_until_ran(1)
    others = [start(storage, f"other-{n}", "2.0") for n in range(2)]
    if isinstance(storage, ServerStorage):
        wait_until_ran(3)
    else:
        time.sleep(4)  # longer than the first machine's lease, which that machine renews
        assert Path("ran").read_text() == "one "
    if killed:
        first.kill()
    Path("hold").unlink()
    for process in others:
        assert process.communicate(timeout=120)[0] == "1000\n"
    first.communicate(timeout=120)
    runs = 3 if isinstance(storage, ServerStorage) else 2 if killed else 1
    assert pop_runs() == " ".join(["one"] * runs)
    switch_machine(storage)
    assert len(importlib.import_module("pipe").one()) == 1000 and pop_runs() == "" and len(storage.names()) == 1


def test_bucket(tmp_path, monkeypatch):
    """Stages keep results in tables in a bucket, served by a local S3 gateway, with a catalog in a directory."""
    gateway = os.environ.get("PARTD_VERSITYGW")
    pytest.importorskip("partd_go_tables")
    if not gateway:
        pytest.skip("needs PARTD_VERSITYGW, the program versitygw")
    import partd_go.tables

    port = pages.free_port()
    (tmp_path / "s3" / "lake").mkdir(parents=True)
    keys = {
        "ROOT_ACCESS_KEY": "key",
        "ROOT_SECRET_KEY": "secret-key",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret-key",
    }
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    gateway_process = subprocess.Popen(
        [gateway, "--port", f"127.0.0.1:{port}", "posix", str(tmp_path / "s3")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        bucket_url = f"s3://lake/house?region=us-east-1&endpoint=http://127.0.0.1:{port}"
        one = load("pandas.DataFrame({'a': range(1000)})").one
        with (
            partd_go.tables.connect(bucket_url, catalog=tmp_path / "catalog") as a,
            partd_go.tables.connect(bucket_url, catalog=tmp_path / "catalog") as b,
        ):
            for n, tables in enumerate((a, b, a)):  # two programs that both have the bucket open
                set_directory(f"machine-{n}", tables=tables)
                assert len(one()) == 1000
            assert pop_runs() == "one"
            assert [r.why for r in gc(max_bytes=0)] == ["over max_bytes"] and len(one()) == 1000 and pop_runs() == "one"
    finally:
        set_directory(None)
        gateway_process.kill()
        gateway_process.wait()

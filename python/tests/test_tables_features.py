"""Tests parameters, files, versions, calls for several tables, pickled handles, progress bars, asyncio and buckets."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import decimal
import os
import pickle
import subprocess
import sys
import time

import pages
import pytest

pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet

import partd_go
import partd_go.tables
from partd_go.tables import MomentError, NotFound, split


@pytest.fixture(scope="module")
def shared_tables(tmp_path_factory):
    with partd_go.tables.connect(tmp_path_factory.mktemp("tables")) as tables:
        yield tables


@pytest.fixture
def tables(shared_tables):
    yield shared_tables
    if names := shared_tables.list():
        shared_tables.delete(*names)


def test_parameters(tables):
    values = {
        "t": "it's",
        "n": 2**53 + 1,
        "f": 0.5,
        "b": True,
        "d": datetime.date(2024, 1, 2),
        "w": datetime.datetime(2024, 1, 2, 3),
        "x": b"\0",
        "m": decimal.Decimal("1.50"),
        "z": None,
    }
    tables.put("q", pa.table({name: pa.array([value]) for name, value in values.items() if value is not None}))
    for name, value in values.items():
        if value is not None:
            assert len(tables.sql(f"SELECT 1 AS one FROM q WHERE {name} = ?", params=[value])) == 1, name
            assert len(tables.sql(f"SELECT 1 AS one FROM q WHERE {name} = $v", params={"v": value})) == 1, name
    assert tables.sql("SELECT $2 AS b, $1 AS a", as_="arrow", params=[1, "2"]).to_pylist() == [{"b": "2", "a": 1}]
    assert tables.sql("SELECT ? IS NULL AS a", as_="arrow", params=[None]).to_pylist() == [{"a": True}]
    assert len(tables.sql("SELECT * FROM q WHERE t = ?", params=["' OR 1=1 --"])) == 0
    for params in (None, [], [1, 2]):
        with pytest.raises(partd_go.Misuse, match="parameters"):
            tables.sql("SELECT ?", params=params)


def test_changes_after_drop(tables):
    """If a restore brings back a dropped column, changes say to start again."""
    table = tables.table("q")
    table.put(pa.table({"k": [1, 2], "v": [0.5, 1.5]}))
    tables.action("partd.snapshot", bucket="", name="s")
    tables.sql("ALTER TABLE q DROP COLUMN v")
    table.put(pa.table({"k": [3]}), "append")
    copied = table.changes()
    tables.action("partd.restore", bucket="", name="s")
    for call in (
        lambda: table.changes(since=copied.version),
        lambda: tables.sql('SELECT * FROM changes."default".q', since=copied.version),
    ):
        with pytest.raises(NotFound, match="start again.*a restore brought back dropped columns"):
            call()


@pytest.mark.parametrize("as_", ["pandas", "polars", "arrow"])
def test_changes(tables, as_):
    def texts(changes):
        rows = {
            "pandas": lambda: changes.rows.to_dict("records"),
            "polars": lambda: changes.rows.to_dicts(),
            "arrow": lambda: changes.rows.to_pylist(),
        }[as_]()
        return sorted(f"{row['k']} {row['_change']}" for row in rows)

    table = tables.table("q")
    table.put(pa.table({"k": [1, 2], "v": [0.5, 1.5]}))
    first = table.changes(as_=as_)
    assert texts(first) == ["1 insert", "2 insert"]
    table.put(pa.table({"k": [3], "v": [2.5]}), "append")
    second = table.changes(since=first.version, uuid=first.uuid, as_=as_)
    assert texts(second) == ["3 insert"] and second.version > first.version and second.uuid == first.uuid
    table.put(pa.table({"k": [1, 2], "v": [0.5, 2.5]}), "replace")
    last = table.changes(since=second.version, keys=["k"], as_=as_)
    assert texts(last) == ["2 update_after", "2 update_before", "3 delete"]
    assert texts(tables.changes("q", since=last.version, as_=as_)) == []
    assert texts(tables.changes("q", since=second.version, version=second.version, as_=as_)) == []
    assert texts(tables.changes("q", since=datetime.datetime.now(datetime.timezone.utc), as_=as_)) == []
    count = tables.sql('SELECT count(*) AS n FROM changes."default".q', since=second.version, as_="arrow")
    assert count.to_pylist() == [{"n": 3}]
    with pytest.raises(NotFound, match="start again"):
        table.changes(since=99)
    with pytest.raises(NotFound, match="start again"):
        table.changes(uuid="x")


def test_versions(tables):
    assert tables.put("q", pa.table({"a": [1]})) == 1
    time.sleep(0.02)
    between = datetime.datetime.now(datetime.timezone.utc)
    time.sleep(0.02)
    tables.put("q", pa.table({"a": [2, 3]}), "replace")
    first, last = (tables.versions("q")[at] for at in (0, -1))
    assert (first.version, first.rows, first.current, last.rows, last.current) == (1, 1, False, 2, True)
    assert first.time <= between <= last.time
    naive = between.replace(tzinfo=None)
    for at in (
        between,
        naive,
        naive.isoformat(),
        f"{naive.isoformat()}Z",
        pd.Timestamp(between).tz_convert("Asia/Tokyo"),
    ):
        assert tables.get("q", at=at, as_="arrow")["a"].to_pylist() == [1]
    assert (
        tables.sql("SELECT sum(a) AS s FROM q", at=between).s[0] == 1 and tables.describe("q", at=between)["Rows"] == 1
    )
    assert list(tables.get("q", version=1).a) == [1] and len(tables.table("q", version=1)) == 1
    with pytest.raises(
        MomentError,
        match="the table was created later, or its older versions have expired: the nearest exact moments are 20",
    ) as caught:
        tables.get("q", at="2001-01-01")
    assert caught.value.before is None and list(tables.get("q", at=caught.value.after).a) == [1]
    with pytest.raises(ValueError, match="only one of"):
        tables.get("q", at=between, version=1)
    with pytest.raises(NotFound):
        tables.versions("none")


def now() -> datetime.datetime:
    """Returns the current time, in a millisecond without changes."""
    time.sleep(0.003)
    moment = datetime.datetime.now(datetime.timezone.utc)
    time.sleep(0.003)
    return moment


@pytest.mark.parametrize("read", ["get", "sql", "describe", "changes", "part"])
def test_returned_versions(tables, read):
    """The version that a put returns contains the put's rows, and a time selects the rows that readers saw then."""

    def rows(**state):
        if read == "sql":
            return sorted(tables.sql("SELECT a FROM q", **state).a)
        if read == "describe":
            return list(range(tables.describe("q", **state)["Rows"]))
        if read == "changes":
            return sorted(tables.changes("q", **state).rows.a)
        parts = range(1, tables.describe("q", **state)["parts"] + 1) if read == "part" else [0]
        return sorted(a for part in parts for a in tables.get("q", **state, part=part).a)

    versions, moments = [tables.put("q", pa.table({"a": [0]}))], [now()]
    for n in range(1, 6):
        versions.append(tables.put("q", pa.table({"a": [n]}), "append"))
        moments.append(now())
        assert tables.describe("q")["Version"] == versions[-1]
        if n == 2:
            assert rows(at=moments[1]) == [0, 1]
        if n == 3:
            tables.action("partd.fold", Buckets=[""], Tables=["q"])
    assert rows(at=moments[1]) == [0, 1]
    for n, version in enumerate(versions):
        assert set(rows(version=version)) >= set(range(n + 1))
    later = tables.changes("q", since=versions[3])
    assert sorted(later.rows.a) == [4, 5] and set(later.rows["_change"]) == {"insert"} and later.version == versions[-1]
    assert rows(at=moments[-1]) == list(range(6))
    for version in tables.versions("q"):
        assert len(rows(version=version.version)) == version.rows
    with pytest.raises(MomentError, match="nearest exact moments") as caught:
        rows(at=moments[-2])
    assert (
        caught.value.before < moments[-2] < caught.value.after
        and pickle.loads(pickle.dumps(caught.value)).after == caught.value.after
    )
    assert rows(at=caught.value.before) == list(range(4)) and rows(at=caught.value.after) == list(range(6))
    with pytest.raises(MomentError) as caught:
        rows(at=now() + datetime.timedelta(hours=1))
    assert caught.value.after is None and rows(at=caught.value.before) == list(range(6))


def test_versions_after_restart(tmp_path):
    """Rows that are still in the tail when a server ends have the version that their put returned."""
    with partd_go.tables.connect(tmp_path) as tables:
        versions, moments = [tables.put("q", pa.table({"a": [0]}))], [now()]
        for n in (1, 2):
            versions.append(tables.put("q", pa.table({"a": [n]}), "append"))
            moments.append(now())
    for _ in range(2):
        with partd_go.tables.connect(tmp_path) as tables:
            assert [sorted(tables.get("q", at=moment).a) for moment in moments[::2]] == [[0], [0, 1, 2]]
            assert list(tables.get("q", version=versions[0]).a) == [0] and sorted(
                tables.get("q", version=versions[2]).a
            ) == [0, 1, 2]


def test_versions_after_kill(tmp_path):
    tables = partd_go.tables.connect(tmp_path)
    versions = [tables.put("q", pa.table({"a": [0]})), tables.put("q", pa.table({"a": [1]}), "append")]
    between = now()
    versions.append(tables.put("q", pa.table({"a": [2]}), "append"))
    os.killpg(tables._server._process.pid, 9)
    tables.close()
    with partd_go.tables.connect(tmp_path, read_only=True) as tables:
        assert sorted(tables.get("q").a) == [0, 1, 2] and list(tables.get("q", version=versions[0]).a) == [0]
        with pytest.raises(partd_go.Refused, match=f"version {versions[2]} are not in data files yet"):
            tables.get("q", version=versions[2])
        with pytest.raises(MomentError):
            tables.get("q", at=between)
        assert sorted(tables.get("q", at=now()).a) == [0, 1, 2]
        assert [version.version for version in tables.versions("q")] == [versions[0]]
        assert sorted(tables.scan_dask("q").compute().a) == [0, 1, 2]
    with partd_go.tables.connect(tmp_path) as tables:
        assert sorted(tables.get("q", at=between).a) == [0, 1] and sorted(tables.get("q", version=versions[2]).a) == [
            0,
            1,
            2,
        ]
        tables.put("q", pa.table({"a": [3]}), "append")
        tables.action("partd.expire", Buckets=[""], Tables=["q"], Keep=1, OlderThan=1)
        for read in ({"at": between}, {"version": versions[0]}):
            with pytest.raises(NotFound) as caught:
                tables.get("q", **read)
        with pytest.raises(MomentError) as caught:
            tables.get("q", at=between)
        assert caught.value.before is None and len(tables.get("q", at=caught.value.after)) in (3, 4)


def test_put_many_and_get_many(tables):
    frames = {f"t{n}": pd.DataFrame({"a": [n, n + 1]}) for n in range(20)}
    assert tables.put_many(frames) == dict.fromkeys(frames, 1)
    got = tables.get_many(frames, where="a > 3")
    assert list(got) == list(frames) and [len(frame) for frame in got.values()] == [0, 0, 0, 1, *[2] * 16]
    assert tables.get_many(["t1"], as_="arrow")["t1"].num_rows == 2
    with pytest.raises(NotFound):
        tables.get_many(["t1", "none"])
    with pytest.raises(partd_go.tables.Exists):
        tables.put_many({"new": frames["t1"], **frames})
    tables.put_many(frames, "append")
    assert len(tables.get("t7")) == 4


def test_files(tables, tmp_path):
    """The rows of a file get the types of the table's columns, or for a new table, types that match the values."""
    frame = pd.DataFrame(
        {"code": ["007", "008"], "n": [1, 2], "when": pd.to_datetime(["2024-01-01 00:00", "2024-01-02 03:04"])}
    )
    frame.set_index("when").to_parquet(tmp_path / "a.parquet")
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), pa.Schema.from_pandas(frame)) as writer:
        writer.write_table(pa.Table.from_pandas(frame))
    (tmp_path / "a.csv").write_text("code,n,when\n007,1,2024-01-01 00:00:00\n008,2,2024-01-02 03:04:00\n")
    (tmp_path / "a.jsonl").write_text(
        '{"code":"007","n":1,"when":"2024-01-01 00:00:00"}\n{"code":"008","n":2,"when":"2024-01-02 03:04:00"}\n'
    )
    for name in ("a.parquet", "a.arrow", "a.csv", "a.jsonl"):
        tables.put(name, tmp_path / name, metadata={"source": name})
        got = tables.get(name)
        assert got.reset_index()[["code", "n"]].to_dict("list") == {"code": ["007", "008"], "n": [1, 2]}, name
        assert (
            got.reset_index().when.to_list() == frame.when.to_list()
            and tables.describe(name)["Metadata"]["source"] == name
        )
    (tmp_path / "more.csv").write_text("code,n\n9,3\n")
    tables.put("a.csv", str(tmp_path / "more.csv"), "append", missing="ignore")
    assert list(tables.get("a.csv").code) == ["007", "008", "9"]
    tables.put("a.csv", tmp_path / "a.csv", upsert=["code"])
    assert len(tables.get("a.csv")) == 3
    (tmp_path / "nulls.csv").write_text('n,c\n1,NA\nNA,"NA"\n-,x\n')
    tables.put("nulls", tmp_path / "nulls.csv", null=["NA", "-"])
    assert tables.get("nulls", as_="arrow").to_pydict() == {"n": [1, None, None], "c": [None, "NA", "x"]}
    tables.put("nulls", tmp_path / "nulls.csv", "replace", null="NA")
    assert tables.get("nulls", as_="arrow").to_pydict() == {"n": ["1", None, "-"], "c": [None, "NA", "x"]}
    with pytest.raises(ValueError, match="null is for a file, but data has type DataFrame"):
        tables.put("nulls", frame, "replace", null="NA")
    (tmp_path / "text.csv").write_text("n\\c\n1.000,5\\x\n2\n")
    options = {"sep": "\\", "decimal": ",", "thousands": ".", "ragged": True}
    tables.put("text", tmp_path / "text.csv", **options)
    assert tables.get("text", as_="arrow").to_pydict() == {"n": [1000.5, 2], "c": ["x", None]}
    assert split(tmp_path / "text.csv", "n", tmp_path / "parts", **options) == (2, 2)
    (tmp_path / "latin.csv").write_bytes("k\ncafé\n".encode("latin-1"))
    tables.put("latin", tmp_path / "latin.csv", encoding="latin-1")
    assert tables.get("latin", as_="arrow").to_pydict() == {"k": ["café"]}
    for call in (lambda **o: tables.put("text", frame, **o), lambda **o: split(frame, "n", tmp_path / "parts", **o)):
        with pytest.raises(ValueError, match="sep is for a file, but data has type DataFrame: leave out sep"):
            call(sep=";")
        with pytest.raises(TypeError, match=r"unexpected keyword argument 'seb' \(did you mean sep\?\)"):
            call(seb=";")
    with pytest.raises(ValueError, match="an unquoted field cannot contain"):
        tables.put("nulls", tmp_path / "nulls.csv", "replace", null="a,b")
    with pytest.raises(FileNotFoundError):
        tables.put("none", tmp_path / "none.csv")
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(
        ValueError, match="does not indicate the format: rename the file so that its name ends with csv,"
    ):
        tables.put("none", tmp_path / "a.txt")
    (tmp_path / "bad.csv").write_text("a,b\n" + "1,2\n" * 100_000 + "1,2,3\n")
    (tmp_path / "bad.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    for bad, message in (("bad.csv", "100002"), ("bad.parquet", "bad.parquet")):
        with pytest.raises(partd_go.Misuse, match=message):
            tables.put("none", tmp_path / bad)
    assert "none" not in tables.list()


def test_large_file(tables, tmp_path):
    """put sends a file while it reads it. A damaged file leaves no table."""
    rows = pa.table({"a": np.random.default_rng(0).random(300_000)})
    parquet.write_table(rows, tmp_path / "a.parquet", row_group_size=50_000)
    tables.put("a", tmp_path / "a.parquet")
    assert (
        tables.get("a", as_="arrow")["a"].equals(rows["a"])
        or tables.get("a", as_="arrow")["a"].to_pylist() == rows["a"].to_pylist()
    )
    broken = bytearray((tmp_path / "a.parquet").read_bytes())
    broken[len(broken) // 2 : len(broken) // 2 + 100_000] = bytes(100_000)
    (tmp_path / "b.parquet").write_bytes(broken)
    with pytest.raises((partd_go.Error, OSError, pa.ArrowException)):
        tables.put("b", tmp_path / "b.parquet")
    assert "b" not in tables.list()


READ = "import pickle, sys; tables = pickle.load(sys.stdin.buffer); print(len(tables.get('q')), tables.url)"


def read(pickled):
    return (
        subprocess.run([sys.executable, "-c", READ], input=pickled, capture_output=True, check=True)
        .stdout.decode()
        .split()
    )


def test_equal_handles_stay_distinct(tmp_path):
    """In one process, a pickled handle is the same handle again, even if another one has the same arguments."""
    with partd_go.tables.connect(tmp_path) as first, partd_go.tables.connect(tmp_path) as second:
        first.put("q", pa.table({"n": [1, 2]}))
        assert [pickle.loads(pickle.dumps(handle)) is handle for handle in (first, second)] == [True, True]
        pickle.loads(pickle.dumps(second)).close()
        assert len(first.get("q")) == 2 and read(pickle.dumps(first)) == ["2", first.url]


def test_pickled(tmp_path):
    """Unpickling a handle returns the same handle in this process. In other processes, it connects to the same server,
    or to a new one if that has stopped."""
    with partd_go.tables.connect(tmp_path / "t") as tables:
        tables.put("q", pa.table({"a": [1, 2]}))
        pickled = pickle.dumps(tables)
        assert pickle.loads(pickled) is tables and pickle.loads(pickle.dumps(tables["q"])).tables is tables
        assert read(pickled) == ["2", tables.url]
        url = tables.url
    rows, other = read(pickled)
    assert rows == "2" and other != url
    secret = "a secret of thirty-two bytes or so"
    with partd_go.tables.serve(tmp_path / "t", port=0, secret=secret, flags=("--insecure",)) as server:
        with partd_go.tables.connect(server.url, server.token()) as tables:
            pickled = pickle.dumps(tables)
        assert read(pickled) == ["2", server.url]
        second = pickle.loads(pickled)
        assert second is not tables and len(second.get("q")) == 2 and pickle.loads(pickled) is second
        second.close()
        with pickle.loads(pickled) as third:
            assert third is not second and len(third.get("q")) == 2


def test_progress_bars(tmp_path, monkeypatch, capsys):
    """With tqdm, long puts and scans show their progress in rows. Without a terminal, they show nothing by default."""
    tqdm = pytest.importorskip("tqdm")
    from partd_go.tables import progress

    monkeypatch.setattr(progress, "_DELAY", 0)
    frame = pd.DataFrame({"a": range(100_000)})
    with partd_go.tables.connect(tmp_path / "t", progress=True) as tables:
        tables.put("q", frame)
        assert "put 'q'" in (output := capsys.readouterr().err) and "100k" in output
        assert len(tables.get("q")) == 100_000
        assert "get 'q'" in (output := capsys.readouterr().err) and "/100k" in output
        tables.get("q", where="a > 7")
        assert "get 'q'" in capsys.readouterr().err
        with monkeypatch.context() as patch:
            patch.setattr(progress.importlib.util, "find_spec", lambda name: None)
            assert len(tables.get("q")) == 100_000 and not capsys.readouterr().err
    assert tqdm
    with partd_go.tables.connect(tmp_path / "t") as tables:
        tables.get("q")
        assert not capsys.readouterr().err


def test_async(tmp_path):
    async def main():
        async with await partd_go.tables.connect_async(tmp_path) as tables:
            frames = {f"t{n}": pd.DataFrame({"a": range(n, n + 5)}) for n in range(20)}
            await asyncio.gather(*(tables.put(name, frame) for name, frame in frames.items()))
            got = await asyncio.gather(*(tables.get(name, where="a > 10") for name in frames))
            assert [len(frame) for frame in got] == [max(0, min(5, n - 6)) for n in range(20)]
            assert (await tables.sql("SELECT sum(a) AS s FROM t3 WHERE a > ?", params=[4])).s[0] == 5 + 6 + 7
            assert [batch.num_rows async for batch in tables.scan("t3")] == [5]
            assert await tables.list(pattern="t1?") == [f"t1{n}" for n in range(10)]
            assert (await tables.get("t3", as_="polars")).height == 5 and (await tables.describe("t3"))["Rows"] == 5
            with pytest.raises(NotFound):
                await tables.get("none")
            with pytest.raises(MomentError) as caught:
                await tables.get("t3", at="2001-01-01")
            assert caught.value.after is not None
            query, ticks = (
                asyncio.create_task(tables.sql("SELECT count(*) FROM range(30000000) a WHERE a.range % 7 = 1")),
                0,
            )
            while not query.done():
                await asyncio.sleep(0.001)
                ticks += 1
            assert ticks > 1 and len(await query) == 1
        with pytest.raises(partd_go.Closed):
            await tables.list()

    asyncio.run(main())


def test_bucket(tmp_path, monkeypatch):
    """connect opens tables in a bucket, served by a local S3 gateway, with a catalog in a directory."""
    gateway = os.environ.get("PARTD_VERSITYGW")
    if not gateway:
        pytest.skip("needs PARTD_VERSITYGW, the program versitygw")
    import socket

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
        for _ in range(2):
            with partd_go.tables.connect(bucket_url, catalog=tmp_path / "catalog") as tables:
                tables.put("q", pa.table({"a": [1, 2]}), "replace")
                assert list(tables.get("q").a) == [1, 2] and repr(tables).startswith("<Tables at s3://lake/house")
        assert any((tmp_path / "s3" / "lake" / "house").rglob("*.parquet"))
        with pytest.raises(partd_go.NoServer, match="catalog"):
            partd_go.tables.connect(bucket_url)
    finally:
        gateway_process.kill()
        gateway_process.wait()
    with pytest.raises(ValueError, match="catalog"):
        partd_go.tables.connect("grpc://localhost:1", catalog="c")


def test_progress_in_a_notebook_without_widgets():
    """tqdm does not warn that ipywidgets are missing."""
    pytest.importorskip("tqdm")
    code = """
import sys, types
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: None)
sys.modules["ipykernel.zmqshell"] = sys.modules["ipywidgets"] = None
from partd_go.tables import progress
assert list(progress.with_bar(iter([]), "x", 0)) == []
"""
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stderr == ""

"""Tests what users of notebooks and shells try first: names, texts in place of lists, parameters, errors, and
operations."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import decimal
import threading
import time

import pytest

pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
import numpy as np
import pandas as pd
import polars
import pyarrow as pa

import partd_go
from partd_go import Closed, Misuse, TimedOut
from partd_go.tables import Exists, NotFound, arguments, connect, connect_async

DAYS = pd.date_range("2024-01-01", periods=4)


@pytest.fixture(scope="module")
def shared_tables(tmp_path_factory):
    with connect(tmp_path_factory.mktemp("notebook")) as tables:
        yield tables


@pytest.fixture
def tables(shared_tables):
    shared_tables.put("ohlc", pd.DataFrame({"n": [1, 2, 3, 4], "sym": list("ABAB")}, DAYS), "replace")
    yield shared_tables
    shared_tables.delete(*shared_tables)


def test_names(tables):
    tables.put("a*b[c]?\\d", pd.DataFrame({"n": [1]}))
    tables.put("aXb", pd.DataFrame({"n": [1]}), bucket="B")
    assert list(tables) == [*iter(tables)] == tables.list() == ["a*b[c]?\\d", "ohlc"] and len(tables) == 2
    for name in tables:
        assert name in tables
    for name in ("a*b", "*", "aXb", "", "[", "\\", 7, None, "ohlc\0"):
        assert name not in tables, name
    assert tables._ipython_key_completions_() == [*tables]
    tables.delete_bucket("B", tables=True)


def test_empty_connection_is_true(tmp_path):
    with connect(tmp_path) as tables:
        assert len(tables) == 0 and list(tables) == [] and tables


def test_suggestions(tables):
    tables.put("trades", pd.DataFrame({"n": [1]}), bucket="NYSE")
    for call in (
        tables["olhc"].get,
        tables["olhc"].describe,
        lambda: len(tables["olhc"]),
        lambda: tables.get("olhc"),
        lambda: tables.scan("olhc"),
        lambda: tables.versions("olhc"),
        lambda: tables.changes("olhc"),
        lambda: tables.scan_polars("olhc"),
    ):
        with pytest.raises(NotFound, match='did you mean "ohlc"'):
            call()
    with pytest.raises(NotFound, match='did you mean "trades"'):
        tables.get("trade", "NYSE")
    for name, bucket in (("zzz", ""), ("ohlc", "NYSE"), ("ohlc", "no bucket")):
        with pytest.raises(NotFound) as caught:
            tables.get(name, bucket)
        assert "did you mean" not in str(caught.value)
    with pytest.raises(NotFound) as caught:
        tables.get("ohlc", snapshot="none")
    assert "did you mean" not in str(caught.value)
    with pytest.raises(NotFound) as caught:
        tables.restore("olhc")  # a snapshot, not a table
    assert "did you mean" not in str(caught.value)
    assert 'did you mean "ohlc"' in repr(tables["olhc"])
    tables.delete_bucket("NYSE", tables=True)


def test_text_in_place_of_a_list(tables):
    assert list(tables.get("ohlc", columns="sym")) == ["sym"] and list(tables["ohlc"].get(columns=pd.Index(["n"]))) == [
        "n"
    ]
    tables.put("ohlc", pd.DataFrame({"n": [9], "sym": ["A"]}, DAYS[:1]), upsert="index")
    assert tables.get("ohlc")["n"].tolist() == [9, 2, 3, 4]
    assert tables.changes("ohlc", keys="index").rows["_change"].tolist() == ["insert"] * 4
    assert list(tables.get_many("ohlc")) == ["ohlc"]
    assert tables.resampled("ohlc", "2D", "index", "max", columns="n")["n"].tolist() == [9, 4]
    assert tables.combine(["ohlc", "ohlc"], "joined", "join", "n") == (8, 4)
    assert list(tables.scan_dask("ohlc", columns="n").compute()) == ["n"] if _has_dask() else True


def _has_dask():
    with contextlib.suppress(ImportError):
        import dask.dataframe  # noqa: F401

        return True
    return False


def test_numpy_numbers(tables):
    assert len(tables.get("ohlc", limit=np.int64(2))) == 2 and len(tables.get("ohlc", last=np.uint8(1))) == 1
    version = tables.put(
        "ohlc", pd.DataFrame({"n": [1]}), "replace", metadata={"a": np.float64(1.5), "b": np.array([1, 2])}
    )
    assert len(tables.changes("ohlc", since=np.int64(version)).rows) == 0
    assert len(tables.get("ohlc", version=np.int64(version))) == 1 and {
        **tables.metadata("ohlc"),
        "a": 1.5,
        "b": [1, 2],
    } == tables.metadata("ohlc")


PARAMETERS = {
    "None": (None, None),
    "NaT": (pd.NaT, None),
    "NA": (pd.NA, None),
    "NumPy's NaT": (np.datetime64("NaT"), None),
    "float32": (np.float32(1.5), 1.5),
    "int8": (np.int8(3), 3),
    "bool_": (np.bool_(True), True),
    "str_": (np.str_("a"), "a"),
    "datetime64": (np.datetime64("2024-01-01T00:00:00.123456789"), pd.Timestamp("2024-01-01 00:00:00.123456789")),
    "Timestamp": (pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-01")),
    "63 bits": (2**63, decimal.Decimal(2**63)),
    "64 bits": (-(2**64), decimal.Decimal(-(2**64))),
    "38 digits": (10**38 - 1, decimal.Decimal(10**38 - 1)),
}


def test_parameters(tables):
    names = {f"p{position}": value for position, (value, _) in enumerate(PARAMETERS.values())}
    row = tables.sql(
        "SELECT " + ", ".join(f"${name} AS {name}" for name in names), params=names, as_="arrow"
    ).to_pylist()[0]
    for (what, (_, expected)), got in zip(PARAMETERS.items(), row.values()):
        assert got == expected, what
    assert tables.sql("SELECT ? + ? AS n", params=np.array([1, 2]))["n"].tolist() == [3]
    assert [arguments._parameter(np.array(values), "p").to_pylist() for values in ([1, 2], [5])] == [[[1, 2]], [[5]]]
    assert [arguments._parameter(nan, "p").null_count for nan in (float("nan"), np.float64("nan"), pd.NaT)] == [0, 0, 1]


JARGON = ("Options", "Store", "json:", "unmarshal", "Go ", "nil", "partd verify")
MISUSES = {
    "columns": (lambda tables: tables.get("ohlc", columns=[0]), "columns: 0 has type int"),
    "limit": (lambda tables: tables.get("ohlc", limit="1"), "limit is '1'"),
    "negative": (lambda tables: tables.get("ohlc", last=-1), "last is -1"),
    "both": (lambda tables: tables.get("ohlc", limit=1, last=1), "only one of limit and last"),
    "version": (lambda tables: tables.get("ohlc", version=1.0), "version is 1.0"),
    "bucket": (lambda tables: tables.get("ohlc", ["n"]), "bucket must be a string, not list.*columns="),
    "params as bucket": (lambda tables: tables.sql("SELECT ?", [1]), "bucket must be a string, not list.*params="),
    "name": (lambda tables: tables.get(7), "name must be a string, not int"),
    "handle": (lambda tables: tables[7], "name has type int"),
    "put": (lambda tables: tables.put(7, pd.DataFrame({"n": [1]})), "name has type int"),
    "params": (lambda tables: tables.sql("SELECT ?", params="A"), "params has type str"),
    "one param": (lambda tables: tables.sql("SELECT ?", params=7), "params has type int"),
    "39 digits": (lambda tables: tables.sql("SELECT ?", params=[10**38]), "parameter 1, 10000.* of type int"),
    "period": (lambda tables: tables.sql("SELECT $x", params={"x": pd.Period("2024")}), "parameter x, Period"),
    "object": (lambda tables: tables.sql("SELECT ?", params=[object()]), "parameter 1, <object"),
    "where": (lambda tables: tables.get("ohlc", where=5), "where has type int"),
    "where's dict": (lambda tables: tables.get("ohlc", where={"n": 1}), "where has type dict"),
    "where's tuple": (lambda tables: tables.get("ohlc", where=("n", ">", 1)), "pass .column, operator, value"),
    "type in where": (lambda tables: tables.get("ohlc", where=[("n", "=", "x")]), "compare it with a number"),
    "type in text": (lambda tables: tables.get("ohlc", where="sym > 7"), "text in single quotes"),
    "type of delete": (lambda tables: tables.delete_rows("ohlc", "sym > 7"), "text in single quotes"),
    "text of in": (lambda tables: tables.get("ohlc", where=[("sym", "in", "AB")]), "'in' has type str: pass a list"),
    "number of in": (lambda tables: tables.get("ohlc", where=[("n", "in", 5)]), "'in' has type int: pass a list"),
    "column in where": (lambda tables: tables.get("ohlc", where=[(0, "=", 1)]), "column 0 has type int"),
    "value in where": (
        lambda tables: tables.get("ohlc", where=[("n", "=", pd.Period("2024"))]),
        "a filter's value, Period.*has type Period",
    ),
    "lazy where": (lambda tables: tables.scan_polars("ohlc", where=5), "where has type int"),
    "empty": (lambda tables: tables.put("e", pd.DataFrame()), "put 'e': the table has no columns"),
    "empty polars": (lambda tables: tables.put("e", polars.DataFrame()), "put 'e': the table has no columns"),
    "column": (lambda tables: tables.put("ohlc", pa.table({"m": [1]}), "append"), 'evolution to "add_only"'),
    "wider": (
        lambda tables: tables.put("ohlc", pa.table({"n": [1.5]}), "append", missing="ignore"),
        'evolution to "compatible"',
    ),
    "text as a number": (
        lambda tables: tables.put("ohlc", pa.table({"n": ["1"]}), "append"),
        "convert the column to int64",
    ),
    "text as a time": (
        lambda tables: tables.put("ohlc", pa.table({"index": ["2024-01-01"]}), "append"),
        r"convert the column to timestamp\[ns\]",
    ),
    "zone": (
        lambda tables: tables.put("ohlc", pa.table({"index": DAYS[:1].tz_localize("UTC")}), "append"),
        "convert the times to UTC, and remove their zone",
    ),
    "no zone": (
        lambda tables: (
            tables.put("z", pa.table({"t": DAYS.tz_localize("UTC")}))
            and tables["z"].replace_range(pa.table({"t": DAYS}), "2024-01-01")
        ),
        "give the times a zone",
    ),
    "range": (lambda tables: tables["ohlc"].replace_range(pa.table({"n": [1]})), "pass start, end or both"),
    "outside": (
        lambda tables: tables["ohlc"].replace_range(pd.DataFrame({"n": [1], "sym": ["A"]}, DAYS[:1]), DAYS[1]),
        "outside|before",
    ),
    "&": (lambda tables: tables.get("ohlc", where="n > 300 & n < 9"), "position 9: unexpected '&': write and"),
    "metadata": (
        lambda tables: tables.put("m", pa.table({"n": [1]}), metadata={"day": datetime.date(2024, 1, 1)}),
        r"metadata\['day'\] has type date",
    ),
    "time in metadata": (
        lambda tables: tables.set_metadata("ohlc", {"t": np.datetime64("2024-01-01", "ns")}),
        r"set\['t'\] has type datetime64",
    ),
    "sources": (lambda tables: tables.combine("ohlc", "both"), "at least two sources"),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_misuse(tables, misuse):
    call, message = MISUSES[misuse]
    with pytest.raises(Misuse, match=message) as caught:
        call(tables)
    assert not any(word in str(caught.value).replace(tables.url, "") for word in JARGON)


def test_existing_table(tables):
    for call in (lambda: tables.put("ohlc", pa.table({"n": [1]})), lambda: tables.combine(["ohlc", "ohlc"], "ohlc")):
        with pytest.raises(Exists, match=': already exists: pass mode="append".*mode="replace"') as caught:
            call()
        assert str(caught.value).count("exists") == 1
    tables.snapshot("taken")
    with pytest.raises(Exists) as caught:
        tables.snapshot("taken")
    assert "mode" not in str(caught.value)
    tables.delete_snapshots("taken")


def test_closed(tmp_path):
    async def use_closed():
        tables = await connect_async(tmp_path)
        await tables.close()
        await tables.list()

    with pytest.raises(Closed, match="connect again"):
        asyncio.run(use_closed())


def test_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("n\n1\n")
    with connect("~/market") as tables:
        tables.put("q", "~/rows.csv")
        assert (
            list(tables.get("q").n) == [1]
            and (tmp_path / "market" / "catalog.db").exists()
            and not (tmp_path / "~").exists()
        )


def test_unnamed_index(tables):
    assert tables["ohlc"].schema.names == ["n", "sym", "index"] == tables.get("ohlc", as_="polars").columns
    got = tables.get("ohlc", columns=["n"], where="index > '2024-01-02'")
    assert (
        got.index.name is None
        and got["n"].tolist() == [3, 4] == tables.get("ohlc", where=[("index", ">", DAYS[1])])["n"].tolist()
    )
    assert tables.sql('SELECT max("index") AS day FROM ohlc')["day"].tolist() == [DAYS[-1]]
    tables.put("timed", pd.DataFrame({"n": [1]}, DAYS[:1]), settings={"time": "index"})
    assert tables.settings("timed")["time"] == "index"
    clash = pd.DataFrame({"index": [1, 2]}, index=["x", "y"])
    levels = pd.DataFrame({"n": [1, 2]}, pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=[None, "z"]))
    for name, frame, columns in (("clash", clash, ["index", "level_0"]), ("levels", levels, ["n", "level_0", "z"])):
        tables.put(name, frame)
        assert tables[name].schema.names == columns
        pd.testing.assert_frame_equal(tables.get(name), frame)


def test_snapshots(tables):
    before = tables.get("ohlc")
    tables.snapshot("before")
    tables.put("ohlc", pa.table({"n": [1]}), "replace")
    tables.put("new", pa.table({"n": [1]}))
    (snapshot,) = tables.snapshots()
    assert (snapshot.name, snapshot.tables, snapshot.metadata) == (
        "before",
        1,
        {},
    ) and snapshot.time <= datetime.datetime.now(datetime.timezone.utc)
    pd.testing.assert_frame_equal(tables.get("ohlc", snapshot="before"), before, check_freq=False)
    tables.restore("before", "ohlc")
    pd.testing.assert_frame_equal(tables.get("ohlc"), before, check_freq=False)
    tables.delete_snapshots("before")
    assert tables.snapshots() == [] and tables.snapshots("no bucket") == []


def test_settings_metadata_and_rules(tables):
    tables.set_settings("ohlc", {"time": "index", "evolution": "add_only"})
    tables.set_settings("ohlc", {"keys": ["sym"]})
    assert tables.settings("ohlc") == {"time": "index", "keys": ["sym"], "evolution": "add_only"}
    tables.put("ohlc", pd.DataFrame({"n": [5], "sym": ["A"], "x": [1.5]}, DAYS[:1]), "append")
    tables.evolve("ohlc", {"op": "add", "column": "note", "type": "utf8"})
    assert {"x", "note"} < {*tables["ohlc"].schema.names}
    for name in ("ohlc", ""):
        tables.set_metadata(name, {"a": 1, "b": [2]})
        tables.set_metadata(name, {"c": "3"}, remove="a")
        assert _own(tables.metadata(name)) == {"b": [2], "c": "3"}
        tables.set_metadata(name, replace=True)
        assert _own(tables.metadata(name)) == {}
    tables.edit_rules("ohlc", [{"name": "positive", "kind": "range", "column": "n", "min": "0"}])
    assert [rule["name"] for rule in tables.rules("ohlc")] == ["positive"] and tables.rules() == []
    tables.set_settings("ohlc", {"evolution": "flexible"})
    with pytest.raises(Misuse, match="positive"):
        tables.put("ohlc", pd.DataFrame({"n": [-5], "sym": ["A"]}, DAYS[:1]), "append", missing="ignore")
    tables.edit_rules("ohlc", remove="positive")
    assert tables.rules("ohlc") == []


def test_replace_range(tables):
    new = pd.DataFrame({"n": [7, 8], "sym": list("CD")}, pd.DatetimeIndex(["2024-01-02", "2024-01-02 12:00"]))
    replaced = tables.replace_range("ohlc", new, "2024-01-02", DAYS[2].to_pydatetime())
    assert replaced[1:] == (1, 2) and replaced.version == tables.versions("ohlc")[-1].version
    assert sorted(tables.get("ohlc")["n"]) == [1, 3, 4, 7, 8]
    assert tables["ohlc"].replace_range(new.iloc[:0], end=DAYS[2], time_col="index")[1:] == (3, 0)
    assert sorted(tables.get("ohlc")["n"]) == [3, 4]


def test_functions_in_one_text(tables):
    for how in (
        "min(n),max(n),first(sym)",
        "min(n), max(n), first(sym)",
        ["min(n),max(n)", "first(sym)"],
        {"n": "min,max", "sym": "first"},
    ):
        found = tables.resampled("ohlc", "2D", "index", how)
        assert found.values.tolist() == [[1, 2, "A"], [3, 4, "A"]], how
    tables.put("odd", pd.DataFrame({"a, (b)": [1, 2], "t": DAYS[:2]}))
    assert tables.resampled("odd", "2D", "t", "max(a, (b)),size").iloc[0].tolist()[1:] == [2, 2]


CHANGES = {
    "settings": (
        lambda tables, name, value: tables.set_settings("ohlc", {name: value}),
        "keep_versions",
        3,
        "keep_age",
        "1h",
    ),
    "metadata": (lambda tables, name, value: tables.set_metadata("ohlc", {name: value}), "a", 1, "b", 2),
    "rules": (
        lambda tables, name, value: tables.edit_rules("ohlc", [{"name": name, "kind": "not_null", "column": value}]),
        "a",
        "n",
        "b",
        "sym",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_two_clients(tables, monkeypatch, kind):
    """A change that another client makes while this one prepares its own remains."""
    change, *changes = CHANGES[kind]
    ask, actions = tables._ask, []

    def ask_after_other(action, *args, **body):
        if action != f"partd.{kind}":  # the action that reads
            actions.append(action)
            with connect(tables.url) as other:
                change(other, *changes[2:])
        return ask(action, *args, **body)

    monkeypatch.setattr(tables, "_ask", ask_after_other)
    change(tables, *changes[:2])
    monkeypatch.undo()
    found = getattr(tables, kind)("ohlc")
    names = {rule["name"] for rule in found} if kind == "rules" else {*found}
    assert {changes[0], changes[2]} <= names and len(actions) == 1
    if kind == "settings":
        tables.set_settings("ohlc", {"keep_age": "", "keep_versions": None})
        assert tables.settings("ohlc") == {}
        with pytest.raises(Misuse, match='did you mean "keep_age"'):
            tables.set_settings("ohlc", {"keep_ages": "1h"})


def test_settings_that_are_not_named(tables):
    tables.set_settings("ohlc", {"time": "index", "keys": ["sym"]})
    tables.set_settings("ohlc", {"keys": [], "evolution": "add_only"})
    assert tables.settings("ohlc") == {"time": "index", "evolution": "add_only"}


def _own(metadata):
    """Returns metadata without the keys that the server sets."""
    return {key: value for key, value in metadata.items() if not key.startswith("_")}


def test_upkeep(tables):
    for _ in range(3):
        tables.put("ohlc", pd.DataFrame({"n": [5], "sym": ["A"]}, DAYS[:1]), "append")
    assert tables.fold("ohlc")["Rows"] >= 3 and tables.fold()["Rows"] == 0
    assert tables.delete_rows("ohlc", "n = 5") == 3 and len(tables.get("ohlc")) == 4
    tables.compact("ohlc")
    assert tables.expire("ohlc", older_than=datetime.timedelta(hours=1))["Versions"] == 0
    assert tables.expire("ohlc")["Versions"] == 0  # the default keeps a week
    expired = tables.expire("ohlc", older_than=datetime.timedelta())
    assert (
        expired["Versions"] > 0
        and len(tables.versions("ohlc")) == 1
        and expired["FilesRemoved"] == 0 < expired["FilesWaiting"]
    )
    expired = tables.expire("ohlc", grace=datetime.timedelta())
    assert expired["FilesRemoved"] > 0 == expired["FilesWaiting"] and len(tables.get("ohlc")) == 4


def test_lock(tables, monkeypatch):
    asked, ask = [], tables._ask
    monkeypatch.setattr(tables, "_ask", lambda kind, *args, **body: asked.append(kind) or ask(kind, *args, **body))
    with tables.lock("default", seconds=0):
        time.sleep(0.2)
    assert asked == ["partd.lock", "partd.unlock"]
    with tables.lock("job", seconds=1.0):
        with pytest.raises(TimedOut), tables.lock("job", timeout=1.5):  # longer than the lease, which the holder renews
            pass
        with tables.lock("another", timeout=10):
            pass
    entered = threading.Event()

    def enter():
        with tables.lock("job"):
            entered.set()

    threading.Thread(target=enter, daemon=True).start()
    assert entered.wait(10)


def test_async_operations(tmp_path):
    async def use():
        async with await connect_async(tmp_path) as tables:
            await tables.put("q", pa.table({"n": [1, 2]}))
            await tables.snapshot("s")
            assert await tables.delete_rows("q", "n = 1") == 1
            return [found.name for found in await tables.snapshots()], len(await tables.get("q", snapshot="s"))

    assert asyncio.run(use()) == (["s"], 2)


def test_message_of_a_directory_in_use(tmp_path):
    """The error for a directory that a server has open says so, without the names of Go's options."""
    with (
        partd_go.tables.serve(tmp_path, port=0),
        pytest.raises(partd_go.NoServer, match="in use by process .*connect to the server") as caught,
    ):
        connect(tmp_path)
    assert not any(word in str(caught.value) for word in JARGON)

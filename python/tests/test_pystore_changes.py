"""Tests changes in partd_go.pystore that are interrupted, must wait, or have other types than the item."""

from __future__ import annotations

import datetime
import gc
import itertools
import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
dd = pytest.importorskip("dask.dataframe", reason="needs dask")
import numpy as np
import pandas as pd
import pyarrow as pa

import partd_go
import partd_go.pystore as pystore
import partd_go.tables
from partd_go.pystore.frames import fit_types, widened_fields
from partd_go.pystore.lock import CollectionLock

pytestmark = pytest.mark.filterwarnings("ignore:::dask", "ignore:::distributed")
equal = pd.testing.assert_frame_equal


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    pystore.set_path(tmp_path_factory.mktemp("pystore"))
    yield pystore.store("s")
    pystore.delete_store("s")


@pytest.fixture
def collection(store):
    return store.collection("c", overwrite=True)


def rows(*values, start="2024-01-01", **columns):
    return pd.DataFrame({"a": list(values), **columns}, pd.date_range(start, periods=len(values)))


def test_interrupted(collection, monkeypatch):
    """A commit that Ctrl-C interrupts restores the previous state, and raises KeyboardInterrupt."""
    collection.write("x", rows(1, 2))

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(collection, "_append", interrupted)
    with pytest.raises(KeyboardInterrupt), pystore.transaction(collection) as txn:
        txn.delete("x")
        txn.write("new", rows(1))
        txn.append("x", rows(3))
    equal(collection.item("x").to_pandas(), rows(1, 2), check_freq=False)
    assert collection.list_items() == {"x"} and not collection.list_snapshots()


KILLED = """
import os, signal, sys
import pandas as pd, partd_go.pystore as pystore, partd_go.pystore.undo
pystore.set_path(sys.argv[1])
collection = pystore.store("s").collection("c")
def killed(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(collection, sys.argv[2], killed)
if sys.argv[2] == "end":
    pystore.undo.end = killed
with pystore.transaction(collection) as txn:
    txn.delete("x")
    txn.write("new", pd.DataFrame({"a": [1]}))
    txn.append("y", pd.DataFrame({"a": [3]}, pd.DatetimeIndex(["2024-02-01"])))
"""


@pytest.mark.parametrize("function", ["_delete", "_append", "end"])
@pytest.mark.parametrize("changed", [False, True])
def test_killed_in_a_transaction(store, collection, function, changed):
    """The next program that changes or opens the collection undoes a partial transaction, but keeps other programs'
    items."""
    collection.write("x", rows(1, 2))
    collection.write("y", rows(1, 2))
    died = subprocess.run([sys.executable, "-c", KILLED, str(store.datastore.parent), function])
    assert died.returncode == -signal.SIGKILL and collection.list_snapshots()
    collection._put("outside transactions", rows(7), "error")  # a program that does not use transactions writes an item
    if changed:
        collection.write("other", rows(5))
    else:
        collection = store.collection("c")
    assert collection.list_items() == {"x", "y", "outside transactions"} | ({"other"} if changed else set())
    for item in "xy":
        equal(collection.item(item).to_pandas(), rows(1, 2), check_freq=False)
    assert not collection.list_snapshots()
    with pystore.transaction(collection) as txn:
        txn.append("x", rows(3, start="2024-03-01"))
    assert len(store.collection("c").item("x").to_pandas()) == 3


@pytest.mark.parametrize("fails", [False, True])
def test_lock_lost_in_a_transaction(collection, monkeypatch, fails):
    """A process that lost its lock, for example by sleeping too long, gets an error and does not affect later
    changes."""
    for item in "xy":
        collection.write(item, rows(1, 2))
    append = collection._append

    def append_without_lock(item, data, **kwargs):
        monkeypatch.undo()
        for lock in [lock for lock in gc.get_objects() if isinstance(lock, CollectionLock) and lock._lease]:
            lock._call("partd.unlock", lease=lock._lease)  # the server does this when the lock expires
        collection.write("other", rows(5))
        with pystore.transaction(collection) as txn:
            txn.append("other", rows(6, start="2024-03-01"))
        if fails:
            raise ValueError("later")
        append(item, data, **kwargs)

    monkeypatch.setattr(collection, "_append", append_without_lock)
    with (
        pytest.raises(pystore.exceptions.TransactionError, match="later" if fails else "lock"),
        pystore.transaction(collection) as txn,
    ):
        txn.delete("x")
        txn.append("y", rows(3, start="2024-03-01"))
        txn.write("new", rows(1))
    assert collection.list_items() >= {"x", "y", "other"} and "new" not in collection.list_items()
    assert len(collection.item("x").to_pandas()) == 2 and len(collection.item("other").to_pandas()) == 2


def test_error_after_commit(collection):
    with pytest.raises(ZeroDivisionError), pystore.transaction(collection) as txn:
        txn.write("x", rows(1))
        txn.commit()
        raise ZeroDivisionError
    assert collection.list_items() == {"x"}


def test_batch_keeps_each_append(collection):
    """A batch combines only appends with the same rule for duplicates and the same columns."""
    collection.write("x", rows(1, 2))
    with pystore.batch_transaction(collection) as batch:
        batch.append("x", rows(5, 6), duplicate_handling="keep_first")
        batch.append("x", rows(7))
        batch.append("x", rows(8, start="2024-02-01"))
    assert list(collection.item("x").to_pandas().a) == [7, 2, 8]
    collection.write("floats", rows(1.0, b=1.0))
    with (
        pytest.raises(pystore.TransactionError, match="Missing columns"),
        pystore.batch_transaction(collection) as batch,
    ):
        batch.append("floats", rows(2.0, start="2024-02-01", b=2.0))
        batch.append("floats", rows(3.0, start="2024-03-01"))
    assert len(collection.item("floats").to_pandas()) == 1


@pytest.mark.parametrize("kind", [pystore.transaction, pystore.batch_transaction])
def test_values_in_transactions(collection, kind):
    collection.write("x", rows(1, 2))
    with kind(collection) as txn:
        txn.write("from item", collection.item("x"))
        txn.write("from dask", dd.from_pandas(rows(3, 4), npartitions=2))
        txn.append("x", dd.from_pandas(rows(5, start="2024-02-01"), npartitions=1))
        txn.append("x", collection.item("x"))
    assert list(collection.item("from item").to_pandas().a) == [1, 2] and list(
        collection.item("from dask").to_pandas().a
    ) == [3, 4]
    assert list(collection.item("x").to_pandas().a) == [1, 2, 5]


def test_not_locked_while_dask_computes(collection):
    """A write computes dask data before it locks the collection."""

    def compute(part):
        collection.write("during", rows(1), overwrite=True)
        collection.append("during", rows(2, start="2024-02-01"))
        return part

    slow = dd.from_pandas(rows(1, 2), npartitions=1).map_partitions(compute, meta=rows(1)[:0])
    collection.write("x", slow)
    collection.append("x", slow)
    assert collection.list_items() == {"x", "during"} and len(collection.item("x").to_pandas()) == 2


def test_server_that_was_killed(collection):
    """If the server was killed, the next call starts a new one."""
    collection.write("x", rows(1, 2))
    item = collection.item("x")
    server = collection._tables._server._process
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()
    assert len(item.to_pandas()) == 2 and len(item.data) == 2
    collection.append("x", rows(3, start="2024-02-01"))
    assert len(collection.item("x").to_pandas()) == 3


def test_no_matching_rows(collection):
    collection.write("x", rows(1, 2, 3))
    item = collection.item("x")
    assert [len(item.head(0)), len(item.tail(0)), len(item.head(-1)), len(item.tail(2))] == [0, 0, 2, 2]


FITTING = {
    "integers among floats": ([1.5, 2.5], [3, 4]),
    "whole floats among integers": ([1, 2], [3.0, 4.0]),
    "halves among small floats": (np.array([1.5, 2.5], "float32"), [0.5, 1.0]),
    "wider integers": (np.array([1, 2], "int32"), [3, 4]),
    "nulls among texts": (["a", "b"], [None, None]),
    "times of another unit": (pd.date_range("2024", periods=2), pd.date_range("2024", periods=2).as_unit("s")),
    "spans of another unit": (pd.to_timedelta([1, 2], "s"), pd.to_timedelta([1, 2], "s").as_unit("us")),
}
NOT_FITTING = {
    "a fraction among large integers": ([2**53 + 1, 2], [3.5, 4]),
    "a large integer among floats": ([1.5, 2.5], [2**53 + 1, 0]),
    "an integer among small floats": (np.array([1.5, 2.5], "float32"), [2**24 + 1, 0]),
    "an unsigned integer beyond int64": ([1, 2], np.array([2**63, 0], "uint64")),
    "a time among numbers": ([1, 2], pd.date_range("2024", periods=2)),
    "a zone among times without": (pd.date_range("2024", periods=2), pd.date_range("2024", periods=2, tz="Asia/Tokyo")),
    "nanoseconds among seconds": (
        pd.date_range("2024", periods=2).as_unit("s"),
        pd.DatetimeIndex(["2024-01-01 00:00:00.000000001"] * 2),
    ),
    "numbers among texts": (["a", "b"], [1, 2]),
    "texts and numbers among numbers": ([1, 2], ["a", 2]),
}


@pytest.mark.parametrize("handling", ["keep_last", "keep_first", "keep_all"])
@pytest.mark.parametrize("name", [*FITTING, *NOT_FITTING])
def test_types_that_fit(collection, name, handling):
    existing, appended = {**FITTING, **NOT_FITTING}[name]
    frame, added = rows(0, 0, v=existing), rows(0, 0, start="2024-02-01", v=appended)
    collection.write("x", frame)
    if name in NOT_FITTING:
        with pytest.raises(pystore.SchemaError, match="column"):
            collection.append("x", added, duplicate_handling=handling)
        return equal(collection.item("x").to_pandas(), frame, check_freq=False)
    collection.append("x", added, duplicate_handling=handling)
    equal(collection.item("x").to_pandas(), pd.concat([frame, added.astype({"v": frame.v.dtype})]), check_freq=False)


def nulls(n):
    return [None] * n


WIDENED = {  # type in the item, appended type, resulting type
    "larger integers": (np.array([1, 2], "int8"), [7, 300], "int64"),
    "signed integers": (np.array([1, 2**32 - 1], "uint32"), [-7, -8], "int64"),
    "longer integers": (np.array([1, 2], "int32"), [7, 2**40], "int64"),
    "integers as floats": ([1, 2], [7.0, 2.5], "float64"),
    "finer floats": (np.array([1.5, 2.5], "float32"), [7.0, 0.1], "float64"),
    "nullable integers": (pd.array([1, 2], "Int16"), pd.array([None, 70000], "Int32"), "Int32"),
    "nulls to texts": (nulls(2), ["x", "y"], None),
    "nulls to floats": (nulls(2), [1.5, 2.5], "float64"),
    "nulls to booleans": (nulls(2), [True, False], None),
    "nulls to times": (nulls(2), pd.date_range("2024", periods=2, tz="Asia/Tokyo"), None),
    "nulls to periods": (nulls(2), pd.period_range("2024", periods=2, freq="M"), None),
    "nulls to categories": (nulls(2), pd.Categorical(["x", "y"]), None),
    "nulls to nested values": (nulls(2), [[1], {"a": None}], None),
}


NULL_KEYS = {
    "times": pd.DatetimeIndex(["2026-01-01", None, "2026-01-02"]),
    "times in UTC": pd.DatetimeIndex(["2026-01-01", None, "2026-01-02"], tz="UTC"),
    "texts": pd.Index(["a", None, "b"]),
    "integers": pd.Index(pd.array([1, None, 2], "Int64")),
    "dates": pd.Index([datetime.date(2026, 1, 1), None, datetime.date(2026, 1, 2)]),
    "booleans": pd.Index(pd.array([True, None, False], "boolean")),
    "categories": pd.CategoricalIndex(["a", None, "b"]),
    "durations": pd.TimedeltaIndex(["1h", None, "2h"]),
    "periods": pd.PeriodIndex(["2026-01", None, "2026-02"], freq="M"),
    "two levels": pd.MultiIndex.from_arrays([[1, 2, 3], ["a", None, "b"]], names=["k", "l"]),
}


@pytest.mark.parametrize("handling", ["keep_last", "keep_first", "keep_all"])
@pytest.mark.parametrize("name", NULL_KEYS)
def test_null_keys(collection, name, handling):
    """As in pandas, nulls in the index are equal to each other."""
    index = NULL_KEYS[name] if name == "two levels" else NULL_KEYS[name].rename("k")
    first, appended = pd.DataFrame({"v": [1, 2, 3]}, index), pd.DataFrame({"v": [10, 20, 30, 40]}, index[[1, 0, 1, 0]])
    for existing, added in ((first, appended), (first, appended[1:2]), (first[::2], appended)):
        if existing is not first and name.startswith("times"):
            continue  # an item that began with a full time index refuses null times
        collection.write("x", existing, overwrite=True)
        collection.append("x", added, duplicate_handling=handling)
        want = pd.concat([existing, added])
        if handling != "keep_all":
            want = want[~want.index.duplicated(keep=handling.removeprefix("keep_"))]
        got = collection.item("x").to_pandas(parse_dates=False)
        assert sorted(
            map(str, zip(got.index.isna() if got.index.nlevels == 1 else got.index.codes[1], got.v))
        ) == sorted(map(str, zip(want.index.isna() if want.index.nlevels == 1 else want.index.codes[1], want.v)))


@pytest.mark.parametrize("handling", ["keep_last", "keep_first", "keep_all", "error"])
@pytest.mark.parametrize("name", WIDENED)
def test_appends_that_widen(collection, name, handling):
    """With any rule for duplicates, an append widens columns, whether or not the item has an evolution. With keep_last
    and an evolution, it does so in a single commit."""
    existing, appended, kind = WIDENED[name]
    for strategy in ("COMPATIBLE", "FLEXIBLE", None):
        item = f"x{strategy}"
        frame, added = (
            rows(0, 0, v=existing),
            rows(1, 1, start="2024-01-03" if handling == "error" else "2024-01-02", v=appended),
        )
        collection.write(item, frame)
        if strategy:
            collection.enable_schema_evolution(item, pystore.EvolutionStrategy[strategy])
        versions = len(collection._tables.versions(item, "c"))
        collection.append(item, added, duplicate_handling=handling)
        frames = {"keep_last": [frame[:1], added], "keep_first": [frame, added[1:]]}.get(handling, [frame, added])
        got = collection.item(item).to_pandas()
        assert handling != "keep_last" or len(collection._tables.versions(item, "c")) == versions + 1 or not strategy
        want = [None if pd.isna(value) is True else value for part in frames for value in part.v]
        assert [None if pd.isna(value) is True else value for value in got.v] == want
        assert kind is None or got.v.dtype == kind
        assert list(got.a) == [value for part in frames for value in part.a]


def test_widened_without_an_evolution(collection):
    """A widened item keeps its rows and snapshots, and its index is widened too. A failed transaction undoes the
    change."""
    frame = pd.DataFrame(
        {"v": np.array([1.5, 2.5], "float32"), "a": np.array([1, 2], "int16")},
        pd.Index(np.array([1, 2], "int32"), name="i"),
    )
    appended = pd.DataFrame({"v": [0.1], "a": [2**40]}, pd.Index([2**40], name="i"))
    collection.write("x", frame)
    collection.create_snapshot("before")
    with pytest.raises(pystore.TransactionError), pystore.transaction(collection) as txn:
        txn.append("x", appended)
        txn.append("none", appended)
    equal(collection.item("x").to_pandas(parse_dates=False), frame)
    collection.append("x", appended)
    equal(collection.item("x").to_pandas(parse_dates=False), pd.concat([frame, appended]))
    equal(collection.item("x", snapshot="before").to_pandas(parse_dates=False), frame)
    collection.write("s", frame.a)
    collection.append("s", appended.a)
    assert list(collection.item("s").to_pandas(parse_dates=False)) == [1, 2, 2**40]


@pytest.mark.parametrize("strategy", ["STRICT", "ADD_ONLY"])
def test_evolutions_that_do_not_widen(store, collection, strategy):
    """These strategies do not widen an item, not even for a process that has not enabled the item's evolution."""
    collection.write("x", rows(1, 2))
    collection.enable_schema_evolution("x", pystore.EvolutionStrategy[strategy])
    for handle in (collection, store.collection("c")):
        with pytest.raises(pystore.SchemaError, match='column "a"'):
            handle.append("x", rows(0.5, start="2024-02-01"))
    equal(collection.item("x").to_pandas(), rows(1, 2), check_freq=False)


def test_refused_rows_widen_nothing(collection):
    frame = rows(1, 2, sym=["a", "b"])
    collection.write("x", frame)
    with pytest.raises(pystore.SchemaError, match="column"):
        collection.append("x", rows(0.5, sym=[7], start="2024-02-01"))
    equal(collection.item("x").to_pandas(), frame, check_freq=False)


@pytest.mark.parametrize("strategy", ["ADD_ONLY", "COMPATIBLE", "FLEXIBLE"])
def test_columns_of_duplicate_rows(collection, strategy):
    """A new column gets its type even if all appended rows are duplicates."""
    collection.write("x", rows(1, 2))
    collection.enable_schema_evolution("x", pystore.EvolutionStrategy[strategy])
    collection.append("x", rows(3, 4, v=["x", "y"]), duplicate_handling="keep_first")
    collection.append("x", rows(5, v=["z"], start="2024-01-03"), duplicate_handling="keep_first")
    assert list(collection.item("x").to_pandas().a) == [1, 2, 5]
    assert list(collection.item("x").to_pandas().v)[2] == "z"


@pytest.mark.parametrize("handling", ["keep_last", "keep_first", "keep_all", "error"])
@pytest.mark.parametrize(
    "existing, appended",
    [
        ([1, 2], ["x", "y"]),
        ([1.5, 2.5], ["x", "y"]),
        (["x", "y"], [1, 2]),
        ([2**53 + 1, 2], [2.5, 7.0]),
        ([True, False], [1, 2]),
    ],
)
def test_appends_that_cannot_widen(collection, existing, appended, handling):
    """No value may change. If a column cannot be widened, the error names the column and both types."""
    frame = rows(0, 0, v=existing)
    collection.write("x", frame)
    collection.enable_schema_evolution("x", pystore.EvolutionStrategy.FLEXIBLE)
    with pytest.raises(
        pystore.SchemaError, match='column "v": (it has type .* and the table has|(row 1: )?cannot convert to float64)'
    ):
        collection.append("x", rows(0, 0, start="2024-02-01", v=appended), duplicate_handling=handling)
    equal(collection.item("x").to_pandas(), frame, check_freq=False)


@pytest.mark.parametrize("kinds", [*itertools.permutations((pa.int64(), pa.duration("s"), pa.timestamp("s")), 2)])
def test_kinds_are_not_mixed(kinds):
    """Integers, durations and times are not converted to each other; the server then refuses the rows."""
    existing, appended = (pa.table({"v": pa.array([1], kind)}) for kind in kinds)
    assert fit_types(appended, existing.schema).equals(appended) and not widened_fields(
        appended.schema, existing.schema
    )


def test_index_of_another_unit(collection):
    collection.write("x", rows(1, 2))
    collection.append("x", rows(3, 4).set_axis(rows(3, 4).index.as_unit("us")))
    equal(collection.item("x").to_pandas(), rows(3, 4), check_freq=False)


def test_nested_below_a_number(collection):
    frame = pd.DataFrame({0: [1, 2], 1: [[1, 2], {"a": None}]}, pd.date_range("2024", periods=2))
    collection.write("x", frame)
    equal(collection.item("x").to_pandas(), frame, check_freq=False)


@pytest.mark.parametrize(
    "filters, want",
    [
        ([("s", "not in", ["x"])], [1, 2]),
        ([("s", "not in", ["x", None])], [2]),
        ([("s", "in", ["x", None])], [0, 1]),
        ([("s", "in", [None])], [1]),
        ([("s", "not in", [None])], [0, 2]),
        ([("s", "in", [])], []),
        ([("s", "not in", [])], [0, 1, 2]),
        ([("s", "not in", ["x"]), ("a", "<", 2)], [1]),
        ([[("s", "not in", ["x"]), ("a", "<", 2)], [("a", "==", 0)]], [0, 1]),
        ([("s", "==", None)], []),
        ([("s", "!=", pd.NaT)], []),
        (((("s"), "==", "None"),), [2]),
        ([("s", "!=", "x")], [2]),
    ],
)
def test_filters_of_nulls(collection, filters, want):
    collection.write("x", rows(0, 1, 2, s=["x", None, "None"]))
    assert list(collection.item("x").to_pandas(filters=filters).a) == want
    assert list(collection._tables.get("x", "c", where=filters).a) == want


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"x", pd.Timedelta("1s"), np.timedelta64(1, "ns")])
def test_invalid_filters(collection, value):
    collection.write("x", rows(0, 1, 2))
    with pytest.raises(ValueError, match="a filter's value is"):
        collection.item("x").to_pandas(filters=[("a", ">", value)])


def test_no_such_transport():
    with pytest.raises(partd_go.Error, match="http"):
        partd_go.tables.connect("http://localhost:1")

"""Tests partd_go.pystore beyond pystore's own tests."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
pytest.importorskip("dask", reason="needs dask")
import numpy as np
import pandas as pd

import partd_go
import partd_go.pystore as pystore
import partd_go.tables
from partd_go.pystore import memory, partition

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


def prices(days=100, **more):
    return pd.DataFrame(
        {"price": np.arange(days) * 1.0, "sym": ["A", "B"] * (days // 2), **more},
        pd.date_range("2024-01-01", periods=days),
    )


def test_names():
    """All public names of pystore 1.0.1 exist, and the modules that programs import."""
    for name in (
        "store read_csv get_path set_path set_client get_client set_partition_size get_partition_size list_stores "
        "delete_store"
        " delete_stores PyStoreError DataIntegrityError ItemNotFoundError ItemExistsError CollectionNotFoundError"
        " CollectionExistsError SnapshotNotFoundError StorageError SchemaError ConfigurationError ValidationError "
        "TransactionError"
        " async_pystore AsyncCollection AsyncStore transaction batch_transaction with_lock create_validator "
        "with_validation"
        " create_timeseries_validator create_financial_validator ValidationRule DataValidator ColumnExistsRule "
        "RangeRule"
        " NoNullRule SchemaEvolution EvolutionStrategy"
    ).split():
        assert name in pystore.__all__ and getattr(pystore, name)
    assert pystore.exceptions.ItemNotFoundError is pystore.ItemNotFoundError


def test_path(tmp_path, monkeypatch):
    code = "import partd_go.pystore as p; print(p.get_path())"
    for variables, want in (
        ({"PYSTORE_PATH": "/of/variable", "HOME": "/of/home"}, "/of/variable"),
        ({"HOME": "/of/home"}, "/of/home/pystore"),
    ):
        assert (
            subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True).stdout.strip()
            == want
        )
    assert (
        pystore.get_partition_size() == 99e6
        and pystore.set_partition_size(5) == 5
        and pystore.set_partition_size() == 99e6
    )


def test_validators_filters_and_async(collection):
    rules = [pystore.ColumnExistsRule(["price"]), pystore.RangeRule("price", min_value=0, max_value=50)]
    validator = pystore.create_validator(rules)
    validator.add_rule(pystore.RangeRule("price", min_val=1, name="more"))
    assert not validator.validate(prices(4), raise_on_error=False)
    validator.remove_rule("more")
    collection.set_validator(validator)
    with pytest.raises(pystore.ValidationError, match="values outside 0 to 50"):
        collection.write("x", prices())
    assert "x" not in collection.list_items()
    collection.set_validator(None)
    collection.write("x", prices())
    wanted = prices()
    for got in (
        collection.item("x").to_pandas(columns=["price"], filters=[("sym", "==", "A"), ("price", ">", 90)]),
        collection.item("x", columns=["price"], filters=[("sym", "==", "A"), ("price", ">", 90)]).to_pandas(),
    ):
        equal(got, wanted[(wanted.sym == "A") & (wanted.price > 90)][["price"]], check_freq=False)

    async def run():
        async with pystore.async_pystore.store("s") as store:
            async with store.collection("c") as c:
                await c.write("y", prices(4))
                assert (await c.list_items()) == {"x", "y"}
                assert (await c.item("y")).metadata["_updated"]
                return await c.item("y").to_pandas(), await c.read("y", columns=["sym"])

    all_columns, one_column = asyncio.run(run())
    equal(all_columns, prices(4))
    equal(one_column, prices(4)[["sym"]])


def test_custom_rule(collection):
    seen = []
    validator = pystore.create_validator(
        [pystore.CustomRule(lambda df: seen.append(len(df)) or df.price.sum() < 10, "sum", "too much")]
    )
    collection.set_validator(validator)
    collection.write("x", prices(4))
    with pytest.raises(pystore.ValidationError, match="too much"):
        collection.append("x", prices(100))
    validator.disable()
    collection.append("x", prices(100))
    assert seen == [4, 100] and len(collection.item("x").to_pandas()) == 100

    @pystore.with_validation(pystore.create_validator([pystore.NoNullRule(["price"])]))
    def write(c, data):
        return len(data)

    assert write(None, prices(4)) == 4
    with pytest.raises(pystore.ValidationError, match="price"):
        write(None, prices(4).assign(price=np.nan))


def test_reads_only_needed_columns(collection, monkeypatch):
    """Reading only the index, or comparing it with new rows, does not read the other columns."""
    collection.write("x", prices())
    asked = []
    scan = type(collection._tables).scan
    monkeypatch.setattr(
        type(collection._tables),
        "scan",
        lambda self, *args, **options: asked.append(options["columns"]) or scan(self, *args, **options),
    )
    assert collection.index("x").equals(prices().index)
    collection.append("x", prices(104)[98:], duplicate_handling="keep_first")
    with pytest.raises(pystore.DataIntegrityError):
        collection.append("x", prices(104)[98:], duplicate_handling="error")
    assert asked == [["index"]] * 3 and len(collection.item("x").to_pandas()) == 104


def test_series(collection):
    for name, series in (("named", prices().price), ("plain", pd.Series([1, 2, 3]))):
        collection.write(name, series)
        pd.testing.assert_series_equal(collection.item(name).to_pandas(), series)
        collection.append(name, series)
        assert isinstance(collection.item(name).to_pandas(), pd.Series)
        assert list(collection.item(name).data.compute()) == list(collection.item(name).to_pandas())
    assert len(collection.item("named").to_pandas()) == 100 and len(collection.item("plain").to_pandas()) == 6


def test_duplicates(collection):
    """The rule for duplicates also applies to duplicates within the appended rows."""
    twice = pd.concat([prices(4), prices(4) + prices(4)])
    for rule, want in (
        ("keep_last", [0, 2, 4, 6]),
        ("keep_first", [0, 1, 2, 3]),
        ("keep_all", [0, 0, 1, 2, 2, 4, 3, 6]),
    ):
        collection.write(rule, prices(4)[:1])
        collection.append(rule, twice[1:] if rule == "keep_all" else twice, duplicate_handling=rule)
        assert list(collection.item(rule).to_pandas().price) == want
    with pytest.raises(pystore.DataIntegrityError):
        collection.append("keep_last", prices(8)[3:], duplicate_handling="error")
    collection.append("keep_last", prices(8)[4:], duplicate_handling="error")
    assert len(collection.item("keep_last").to_pandas()) == 8
    with pytest.raises(ValueError, match="keep_last"):
        collection.append("keep_last", prices(8), duplicate_handling="keep")
    with pytest.raises(pystore.ItemNotFoundError):
        collection.append("none", prices(4))
    named = prices(4).rename_axis("other")
    with pytest.raises(pystore.ValidationError, match="index"):
        collection.append("keep_last", named)
    words = pd.DataFrame({"v": [1, 2]}, index=["a", "b"])
    collection.write("words", words)
    collection.append("words", pd.DataFrame({"v": [3, 4]}, index=["b", "c"]), duplicate_handling="keep_first")
    assert collection.item("words").to_pandas().v.to_dict() == {"a": 1, "b": 2, "c": 4}
    assert list(collection.index("words")) == ["a", "b", "c"] and collection.index("words", last=True) == "c"


def test_dask(collection):
    """dask gets a partition for each file, and the server selects columns and rows."""
    collection.write("x", prices(400), npartitions=2)
    item = collection.item("x", filters=[("sym", "==", "A")])
    assert item.data.npartitions == item._parts > 4
    equal(item.data.compute(), item.to_pandas(), check_dtype=False)
    read = []
    tables = collection._tables
    scan = type(tables).scan
    try:
        type(tables).scan = lambda self, *args, **options: read.append(options) or scan(self, *args, **options)
        assert item.data["price"].sum().compute() == prices(400).price[::2].sum()
    finally:
        type(tables).scan = scan
    parts = [options for options in read if options.get("part")]
    assert len(parts) == item._parts and all(p["where"] == "\"sym\" = 'A'" and "sym" not in p["columns"] for p in parts)
    item = collection.item("x")
    collection.write("x", prices(2), overwrite=True)
    assert len(item.data) == 400 and len(collection.item("x").data) == 2  # the item's state does not change
    partition.rebalance_partitions(collection, "x", freq="monthly")
    frame = pystore.partition.optimize_time_series_partitions(prices(400))
    assert frame[1] == 5 and len(frame[0].compute()) == 400
    collection.write("from dask", frame[0])
    assert len(collection.item("from dask").to_pandas()) == 400
    assert pystore.get_client() is None


def test_distributed(collection):
    from dask.distributed import LocalCluster

    collection.write("x", prices(400), npartitions=2)
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        client = pystore.set_client(cluster)
        assert pystore.get_client() is client
        assert collection.item("x").data.price.sum().compute() == prices(400).price.sum()
        pystore.set_client(None)
    assert pystore.get_client() is None


def test_processes(collection):
    """Processes see each other's writes, and locks work between them."""
    collection.write("x", prices(4))
    code = (
        "import sys, pandas as pd, partd_go.pystore as p\n"
        "p.set_path(sys.argv[1])\n"
        "c = p.store('s').collection('c')\n"
        "assert len(c.item('x').to_pandas()) == 4\n"
        "assert not p.with_lock(c, 'mine').acquire(timeout=0.5)\n"
        "c.append('x', pd.DataFrame({'price': [9.0], 'sym': ['Z']}, index=[pd.Timestamp('2025-01-01')]))\n"
        "c.write('y', pd.DataFrame({'a': [1]}))\n"
    )
    with pystore.with_lock(collection, "mine"):
        run = subprocess.run([sys.executable, "-c", code, str(pystore.get_path())], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
    assert list(collection.item("x").to_pandas().sym) == ["A", "B", "A", "B", "Z"]
    assert collection.list_items() == {"x", "y"}


def test_transactions(collection):
    collection.write("x", prices(4), metadata={"k": 1})
    with pytest.raises(pystore.TransactionError, match="failed"), pystore.transaction(collection) as txn:
        txn.append("x", prices(8))
        txn.write("new", prices(2))
        txn.delete("x")
        txn.append("none", prices(2))
    assert collection.list_items() == {"x"} and not collection.list_snapshots()
    equal(collection.item("x").to_pandas(), prices(4))
    assert collection.item("x").metadata["k"] == 1
    with pytest.raises(pystore.TransactionError, match="committed"):
        txn = pystore.transactions.Transaction(collection)
        txn.commit()
        txn.write("x", prices(2))
    with pystore.batch_transaction(collection) as batch:
        batch.append("x", prices(6)[4:])
        batch.append("x", prices(8)[6:])
        batch.write("y", prices(2))
    assert len(collection.item("x").to_pandas()) == 8 and collection.list_items() == {"x", "y"}
    order = []

    def write(name):
        with pystore.with_lock(collection):
            order.append(name)
            collection.write(name, prices(2))
            order.append(name)

    threads = [threading.Thread(target=write, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order[::2] == order[1::2] and len(order) == 8


def test_evolution(collection):
    for strategy, allowed in (("STRICT", False), ("ADD_ONLY", True), ("COMPATIBLE", True), ("FLEXIBLE", True)):
        collection.write(strategy, prices(4))
        collection.enable_schema_evolution(strategy, pystore.EvolutionStrategy[strategy])
        wider = prices(8, volume=1)[4:]
        if not allowed:
            with pytest.raises(pystore.SchemaError, match="volume"):
                collection.append(strategy, wider)
            continue
        collection.append(strategy, wider)
        assert list(collection.item(strategy).to_pandas().volume.isna()) == [True] * 4 + [False] * 4
    with pytest.raises(pystore.SchemaError):
        collection.append("ADD_ONLY", prices(10)[["price"]][8:])
    collection.append("FLEXIBLE", prices(10)[["price"]][8:])
    collection.write("plain", prices(4))
    collection.append("plain", prices(8, more="x")[4:], validate_schema=False)
    assert list(collection.item("plain").to_pandas().columns) == ["price", "sym", "more"]
    evolution = collection.get_item_evolution("FLEXIBLE")
    evolution.register_migration(1, 2, lambda df: df.rename(columns={"price": "cost"}))
    evolution.register_migration(2, 3, lambda df: df.assign(cost=df.cost * 2))
    collection.migrate_item_to_version("FLEXIBLE", 2)
    evolution.migrate_to_version(3)
    evolution.migrate_to_version(3)
    assert list(collection.item("FLEXIBLE").to_pandas().cost[:3]) == [0, 2, 4]
    with pytest.raises(pystore.SchemaError, match="No migration path"):
        evolution.migrate_to_version(5)
    with pytest.raises(ValueError, match="not enabled"):
        collection.migrate_item_to_version("plain", 2)


def test_memory(collection):
    frame = prices(1000, small=1, nested=[[1, {"a": None}]] * 1000)
    collection.write("x", frame)
    chunks = list(memory.read_in_chunks(collection, "x", chunk_size=300, columns=["price", "nested"]))
    assert [len(chunk) for chunk in chunks] == [300, 300, 300, 100]
    equal(pd.concat(chunks), frame[["price", "nested"]], check_freq=False)
    smaller = memory.optimize_dataframe_memory(frame.drop(columns="nested"))
    assert memory.estimate_dataframe_memory(smaller) < memory.estimate_dataframe_memory(frame) / 2
    equal(smaller, frame.drop(columns="nested"), check_dtype=False, check_categorical=False)
    with memory.MemoryMonitor(), memory.memory_efficient_read():
        memory.check_memory_usage()
    with pytest.raises(pystore.StorageError, match="only 1/2"):
        collection.write_batch({"x": frame, "y": frame})
    assert collection.read_batch(["y", "none"])["none"] is None


def test_metadata_with_nan(collection):
    """Numbers that JSON lacks come back, as from pystore's own files, and items can be found by them."""
    metadata = {"mean": float("nan"), "range": [float("-inf"), {"to": float("inf")}], "n": 1.5}
    collection.write("x", prices(4), metadata=metadata)
    collection.write_batch({"y": prices(4)}, metadata={"y": metadata})
    for item in ("x", "y"):
        got = collection.item(item).metadata
        assert (
            repr({key: got[key] for key in metadata})
            == repr(metadata)
            == repr({key: collection.get_item_metadata(item)[key] for key in metadata})
        )
    assert collection.list_items(mean=float("nan")) == {"x", "y"} and collection.list_items(mean=1.5) == set()


def test_metadata_with_nan_of_tables(tmp_path):
    with partd_go.tables.connect(tmp_path) as tables:
        with pytest.raises(partd_go.Misuse, match=r"put 'x': metadata\['q'\]\[1\] is inf"):
            tables.put("x", prices(4), metadata={"mean": 1.5, "q": [1, float("inf")]})
        with pytest.raises(partd_go.Misuse, match=r"partd.change-metadata: set\['mean'\] is nan"):
            tables.action("partd.change-metadata", bucket="", set={"mean": float("nan")})
        assert tables.list() == []

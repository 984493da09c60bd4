"""Checks the statements of docs/pystore.md about pystore's README and names that no other test covers."""

from __future__ import annotations

import asyncio
import importlib

import pytest

pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
pytest.importorskip("dask", reason="needs dask")
import numpy as np
import pandas as pd

import partd_go.pystore as pystore
from partd_go.pystore import memory

pytestmark = pytest.mark.filterwarnings("ignore:::dask", "ignore:::distributed")


@pytest.fixture
def collection(tmp_path):
    pystore.set_path(tmp_path)
    yield pystore.store("s").collection("c")
    pystore.utils.release()


@pytest.fixture
def prices():
    days = pd.date_range("2024-01-01", periods=200, freq="D")
    return pd.DataFrame(
        {"Open": np.arange(200.0), "High": 1.0, "Low": 1.0, "Close": np.arange(200.0), "Volume": range(200)}, days
    )


def test_places(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PYSTORE_PATH", raising=False)
    monkeypatch.setattr(pystore.utils, "_path", None)
    assert pystore.get_path() == tmp_path / "pystore"
    monkeypatch.setenv("PYSTORE_PATH", str(tmp_path / "other"))
    assert pystore.get_path() == tmp_path / "other"
    assert pystore.set_path("~/pystore") == pystore.get_path() == tmp_path / "pystore"
    assert pystore.set_path(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    for url in "s3://bucket/stores", "file://elsewhere/stores":
        with pytest.raises(ValueError, match="pass a directory"):
            pystore.set_path(url)


def test_delete_store_rejects_other_paths(monkeypatch, tmp_path):
    monkeypatch.setattr(pystore.utils, "_path", None)
    stores, other = tmp_path / "stores", tmp_path / "other"
    other.mkdir()
    pystore.set_path(stores)
    for name in "", ".", "..", "../other", "a/../../other", str(other):
        with pytest.raises(ValueError, match="not the name of a store"):
            pystore.delete_store(name)
    assert stores.is_dir() and other.is_dir()
    with pytest.raises(ValueError, match="does not exist"):
        pystore.delete_store("missing")


def test_readme(collection, prices):
    collection.write("AAPL", prices[:100], metadata={"source": "yfinance"})
    collection.append("AAPL", prices[100:])
    assert len(collection.item("AAPL").data) == len(collection.item("AAPL").to_pandas()) == 200
    assert collection.list_items(source="yfinance") == {"AAPL"} and not collection.list_items(
        source="yfinance", other="x"
    )
    rule = pystore.create_validator(
        [pystore.ColumnExistsRule(["Open", "High"]), pystore.RangeRule("Close", min_value=0)]
    )
    collection.set_validator(rule)
    with pytest.raises(pystore.ValidationError, match="Close"):
        collection.append("AAPL", prices[:1].assign(Close=-1.0))
    collection.set_validator(None)
    collection.enable_schema_evolution("AAPL", strategy=pystore.EvolutionStrategy.FLEXIBLE)
    collection.append("AAPL", prices[-2:].assign(extra=1.0))
    collection.append("AAPL", prices[-1:].drop(columns="High").assign(Volume=[0.5]))
    got = collection.item("AAPL").to_pandas()
    assert got.Volume.iloc[-1] == 0.5 and got.extra.iloc[-2] == 1.0 and len(got) == 200
    with pytest.raises(pystore.SchemaError, match="Volume"):
        collection.append("AAPL", prices[-1:].assign(Volume=["many"]))
    with pytest.raises(pystore.ItemNotFoundError):
        collection.append_stream("new", iter([prices]))
    assert [len(chunk) for chunk in memory.read_in_chunks(collection, "AAPL", chunk_size=90)] == [90, 90, 20]
    assert collection.item("AAPL").to_pandas(columns=["Open"], filters=[("Open", ">", 100)]).shape == (99, 1)
    assert not collection.get_item_path("AAPL").exists()


def test_asynchronous(collection, prices):
    async def work():
        async with pystore.async_pystore.store("s") as store, store.collection("c") as opened:
            await opened.write("AAPL", prices)
            return await opened.item("AAPL").to_pandas()

    assert len(asyncio.run(work())) == 200


def test_levels(collection):
    frame = pd.DataFrame({"v": [1.0, 2.0]}, pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", "y"]))
    collection.write("levels", frame)
    collection.append("levels", frame.rename({"b": "c"}) + 1)
    got = collection.item("levels").to_pandas()
    assert got.v.to_dict() == {("a", 1): 2.0, ("b", 2): 2.0, ("c", 2): 3.0} and got.index.names == ["x", "y"]


def test_not_implemented():
    """The names that docs/pystore.md lists as not implemented do not exist. If this fails, update the page."""
    for module in ("config", "logger", "dataframe"):
        with pytest.raises(ImportError):
            importlib.import_module(f"partd_go.pystore.{module}")
    for owner, names in (
        (pystore.validation, ["UniqueRule"]),
        (pystore.SchemaEvolution, ["to_dict", "from_dict", "get_target_schema"]),
        (pystore.schema_evolution, ["add_calculated_column", "rename_columns", "convert_index_to_datetime"]),
    ):
        assert not [name for name in names if hasattr(owner, name)]
    unique = pystore.validation.CustomRule
    assert not unique(lambda df: df.a.is_unique).validate(pd.DataFrame({"a": [1, 1]}))

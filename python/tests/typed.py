"""Sample user code that type checkers must accept, and in which no call returns Any. test_tables_typing.py checks
it."""

from __future__ import annotations

import datetime
from collections.abc import Hashable

import pandas as pd
import polars as pl
import pyarrow as pa
from typing_extensions import assert_type

import partd_go.tables
from partd_go import Arrow, Client, pystore
from partd_go.pull import PullFrame
from partd_go.stage import Stage, stage
from partd_go.tables import AsyncTables, Described, Replaced, Snapshot, Split, Table, Tables, Version, each, split


def splitting() -> None:
    assert_type(split(pd.DataFrame(), "a", "out"), Split)
    assert_type(split(pl.LazyFrame(), ["a"], "out", hive=True).rows, int)
    assert_type(each("SELECT * FROM rows", "a", rows="in.csv"), pa.RecordBatchReader)
    assert_type(next(each(count_rows, {"rows": "a"}, rows=["in.csv"])), int)
    assert_type(split(["1.parquet"], "a", "out", format="csv", memory="1GiB").files, int)
    split(pa.table({"a": [1]}), "a", "out")


def synchronous(tables: Tables) -> None:
    assert_type(tables.get("t"), pd.DataFrame)
    assert_type(tables.get("t", as_="pandas", columns=["a"], where="a > 1", limit=3, last=4), pd.DataFrame)
    assert_type(tables.get("t", "b", as_="polars", at=datetime.datetime.now()), pl.DataFrame)
    assert_type(tables.get("t", as_="arrow", where=[("a", ">", 1)], version=3), pa.Table)
    assert_type(tables.sql("SELECT ?", params=[7]), pd.DataFrame)
    assert_type(tables.sql("SELECT $a", as_="polars", params={"a": 7}), pl.DataFrame)
    assert_type(tables.sql("SELECT 1", as_="arrow"), pa.Table)
    assert_type(tables.scan("t"), pa.RecordBatchReader)
    assert_type(tables.scan_polars("t"), pl.LazyFrame)
    assert_type(tables["t"].sink_polars(pl.LazyFrame(), "append", id="x"), int)
    assert_type(tables.get_many(["t"]), dict[str, pd.DataFrame])
    assert_type(tables.get_many(["t"], as_="polars"), dict[str, pl.DataFrame])
    assert_type(tables.put_many({"t": pd.DataFrame(), "u": pl.DataFrame()}), dict[str, int])
    assert_type(tables.put("t", pa.table({"a": [1]})), int)
    assert_type(tables.put("t", "in.csv", "append"), int)
    assert_type(tables.put("t", pd.Series([1]), upsert=["a"]), int)
    assert_type(tables.replace_range("t", "in.csv", "2024-01-01"), Replaced)
    assert_type(tables.versions("t"), list[Version])
    assert_type(tables.versions("t")[0].time, datetime.datetime)
    assert_type(tables.describe("t"), Described)
    assert_type(tables.describe("t")["Rows"], int)
    assert_type(tables.list(), list[str])
    assert_type(tables.resample("t", "u", "1D"), tuple[int, int])
    assert_type(tables.resampled("t", "1D", "when"), pd.DataFrame)
    assert_type(tables.resampled("t", "1D", "when", ["min"], columns=["a"], as_="arrow"), pa.Table)
    assert_type(tables.get("t", columns="a"), pd.DataFrame)
    assert_type(tables.put("t", pd.Series([1]), upsert="a"), int)
    assert_type(list(tables), list[str])
    assert_type("t" in tables, bool)
    assert_type(tables.snapshots(), list[Snapshot])
    assert_type(tables.snapshots()[0].time, datetime.datetime)
    assert_type(tables.delete_rows("t", "a > 1"), int)
    assert_type(tables.fold("t"), dict[str, int])
    tables.set_settings("t", {"evolution": "add_only"})
    with tables.lock("job"):
        pass
    assert_type(tables["t"], Table)
    assert_type(tables["t"].get(), pd.DataFrame)
    assert_type(tables["t"].get(as_="polars"), pl.DataFrame)
    assert_type(tables["t"].scan(limit=3), pa.RecordBatchReader)
    assert_type(tables["t"].put(data=pd.DataFrame(), mode="append", id="x"), int)
    assert_type(tables["t"].replace_range(data="in.csv", start="2024-01-01", time_col="x"), Replaced)
    frame: pl.DataFrame = pl.DataFrame(tables["t"])
    frame.height


async def asynchronous(tables: AsyncTables) -> None:
    assert_type(await tables.get("t"), pd.DataFrame)
    assert_type(await tables.get("t", as_="polars"), pl.DataFrame)
    assert_type(await tables.sql("SELECT 1", as_="arrow"), pa.Table)
    assert_type(await tables.sql("DELETE FROM t", id="x"), int)
    assert_type(await tables.resampled("t", "1D", "when", as_="polars"), pl.DataFrame)
    assert_type(await tables.put("t", pd.DataFrame(), "append"), int)
    assert_type(await tables.versions("t"), list[Version])
    assert_type(await tables.snapshots(), list[Snapshot])
    async for batch in tables.scan("t"):
        assert_type(batch, pa.RecordBatch)


def key_value_client(store: Client) -> None:
    assert_type(store.get("a"), bytes)
    assert_type(store.get(["a", "b"]), list[bytes])
    assert_type(store.pop(("a", 1)), bytes)
    assert_type(store.iget("a"), bytes)
    for part in store.get([["a"], ["b", "c"]]):
        assert isinstance(part, bytes) or len(part) > 0
    frames = Arrow(store, kind="pandas")
    assert_type(frames.get("a"), pd.DataFrame)
    assert_type(frames.pop(["a", "b"]), list[pd.DataFrame])
    assert_type(Arrow(store, kind="polars").get("a"), pl.DataFrame)
    assert_type(Arrow(store, kind="pyarrow").get("a"), pa.Table)
    with Arrow(store) as any_frames:
        assert isinstance(any_frames.get("a"), (pa.Table, pd.DataFrame, pl.DataFrame))


@stage(raw_file="in.csv", cache=True)
def clean(raw_file: str) -> pd.DataFrame:
    return pd.read_csv(raw_file)


@stage(rows=clean)
def total(rows: pd.DataFrame) -> float:
    return float(rows["sold"].sum())


@stage
def one() -> int:
    return 1


assert_type(clean, Stage[pd.DataFrame])
assert_type(clean(), pd.DataFrame)
assert_type(total(), float)
assert_type(total.key(), str)
assert_type(one(), int)


def load_from_node(frames: PullFrame) -> None:
    assert_type(frames.load("prices"), pd.DataFrame)


@pystore.with_validation(pystore.create_validator())
def count_rows(frame: pd.DataFrame, name: str = "a") -> int:
    return len(frame)


def read_items(name: str) -> None:
    collection = pystore.store(name).collection("c")
    item = collection.item("a")
    assert_type(item.to_pandas(), pd.DataFrame)
    assert_type(item.head(), pd.DataFrame)
    assert_type(collection.read_batch(["a"]), dict[str, pd.DataFrame | None])
    assert_type(collection.index("a", last=True), Hashable)
    collection.index("a").size
    assert_type(count_rows(item.tail(), name="b"), int)
    with pystore.transaction(collection) as changes:
        changes.write("a", item.to_pandas())
    for part in pystore.memory.read_in_chunks(collection, "a"):
        assert_type(part, pd.DataFrame)


async def read_items_async(name: str) -> None:
    async with pystore.async_pystore.store(name) as opened:
        assert_type(await opened.collection("c").item("a").to_pandas(), pd.DataFrame)
        assert_type(await opened.collection("c").read_batch(["a"]), dict[str, pd.DataFrame | None])
        assert_type(await opened.list_collections(), list[str])


with partd_go.tables.connect("market", progress=False) as opened:
    synchronous(opened)

"""A user's program, for type checkers: what calls return is known, and none of it is Any. test_types.py runs them on it."""

from __future__ import annotations

import datetime

import pandas as pd
import polars as pl
import pyarrow as pa
from typing_extensions import assert_type

import partd_go.tables
from partd_go.tables import AsyncTables, Described, Table, Tables, Version


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
    assert_type(tables.get_many(["t"]), dict[str, pd.DataFrame])
    assert_type(tables.get_many(["t"], as_="polars"), dict[str, pl.DataFrame])
    assert_type(tables.put_many({"t": pd.DataFrame(), "u": pl.DataFrame()}), dict[str, int])
    assert_type(tables.put("t", pa.table({"a": [1]})), int)
    assert_type(tables.put("t", "in.csv", "append"), int)
    assert_type(tables.put("t", pd.Series([1]), upsert=["a"]), int)
    assert_type(tables.versions("t"), list[Version])
    assert_type(tables.versions("t")[0].time, datetime.datetime)
    assert_type(tables.describe("t"), Described)
    assert_type(tables.describe("t")["Rows"], int)
    assert_type(tables.list(), list[str])
    assert_type(tables.resample("t", "u", "1D"), tuple[int, int])
    assert_type(tables["t"], Table)
    assert_type(tables["t"].get(), pd.DataFrame)
    assert_type(tables["t"].get(as_="polars"), pl.DataFrame)
    frame: pl.DataFrame = pl.DataFrame(tables["t"])
    frame.height


async def asynchronous(tables: AsyncTables) -> None:
    assert_type(await tables.get("t"), pd.DataFrame)
    assert_type(await tables.get("t", as_="polars"), pl.DataFrame)
    assert_type(await tables.sql("SELECT 1", as_="arrow"), pa.Table)
    assert_type(await tables.put("t", pd.DataFrame(), "append"), int)
    assert_type(await tables.versions("t"), list[Version])
    async for batch in tables.scan("t"):
        assert_type(batch, pa.RecordBatch)


with partd_go.tables.connect("market", progress=False) as opened:
    synchronous(opened)

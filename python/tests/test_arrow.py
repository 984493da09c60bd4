"""Tests that tables of three libraries can be appended in pieces and read as one table."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import partd_go
from partd_go import arrow


@pytest.fixture
def tables(store) -> partd_go.Arrow:
    return partd_go.Arrow(store)


def test_pyarrow(tables):
    table = pa.table({"n": [1, 2, None], "s": ["a", "b", "c"], "l": [[1], [], None]}, metadata={"who": "me"})
    tables.append({"x": table, "y": table.slice(1)})
    tables.append({"x": table.to_batches()[0]})
    got = tables.get(["x", ["y"]])
    assert got[0].equals(pa.concat_tables([table, table])) and got[1] == [table.slice(1)]
    assert got[0].schema.metadata == {b"who": b"me"}
    assert tables.get("none").num_columns == 0
    assert tables.pop("y").equals(table.slice(1)) and tables.get("y").num_rows == 0
    tables.delete("x")
    assert tables.get("x").num_rows == 0


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_pandas(store, compression):
    tables = partd_go.Arrow(store, compression=compression)
    frame = pd.DataFrame(
        {
            "i": pd.array([1, None, 3, 4], dtype="Int32"),
            "f": [0.5, np.nan, 1.5, 2.5],
            "s": ["a", None, "c", "é"],
            "c": pd.Categorical(["u", "v", "u", None]),
            "o": pd.Categorical(["lo", "hi", "lo", "hi"], categories=["lo", "hi"], ordered=True),
            "t": pd.date_range("2020-01-01", periods=4, tz="Europe/Berlin"),
            "d": pd.to_timedelta([1, 2, 3, None], unit="s"),
            "p": pd.period_range("2020-01", periods=4, freq="M"),
            "b": [True, False, True, True],
        },
        index=pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1), ("b", 2)], names=["k", "n"]),
    )
    for i in range(0, 4, 2):
        tables.append({"x": frame.iloc[i : i + 2]})
    pd.testing.assert_frame_equal(tables.get("x"), frame)


def test_pandas_range_index(tables):
    frame = pd.DataFrame({"a": range(10)})
    tables.append({"x": frame.iloc[:5]})
    tables.append({"x": frame.iloc[5:]})
    pd.testing.assert_frame_equal(tables.get("x"), frame)


def test_polars(tables):
    frame = pl.DataFrame(
        {"a": [1, None], "s": ["x", "y"], "when": [datetime.date(2020, 1, 1), None], "c": ["u", "v"]},
        schema_overrides={"c": pl.Categorical},
    )
    tables.append({"x": frame})
    tables.append({"x": frame.reverse()})
    got = tables.get("x")
    assert isinstance(got, pl.DataFrame)
    assert got.with_columns(pl.col("c").cast(str)).equals(
        pl.concat([frame, frame.reverse()]).with_columns(pl.col("c").cast(str))
    )


def test_kinds(store):
    frame = pd.DataFrame({"a": [1, 2], "s": ["x", "y"]})
    partd_go.Arrow(store).append({"x": frame, "y": pl.DataFrame(frame.to_dict("list")), "z": pa.table({"a": [1]})})
    for kind, table_type in (("pandas", pd.DataFrame), ("polars", pl.DataFrame), ("pyarrow", pa.Table)):
        assert all(isinstance(got, table_type) for got in partd_go.Arrow(store, kind=kind).get(["x", "y", "z", "none"]))
    assert partd_go.Arrow(store, kind="pyarrow").get("x").schema.metadata.keys() == {b"pandas"}


def test_schemas_are_unified(tables):
    tables.append({"x": pa.table({"a": [1], "s": pa.array(["x"]), "n": pa.nulls(1)})})
    tables.append({"x": pa.table({"s": pa.array(["y"], pa.large_string()), "n": [1.5], "new": [True]})})
    assert tables.get("x").to_pylist() == [
        {"a": 1, "s": "x", "n": None, "new": None},
        {"a": None, "s": "y", "n": 1.5, "new": True},
    ]


def test_dictionaries_are_unified(tables):
    for values, index in ((["a", "b"], pa.int8()), (["c", "a"], pa.int32())):
        tables.append(
            {"x": pa.table({"c": pa.array(values).dictionary_encode().cast(pa.dictionary(index, pa.string()))})}
        )
    got = tables.get("x")
    assert got.column("c").to_pylist() == ["a", "b", "c", "a"]
    assert got.column("c").chunk(0).dictionary.equals(got.column("c").chunk(1).dictionary)
    frame = pd.DataFrame({"c": pd.Categorical(["a"])})
    tables.append({"y": frame})
    tables.append({"y": pd.DataFrame({"c": pd.Categorical(["b"])})})
    assert list(tables.get("y")["c"]) == ["a", "b"] and tables.get("y")["c"].dtype == "category"


@pytest.mark.parametrize(
    "first, second, message",
    [
        (pa.array([1]), pa.array(["x"]), "int64 in one piece and string in another"),
        (pa.array([1], pa.int32()), pa.array([1]), "int32 in one piece and int64"),
        (pa.array([0], pa.timestamp("s")), pa.array([0], pa.timestamp("s", "UTC")), "tz=UTC"),
    ],
)
def test_type_mismatch(tables, first, second, message):
    tables.append({"key": pa.table({"fine": [1], "col": first})})
    tables.append({"key": pa.table({"fine": [1], "col": second})})
    with pytest.raises(partd_go.SchemaMismatch, match=f"'key'.*'col' is .*{message}"):
        tables.get("key")


def test_category_order_mismatch(tables):
    for categories in (["lo", "hi"], ["hi", "lo"]):
        tables.append({"x": pd.DataFrame({"o": pd.Categorical(["lo"], categories, ordered=True)})})
    with pytest.raises(partd_go.SchemaMismatch, match="ordered categories of column 'o'"):
        tables.get("x")


def test_invalid_arguments(store, tables):
    for options in ({"kind": "spark"}, {"compression": "gzip"}):
        with pytest.raises(ValueError, match="pass"):
            partd_go.Arrow(store, **options)
    for value in ([1, 2], b"bytes", pd.Series([1])):
        with pytest.raises(TypeError, match=type(value).__name__):
            tables.append({"x": value})


def test_with_partd_store():
    """Arrow works with any of partd's own stores."""
    import partd

    tables = partd_go.Arrow(partd.Dict())
    tables.append({"x": pa.table({"a": [1]})})
    tables.append({"x": pa.table({"a": [2]})})
    assert tables.get("x").to_pydict() == {"a": [1, 2]}


def test_too_little_memory(monkeypatch):
    """A table that is too large for the memory is not called damaged."""
    data = arrow.encode(pa.table({"a": [1]}))

    def check(*args, **options):
        raise pa.ArrowMemoryError("malloc failed")

    monkeypatch.setattr(arrow, "check", check)
    with pytest.raises(MemoryError):
        arrow.decode(data)


@pytest.mark.parametrize("junk", [b"x", b"some other bytes than those of a table"])
def test_not_a_table(store, junk):
    tables = partd_go.Arrow(store)
    tables.append({"x": pa.table({"a": [1]})})
    store.append({"x": junk})
    with pytest.raises(ValueError, match="get 'x': the value is not a table"):
        tables.get("x")

"""Tests that polars, DuckDB, dask and pyarrow make the server send only the rows and columns that they need."""

from __future__ import annotations

import datetime
import pickle

import pytest

pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
from polars.io.plugins import register_io_source

import partd_go
import partd_go.tables
from partd_go.tables.calls import Call
from partd_go.tables.connection import Connection

ROWS = 1000


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    with partd_go.tables.connect(tmp_path_factory.mktemp("tables")) as tables:
        times = pd.date_range("2024-01-01", periods=ROWS, freq="D", name="when")
        prices = np.where(np.arange(ROWS) % 100 == 7, np.nan, np.arange(ROWS) + 0.5)
        frame = pd.DataFrame(
            {
                "sym": ["A", "B"] * (ROWS // 2),
                "price": prices,
                "n": pd.array([None, *range(1, ROWS)], "Int64"),
                "kind": pd.Categorical(["x", "y"] * (ROWS // 2)),
                "wide": ["z" * 100] * ROWS,
            },
            times,
        )
        tables.put("q", frame, settings={"time": "when"})
        yield tables


@pytest.fixture
def sent(monkeypatch):
    """Returns a list to which each scan adds the number of rows and the columns that the server sends."""
    scans = []
    rows = Connection._rows

    def counted(self, *args, **options):
        reader = rows(self, *args, **options)
        count = {"rows": 0, "columns": reader.schema.names}
        scans.append(count)

        def batches():
            for batch in reader:
                count["rows"] += batch.num_rows
                yield batch

        return pa.RecordBatchReader.from_batches(reader.schema, batches())

    monkeypatch.setattr(Connection, "_rows", counted)
    return scans


N, SYM, PRICE, WHEN = pl.col("n"), pl.col("sym"), pl.col("price"), pl.col("when")
DAY = datetime.datetime(2026, 9, 1)
POLARS = {  # filters, and the maximum number of rows that the server may send
    "both": ((N > 990) & (SYM == "A"), 5),
    "partly convertible": ((N > 990) & (SYM.str.len_chars() == 1), 9),
    "not convertible": (SYM.str.len_chars() == 1, ROWS),
    "either": ((N < 3) | (SYM == "C") | N.is_null(), 3),
    "or, partly convertible": ((N < 3) | (SYM.str.len_chars() == 1), ROWS),
    "not": (~(N > 3), ROWS),
    "in": (N.is_in([3, 4, 5000]), 2),
    "in a category": (pl.col("kind").is_in(["x"]) & (N < 10), 4),
    "between": (N.is_between(3, 5, closed="left"), 2),
    "a time": (WHEN >= DAY, 27),
    "rows with NaN, which polars compares as the greatest number": (PRICE > 989.5, 20),
    "no rows with NaN": (PRICE < 2, 2),
    "literal first": (pl.lit(990) < N, 9),
    "a fraction of integers": (N > 990.5, ROWS),
}


@pytest.mark.parametrize("name", POLARS)
def test_polars(tables, sent, name):
    predicate, max_rows = POLARS[name]
    want = tables.get("q", as_="polars").lazy().filter(predicate).select("sym", "n").collect()
    sent.clear()
    got = tables.scan_polars("q").filter(predicate).select("sym", "n").collect()
    assert got.equals(want) and sent[-1]["rows"] <= max_rows and "wide" not in sent[-1]["columns"]


def test_polars_rows(tables, sent):
    """head reads only the first rows, and a count reads one column. where applies to all reads. Each collect reads the
    current rows."""
    lazy = tables.scan_polars("q", where=[("n", ">", 900)])
    sent.clear()
    assert lazy.head(3).collect().height == 3 and sent[-1]["rows"] <= 3
    assert lazy.select(pl.len()).collect().item() == 99 and len(sent[-1]["columns"]) == 1
    assert lazy.sort("n").head(2).collect()["n"].to_list() == [901, 902]
    assert lazy.filter(SYM == "A").sort("n", descending=True).head(2).collect()["n"].to_list() == [998, 996]
    assert lazy.filter(N < 0).collect().shape == (0, 6) and lazy.head(0).collect().height == 0
    tables.put("later", pa.table({"a": [1]}))
    later = tables["later"].scan_polars()
    tables.put("later", pa.table({"a": [2]}), "append")
    assert later.collect()["a"].to_list() == [1, 2]


@pytest.mark.parametrize("rows", [0, 5, 300_000])
def test_sink_polars(tables, rows):
    """The rows of a query, also none, become one version, in order."""
    name = f"sink {rows}"
    lazy = pl.LazyFrame({"a": pl.int_range(rows, eager=True)}).with_columns(s=pl.col("a").cast(pl.String))
    assert tables.sink_polars(name, lazy, settings={"keys": ["s"]}) == min(rows, 1)
    assert tables.get(name, as_="polars").equals(lazy.collect()) and len(tables.versions(name)) == min(rows, 1)
    assert tables.settings(name)["keys"] == ["s"]
    table = tables[name]
    table.sink_polars(table.scan_polars().with_columns(pl.col("a") + rows), "append", id="once")
    table.sink_polars(lazy, "append", id="once")
    assert len(table) == 2 * rows
    table.sink_polars(lazy.head(3), "replace")
    assert len(table) == min(rows, 3)


def test_sink_polars_is_streamed(tables, monkeypatch):
    """The first rows are sent before the query has computed the last ones."""
    taken, sent = [], []

    def batches(*_):
        for start in range(0, 4_000_000, 500_000):
            taken.append(start)
            yield pl.DataFrame({"a": range(start, start + 500_000)})

    check = Call.check
    monkeypatch.setattr(Call, "check", lambda self: (sent.append(len(taken)), check(self))[1])
    tables.sink_polars("streamed", register_io_source(batches, schema={"a": pl.Int64}))
    assert len(tables["streamed"]) == 4_000_000 and sent[0] < len(taken) == 8


def test_sink_polars_fails_as_a_whole(tables):
    """If the query fails, no rows are written, and polars' error is raised. So are the errors of put()."""
    lazy = pl.LazyFrame({"s": ["1"] * 300_000 + ["x"]})
    with pytest.raises(pl.exceptions.InvalidOperationError, match="'x'|\"x\""):
        tables.sink_polars("failing", lazy.select(pl.col("s").cast(pl.Int64)))
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="none"):
        tables.sink_polars("failing", lazy.select("none"))
    assert "failing" not in tables
    with pytest.raises(partd_go.tables.Exists):
        tables.sink_polars("q", lazy)
    with pytest.raises(partd_go.Misuse, match="have type DataFrame: pass a LazyFrame, or call put"):
        tables["failing"].sink_polars(lazy.collect())
    with pytest.raises(partd_go.Misuse, match="mode is 'add'"):
        tables["failing"].sink_polars(lazy, "add")


FIELD = ds.field
PYARROW = {
    "both": ((FIELD("n") > 990) & (FIELD("sym") == "A"), 4),
    "either, or null": ((FIELD("n") < 3) | FIELD("n").is_null(), 3),
    "in": (FIELD("n").isin([3, 4]), 2),
    "valid": (~FIELD("n").is_null() & (FIELD("n") < 2), 1),
    "a time": (FIELD("when") >= pa.scalar(DAY, pa.timestamp("ns")), 27),
    "more than a number, without NaN": (FIELD("price") > 989.5, 20),
    "arithmetic": (FIELD("n") + 1 > 990, ROWS),
    "partly convertible": ((FIELD("n") + 1 > 990) & (FIELD("sym") == "B") & (FIELD("n") > 900), 50),
}


@pytest.mark.parametrize("name", PYARROW)
def test_dataset(tables, sent, name):
    expression, max_rows = PYARROW[name]
    want = tables.get("q", as_="arrow").filter(expression)["n"].to_pylist()
    data = tables.dataset("q")
    sent.clear()
    assert data.to_table(columns=["n"], filter=expression)["n"].to_pylist() == want
    assert sent[-1]["rows"] <= max_rows and "wide" not in sent[-1]["columns"]
    assert data.count_rows(filter=expression) == len(want) and len(sent[-1]["columns"]) <= 2
    assert (
        data.to_table(columns={"m": FIELD("n") + 1}, filter=expression).num_rows == len(want)
        and "wide" not in sent[-1]["columns"]
    )


def test_dataset_errors_and_pickling(tables):
    """Operations that bypass the server raise an error instead of returning no rows. A pickled dataset reads the same
    table."""
    data = tables.dataset("q", where="n > 990")
    assert pickle.loads(pickle.dumps(data)).count_rows() == data.count_rows() == 9 and data.head(2).num_rows == 2
    with pytest.raises(FileNotFoundError, match="scanner"):
        next(iter(data.get_fragments())).count_rows()
    with pytest.raises(NotImplementedError, match="scanner"):
        data.filter(FIELD("n") > 1)


def test_filters_on_columns_with_any_name(tables, sent):
    names = ["a b", 'q"q', "it's", "x'\nliteral: '0", "end: 'and'", "ä"]
    tables.put("names", pa.table({name: range(10) for name in names}))
    for name in names:
        assert tables.dataset("names").to_table(columns=[name], filter=FIELD(name) > 7)[name].to_pylist() == [8, 9]
        assert (
            tables.scan_polars("names").filter(pl.col(name) > 7).collect()[name].to_list() == [8, 9]
            and sent[-1]["rows"] == 2
        )


def test_duckdb(tables, sent):
    duckdb = pytest.importorskip("duckdb")
    data = tables.dataset("q")  # noqa: F841
    sent.clear()
    assert duckdb.sql("SELECT sum(n) FROM data WHERE n > 990 AND sym = 'A'").fetchall() == [(992 + 994 + 996 + 998,)]
    assert sent[-1] == {"rows": 4, "columns": ["sym", "n"]}
    assert duckdb.sql("SELECT count(*) FROM data WHERE sym IN ('C', 'D') OR n IS NULL").fetchall() == [(1,)]
    assert sent[-1]["rows"] <= 1
    rows = tables.scan("q")  # noqa: F841
    assert duckdb.sql("SELECT count(n) FROM rows").fetchall() == [(999,)]


def test_streams(tables):
    """Libraries can read a table, or the result of scan(), as an Arrow stream."""
    table = tables["q"]
    assert isinstance(tables.scan("q"), pa.RecordBatchReader)
    assert pa.table(table).num_rows == pl.DataFrame(table).height == pl.from_arrow(tables.scan("q")).height == ROWS
    with pytest.raises(partd_go.tables.NotFound):
        tables.scan("none")


def test_errors_come_through(tables, monkeypatch):
    """If an error occurs while rows arrive, pyarrow's reader raises it with the same class."""
    tables.put("large", pa.table({"a": range(1_000_000)}))
    reader = tables.scan("large")
    reader.read_next_batch()

    def cut(self, *args):
        raise pa.ArrowCapacityError("no room")

    monkeypatch.setattr(Call, "wait", cut)
    with pytest.raises(partd_go.Busy, match="no room"):
        reader.read_all()


def test_dask(tables, sent):
    pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame(
        {"sym": ["A", "B"] * 200, "price": np.arange(400) + 0.5}, pd.date_range("2024-01-01", periods=400, name="when")
    )
    tables.put("parts", frame[:300], settings={"time": "when", "partition": "month"})
    tables.put("parts", frame[300:], "append")
    lazy = tables.scan_dask("parts")
    assert lazy.npartitions > 9
    sent.clear()
    assert lazy.price.sum().compute(scheduler="threads") == frame.price.sum()
    assert sum(scan["rows"] for scan in sent) == 400 and all("sym" not in scan["columns"] for scan in sent)
    pd.testing.assert_frame_equal(lazy.compute(scheduler="threads"), frame, check_freq=False, check_dtype=False)
    sent.clear()
    assert len(tables.scan_dask("parts", where="sym = 'A'", columns=["price"]).compute(scheduler="threads")) == 200
    assert sum(scan["rows"] for scan in sent) <= 202

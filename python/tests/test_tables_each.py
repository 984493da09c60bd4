"""Tests partd_go.tables.each with statements and functions, and that failures leave nothing."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
import numpy
import pandas
import polars
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

import partd_go
from partd_go.tables import NotFound, each

CLICKS = pa.table({"user": [f"u{i % 7}" if i % 7 else None for i in range(500)], "n": range(500)})
NAMES = pa.table({"who": ["u1", "u2", "u9"], "name": ["Ann", "Bob", "Eve"]})


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    pq.write_table(CLICKS.slice(0, 300), tmp_path / "1.parquet")
    pq.write_table(CLICKS.slice(300), tmp_path / "2.parquet")
    pa.csv.write_csv(NAMES, tmp_path / "names.csv")
    yield tmp_path
    assert os.listdir(tmp_path / "tmp") == []


def test_statement(files):
    reader = each(
        "SELECT user, count(*) AS c, min(n) AS first FROM rows GROUP BY user",
        by="user",
        parts=4,
        memory=64 << 20,
        rows=[files / "1.parquet", str(files / "2.parquet")],
    )
    rows = sorted(reader.read_all().to_pylist(), key=lambda row: row["first"])
    counts = CLICKS.group_by("user").aggregate([("n", "count")]).to_pylist()
    assert [row["user"] for row in rows] == [None, *(f"u{i}" for i in range(1, 7))]
    assert {row["user"]: row["c"] for row in rows} == {row["user"]: row["n_count"] for row in counts}


def test_join(files):
    reader = each(
        "SELECT name, n FROM clicks JOIN names ON user = who",
        by={"clicks": "user", "names": ["who"]},
        clicks=files / "1.parquet",
        names=files / "names.csv",
    )
    table = reader.read_all()
    assert table.num_rows == 86 and {*table["name"].to_pylist()} == {"Ann", "Bob"}


@pytest.mark.parametrize("as_", ["pandas", "polars", "arrow"])
def test_function(as_, files):
    kinds = {"pandas": pandas.DataFrame, "polars": polars.DataFrame, "arrow": pa.Table}
    seen = []

    def size(clicks, names):
        assert type(clicks) is kinds[as_] and type(names) is kinds[as_]
        seen.append({*(clicks["user"].to_pylist() if as_ == "arrow" else clicks["user"].to_list())})
        return len(clicks)

    by = {"clicks": "user", "names": "who"}
    clicks = [files / "1.parquet", files / "2.parquet"]
    sizes = list(each(size, by, parts=3, as_=as_, clicks=clicks, names=files / "names.csv"))
    assert sum(sizes) == 500 and len(sizes) <= 3
    if as_ != "pandas":  # a null is NaN in pandas
        assert sum(len(keys) for keys in seen) == len(set.union(*seen))


def test_click_sessions(files):
    """A session ends after 30 minutes without a click of its user."""
    times = [f"2026-11-{1 + i % 20:02}T10:{i * 7 % 60:02}:00" for i in range(500)]
    clicks = pa.table({"user": CLICKS["user"], "time": pa.array(times).cast(pa.timestamp("us"))})
    pq.write_table(clicks, files / "clicks.parquet")

    def sessions(frame):
        frame = frame.sort_values(["user", "time"])
        begins = frame.groupby("user", dropna=False)["time"].diff().fillna(pandas.Timedelta(days=1)) > pandas.Timedelta(
            minutes=30
        )
        return begins.groupby(frame["user"], dropna=False).sum()

    want = sessions(clicks.to_pandas()).sort_index()
    got = pandas.concat(each(sessions, "user", parts=4, rows=files / "clicks.parquet")).sort_index()
    pandas.testing.assert_series_equal(got, want)
    assert want.sum() > 100


def test_last_quote_before_each_trade(files):
    random = numpy.random.default_rng(1)
    trades, quotes = (
        pandas.DataFrame(
            {"symbol": random.choice([*"ABCDE"], n), "time": random.permutation(10 * n)[:n], name: range(n)}
        )
        for name, n in (("trade", 300), ("quote", 900))
    )
    trades.to_parquet(files / "trades.parquet")
    quotes.to_csv(files / "quotes.csv", index=False)
    reader = each(
        "SELECT t.*, q.quote FROM trades t ASOF LEFT JOIN quotes q ON t.symbol = q.symbol AND t.time >= q.time",
        "symbol",
        parts=3,
        trades=files / "trades.parquet",
        quotes=files / "quotes.csv",
    )
    got = reader.read_pandas().sort_values("trade", ignore_index=True)
    want = pandas.merge_asof(trades.sort_values("time"), quotes.sort_values("time"), on="time", by="symbol")
    want = want.sort_values("trade", ignore_index=True)
    pandas.testing.assert_frame_equal(got, want[[*got.columns]], check_dtype=False)
    assert got["quote"].isna().any() and got["quote"].notna().sum() > 200


def test_ends_early(files):
    results = each(len, "user", parts=50, rows=files / "1.parquet")
    assert next(results) > 0
    results.close()
    reader = each("SELECT * FROM rows", "user", rows=files / "1.parquet")
    reader.read_next_batch()
    del reader


def test_key_from_statement(files):
    got = each('SELECT "user", count(*) AS c FROM rows GROUP BY "user"', rows=files / "1.parquet").read_all()
    assert sum(got["c"].to_pylist()) == 300
    assert len(set(got["user"].to_pylist())) == got.num_rows
    for job, trust in ((len, False), ("SELECT count(*) FROM rows", True)):
        with pytest.raises(partd_go.Misuse, match="by is required"):
            each(job, trust=trust, rows=files / "1.parquet")


def test_errors(files):
    with pytest.raises(partd_go.Misuse, match="pass trust=True"):
        each("SELECT count(*) FROM rows", "user", rows=files / "1.parquet").read_all()
    trusted = each("SELECT count(*) AS n FROM rows", "user", trust=True, rows=files / "1.parquet").read_all()
    assert sum(trusted["n"].to_pylist()) == 300
    with pytest.raises(NotFound):
        list(each(len, "user", rows=files / "none.parquet"))
    with pytest.raises(partd_go.Error, match="late"):
        each("SELECT error('late') FROM rows WHERE n = 299", "user", rows=files / "1.parquet").read_all()
    with pytest.raises(partd_go.Misuse, match="input"):
        each("SELECT 1", "user")
    with pytest.raises(partd_go.Misuse, match="job has type int"):
        each(1, "user", rows=files / "1.parquet")
    with pytest.raises(partd_go.Misuse, match="'other'"):
        each("SELECT 1", {"other": "user"}, rows=files / "1.parquet")
    with pytest.raises(partd_go.Misuse, match="as_ is 'numpy'"):
        each(len, "user", as_="numpy", rows=files / "1.parquet")
    with pytest.raises(partd_go.Misuse, match="trust"):
        each(len, "user", trust=True, rows=files / "1.parquet")
    with pytest.raises(ZeroDivisionError):
        list(each(lambda rows: 1 / 0, "user", rows=files / "1.parquet"))

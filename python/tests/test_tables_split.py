"""Tests partd_go.tables.split with each kind of source, and that failures leave nothing."""

from __future__ import annotations

import datetime
import decimal
import os
import signal
import subprocess
import sys
import time
import zoneinfo

import pytest

pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
import polars
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

import partd_go
from partd_go.tables import Exists, NotFound, Split, split

ROWS = pa.table({"key": ["b", "a", None, "b"] * 25, "n": list(range(100))})
KEYS = {"a": [1], "b": [0, 3], "%null": [2]}


def dask_frame(tmp_path):
    dd = pytest.importorskip("dask.dataframe")
    return dd.from_pandas(ROWS.to_pandas(), npartitions=3)


def parquet(tmp_path):
    pq.write_table(ROWS.slice(0, 60), tmp_path / "1.parquet", row_group_size=7)
    pq.write_table(ROWS.slice(60), tmp_path / "2.parquet")
    return [tmp_path / "1.parquet", str(tmp_path / "2.parquet")]


SOURCES = {
    "table": lambda path: ROWS,
    "reader": lambda path: ROWS.to_reader(9),
    "batch": lambda path: ROWS.to_batches()[0],
    "dataset": lambda path: pa.dataset.dataset([os.fspath(name) for name in parquet(path)]),
    "scanner": lambda path: pa.dataset.dataset([os.fspath(name) for name in parquet(path)]).scanner(),
    "pandas": lambda path: ROWS.to_pandas(),
    "polars": lambda path: polars.from_arrow(ROWS),
    "lazy": lambda path: polars.from_arrow(ROWS).lazy().filter(polars.col("n") >= 0),
    "dask": dask_frame,
    "paths": parquet,
    "directory": lambda path: (parquet(path), path)[1],
}


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning"
)  # dask and pandas emit warnings about each other
@pytest.mark.parametrize("source", SOURCES)
def test_sources(source, tmp_path):
    (tmp_path / "in").mkdir()
    data, out = SOURCES[source](tmp_path / "in"), tmp_path / "out"
    assert split(data, "key", out) == Split(rows=100, files=3)
    assert {path.stem for path in out.iterdir()} == {*KEYS}
    for name, first in KEYS.items():
        rows = pq.read_table(out / f"{name}.parquet")
        assert rows["n"].to_pylist() == [i + n for i in range(0, 100, 4) for n in first]
        assert {*rows["key"].to_pylist()} == {None if name == "%null" else name}


def test_types(tmp_path):
    zone = zoneinfo.ZoneInfo("Europe/Berlin")
    schema = pa.schema(
        [
            pa.field("key", pa.string(), metadata={"unit": "none"}),
            ("word", pa.dictionary(pa.int32(), pa.string())),
            ("list", pa.list_(pa.field("element", pa.struct([pa.field("x", pa.float32(), metadata={"unit": "m"})])))),
            ("price", pa.decimal128(38, 9)),
            ("at", pa.timestamp("ns", "Europe/Berlin")),
        ],
        {"source": "a test"},
    )
    columns = [
        ["b", "a", "b"],
        ["w", None, "v"],
        [[{"x": 1.5}, None], None, []],
        [decimal.Decimal("1.000000001"), None, decimal.Decimal(-1)],
        [datetime.datetime(2026, 3, 29, 1, 59, tzinfo=zone), None, None],
    ]
    rows = pa.table([pa.array(column, field.type) for column, field in zip(columns, schema)], schema)
    pq.write_table(rows, tmp_path / "in.parquet")
    for i, data in enumerate((rows, tmp_path / "in.parquet")):
        for format, read in (
            ("parquet", lambda path: pq.ParquetFile(path).read()),
            ("arrow", lambda path: pa.ipc.open_stream(pa.memory_map(os.fspath(path))).read_all()),
        ):
            out = tmp_path / f"{i}{format}"
            split(data, ["key"], out, format=format)
            b = read(out / f"b.{format}")
            assert b.schema.equals(schema) and b.schema.metadata == schema.metadata, b.schema
            assert b.schema.field("list").type.value_type.field(0).metadata[b"unit"] == b"m"
            assert b.to_pylist() == rows.filter(pa.compute.equal(rows["key"], "b")).to_pylist()


def test_options_and_errors(tmp_path):
    rows = pa.table({'a "b", c': [1, 1, 2], "x": [None, "", "y"], "n": [1.5, 2.5, 3.5]})
    assert split(rows, ['a "b", c', "x"], tmp_path / "out", hive=True, format="jsonl", memory="64MiB").files == 3
    read = {os.fspath(path.relative_to(tmp_path / "out")): path.read_text() for path in tmp_path.glob("out/*/*/*")}
    column = 'a "b", c'
    assert read == {
        f"{column}=1/x=__HIVE_DEFAULT_PARTITION__/data.jsonl": '{"n":1.5}\n',
        f"{column}=1/x=/data.jsonl": '{"n":2.5}\n',
        f"{column}=2/x=y/data.jsonl": '{"n":3.5}\n',
    }
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        Exists, match="pass append=True or replace=True, or force=True if it has no files of other keys"
    ):
        split(rows, "x", tmp_path / "out")
    with pytest.raises(partd_go.Misuse, match="no such column"):
        split(rows, "y", tmp_path / "new")
    with pytest.raises(partd_go.Misuse, match="at least|64MiB"):
        split(rows, "x", tmp_path / "new", memory=1)
    with pytest.raises(partd_go.Misuse, match="use csv, jsonl, parquet or arrow"):
        split(rows, "x", tmp_path / "new", format="orc")
    with pytest.raises(NotFound, match="missing.parquet"):
        split(tmp_path / "missing.parquet", "x", tmp_path / "new")
    with pytest.raises(TypeError, match="pass a pandas, polars or pyarrow table"):
        split({"a": [1]}, "x", tmp_path / "new")

    def failing():
        yield from rows.to_batches()
        raise KeyError("the source failed")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyError, match="the source failed"):
        patch.setattr(subprocess.Popen, "terminate", lambda _: None)  # the program must see that the stream is cut off
        split(pa.RecordBatchReader.from_batches(rows.schema, failing()), "x", tmp_path / "new")
    assert sorted(tmp_path.rglob("*")) == before
    assert split(rows, "x", tmp_path / "out", force=True).files == 3
    some = rows.slice(2)
    with pytest.raises(Exists, match="pass append=True or replace=True"):
        split(some, "x", tmp_path / "out", force=True)
    assert split(some, "x", tmp_path / "out", append=True).files == 1
    assert pq.read_table(tmp_path / "out" / "y.parquet").num_rows == 2
    assert split(some, "x", tmp_path / "out", replace=True).files == 1
    assert [path.name for path in tmp_path.glob("out/*.parquet")] == ["y.parquet"]
    split(rows, "x", tmp_path / "out", append=True)
    assert pq.read_table(tmp_path / "out" / "y.parquet").num_rows == 2
    assert (tmp_path / "out" / "y.parquet").exists() and (tmp_path / "out" / f"{column}=2").exists()


KILLED = """
import os, signal, sys, time
import pyarrow as pa
from partd_go.tables import split

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore SIGINT

def rows():
    yield pa.record_batch({"k": [1, 2]})
    time.sleep(0.5)
    os.kill(os.getpid(), int(sys.argv[2]))
    for _ in range(600):  # Python 3.11 can handle the signal later
        time.sleep(0.1)

split(pa.RecordBatchReader.from_batches(pa.schema({"k": pa.int64()}), rows()), "k", sys.argv[1])
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed(number, tmp_path):
    """If the program that sends the rows dies, the rows that it had sent are not taken for all rows."""
    run = subprocess.run(
        [sys.executable, "-c", KILLED, os.fspath(tmp_path / "out"), str(int(number))], stderr=subprocess.PIPE, text=True
    )
    assert run.returncode == -number, run.stderr
    deadline = time.monotonic() + 20
    while any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(tmp_path.iterdir())

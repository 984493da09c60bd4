"""Every type of pandas goes in and comes out equal."""

from __future__ import annotations

import datetime
import decimal

import pytest

pytest.importorskip("partd_go_tables", reason="needs the wheel partd-go-tables")
import numpy as np
import pandas as pd
import pyarrow as pa

import partd_go.tables

DAYS = pd.date_range("2024-01-01", periods=4)
VALUES = {
    **{kind: np.array([1, 2, 3, 4], kind) for kind in
       "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()},
    **{kind: pd.array([1, None, 3, 4], kind) for kind in
       "Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float32 Float64".split()},
    "bool": [True, False, True, True],
    "boolean": pd.array([True, None, False, True], "boolean"),
    "text": list("abcd"),
    "string": pd.array(["a", None, "b", "c"], "string[python]"),
    "string of pyarrow": pd.array(["a", None, "b", "c"], "string[pyarrow]"),
    "bytes": [b"a", b"b", None, b""],
    "nothing": [None] * 4,
    "floats": [1.0, np.nan, np.inf, -0.0],
    **{f"time[{unit}]": DAYS.as_unit(unit) for unit in ("s", "ms", "us", "ns")},
    **{f"time in {zone}": DAYS.tz_localize(zone) for zone in ("UTC", "America/New_York", "+05:30")},
    **{f"span[{unit}]": pd.to_timedelta([1, 2, 3, None], unit="s").as_unit(unit) for unit in ("s", "ms", "us", "ns")},
    "category": pd.Categorical(list("abab"), categories=list("cba"), ordered=True),
    "category of numbers": pd.Categorical([1, 2, 1, None]),
    "category of times": pd.Categorical(DAYS),
    "period": pd.period_range("2024-01", periods=4, freq="M"),
    "interval": pd.interval_range(0, 4),
    "interval, closed": pd.interval_range(0.0, 4.0, closed="both"),
    "interval of times": pd.interval_range(DAYS[0], periods=4),
    "date": [datetime.date(2024, 1, day) for day in range(1, 5)],
    "time of day": [datetime.time(1, 2, second) for second in range(4)],
    "decimal": [decimal.Decimal("1.50"), None, decimal.Decimal("2.25"), decimal.Decimal("0.10")],
    "list": [[1, 2], [], None, [3]],
    "dict": [{"a": 1, "b": None}, None, {"a": 2, "b": "x"}, {"a": 3, "b": "y"}],
    "sparse": pd.arrays.SparseArray([0, 0, 1, 2]),
    **{f"pyarrow's {kind}": pd.array(values, pd.ArrowDtype(kind)) for kind, values in (
        (pa.int32(), [1, None, 2, 3]), (pa.string(), list("abcd")), (pa.decimal128(10, 2), [1, None, 2, 3]),
        (pa.list_(pa.int64()), [[1], None, [2], [3]]), (pa.timestamp("us", "UTC"), DAYS.tz_localize("UTC")))},
}  # fmt: skip
INDEXES = ("int64", "float64", "text", "time[ns]", "time in UTC", "span[ns]", "category", "period", "interval", "Int64", "string", "date")
FOUR = np.arange(8).reshape(4, 2)
FRAMES = {
    **{name: pd.DataFrame({"v": values}) for name, values in VALUES.items()},
    **{f"index of {name}": pd.DataFrame({"v": range(4)}, pd.Index(VALUES[name], name="i")) for name in INDEXES},
    "index of several": pd.DataFrame({"v": range(4)}, pd.MultiIndex.from_arrays([list("aabb"), DAYS, range(4)], names=["x", None, "z"])),
    "index of a range": pd.DataFrame({"v": range(4)}, pd.RangeIndex(5, 13, 2, name="r")),
    "index with a frequency": pd.DataFrame({"v": range(4)}, pd.date_range("2024-01-01", periods=4, freq="B")),
    "columns of numbers": pd.DataFrame(FOUR),
    "columns of several": pd.DataFrame(FOUR, columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])),
    "columns of times": pd.DataFrame(FOUR, columns=DAYS[:2]),
    "no rows": pd.DataFrame({"v": pd.Series([], dtype="Int64")}),
    "series": pd.Series(range(4), DAYS, name="v"),
    "series without a name": pd.Series(range(4)),
}  # fmt: skip


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    with partd_go.tables.connect(tmp_path_factory.mktemp("tables")) as tables:
        yield tables


def equal(got, want):
    (pd.testing.assert_series_equal if isinstance(want, pd.Series) else pd.testing.assert_frame_equal)(got, want)


@pytest.mark.parametrize("name", FRAMES)
def test_type(tables, name):
    """After a put, an append, and as it was in a snapshot and a version before it."""
    frame = FRAMES[name]
    version = tables.put(name, frame)
    equal(tables.get(name), frame)
    tables.action("partd.snapshot", bucket="", name=name)
    tables.put(name, frame, "append")
    plain = isinstance(frame.index, pd.RangeIndex)  # which counts the rows
    twice = pd.concat([frame, frame], ignore_index=plain)
    equal(tables.get(name), twice.rename_axis(frame.index.name) if plain else twice)
    equal(tables.get(name, snapshot=name), frame)
    if version:
        equal(tables.get(name, version=version), frame)


@pytest.mark.parametrize("name", VALUES)
def test_resampled_type(tables, name):
    """By time, the last value of each day has the type that Arrow has for it, and the same value."""
    if name.startswith("time in"):
        pytest.skip("the server refuses times in nanoseconds with a zone here: put them in microseconds")
    frame = pd.DataFrame({"when": DAYS, "v": VALUES[name]})
    tables.put(f"{name} by day", frame, settings={"time": "when"})
    assert tables.resample(f"{name} by day", f"{name} resampled", "D", "when", "last") == (4, 4)
    want = pa.Table.from_pandas(frame if name != "sparse" else frame.astype({"v": "int64"}))
    got = tables.get(f"{name} resampled", as_="arrow")
    storage = [v.combine_chunks().dictionary_decode() if pa.types.is_dictionary(v.type) else v for v in want.columns]
    assert got.column("v").to_pylist() == [getattr(v, "storage", v) for v in [storage[1].combine_chunks()
            if isinstance(storage[1], pa.ChunkedArray) else storage[1]]][0].to_pylist()  # fmt: skip


def test_long_categories(tables):
    """Categories whose values the server does not keep as such are categories all the same."""
    frame = pd.DataFrame({"c": pd.Categorical([f"{n:0100}" for n in range(1000)])})
    tables.put("long", frame)
    equal(tables.get("long"), frame)


def test_what_arrow_lacks(tables):
    for values in ([1 + 1j], [[1], {"a": 1}]):
        with pytest.raises((pa.ArrowException, TypeError), match="column v"):
            tables.put("lacks", pd.DataFrame({"v": pd.Series(values)}))
    assert "lacks" not in tables.list()

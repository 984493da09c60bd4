"""Tests that values of every pandas type come back equal from tables."""

from __future__ import annotations

import contextlib
import datetime
import os
import zoneinfo

import pytest

pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
import dateutil.tz
import numpy as np
import pandas as pd
import pyarrow as pa

import partd_go.tables
from dtypes import DAYS, VALUES

pytestmark = pytest.mark.filterwarnings("ignore:assert_index_equal will check")  # about frequencies, in a later pandas
INDEXES = (
    "int64",
    "float64",
    "text",
    "time[ns]",
    "time in UTC",
    "span[ns]",
    "category",
    "period",
    "interval",
    "Int64",
    "string",
    "date",
)
FOUR = np.arange(8).reshape(4, 2)
FRAMES = {
    **{name: pd.DataFrame({"v": values}) for name, values in VALUES.items()},
    **{f"index of {name}": pd.DataFrame({"v": range(4)}, pd.Index(VALUES[name], name="i")) for name in INDEXES},
    "index of several": pd.DataFrame(
        {"v": range(4)}, pd.MultiIndex.from_arrays([list("aabb"), DAYS, range(4)], names=["x", None, "z"])
    ),
    "index of a range": pd.DataFrame({"v": range(4)}, pd.RangeIndex(5, 13, 2, name="r")),
    "index with a frequency": pd.DataFrame({"v": range(4)}, pd.date_range("2024-01-01", periods=4, freq="B")),
    "columns of numbers": pd.DataFrame(FOUR),
    "columns of several": pd.DataFrame(FOUR, columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])),
    "columns of times": pd.DataFrame(FOUR, columns=DAYS[:2]),
    "no rows": pd.DataFrame({"v": pd.Series([], dtype="Int64")}),
    "series": pd.Series(range(4), DAYS, name="v"),
    "series without a name": pd.Series(range(4)),
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    with partd_go.tables.connect(tmp_path_factory.mktemp("tables")) as tables:
        yield tables


def equal(got, want):
    (pd.testing.assert_series_equal if isinstance(want, pd.Series) else pd.testing.assert_frame_equal)(got, want)


@pytest.mark.parametrize("name", FRAMES)
def test_type(tables, name):
    """Compares a value after a put, after an append, in a snapshot, and in an earlier version."""
    frame = FRAMES[name]
    version = tables.put(name, frame)
    equal(tables.get(name), frame)
    tables.action("partd.snapshot", bucket="", name=name)
    tables.put(name, frame, "append")
    plain = isinstance(frame.index, pd.RangeIndex)  # a default index
    twice = pd.concat([frame, frame], ignore_index=plain)
    equal(tables.get(name), twice.rename_axis(frame.index.name) if plain else twice)
    equal(tables.get(name, snapshot=name), frame)
    if version:
        equal(tables.get(name, version=version), frame)


def zones():
    """Yields zones of each library, except those that pandas itself cannot use."""
    pytz = pytest.importorskip("pytz")
    for zone in (
        dateutil.tz.gettz("Europe/Rome"),
        dateutil.tz.tzoffset("X", 7200),
        dateutil.tz.UTC,
        pytz.timezone("Europe/Rome"),
        pytz.UTC,
        pytz.FixedOffset(-330),
        zoneinfo.ZoneInfo("Europe/Rome"),
        datetime.timezone(datetime.timedelta(hours=2), "CET"),
    ):
        with contextlib.suppress(AttributeError):  # pandas 2 and dateutil 4
            yield zone, DAYS.tz_localize(zone)


def test_zones(tables):
    """Times with a zone come back with an object of the same library, in a column, an index, categories and
    intervals."""
    for zone, times in zones():
        for values in (
            times,
            times.as_unit("s"),
            pd.Categorical(times),
            pd.arrays.IntervalArray.from_breaks(times.append(times[-1:])),
        ):
            for frame in (
                pd.DataFrame({"v": values}),
                pd.DataFrame({"v": range(4)}, pd.Index(values, name="t")),
                pd.DataFrame({"v": values})[:0],
            ):
                tables.put("zones", frame, "replace")
                got = tables.get("zones")
                assert got.dtypes.equals(frame.dtypes) and got.index.dtype == frame.index.dtype, zone
                assert got.reset_index().map(str).equals(frame.reset_index().map(str)), zone


def test_zones_that_arrow_lacks(tables):
    class Zone(datetime.tzinfo):
        def utcoffset(self, time):
            return datetime.timedelta(hours=1)

        def dst(self, time):
            return None

        def tzname(self, time):
            return "mine"

    seconds = datetime.timezone(datetime.timedelta(seconds=3))
    two = [
        datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
        datetime.datetime(2024, 1, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
    ]
    for values in (
        DAYS.tz_localize(Zone()),
        DAYS.tz_localize(seconds),
        [two[0].replace(tzinfo=Zone())],
        [two[0].replace(tzinfo=seconds)],
    ):
        with pytest.raises(
            partd_go.SchemaMismatch, match=r"column when of type (datetime64|object).* cannot be stored"
        ):
            tables.put(
                "refused", pd.DataFrame({"when": pd.Series(values, dtype=object if isinstance(values, list) else None)})
            )
    with pytest.raises(partd_go.SchemaMismatch, match=r"column when .* several zones.*: UTC, UTC\+01:00"):
        tables.put("refused", pd.DataFrame({"when": pd.Series(two, dtype=object)}))


def test_nan_beside_na(tables):
    """pandas 2 distinguishes NaN and NA in a masked float column."""
    frame = pd.DataFrame({"v": pd.Series([0, 1, None], dtype="Float64") / pd.Series([0, 0, 1], dtype="Float64")})
    tables.put("NaN and NA", frame)
    got = tables.get("NaN and NA")
    equal(got, frame)
    assert [value is pd.NA for value in got.v] == [value is pd.NA for value in frame.v]


def test_categories_of_no_rows(tables):
    """Categories and their order come back without rows, and after an append."""
    frame = pd.DataFrame({"c": pd.Categorical(list("ab"), list("cba"), ordered=True)})
    tables.put("categories without rows", frame[:0])
    equal(tables.get("categories without rows"), frame[:0])
    tables.put("categories without rows", frame, "append")
    equal(tables.get("categories without rows"), frame)


@pytest.mark.skipif(pd.__version__ < "3", reason="pandas 2 does not support these types")
def test_extension_types_of_pyarrow(tables):
    for values in (
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"a" * 16, None], pa.binary(16))),
        pa.array(["[]", None]).cast(pa.json_()),
    ):
        frame = pd.DataFrame({"v": pd.arrays.ArrowExtensionArray(values)})
        tables.put("extension", frame, "replace")
        equal(tables.get("extension"), frame)
    encoded = pd.DataFrame({"v": pd.arrays.ArrowExtensionArray(pa.RunEndEncodedArray.from_arrays([2, 4], [1, 2]))})
    with pytest.raises(partd_go.SchemaMismatch, match="column v of type run_end_encoded"):
        tables.put("refused", encoded)


def test_pyarrow_labels(tables):
    equal_labels = pd.DataFrame([[1, 2]], columns=pd.Index([1, None], dtype="int64[pyarrow]"))
    tables.put("labels", equal_labels)
    equal(tables.get("labels"), equal_labels)


TYPE_KEEPING = ("first", "last", "min", "max")
PANDAS_2 = pd.__version__.startswith(
    "2."
)  # later versions omit nulls before they compare, so bytes and lists have an order
PANDAS_FAILURES = {  # aggregates that pandas cannot compute, with the reasons
    **{
        (name, how): "these categories have no order"
        for name in ("category of numbers", "category of times")
        for how in ("min", "max")
    },
    **{
        (name, how): "Python cannot compare the values with each other or with a null"
        for name in (("bytes", "list", "dict") if PANDAS_2 else ("dict",))
        for how in ("min", "max")
    },
    **{(name, "nunique"): "Python cannot hash the values" for name in ("list", "dict", "pyarrow's list<item: int64>")},
    **{("pyarrow's list<item: int64>", how): "Arrow has no such function for lists" for how in ("min", "max")},
    ("sparse", "count"): "pandas calls a method that SparseArray lacks",
}


NUMBERS = [
    name
    for name, values in VALUES.items()
    if pd.api.types.is_any_real_numeric_dtype(pd.Series(values).dtype) and name != "sparse"
]
FAILURES = (TypeError, AttributeError, NotImplementedError)
FULL = "PARTD_RESAMPLE_SECONDS" in os.environ  # compares more rules, and more results that the server stores


def half_days(values):
    """Returns a frame with two rows for each of four days: a value at midnight, and another at noon."""
    frame = pd.DataFrame({"v": values})
    when = pd.Series([*DAYS, *DAYS + pd.Timedelta("12h")], name="when")
    return pd.concat([when, pd.concat([frame, frame[::-1]], ignore_index=True)], axis=1)


def resampled(tables, name, frame, rule, how, stored=True, **options):
    """Returns a resampled frame. If stored, the result that the server stores as a table must be equal."""
    tables.put(name, frame, "replace")
    got = tables.resampled(name, rule, "when", how, **options)
    if stored:
        tables.resample(name, f"{name} resampled", rule, "when", how, mode="replace", **options)
        equal(tables.get(f"{name} resampled"), got)
    return got


@pytest.mark.parametrize("name", VALUES)
def test_resampled_type(tables, name):
    """Each function gives the same result as in pandas. Functions in TYPE_KEEPING also keep the type."""
    frame = half_days(VALUES[name])
    functions = [*TYPE_KEEPING, "count", "nunique", *(["mean"] if name in NUMBERS else [])]
    together = resampled(tables, name, frame, "D", functions, stored=False)
    for how in functions:
        check_resampled(name, how, frame, together[["when", f"v_{how}"]].set_axis(["when", "v"], axis=1))
    for how in functions if FULL else ["max"]:
        check_resampled(name, how, frame, resampled(tables, name, frame, "D", how))


def check_resampled(name, how, frame, got):
    if (name, how) in PANDAS_FAILURES:
        with pytest.raises(FAILURES):
            getattr(frame.resample("D", on="when"), how)()
        assert got.when.tolist() == DAYS.tolist() and got.v.notna().any(), PANDAS_FAILURES[name, how]
        return
    want = getattr(frame.resample("D", on="when"), how)().reset_index()
    if want.v.dtype == object:
        want.v = want.v.where(want.v.notna(), None)
    if name == "sparse" and how in ("min", "max") and not PANDAS_2:
        assert (
            want.v.dtype == "int64"
        )  # pandas 3 returns dense numbers; earlier versions, and tables, return sparse numbers
        want.v = want.v.astype(frame.v.dtype)
    pd.testing.assert_frame_equal(got, want, check_dtype=how in TYPE_KEEPING)


def test_resampled_index(tables):
    """A result has the same index and column names as in pandas."""
    times = pd.date_range("2024-03-30 00:00:00.000000001", periods=8, freq="9h", name="when", tz="Europe/Oslo")
    frame = pd.DataFrame(
        {"v": pd.array([1, None] * 4, "Int64"), "c": pd.Categorical(list("abcaabca"), list("cba"), ordered=True)}, times
    )
    for rule in ("D", "6h", "1h30min", "W", "MS"):
        for how in TYPE_KEEPING:
            got, bins = resampled(tables, "indexed", frame, rule, how), frame.resample(rule)
            pd.testing.assert_frame_equal(got, getattr(bins, how)(), check_freq=False)
    got = resampled(tables, "indexed", frame, "D", ["min", "max", "count"])
    want = frame.resample("D").agg(["min", "max", "count"])
    want.columns = [f"{column}_{how}" for column, how in want.columns]
    pd.testing.assert_frame_equal(got, want, check_freq=False, check_dtype=False)
    assert got.dtypes.astype(str).tolist() == ["Int64", "Int64", "int64", "category", "category", "int64"]
    assert got.c_min.cat.categories.tolist() == list("cba") and got.c_min.cat.ordered
    got = resampled(tables, "indexed", frame[["v"]], "D", "ohlc")
    assert list(got) == ["v_open", "v_high", "v_low", "v_close"] and set(got.dtypes.astype(str)) == {"Int64"}
    assert list(resampled(tables, "indexed", frame[["v"]], "D", ["size"])) == ["size"]
    pd.testing.assert_series_equal(
        resampled(tables, "a series", frame.v, "D", "max"), frame.v.resample("D").max(), check_freq=False
    )


def test_resampled_nanoseconds(tables):
    """Bins can be a few nanoseconds wide, for times with a zone."""
    times = pd.DatetimeIndex([5, 7, 12, 29], tz="UTC", name="when").tz_convert("Asia/Tokyo")
    frame = pd.DataFrame({"v": range(4), "at": times}, times)
    pd.testing.assert_frame_equal(
        resampled(tables, "nanoseconds", frame, "10ns", "last"), frame.resample("10ns").last(), check_freq=False
    )
    with pytest.raises(partd_go.Error, match="cannot compare categories"):
        resampled(
            tables,
            "floats",
            pd.DataFrame({"v": pd.Categorical([2.0], [2.0, 1.0], ordered=True)}, times[:1]),
            "D",
            "max",
        )


def test_long_categories(tables):
    """Categories come back as categories, even if the server stores their values with another type."""
    frame = pd.DataFrame({"c": pd.Categorical([f"{n:0100}" for n in range(1000)])})
    tables.put("long", frame)
    equal(tables.get("long"), frame)


def test_types_that_arrow_lacks(tables):
    for values in ([1 + 1j], [[1], {"a": 1}]):
        with pytest.raises((pa.ArrowException, TypeError), match="column v"):
            tables.put("refused", pd.DataFrame({"v": pd.Series(values)}))
    assert "refused" not in tables.list()


def test_upsert_widens(tables):
    """A single commit widens a column, gives a column of nulls a type, adds a column, and puts the rows. pyarrow,
    polars and SQL read the result."""
    frame = pd.DataFrame({"k": [1, 2], "n": [1, 2], "none": [None, None]})
    tables.put("widened", frame, settings={"evolution": "flexible"})
    tables.put("widened", pd.DataFrame({"k": [2], "n": [2.5], "none": ["x"], "new": [True]}), upsert=["k"])
    want = {"k": [1, 2], "n": [1.0, 2.5], "none": [None, "x"], "new": [None, True]}
    assert len(tables.versions("widened")) == 2
    assert tables.get("widened", as_="arrow").sort_by("k").to_pydict() == want
    assert tables.sql("SELECT * FROM widened ORDER BY k", as_="arrow").to_pydict() == want
    assert tables.get("widened", as_="polars").sort("k").to_dict(as_series=False) == want
    with pytest.raises(partd_go.Misuse, match='column "n": it has type (large_)?utf8, and the table has float64'):
        tables.put("widened", pd.DataFrame({"k": [2], "n": ["y"], "none": ["x"], "new": [True]}), upsert=["k"])


def test_resampled_columns(tables):
    """A dict of columns and functions gives pandas' result; functions that cannot be are refused by name."""
    times = pd.date_range("2024-01-01", periods=8, freq="7h", name="when")
    frame = pd.DataFrame({"open": range(8), "high": np.arange(8.0), 0: list("abcdefgh"), "volume": range(8)}, times)
    for how in (
        {"open": "first", "high": "max", "volume": "sum"},
        {"volume": "sum", "open": "last"},
        {"open": ["first", "max"], "high": ["mean"]},
        {"open": ("min", "max")},
        {"open": "size", "volume": "count"},
        {0: "last"},
    ):
        want = frame.resample("D").agg(how)
        if want.columns.nlevels > 1:
            want.columns = [f"{column}_{function}" for column, function in want.columns]
        pd.testing.assert_frame_equal(
            resampled(tables, "bars", frame, "D", how), want, check_freq=False, check_column_type=False
        )
    for how, message in (
        ({"open": np.mean}, "for column 'open' has type .*function"),
        ([max], "has type builtin_function"),
        (np.sum, "pass a function's name"),
        ({"first": ["open"]}, 'unknown function "open"'),
        ({"total": ("volume", "sum")}, 'unknown function "volume"'),
        ({"none": "max"}, "none"),
        ({"open": "ffill"}, "ffill must be the only function"),
        ({}, "no function given"),
        ({"0": "mean"}, 'column "0": it has type'),
    ):
        with pytest.raises(partd_go.Error, match=message):
            tables.resampled("bars", "D", "when", how)


UNITS = ["s", "ms", "us", "ns"]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Oslo", "+05:30"])
def test_resampled_finer_index(tables, unit, zone):
    """The time index stays an index of its type if the bins need a finer unit."""
    times = pd.date_range("2024-01-01", periods=3, freq="s", name="when", tz=zone).as_unit(unit)
    frame = pd.DataFrame({"v": range(3)}, times)
    arrow_times = pd.Index(times.astype(pd.ArrowDtype(pa.array(times).type)), name="when")
    for rule in ("500ms", "250us", "1s", "D") + (("700ns",) if unit == "ns" else ()):
        rows = frame[: {"700ns": 1, "250us": 2}.get(rule, 3)]
        want = (
            rows.set_axis(rows.index.as_unit("ns")).resample(rule).sum()
        )  # with coarser units, pandas cannot make finer bins of a single time
        got = resampled(tables, "finer", rows, rule, "sum", stored=FULL or rule == "250us")
        pd.testing.assert_frame_equal(got, want, check_freq=False, check_index_type=False)
        assert str(got.index.tz) == str(want.index.tz) and got.index.unit == max(
            unit, {"500ms": "ms", "250us": "us", "700ns": "ns"}.get(rule, unit), key=UNITS.index
        )
        if not FULL and rule != "250us":
            continue  # the others would take long, and differ little
        got = resampled(tables, "finer", rows.set_axis(arrow_times[: len(rows)]), rule, "sum", stored=FULL)
        assert isinstance(got.index.dtype, pd.ArrowDtype) and list(got.index) == list(want.index)
        several = rows.set_index(pd.Index(range(len(rows)), name="n"), append=True)
        pd.testing.assert_frame_equal(
            resampled(tables, "finer", several, rule, "sum", stored=FULL, columns=["v"]),
            want,
            check_freq=False,
            check_index_type=False,
        )
        tables.put("unnamed", rows.rename_axis(None), "replace")
        got = tables.resampled("unnamed", rule, "index", "sum")
        pd.testing.assert_frame_equal(got, want.rename_axis(None), check_freq=False, check_index_type=False)
    days = frame.set_axis(pd.Index([datetime.date(2024, 1, day) for day in (1, 2, 3)], name="when"))
    got = resampled(tables, "days", days, "12h", "sum")
    pd.testing.assert_frame_equal(
        got, days.set_axis(pd.DatetimeIndex(days.index)).resample("12h").sum(), check_freq=False, check_index_type=False
    )

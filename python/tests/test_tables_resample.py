"""Compares resampling with pandas by type, rule, function, index and order of rows.

PARTD_RESAMPLE_SECONDS is the duration of the random comparison, and PARTD_RESAMPLE_SEED its seed. Without
PARTD_RESAMPLE_SECONDS, each type is compared with only a few random functions."""

from __future__ import annotations

import datetime
import decimal
import fractions
import math
import os
import random
import re
import time

import pytest

pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
import numpy as np
import pandas as pd
import pyarrow as pa

import partd_go.tables
from dtypes import DAYS, HARD, VALUES

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(pd.__version__ < "3", reason="compares with pandas 3"),
]
FUNCTIONS = "mean sum min max first last count median std var sem prod nunique quantile ohlc size".split()
NUMERIC = set("mean sum median std var sem prod quantile ohlc".split())
ODD = {  # further columns, with extreme values
    "int64, extreme": np.array([-(2**63), 2**63 - 1, -1, 2**63 - 1]),
    "uint64, extreme": np.array([2**64 - 1, 0, 1, 2**63], "uint64"),
    "int8, extreme": np.array([-128, 127, 127, 127], "int8"),
    "float32, large": np.array([3e38, 3e38, -3e38, 1], "float32"),
    "all NaN": np.full(4, np.nan),
    "all NaT": pd.to_datetime([None] * 4),
    "all NA": pd.array([None] * 4, "Int64"),
    "arrow nulls": pd.array([None] * 4, pd.ArrowDtype(pa.null())),
    "arrow durations": pd.array([1, None, 2, 3], pd.ArrowDtype(pa.duration("us"))),
    "arrow times of day": pd.array(
        [datetime.time(1), None, datetime.time(2), datetime.time(0)], pd.ArrowDtype(pa.time64("us"))
    ),
    "arrow dates": pd.array(
        [datetime.date(2024, 1, 1), None, datetime.date(1969, 1, 2), datetime.date(2000, 1, 1)],
        pd.ArrowDtype(pa.date32()),
    ),
    "arrow bools": pd.array([True, None, False, False], pd.ArrowDtype(pa.bool_())),
    "arrow structs": pd.array([{"a": 1}, None, {"a": 2}, {"a": 0}], pd.ArrowDtype(pa.struct({"a": pa.int64()}))),
    "arrow decimals, large": pd.array(
        [decimal.Decimal(10) ** 37 * 9, None, decimal.Decimal(10) ** 37 * 9, 1], pd.ArrowDtype(pa.decimal128(38, 0))
    ),
    "arrow decimal256": pd.array(
        [decimal.Decimal(1), None, decimal.Decimal(2), decimal.Decimal(3)], pd.ArrowDtype(pa.decimal256(50, 0))
    ),
    "arrow fixed bytes": pd.array([b"ab", None, b"cd", b"aa"], pd.ArrowDtype(pa.binary(2))),
    "ordered numbers": pd.Categorical([1, 2, 1, None], [2, 1], ordered=True),
}
COLUMNS = VALUES | HARD | ODD


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    with partd_go.tables.connect(tmp_path_factory.mktemp("tables")) as tables:
        yield tables


def is_null(value):
    return (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or isinstance(value, (float, np.floating))
        and math.isnan(value)
    )


def is_same(got, want):
    if is_null(got) or is_null(want):
        return is_null(got) and is_null(want)
    if isinstance(want, np.ndarray) or isinstance(got, np.ndarray):
        return np.array_equal(np.asarray(got), np.asarray(want), equal_nan=np.asarray(want).dtype.kind == "f")
    if isinstance(want, (float, np.floating)):
        return math.isclose(float(got), float(want), rel_tol=1e-9, abs_tol=1e-9)
    return bool(got == want)


def numbers(column):
    """Returns the values as Python's numbers, with None for nulls and NaN; or None if some are not numbers."""
    arrow = getattr(column.dtype, "pyarrow_dtype", None)
    values = [None if is_null(v) else v.item() if isinstance(v, np.generic) else v for v in column.astype(object)]
    if (
        column.dtype.kind in "mM"
        or arrow is not None
        and not (
            pa.types.is_integer(arrow)
            or pa.types.is_floating(arrow)
            or pa.types.is_decimal(arrow)
            or pa.types.is_boolean(arrow)
        )
    ):
        return None
    return values if all(isinstance(v, (int, float, decimal.Decimal, type(None))) for v in values) else None


def expected(frame, rule, function):
    """Returns pandas' result, or None if pandas has none, and the reason. It computes sums and means of integers and
    decimals without overflow, and other numbers as float64."""
    values = numbers(frame.v)
    try:
        if values is not None and function in NUMERIC - {"ohlc"}:
            is_exact = function in ("sum", "mean") and not any(isinstance(v, float) for v in values)
            column = pd.Series(values, frame.index, dtype=object if is_exact else "float64")
            if not is_exact:
                return getattr(column.resample(rule), function)(), ""
            with decimal.localcontext(prec=99):
                bins = [
                    [int(v) if isinstance(v, bool) else v for v in bin if v is not None]
                    for _, bin in column.resample(rule)
                ]
                results = [
                    sum(bin) if function == "sum" else float(fractions.Fraction(sum(bin)) / len(bin)) if bin else None
                    for bin in bins
                ]
            return pd.Series(results, column.resample(rule).size().index, dtype=object), ""
        is_plain = isinstance(frame.v.dtype, np.dtype) and frame.v.dtype.kind in "iu"
        column = (
            pd.Series(values, frame.index, dtype="float64")
            if function == "ohlc" and values is not None and not is_plain
            else frame.v
        )
        return getattr(column.resample(rule), function)(), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def difference(tables, frame, rule, function):
    """Returns a difference between tables and pandas, or None. The refusals of columns that are not numbers, of sums
    that overflow, and of values without an order name the column, the type and the function."""
    want, failure = expected(frame, rule, function)
    try:
        got = tables.resampled("t", rule, "t", [function] if function == "size" else {"v": function})
    except partd_go.Error as error:
        text = str(error)
        if (
            function in NUMERIC
            and (numbers(frame.v) is None or frame.v.isna().all())
            and re.search(rf'"v": it has type .*, but {function} needs numbers', text)
        ):
            return None
        if (
            function == "sum"
            and 'column "v": the sum of a bin\'s values overflows' in text
            and max(abs(v) for v in want if v is not None) >= 2**63
        ):
            return None
        if re.search(rf'"v": {function} cannot compare categories of type', text):
            return None
        return f"refused: {text[-300:]} (pandas: {failure or want.tolist()})"
    if want is None:
        return f"answered {got.to_dict('list')} (pandas: {failure[:200]})" if function in NUMERIC else None
    if len(want) == len(got) + 1 and frame.v.resample(rule).size().iloc[-1] == 0:
        want = want[:-1]  # after the very last time of a period, pandas adds an empty bin
    labels = (
        want.index.date
        if isinstance(got.index[0], datetime.date) and not isinstance(got.index[0], datetime.datetime)
        else want.index
    )
    if len(got) != len(want) or list(got.index) != list(labels) or got.index.name != "t":
        return f"index {got.index!r}, not {want.index!r}"
    for part in ("open", "high", "low", "close") if function == "ohlc" else ("v",):
        ours = got[f"v_{part}" if function == "ohlc" else "size" if function == "size" else "v"]
        theirs = want[part] if function == "ohlc" else want
        if not all(is_same(a, b) for a, b in zip(ours.astype(object), theirs.astype(object), strict=True)):
            return f"{part}: {ours.tolist()} of {ours.dtype}, not {theirs.tolist()} of {theirs.dtype}"
    return None


@pytest.mark.parametrize("is_sorted", [True, False], ids=["in order", "shuffled"])
@pytest.mark.parametrize("name", COLUMNS)
def test_every_function_of_every_type(tables, name, is_sorted):
    half = pd.DataFrame({"v": COLUMNS[name]})
    frame = pd.concat([half, half[::-1]], ignore_index=True)
    frame.index = pd.DatetimeIndex([*DAYS, *DAYS + pd.Timedelta("12h")], name="t")
    if is_sorted:
        frame = frame.sort_index(kind="stable")
    try:
        tables.put("t", frame, "replace")
    except partd_go.Error as error:
        assert re.search('column "?v"? ', str(error))
        return
    some = (
        FUNCTIONS if "PARTD_RESAMPLE_SECONDS" in os.environ else random.sample(FUNCTIONS, 3 if is_sorted else 1)
    )  # SQL is slow
    found = {function: why for function in some if (why := difference(tables, frame, "D", function))}
    assert not found, "\n".join(f"{function}: {why}" for function, why in found.items())


RULES = "ns 7us 250us 500ms s 90s 7min h 1h30min 36h D 3D W 2W-WED ME 2MS QE QS-FEB YE B 2B BME SME".split()
LENGTHS = dict(ns=1, us=10**3, ms=10**6, s=10**9, min=60 * 10**9, h=3600 * 10**9)


def random_times(r, rule, count):
    """Returns random times whose unit, zone and distances fit to a rule."""
    step = LENGTHS.get(re.sub(r"^[\d.]+|\d+[a-z]*$", "", rule), 86400 * 10**9)
    start = pd.Timestamp("2023-03-20 21:00") if step > 3600 * 10**9 else pd.Timestamp("2024-03-31 00:30")
    offsets = sorted(r.randrange(step * 40) for _ in range(count))
    times = pd.DatetimeIndex([start + pd.Timedelta(offset, "ns") for offset in offsets]).as_unit("ns")
    return (
        times.as_unit(r.choice(["s", "ms", "us", "ns"]))
        .tz_localize("UTC")
        .tz_convert(r.choice([None, "UTC", "Europe/Oslo", "+05:30"]))
        .rename("t")
    )


def test_random_resamples(tables):
    """Compares random columns, rules, functions, indexes and orders of rows."""
    seed = int(os.environ.get("PARTD_RESAMPLE_SEED", time.time_ns()))
    end, r, count = time.monotonic() + float(os.environ.get("PARTD_RESAMPLE_SECONDS", 3)), random.Random(seed), 0
    while time.monotonic() < end:
        name, rule, function = r.choice([*COLUMNS]), r.choice(RULES), r.choice(FUNCTIONS)
        times = random_times(r, rule, r.randrange(1, 40))
        values = pd.Series(COLUMNS[name])
        frame = pd.DataFrame({"v": values.take([r.randrange(4) for _ in times]).array}, times)
        if r.random() < 0.4:
            frame = frame.iloc[r.sample(range(len(frame)), len(frame))]
        put, kind = frame, r.choice(["plain", "arrow", "dates", "several", "column"])
        if kind == "arrow":
            put = frame.set_axis(pd.Index(frame.index.astype(pd.ArrowDtype(pa.array(frame.index).type)), name="t"))
        elif kind == "dates":
            days = frame.index.tz_localize(None).normalize()
            frame, put = frame.set_axis(days.rename("t")), frame.set_axis(pd.Index(days.date, name="t"))
        elif kind == "several":
            put = frame.set_index(pd.Index(range(len(frame)), name="n"), append=True)
        elif kind == "column":
            put = frame.reset_index()
        case = f"PARTD_RESAMPLE_SEED={seed}, case {count}: {name}, {rule}, {function}, {kind} {frame.index.dtype}"
        try:
            tables.put("t", put, "replace")
        except partd_go.Error:
            continue
        frame.index = frame.index.as_unit("ns")  # with coarser units, pandas cannot make finer bins of a single time
        if kind == "column":
            got = tables.resampled("t", rule, "t", {"v": "count"})
            assert got.t.tolist() == frame.v.resample(rule).size().index.tolist()[: len(got)], case
        elif why := difference(tables, frame, rule, function):
            raise AssertionError(f"{case}: {why}\n{frame}")
        count += 1
    print(count, "compared with seed", seed)


def test_groups_by_keys_as_pandas_does(tables):
    """A table with keys has bars of its own for each key, as with groupby(keys).resample, unless by= names other
    columns."""
    times = pd.date_range("2024-01-31 22:10", periods=400, freq="7min", tz="America/New_York")
    random_numbers = np.random.default_rng(3)
    frame = pd.DataFrame(
        {"at": times, "sym": random_numbers.choice(list("ABC"), 400), "price": random_numbers.random(400), "size": 1}
    )
    frame = frame[(frame["sym"] != "B") | (frame.index > 100)].reset_index(drop=True)
    tables.put("keyed", frame, settings={"time": "at", "keys": ["sym"]})
    for rule in ("15min", "h", "D", "W", "ME"):
        for by, keys in ((None, ["sym"]), ("size", ["size"]), (["size", "sym"], ["size", "sym"])):
            got = tables.resampled("keyed", rule, "at", {"price": ["first", "max", "mean"]}, by=by)
            groups = frame.set_index("at").groupby(keys)["price"].resample(rule)
            expected = (
                groups.agg(["first", "max", "mean"])
                .add_prefix("price_")
                .reset_index()
                .sort_values(["at", *keys], ignore_index=True)
            )
            pd.testing.assert_frame_equal(got, expected[got.columns], check_dtype=False)
    mixed = tables.resampled("keyed", "D", "at", "sum", columns="size", by=[])
    assert mixed["size"].tolist() == frame.set_index("at")["size"].resample("D").sum().tolist()
    assert tables.resample("keyed", "hours", "h", "at", {"price": "last"})[1] == len(tables.get("hours"))
    assert tables.settings("hours")["keys"] == ["sym"]
    with pytest.raises(
        partd_go.errors.Misuse, match='ffill cannot group by "sym": put the rows of one group into a table first'
    ):
        tables.resampled("keyed", "h", "at", "ffill")

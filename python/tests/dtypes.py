"""Defines columns with four values of each pandas type, for tests."""

from __future__ import annotations

import datetime
import decimal

import dateutil.tz
import numpy as np
import pandas as pd
import pyarrow as pa

DAYS = pd.date_range("2024-01-01", periods=4)
VALUES = {
    **{
        kind: np.array([1, 2, 3, 4], kind)
        for kind in "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()
    },
    **{
        kind: pd.array([1, None, 3, 4], kind)
        for kind in "Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float32 Float64".split()
    },
    "bool": [True, False, True, True],
    "boolean": pd.array([True, None, False, True], "boolean"),
    "text": list("abcd"),
    "string": pd.array(["a", None, "b", "c"], "string[python]"),
    "string[pyarrow]": pd.array(["a", None, "b", "c"], "string[pyarrow]"),
    "bytes": [b"a", b"b", None, b""],
    "all None": [None] * 4,
    "float64 with NaN and infinity": [1.0, np.nan, np.inf, -0.0],
    **{f"time[{unit}]": DAYS.as_unit(unit) for unit in ("s", "ms", "us", "ns")},
    **{f"time in {zone}": DAYS.tz_localize(zone) for zone in ("UTC", "America/New_York", "+05:30")},
    "time in a zone, with nanoseconds": DAYS.tz_localize("Europe/Oslo") + pd.Timedelta(123456789, "ns"),
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
    **{
        f"pyarrow's {kind}": pd.array(values, pd.ArrowDtype(kind))
        for kind, values in (
            (pa.int32(), [1, None, 2, 3]),
            (pa.string(), list("abcd")),
            (pa.decimal128(10, 2), [1, None, 2, 3]),
            (pa.list_(pa.int64()), [[1], None, [2], [3]]),
            (pa.timestamp("us", "UTC"), DAYS.tz_localize("UTC")),
        )
    },
}
BIG = 2**53 + 1  # a float cannot represent it
OSLO = DAYS.tz_localize("Europe/Oslo")
# Columns whose values earlier versions changed silently, or could not read back.
HARD = {
    "time in dateutil's offset": DAYS.tz_localize(dateutil.tz.tzoffset("X", -9000)),
    "time in a named offset": DAYS.tz_localize(datetime.timezone(datetime.timedelta(hours=2), "CET")),
    "category of times in dateutil's offset": pd.Categorical(DAYS.tz_localize(dateutil.tz.tzoffset(None, 7200))),
    "category, ordered, with long labels": pd.Categorical(
        list("abca"), [*"cba", *(f"{n:0100}" for n in range(700))], ordered=True
    ),
    "objects: decimals with NaN": pd.Series(
        [decimal.Decimal("1.5"), decimal.Decimal("NaN"), decimal.Decimal(2), decimal.Decimal(3)], dtype=object
    ),
    "objects: decimals with NaN and None": pd.Series(
        [decimal.Decimal("1.5"), decimal.Decimal("NaN"), None, None], dtype=object
    ),
    "pyarrow's dictionary<values=string, indices=int8>": pd.array(
        list("abca"), pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))
    ),
    "large integers": np.array([BIG, 2, -3, BIG + 2]),
    "Int64, large": pd.array([BIG, None, 3, 4], "Int64"),
    "text with NaN": pd.Series(["a", np.nan, "b", "007"], dtype=object),
    "result of pandas.cut": pd.cut([1, 2, 3, 9], 3),
    "category of periods": pd.Categorical(pd.period_range("2024-01", periods=4, freq="D")),
    "category of times in a zone": pd.Categorical(OSLO),
    "category, one unused": pd.Categorical([3, 1, 3, None], [1, 2, 3]),
    "interval of times in a zone": pd.arrays.IntervalArray.from_arrays(OSLO, OSLO + pd.Timedelta("1D")),
    "interval with a null": pd.arrays.IntervalArray.from_tuples([(0.0, 1.0), None, (1.0, 2.5), (3.0, 4.0)]),
    "period with a null": pd.PeriodIndex(["2024-01", None, "2024-03", "2024-04"], freq="M"),
    "sparse, filled with 1": pd.arrays.SparseArray([1, 1, 2, 1], fill_value=1),
    "sparse floats": pd.arrays.SparseArray([np.nan, 1.5, np.nan, 2.0]),
    "sparse bools": pd.arrays.SparseArray([False, True, False, False]),
    "objects: integers": pd.Series([BIG, None, 3, 4], dtype=object),
    "objects: bools": pd.Series([True, None, False, True], dtype=object),
    "objects: floats": pd.Series([1.5, 2.0, None, 3.0], dtype=object),
    "objects: times": pd.Series([*OSLO], dtype=object),
    "objects: spans": pd.Series(
        [datetime.timedelta(1), None, datetime.timedelta(2), datetime.timedelta(0, 1)], dtype=object
    ),
    "objects: lists with None": pd.Series([[1, None], None, [BIG], []], dtype=object),
    "objects: tuples": pd.Series([(1, 2), (3,), None, ()], dtype=object),
    "objects: arrays": pd.Series([np.array([1.5, np.nan]), np.array([2.0]), None, np.array([])], dtype=object),
    "objects: nested with None": pd.Series([{"a": [1, None]}, None, {"a": None}, {"a": []}], dtype=object),
    "objects: dicts with different keys": pd.Series([{"a": 1}, {"b": [2]}, None, {}], dtype=object),
    "objects: a date and a time": pd.Series(
        [datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 2, 3), None, None], dtype=object
    ),
    "objects: 1 and 2.5": pd.Series([1, 2.5, None, 3], dtype=object),
    "objects: a number and a string": pd.Series([1, "a", None, 3], dtype=object),
    "objects: two zones": pd.Series([OSLO[0], OSLO[1].tz_convert("Asia/Tokyo"), OSLO[2], OSLO[3]], dtype=object),
    "objects: sets": pd.Series([{1}, {2}, None, set()], dtype=object),
    "complex": np.array([1 + 1j, 2, 3, 4]),
}

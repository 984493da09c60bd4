"""Writes frames of all pandas types as Arrow streams (make), and compares frames that come back with them (check, flight)."""

import datetime
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.flight as flight
from pandas.testing import assert_frame_equal

n = 6
stamps = pd.to_datetime(["2026-01-31 10:00:00.123456789"] * n) + pd.to_timedelta(range(n), unit="h")
frames = {
    "range": pd.DataFrame({"i": np.arange(n, dtype="int16"), "f": np.linspace(0, 1, n), "b": [True, False] * 3}),
    "stepped": pd.DataFrame({"i": range(n)}, index=pd.RangeIndex(10, 10 + 3 * n, 3, name="step")),
    "named": pd.DataFrame({"v": range(n)}, index=pd.Index(list("abcdef"), name="letter")),
    "unnamed": pd.DataFrame({"v": range(n)}, index=[5, 3, 1, 9, 7, 0]),
    "multi": pd.DataFrame({"v": range(n)}, index=pd.MultiIndex.from_product([["x", "y"], stamps[:3]], names=["sym", None])),
    "times": pd.DataFrame({
        "naive": stamps, "utc": stamps.tz_localize("UTC"), "berlin": stamps.tz_localize("Europe/Berlin"),
        "fixed": stamps.tz_localize(datetime.timezone(datetime.timedelta(hours=5, minutes=30))),
        "seconds": stamps.as_unit("s"), "none": [pd.NaT] + list(stamps[1:]),
    }, index=stamps.tz_localize("America/New_York").rename("at")),
    "delta": pd.DataFrame({"ns": pd.to_timedelta(range(n), unit="s"), "ms": pd.to_timedelta(range(n), unit="s").as_unit("ms")}, index=pd.to_timedelta(range(n), unit="D")),
    "period": pd.DataFrame({"month": pd.period_range("2026-01", periods=n, freq="M"), "day": list(pd.period_range("2026-01-01", periods=n - 1, freq="D")) + [pd.NaT]}),
    "periods": pd.DataFrame({"v": range(n)}, index=pd.period_range("2026Q1", periods=n, freq="Q", name="quarter")),
    "interval": pd.DataFrame({"i": pd.interval_range(0, n), "left": pd.interval_range(0.0, float(n), closed="left")}),
    "category": pd.DataFrame({
        "plain": pd.Categorical(list("abcabc")), "ordered": pd.Categorical(["low", "high", None] * 2, categories=["low", "mid", "high"], ordered=True),
        "numbers": pd.Categorical([3, 1, 2] * 2), "times": pd.Categorical(stamps),
    }, index=pd.CategoricalIndex(list("zyxzyx"), categories=list("zyx"), name="cat")),
    "nested": pd.DataFrame({"list": [[1, 2], [], None] * 2, "struct": [{"a": 1, "b": ["x"]}] * n, "arrays": [np.array([0.5, 1.5])] * n}),
    "nullable": pd.DataFrame({
        "int": pd.array([1, None, 3] * 2, dtype="Int16"), "uint": pd.array([2**63, None, 0] * 2, dtype="UInt64"), "float": pd.array([0.5, None, 1] * 2, dtype="Float32"),
        "bool": pd.array([True, None, False] * 2, dtype="boolean"), "str": pd.array(["a", None, "c"] * 2, dtype="string"),
        "arrow": pd.array([1, None, 3] * 2, dtype=pd.ArrowDtype(pa.int32())),
    }),
    "others": pd.DataFrame({
        "bytes": [b"a", None, b""] * 2, "date": [datetime.date(2026, 1, 31)] * n, "time": [datetime.time(1, 2, 3)] * n, "text": ["ä", None, ""] * 2,
        "u8": np.arange(n, dtype="uint8"), "u64": np.arange(n, dtype="uint64") + 2**63, "f32": np.arange(n, dtype="float32"), "nan": [np.nan, 1.0, np.inf] * 2,
    }),
    "columns": pd.DataFrame([[1, 2], [3, 4]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("b", "y")])),
    "numbered": pd.DataFrame([[1, 2], [3, 4]]),
    "empty": pd.DataFrame({"v": pd.Series([], dtype="datetime64[ns, UTC]"), "c": pd.Series([], dtype="category")}),
}


def compare(name, table, copies):
    # Compare with what pandas itself returns for the frame, or for two concatenated copies of it.
    want = pa.concat_tables([pa.Table.from_pandas(frames[name])] * copies).to_pandas()
    if copies == 1:
        assert_frame_equal(want, frames[name], check_freq=False)
    assert_frame_equal(table.to_pandas(), want, check_freq=False)


command, *args = sys.argv[1:]
if command == "make":
    for name, frame in frames.items():
        table = pa.Table.from_pandas(frame)
        with pa.OSFile(f"{args[0]}/{name}.arrow", "wb") as f, pa.ipc.new_stream(f, table.schema) as w:
            w.write_table(table)
        print(name)
elif command == "check":
    failed = False
    for name, path, copies in zip(args[::3], args[1::3], args[2::3]):
        try:
            with pa.OSFile(path) as f:
                data = f.read()
            reader = pa.ipc.open_file(data) if data[:6] == b"ARROW1" else pa.ipc.open_stream(data)
            compare(name, reader.read_all(), int(copies))
        except Exception as e:
            failed = True
            print(path, type(e).__name__, e)
    sys.exit(failed)
else:
    url, token = args
    options = flight.FlightCallOptions(headers=[(b"authorization", b"Bearer " + open(token, "rb").read().strip())])
    client = flight.connect(url)
    for name, frame in frames.items():
        try:
            table = pa.Table.from_pandas(frame)
            for copies in (1, 2):
                path = flight.FlightDescriptor.for_path("frames", name)
                writer, _ = client.do_put(path, table.schema, options)
                writer.write_table(table)
                writer.close()
                info = client.get_flight_info(path, options)
                got = client.do_get(info.endpoints[0].ticket, options).read_all()
                assert info.schema.equals(got.schema), "the schema of the FlightInfo"
                compare(name, got, copies)
        except Exception as e:
            print(name, type(e).__name__, e)
            sys.exit(1)

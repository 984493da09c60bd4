"""Implements the Python side of pandas_test.go, with the real partd and pandas.

blocks.py has                 prints which of blosc, snappy and msgpack are installed, and the pandas version.
blocks.py write DIR           writes each frame in two appends, and the frames that Go refuses to read.
blocks.py check DIR           compares the frames that Go wrote with the originals.
blocks.py columns-write URL   writes frames to a server, with PandasColumns.
blocks.py columns-check URL   compares the frames that Go wrote to the server with the originals.
blocks.py measure DIR ROWS    prints the MB/s of writing and reading frames."""

import datetime
import decimal
import importlib.util
import sys
import time

import numpy as np
import pandas as pd
from pandas.testing import assert_frame_equal
from partd import File, PandasBlocks, PandasColumns

PANDAS3 = int(pd.__version__.split(".")[0]) >= 3
SECONDS = np.array([1700000000, -5, 4102444800])


def times(unit, zone=None):
    index = pd.DatetimeIndex(SECONDS.astype("M8[s]")).as_unit(unit)
    return index.tz_localize("UTC").tz_convert(zone) if zone else index


def with_nat(index):
    return index.insert(1, pd.NaT)[:3]


def frames():
    one = pd.DataFrame({"n": [1, 2, 3]})
    texts = np.array(["a", "", "\u00e9\U0001f600"], dtype=object)
    f = {
        "numbers": pd.DataFrame({d: np.array([0, 1, 3], dtype=d) for d in
                                 ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]}),
        "limits": pd.DataFrame({"i8": [-(2**63), 2**63 - 1, 0], "f8": [float("nan"), float("inf"), -0.0], "z": [1, 2, 3]}),
        "one block": pd.DataFrame(np.arange(12.0).reshape(3, 4)),
        "times": pd.DataFrame({u: with_nat(times(u)) for u in ["ns", "us", "ms", "s"]}),
        "many times": pd.DataFrame(np.arange(12, dtype="i8").reshape(3, 4).view("M8[ns]"), columns=list("abcd")),
        "zones": pd.DataFrame({str(z): with_nat(times("us", z)) for z in
                               ["UTC", "Europe/Paris", datetime.timezone.utc, "+02:00", "-03:30"]}),
        "zones ns": pd.DataFrame({"a": times("ns", "America/New_York"), "b": times("ns", "America/New_York")}),
        "durations": pd.DataFrame({u: pd.to_timedelta([1, None, -3], unit="s").as_unit(u) for u in ["ns", "us", "ms", "s"]}),
        "objects": pd.DataFrame({"o": np.array(["a", None, b"\x00\xff"], dtype=object), "m": np.array([1, 2.5, True], dtype=object),
                                 "t": texts}, dtype=object),
        "text": pd.DataFrame({"t": ["a", None, "\u00e9\U0001f600"], "u": ["", "b", "ccc"]}),
        "string": pd.DataFrame({"p": pd.array(["a", None, "b"], dtype="string[python]"),
                                "a": pd.array(["a", None, "b"], dtype="string[pyarrow]"),
                                "s": pd.array(["a", None, "b"], dtype=pd.StringDtype("python", float("nan")))}),
        "categories": pd.DataFrame({"t": pd.Categorical(["x", None, "y"]), "o": pd.Categorical(["b", "a", "b"], ["b", "a"], ordered=True),
                                    "i": pd.Categorical([7, 8, 7]), "f": pd.Categorical([1.5, 2.5, None]),
                                    "d": pd.Categorical(times("us")), "r": pd.Categorical.from_codes([0, 2, -1], pd.RangeIndex(3))}),
        "columns are numbers": pd.DataFrame({5: [1, 2, 3], 7: ["a", "b", "c"]}),
        "columns are mixed": pd.DataFrame({"a": [1, 2, 3], 7: [4, 5, 6], 1.5: [1, 1, 1]}),
        "index range": one.set_index(pd.RangeIndex(10, 4, -2, name="r")),
        "index int": one.set_index(pd.Index([5, 3, 4], name="i")),
        "index uint8": one.set_index(pd.Index([5, 3, 4], dtype="u1")),
        "index float": one.set_index(pd.Index([5.5, 3, 4])),
        "index bool": one.set_index(pd.Index([True, False, True])),
        "index text": one.set_index(pd.Index(["c", "a", "b"], name="t")),
        "index object": one.set_index(pd.Index([1, "a", 2.5], dtype=object, name=3)),
        "index tuples": one.set_index(pd.Index([(1, "a"), (2, "b"), (1, 2)], dtype=object, tupleize_cols=False)),
        "index time": one.set_index(pd.DatetimeIndex(times("ns"), name="when")),
        "index freq": one.set_index(pd.date_range("2024-01-01", periods=3, freq="D")),
        "index zone": one.set_index(times("us", "Europe/Paris")),
        "index duration": one.set_index(pd.to_timedelta([1, 2, 5], unit="s")),
        "index freq duration": one.set_index(pd.timedelta_range("1h", periods=3)),
        "wide": pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"], "c": [1, 2, 3], "d": [0.5, 1.5, 2.5], "e": [4, 5, 6]}),
        "no rows": pd.DataFrame({"a": np.array([], dtype="i4"), "b": np.array([], dtype=object), "t": times("ns")[:0],
                                 "c": pd.Categorical([], ["x"]), "z": times("ns", "UTC")[:0]}),
        "no columns": pd.DataFrame(index=pd.RangeIndex(3)),
    }
    if PANDAS3:
        f["no text"] = pd.DataFrame({"t": pd.array([], dtype="str")})
    return f


def refused():
    """Frames that Go refuses to read."""
    one = pd.DataFrame({"n": [1, 2, 3]})
    return {
        "Int64": pd.DataFrame({"i": pd.array([1, None], dtype="Int64")}),
        "boolean": pd.DataFrame({"b": pd.array([True, None], dtype="boolean")}),
        "period": pd.DataFrame({"p": pd.period_range("2024", periods=3, freq="M")}),
        "interval": pd.DataFrame({"v": pd.interval_range(0, 3)}),
        "cut": pd.DataFrame({"k": pd.cut([1, 2, 3], 2)}),
        "date": pd.DataFrame({"d": np.array([datetime.date(2024, 1, 1)], dtype=object)}),
        "decimal": pd.DataFrame({"d": np.array([decimal.Decimal(1)], dtype=object)}),
        "index multi": one.set_index(pd.MultiIndex.from_tuples([(1, "a"), (1, "b"), (2, "a")])),
        "index period": one.set_index(pd.period_range("2024", periods=3, freq="M")),
        "index category": one.set_index(pd.CategoricalIndex(["a", "b", "a"])),
        "columns multi": pd.DataFrame({("a", 1): [1], ("a", 2): [2]}),
        "columns time": pd.DataFrame(np.zeros((1, 3)), columns=times("ns")),
    }


def stored_alike(f):
    """Converts all strings to Python storage, because readers differ in whether they use Python or Arrow."""
    texts = {c: pd.StringDtype("python", d.na_value) for c, d in f.dtypes.items() if isinstance(d, pd.StringDtype)}
    return f.astype(texts) if texts else f


def assert_same(name, got, want):
    got, want = stored_alike(got), stored_alike(want)
    try:
        assert_frame_equal(got, want, check_freq=False, check_column_type="equiv" if len(want.columns) else False)
    except AssertionError as e:
        raise AssertionError(f"{name}:\n{got}\n{want}\n{e}") from None


def write(where):
    p = PandasBlocks(File(where))
    for name, f in frames().items():
        p.append({name: f.iloc[:1]})
        p.append({name: f.iloc[1:]} if len(f.columns) else {})
        p.append({"whole " + name: f})
    for name, f in refused().items():
        p.append({"refused " + name: f})


def check(where):
    p = PandasBlocks(File(where))
    for name, want in frames().items():
        assert_same(name, p.get("whole " + name), want)
        if len(want.columns):
            assert_same(name + " in two", p.get(name), pd.concat([want.iloc[:1], want.iloc[1:]]))


def column_frames():
    f = frames()
    names = ["numbers", "limits", "times", "durations", "objects", "columns are numbers", "index int", "index float", "index bool", "index time",
             "index freq duration", "wide"]
    if not PANDAS3:
        names += ["index text", "index object"]
    return {n.replace(" ", "_"): f[n].astype({c: object for c, d in f[n].dtypes.items() if d == "str"}) for n in names if n in f}


def columns_write(url):
    from partd import Client

    p = PandasColumns(Client(url))
    for name, f in column_frames().items():
        p.append({name: f.iloc[:1]})
        p.append({name: f.iloc[1:]})


def columns_check(url):
    from partd import Client

    p = PandasColumns(Client(url))
    for name, want in column_frames().items():
        if PANDAS3:  # PandasColumns.get converts columns of objects that are all text to str
            want = pd.DataFrame({c: want[c].values for c in want}, index=want.index)
        assert_same(name, p.get("go_" + name), pd.concat([want, want]))
        assert_same(name, p.get(name), pd.concat([want, want.iloc[:1]]))
    assert_same("some", p.get("wide", columns=["d", "a"]), pd.concat([f := column_frames()["wide"], f.iloc[:1]])[["d", "a"]])


def random_frame(n):
    rng = np.random.default_rng(1)
    return pd.DataFrame({"i": np.arange(n), "j": rng.integers(0, 1000, n, dtype="i4"), "x": rng.random(n), "y": rng.random(n),
                         "t": pd.date_range("2024", periods=n, freq="s"), "s": rng.choice(["alpha", "beta", "gamma"], n)})


def measure(where, rows):
    f, p = random_frame(int(rows)), PandasBlocks(File(where))
    start = time.perf_counter()
    p.append({"python": f})
    written = time.perf_counter()
    assert len(p.get("python")) == len(f)
    end = time.perf_counter()
    if p.partd.get("go"):
        assert_same("go", p.get("go"), f)
    size = f.memory_usage(deep=True).sum() / 1e6
    print(f"write {written - start:.3f} s, read {end - written:.3f} s, {size:.0f} MB in memory")


def has():
    print(*[m for m in ("blosc", "snappy", "msgpack") if importlib.util.find_spec(m)], pd.__version__)


def main(what, *args):
    globals()[what.replace("-", "_")](*args)


main(*sys.argv[1:])

"""Implements the Python side of codecs_python_test.go, with the real partd.

interop.py write WHERE: writes every value in two appends.
interop.py check WHERE: compares the values that Go wrote under the same keys.
interop.py halves WHERE: compares the bits of all float16 that Go wrote.

WHERE is a directory, or the URL of a server."""

import sys

import numpy as np
from partd import BZ2, Blosc, Client, File, Numpy, Pickle, Python, Snappy, ZLib

PLAIN = [None, True, False, 0, -1, 200, 2**40, -(2**63), 2**64 - 1, 1.5, float("inf"),
         "text \u00e9 \U0001f600", b"\x00\xff", [1, [2, []]], {"a": 1, "b": [None], b"c": {}}]
SHARED = ["used", "twice"]
RICH = PLAIN + [(1, "t"), (), {(1, 2): "x", 3: b"y"}, {7}, frozenset(["f"]), bytearray(b"ba"), 2**100, -(2**3000),
                SHARED, SHARED]
# Values that msgpack cannot encode are pickled.
FALLBACK = [2**100, (1, 2), {7}, {1: "int"}]

ARRAYS = {
    "i1": [-128, -1, 0, 127], "i2": [-(2**15), -1, 0, 2**15 - 1], "i4": [-(2**31), -1, 0, 2**31 - 1],
    "i8": [-(2**63), -1, 0, 2**63 - 1], "u1": [0, 1, 255], "u2": [0, 1, 65535], "u4": [0, 1, 2**32 - 1],
    "u8": [0, 1, 2**64 - 1], "f2": [0.5, -2, 65504, 6e-8], "f4": [0.5, -2.25, 1e38], "f8": [0.1, -2.25, 1e300],
    "c8": [1 + 2j, -0.5j], "c16": [0.1 + 2j, -1e300j], "b1": [True, False, True],
    "M8[ns]": ["1970-01-01T00:00:00.000000001", "1900-02-03T04:05:06.7", "NaT"], "m8[ns]": [1, -(2**62)],
    "O": ["text", "", "\u00e9\U0001f600"],
}
FOREIGN = {">i8": "i8", ">u2": "u2", ">f4": "f4", ">c16": "c16", ">M8[ns]": "M8[ns]"}
TIMES = {"M8[us]": "1600-02-03T04:05:06.789012", "M8[ms]": "1969-12-31T23:59:59.999", "M8[s]": "3000-01-01T00:00:01",
         "M8[m]": "1900-01-01T00:59", "M8[h]": "1900-01-01T23", "M8[D]": "1900-02-03", "M8[W]": "2024-01-04"}


def array(dtype, values):
    return np.array(values, dtype=np.dtype(dtype))


def name(dtype):
    return "np_" + dtype.replace("[", "(").replace("]", ")").replace(">", "big_")


def store_at(where):
    return Client(where) if where.startswith("tcp://") else File(where)


def stores(f):
    return {
        "python": (Python(f), PLAIN),
        "fallback": (Python(f), FALLBACK),
        "pickle": (Pickle(f), RICH),
        "bz2": (Pickle(BZ2(f)), RICH),
        "snappy": (Pickle(Snappy(f)), RICH),
        "zlib": (Pickle(ZLib(f)), RICH),
        "blosc": (Pickle(Blosc(f)), RICH),
        "layers": (Python(BZ2(Snappy(f))), PLAIN),
    }


def write(f):
    for key, (store, values) in stores(f).items():
        store.append({key: values[:3]})
        store.append({key: values[3:]})
    arrays = Numpy(f)
    for dtype, values in ARRAYS.items():
        arrays.append({name(dtype): array(dtype, values[:1])})
        arrays.append({name(dtype): array(dtype, values[1:])})
    for dtype, same in FOREIGN.items():
        arrays.append({name(dtype): array(dtype, ARRAYS[same])})
    for dtype, value in TIMES.items():
        arrays.append({name(dtype): array(dtype, [value, "NaT"])})
    arrays.append({"np_none": array("O", ["text", None])})
    # Python can write this, but not read it.
    Python(f).append({"intkeys": [{1: "one", None: 2.5}]})
    f.get("nothing")  # a Client does not wait for its appends


def same(a, b):
    """Reports whether two values and all their parts are equal and have the same types."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(k, other) and same(v, b[other]) for (k, v), other in zip(a.items(), b))
    return a == b


def check(f):
    for key, (store, values) in stores(f).items():
        stored = store.get(key)
        assert same(stored, values), (key, stored)
    arrays = Numpy(f)
    expected = dict(ARRAYS)
    expected.update({big: ARRAYS[small] for big, small in FOREIGN.items()})
    for dtype, values in expected.items():
        stored, want = arrays.get(name(dtype)), array(dtype, values)
        assert stored.dtype == want.dtype, (dtype, stored.dtype)
        assert stored.tolist() == want.tolist(), (dtype, stored, want)
        if dtype != "O":
            assert stored.tobytes() == want.tobytes(), (dtype, stored, want)


def halves(f):
    """Checks that the array has the bits of each float16, in order."""
    array = Numpy(f).get("all")
    assert array.dtype == np.dtype("<f2") and (array.view("u2") == np.arange(2**16)).all()


{"write": write, "check": check, "halves": halves}[sys.argv[1]](store_at(sys.argv[2]))
print("done")

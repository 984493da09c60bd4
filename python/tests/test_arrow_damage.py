"""Damages stored tables of each type, byte by byte. get must return a table, or raise a partd_go.Error or MemoryError.
It runs in a process of its own, so that a crash fails the test.

PARTD_FLIP_SECONDS is the time for each library, 5 by default. An hour suffices for every byte."""

from __future__ import annotations

import collections
import contextlib
import os
import random
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from dtypes import HARD, VALUES

import partd_go
from partd_go import arrow, arrowsafe

ROWS = 4
TWO = pa.array([1, 2])
KINDS = pa.array([0, 1, 0, 1], pa.int8())
TYPES = {
    "bool": pa.array([True, None, False, True]),
    "binary": pa.array([b"a", None, b"", b"ccc"]),
    "fixed-size binary": pa.array([b"ab", None, b"cd", b"ef"], pa.binary(2)),
    "large string": pa.array(["a", None, "", "ä"], pa.large_string()),
    "string view": pa.array(["short", None, "longer than the twelve bytes of a view", "x"], pa.string_view()),
    "list": pa.array([[1], None, [], [2, None]]),
    "large list": pa.array([["a"], None, [], ["b", None]], pa.large_list(pa.string())),
    "list view": pa.array([[1], None, [], [2, None]], pa.list_view(pa.int64())),
    "list of nulls": pa.array([[None], None, [], [None, None]]),
    "fixed-size list": pa.array([[1, 2], None, [3, None], [4, 5]], pa.list_(pa.int8(), 2)),
    "map": pa.array([[("k", 1)], None, [], [("l", None)]], pa.map_(pa.string(), pa.int64())),
    "struct": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": None}, {"a": 2, "b": ""}]),
    "null": pa.nulls(ROWS),
    "dictionary": pa.array(["a", None, "b", "a"]).dictionary_encode(),
    "dictionary of nulls": pa.DictionaryArray.from_arrays([0, None, 0, 1], pa.nulls(2)),
    "dictionary in a list": pa.ListArray.from_arrays([0, 1, 1, 2, 4], pa.array(list("abca")).dictionary_encode()),
    "decimal": pa.array([1, None, 2, 3], pa.decimal128(5, 2)),
    "time of day": pa.array([1, None, 2, 3], pa.time32("s")),
    "interval": pa.array([None, (1, 2, 3), None, (4, 5, 6)], pa.month_day_nano_interval()),
    "run-end encoded": pa.RunEndEncodedArray.from_arrays([3, 4], pa.array(["a", "b"])),
    "sparse union": pa.UnionArray.from_sparse(KINDS, [pa.array([1, 2, 3, 4]), pa.array(list("abcd"))]),
    "dense union": pa.UnionArray.from_dense(KINDS, pa.array([0, 0, 1, 1], pa.int32()), [TWO, TWO.cast(pa.string())]),
    "JSON": pa.array(["{}", None, "1", "[]"]).cast(pa.json_()),
}


def pieces(library: str) -> Iterator[tuple[str, bytes, Callable[[bytes, str | None], Any]]]:
    """Yields a name, an encoded table, and a function that decodes it as a table of a library."""
    tables = {}
    if library == "dask":
        from partd_go.dask import blocks

        for name, values in (VALUES | HARD).items():
            frame = pd.DataFrame({"a": values})
            layout = blocks.layout_of(frame)
            if "pickle" not in layout.forms:
                ((_, _, piece),) = next(blocks.split(frame, layout, np.zeros(ROWS, np.int64), None))
                yield (
                    name,
                    b"".join(piece),
                    lambda data, kind, layout=layout: blocks.join(layout, [memoryview(data)], None),
                )
        return
    if library == "pandas":
        for name, values in (VALUES | HARD).items():
            frame = pd.DataFrame({"a": values})
            tables[name] = frame
            if name != "float16":  # pandas has no such indexes
                tables[f"{name}, as the index"] = frame.set_index("a").assign(b=1)
        tables["labels of different types"] = pd.DataFrame([[1, 2]], columns=pd.Index(["a", 1], dtype=object))
        tables["series"] = pd.Series([1], name="s").to_frame()
    elif library == "pyarrow":
        tables |= {name: pa.table({"a": values}) for name, values in TYPES.items()}
    else:
        for name in TYPES:
            try:
                tables[name] = pl.from_arrow(pa.table({"a": TYPES[name]}))
            except Exception:  # polars has no such type
                continue
        tables["categories"] = pl.DataFrame({"a": pl.Series(list("abca"), dtype=pl.Categorical)})
    for name, table in tables.items():
        for compression in (None, "lz4"):
            with contextlib.suppress(partd_go.SchemaMismatch):  # Arrow cannot store this type
                data = bytes(arrow.encode(table, compression))
                yield f"{name}, {compression}", data, lambda data, kind: arrow.decode(data, "key", kind)


def damage(library: str, seed: str, seconds: str) -> None:
    """Prints each case before it runs, then the number of results of each kind."""
    limit = 8 << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    warnings.simplefilter("ignore")
    r, results = random.Random(seed), collections.Counter()
    cases = []
    for name, data, decode in pieces(library):
        decode(data, None)
        cases += [(name, data, decode, position) for position in r.sample(range(len(data)), min(len(data), 4000))]
    r.shuffle(cases)
    end = time.monotonic() + float(seconds)
    for name, data, decode, position in cases:
        damaged = bytearray(data)
        damaged[position] ^= r.choice([1 << r.randrange(8), 0xFF])
        arrowsafe._SMALL = r.choice([-1, 1000])  # each of the two ways of checking
        os.write(1, f"{name}, byte {position}: {damaged[position]}\n".encode())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            got = decode(bytes(damaged), r.choice([None, None, *arrow.KINDS]))
            with contextlib.suppress(BaseException):  # a value out of range makes polars panic
                repr(got)
            kind = "table"
        except (partd_go.Error, MemoryError):
            kind = "error"
        growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert growth < 512 << 10, f"{growth} KiB of memory"
        results[kind] += 1
        if time.monotonic() > end:
            break
    print(f"{len(cases)} cases, {dict(results)}")


@pytest.mark.parametrize("library", ["pandas", "pyarrow", "polars", *(["dask"] if find_spec("dask") else [])])
def test_damaged_bytes(library):
    seed, seconds = str(random.randrange(10**6)), os.environ.get("PARTD_FLIP_SECONDS", "5")
    child = subprocess.run(
        [sys.executable, __file__, library, seed, seconds],
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    last = child.stdout.splitlines()[-2:]
    assert child.returncode == 0, f"seed {seed}, exit code {child.returncode}, {last}, {child.stderr[-2000:]}"
    assert "'error'" in last[-1]
    print(last[-1])


if __name__ == "__main__":
    damage(*sys.argv[1:])


@pytest.mark.parametrize("plain", [True, False])
def test_zoned_times_before_1677(plain):
    """pandas 2 ends the process when it shows such a time. A flipped bit can make one."""
    times = pa.array([-62135596800, None], pa.int64()).cast(pa.timestamp("s", "Europe/Berlin"))
    table = pa.table({"a": times if plain else times.dictionary_encode()})
    decode = "from partd_go import arrow; import sys; repr(arrow.decode(sys.stdin.buffer.read(), 'k', 'pandas'))"
    child = subprocess.run([sys.executable, "-c", decode], input=bytes(arrow.encode(table)), capture_output=True)
    if pd.__version__ < "3":
        assert (
            child.returncode == 1
            and b"SchemaMismatch: the times in the zone Europe/Berlin begin before" in child.stderr
        )
    else:
        assert child.returncode == 0, child.stderr
    assert arrow.decode(bytes(arrow.encode(table)), "k").equals(table)

"""Measures how a peer handles time series, with data from pandas.

series.py make DIR ROUNDS ROWS MORE writes DIR/base.parquet and the files to append.
series.py pystore|arcticdb DIR ROUNDS TABLES prints seconds, results and sizes on disk as JSON.
"""

import json
import os
import statistics
import sys
import tempfile
import time

import pandas as pd

what, directory, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
STEP = pd.Timedelta("100ms")


def file(name):
    return os.path.join(directory, name + ".parquet")


def make(rows, more):
    import numpy as np

    random, at = np.random.default_rng(1), pd.Timestamp("2026-01-01")

    def part(n):
        nonlocal at
        index = pd.date_range(at, periods=n, freq=STEP, name="at")
        at += n * STEP
        price = 100 + random.standard_normal(n).cumsum() / 100
        columns = {"price": price, "bid": price - 0.01, "ask": price + 0.01, "size": random.integers(1, 1000, n)}
        return pd.DataFrame(columns, index=index.astype("datetime64[ns]"))

    part(rows).to_parquet(file("base"))
    for size in (1, 1000, more):
        for i in range(rounds):
            part(size).to_parquet(file(f"more-{size}-{i}"))
    part(100).to_parquet(file("small"))


def median(work, n=rounds):
    """Returns the median time and the last result."""
    times = []
    for i in range(n):
        start = time.perf_counter()
        result = work(i)
        times.append(time.perf_counter() - start)
    return statistics.median(times), result


def measure(peer, base, tables, file_sizes):
    """Measures a peer's operations. base determines the range to read; file_sizes returns the sizes of all files on
    disk."""
    seconds, results = {}, {}
    sizes = sorted({int(f.split("-")[1]) for f in os.listdir(directory) if f.startswith("more-")})
    peer.write("series", base)
    for size in sizes:
        parts = [pd.read_parquet(file(f"more-{size}-{i}")) for i in range(rounds)]
        seconds[f"append {size}"], _ = median(lambda i: peer.append("series", parts[i]))
    begin = base.index[len(base) // 2]
    end = begin + STEP * (len(base) // 100)
    seconds["range"], got = median(lambda i: peer.range("series", begin, end, ["price", "size"]))
    results["range rows"], results["range sum"] = len(got), float(got["price"].sum() + got["size"].sum())
    seconds["resample"], got = median(lambda i: peer.resample("series"))
    results["bins"], results["bins sum"] = len(got), float(got.sum())
    seconds["resample and write"], _ = median(lambda i: peer.write("bins", peer.resample("series").to_frame()))
    prices = sum(file_sizes())
    small = pd.read_parquet(file("small"))
    seconds["tables"], _ = median(lambda i: [peer.write(f"t{n}", small, {"group": n % 10}) for n in range(tables)], 1)
    seconds["find"], got = median(lambda i: peer.find("group", 7))
    results["found"] = len(got)
    results["rows"] = peer.rows("series")
    return seconds, results, prices


class PyStore:
    def __init__(self, place):
        import datetime

        import pystore

        pystore.utils.timezone = datetime.timezone  # pystore 1.0.1 uses this attribute, but does not set it
        pystore.set_path(place)
        self.all = pystore.store("bench").collection("b")

    def write(self, name, data, metadata=None):
        # Without npartitions, pystore 1.0.1 fails on a series that is shorter than a partition.
        self.all.write(name, data, metadata=metadata or {}, overwrite=True, npartitions=1 + len(data) // 1_000_000)

    def append(self, name, data):
        self.all.append(name, data, npartitions=1 + self.rows(name) // 1_000_000)

    def range(self, name, begin, end, columns):
        # After an append, the index has no known divisions, so .loc fails. Only filters
        # reduce the part of the file that is read.
        filters = [("at", ">=", begin), ("at", "<", end)]
        return self.all.item(name, columns=columns, filters=filters).to_pandas()

    def resample(self, name):
        return self.all.item(name, columns=["price"]).to_pandas()["price"].resample("1min").mean()

    def find(self, key, value):
        return self.all.list_items(**{key: value})

    def rows(self, name):
        return len(self.all.item(name).data)


class Arctic:
    def __init__(self, place):
        import arcticdb

        self.builder = arcticdb.QueryBuilder
        self.all = arcticdb.Arctic(f"lmdb://{place}?map_size=8GB").get_library("b", create_if_missing=True)

    def write(self, name, data, metadata=None):
        self.all.write(name, data, metadata=metadata)

    def append(self, name, data):
        self.all.append(name, data)

    def range(self, name, begin, end, columns):
        return self.all.read(name, date_range=(begin, end - pd.Timedelta(1)), columns=columns).data

    def resample(self, name):
        query = self.builder().resample("1min").agg({"price": "mean"})
        return self.all.read(name, query_builder=query).data["price"]

    def find(self, key, value):
        return [s for s in self.all.list_symbols() if (self.all.read_metadata(s).metadata or {}).get(key) == value]

    def rows(self, name):
        return self.all.get_description(name).row_count


if what == "make":
    make(int(sys.argv[4]), int(sys.argv[5]))
else:
    with tempfile.TemporaryDirectory(dir=directory) as place:
        peer = {"pystore": PyStore, "arcticdb": Arctic}[what](place)

        def file_sizes():
            return [os.stat(os.path.join(d, f)).st_blocks * 512 for d, _, names in os.walk(place) for f in names]

        seconds, results, prices = measure(peer, pd.read_parquet(file("base")), int(sys.argv[4]), file_sizes)
        print(
            json.dumps(
                {
                    "seconds": seconds,
                    "results": results,
                    "prices": prices,
                    "bytes": sum(file_sizes()),
                    "files": len(file_sizes()),
                }
            )
        )

"""Measures how partd_go.tables, DuckDB and polars put, aggregate, resample and join a CSV of trades.

    python python/bench/analyse.py --megabytes 500 --rounds 5

The programs take turns at each step and must return the same results. Each run is a new process. The output shows the
medians over the rounds: the time in seconds, and the peak memory in MB of the process and its children.

On two idle cores (AMD64, 24 GiB; pyarrow and pandas of the tests, DuckDB 2.0.0, polars 2.1.0), 507 MB:

              partd_go            duckdb              polars
    put       12.20 s  1187 MB     3.37 s   606 MB     8.56 s   422 MB
    aggregate  0.30 s   213 MB     0.11 s   179 MB     0.34 s   220 MB
    resample   0.70 s   187 MB     0.19 s   294 MB     0.41 s   144 MB
    join       1.11 s   775 MB     0.10 s   152 MB     0.31 s   221 MB
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv

SYMBOLS = 500
SUM = "SELECT sym, count(*) AS n, sum(size) AS size, max(price) AS price FROM {} GROUP BY sym ORDER BY sym"
BIN = (
    "SELECT time_bucket(INTERVAL '1 hour', ts) AS ts, max(price) "
    "AS price, min(price) AS low FROM {} GROUP BY 1 ORDER BY 1"
)
JOIN = "SELECT sector, count(*) AS n, sum(size) AS size FROM {} JOIN {} USING (sym) GROUP BY sector ORDER BY sector"
STEPS = ("put", "aggregate", "resample", "join")


def make(path: Path, megabytes: int) -> None:
    """Writes a CSV of about the given size, and next to it a CSV of the symbols' sectors."""
    rng, rows, has_header = np.random.default_rng(0), 200_000, True
    names = np.array([f"S{n:03}" for n in range(SYMBOLS)])
    start_time = np.datetime64("2024-01-01T00:00:00", "ms")
    with open(path, "wb") as file:
        while file.tell() < megabytes * 10**6:
            times = start_time + np.arange(rows) * np.timedelta64(250, "ms")
            columns = {
                "ts": times,
                "sym": names[rng.integers(0, SYMBOLS, rows)],
                "price": rng.integers(1, 10**6, rows) / 100,
                "size": rng.integers(1, 1000, rows),
                "venue": names[rng.integers(0, 9, rows)],
            }
            pa.csv.write_csv(pa.table(columns), file, pa.csv.WriteOptions(include_header=has_header))
            start_time, has_header = times[-1] + np.timedelta64(250, "ms"), False
    pa.csv.write_csv(
        pa.table({"sym": names, "sector": [f"sector {n % 11}" for n in range(SYMBOLS)]}), path.with_name("sectors.csv")
    )


def partd(csv: Path, directory: Path, step: str):
    import partd_go.tables

    with partd_go.tables.connect(directory) as tables:
        yield
        if step == "put":
            tables.put("sectors", csv.with_name("sectors.csv"))
            tables.put("trades", csv, settings={"time": "ts"})
            yield tables.describe("trades")["Rows"]
        elif step == "resample":
            tables.resample("trades", "hours", "1h", "ts", ["max", "min"], columns=["price"], mode="replace")
            yield len(tables.get("hours", as_="arrow"))
        else:
            text = SUM.format("trades") if step == "aggregate" else JOIN.format("trades", "sectors")
            yield tables.sql(text, as_="arrow")["n"].to_pylist()


def duckdb(csv: Path, directory: Path, step: str):
    import duckdb

    with duckdb.connect(str(directory / "trades.db")) as con:
        yield
        if step == "put":
            for name, file in (("trades", csv), ("sectors", csv.with_name("sectors.csv"))):
                con.execute(f"CREATE TABLE {name} AS FROM read_csv('{file}')")
            yield con.execute("SELECT count(*) FROM trades").fetchall()[0][0]
        elif step == "resample":
            con.execute(f"CREATE OR REPLACE TABLE hours AS {BIN.format('trades')}")
            yield len(con.sql("FROM hours").to_arrow_table())
        else:
            text = SUM.format("trades") if step == "aggregate" else JOIN.format("trades", "sectors")
            yield con.sql(text).to_arrow_table()["n"].to_pylist()


def polars(csv: Path, directory: Path, step: str):
    import polars as pl

    trades, sectors = directory / "trades.parquet", directory / "sectors.parquet"
    yield
    lazy = pl.scan_parquet(trades)
    if step == "put":
        pl.scan_csv(csv, try_parse_dates=True).sink_parquet(trades)
        pl.scan_csv(csv.with_name("sectors.csv")).sink_parquet(sectors)
        yield pl.scan_parquet(trades).select(pl.len()).collect().item()
    elif step == "resample":
        hours = lazy.group_by(pl.col("ts").dt.truncate("1h")).agg(price=pl.max("price"), low=pl.min("price")).sort("ts")
        hours.sink_parquet(directory / "hours.parquet")
        yield pl.scan_parquet(directory / "hours.parquet").collect().height
    elif step == "aggregate":
        symbols = lazy.group_by("sym").agg(n=pl.len(), size=pl.sum("size"), price=pl.max("price")).sort("sym")
        yield symbols.collect()["n"].to_list()
    else:
        joined = (
            lazy.join(pl.scan_parquet(sectors), on="sym")
            .group_by("sector")
            .agg(n=pl.len(), size=pl.sum("size"))
            .sort("sector")
        )
        yield joined.collect()["n"].to_list()


# Each function yields twice: first when it is ready, and then the step's result. measure() times what happens between.
PROGRAMS = {"partd_go": partd, "duckdb": duckdb, "polars": polars}


def measure(program: str, csv: Path, directory: Path, step: str) -> None:
    """Runs one step. Prints its time, peak memory and result."""
    me, peak, stopped = psutil.Process(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stopped.wait(0.02):
            total = 0
            for process in (me, *me.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue  # the process has ended
            peak = max(peak, total)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        steps = PROGRAMS[program](csv, directory, step)
        next(steps)
        start = time.perf_counter()
        result = next(steps)
        seconds = time.perf_counter() - start
        steps.close()
    finally:
        stopped.set()
        watcher.join()
    print(json.dumps({"seconds": seconds, "bytes": peak, "result": result}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", help="directory for the CSV and the tables (default: a temporary one)")
    parser.add_argument("--step", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        program, csv, directory, step = options.step
        measure(program, Path(csv), Path(directory), step)
        return
    runs: dict[tuple[str, str], list[dict]] = {}
    with tempfile.TemporaryDirectory(dir=options.directory) as base:
        csv = Path(base, "trades.csv")
        make(csv, options.megabytes)
        print(
            f"{os.path.getsize(csv) / 1e6:.0f} MB of CSV, medians of {options.rounds}; {os.cpu_count()} cores",
            flush=True,
        )
        for round_number in range(options.rounds):
            directories = {program: Path(base, f"{program}{round_number}") for program in PROGRAMS}
            for step in STEPS:
                for program, program_directory in directories.items():
                    program_directory.mkdir(exist_ok=True)
                    command = [sys.executable, __file__, "--step", program, str(csv), str(program_directory), step]
                    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
                    runs.setdefault((step, program), []).append(json.loads(output.splitlines()[-1]))
                results = [runs[step, program][-1]["result"] for program in PROGRAMS]
                assert all(result == results[0] for result in results), (step, results)
            for program_directory in directories.values():
                subprocess.run(["rm", "-rf", str(program_directory)], check=True)
    for step in STEPS:
        cells = []
        for program in PROGRAMS:
            seconds, memory = (
                statistics.median(run[key] for run in runs[step, program]) for key in ("seconds", "bytes")
            )
            cells.append(f"{program} {seconds:7.2f} s {memory / 1e6:6.0f} MB")
        print(f"{step:10}" + "   ".join(cells))


if __name__ == "__main__":
    main()

"""Compares how fast partd_go.tables and pyarrow's Flight client put and get a DataFrame on the same server.

    python python/bench/tables.py --megabytes 1000 --rounds 3

The clients take turns. The program prints the best rate of each client in MB/s, and the ratio of the rates.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.flight as flight

import partd_go.tables


def timed(call):
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def pyarrow_put(client, frame):
    table = pa.Table.from_pandas(frame)
    writer, answer = client.do_put(
        flight.FlightDescriptor.for_command(json.dumps({"name": "theirs", "mode": "replace"})), table.schema
    )
    with writer:
        writer.write_table(table, max_chunksize=1 << 16)
        writer.done_writing()
        answer.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    rows = options.megabytes * 10**6 // 64
    frame = pd.DataFrame({f"c{n}": rng.random(rows) if n % 2 else rng.integers(0, 10**6, rows) for n in range(8)})
    best: dict[tuple[str, str], float] = {}
    with tempfile.TemporaryDirectory() as directory, partd_go.tables.serve(directory, port=0) as server:
        client = flight.connect(server.url)
        with partd_go.tables.connect(server.url) as tables:
            for _ in range(options.rounds):
                calls = {
                    ("put", "pyarrow"): lambda: pyarrow_put(client, frame),
                    ("put", "partd_go"): lambda: tables.put("ours", frame, "replace"),
                    ("get", "pyarrow"): lambda: (
                        client.do_get(flight.Ticket(json.dumps({"name": "theirs"}))).read_all().to_pandas()
                    ),
                    ("get", "partd_go"): lambda: tables.get("ours"),
                }
                for name, call in calls.items():
                    seconds, result = timed(call)
                    best[name] = min(best.get(name, seconds), seconds)
                    if name[0] == "get":
                        pd.testing.assert_frame_equal(result, frame)
                    del result  # free its memory before the next call
    for operation in ("put", "get"):
        rates = {name: options.megabytes / best[operation, name] for name in ("pyarrow", "partd_go")}
        print(
            f"{operation}: pyarrow {rates['pyarrow']:.0f} MB/s, partd_go {rates['partd_go']:.0f} MB/s, ratio "
            f"{rates['partd_go'] / rates['pyarrow']:.2f}"
        )


if __name__ == "__main__":
    main()

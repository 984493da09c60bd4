"""Compares two builds of partd-tables, which take turns: `select *` and `select 1` over Flight SQL, and a get.

    cd tables && go build -o /tmp/new ./cmd/partd-tables   # and /tmp/old from another commit
    "${XDG_CACHE_HOME:-$HOME/.cache}/partd-peers/adbc/bin/python" bench/inturns.py /tmp/old /tmp/new

Prints the medians of seven rounds (--rounds), and the second build's time divided by the first build's time.
"""

import argparse
import contextlib
import statistics
import subprocess
import tempfile
import time

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pyarrow.flight as flight


@contextlib.contextmanager
def serving(program, rows):
    """Yields the operations to measure, by name, on a new server."""
    with tempfile.TemporaryDirectory() as dir:
        server = subprocess.Popen(
            [program, "serve", "--listen", "grpc://127.0.0.1:0", "--dir", dir],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            for line in server.stdout:
                if "grpc://127.0.0.1:" in line:
                    break
            address = "grpc://127.0.0.1:" + line.split("grpc://127.0.0.1:")[1].split()[0].strip('",.')
            client = flight.connect(address)
            table = pa.table(
                {
                    "a": pa.array(range(rows)),
                    "b": pa.array(range(rows), pa.float64()),
                    "c": [f"text of {i % 1000}" for i in range(rows)],
                }
            )
            writer, _ = client.do_put(
                flight.FlightDescriptor.for_command(b'{"name":"t","mode":"replace"}'), table.schema
            )
            writer.write_table(table, max_chunksize=65536)
            writer.done_writing()
            writer.close()
            with flightsql.connect(address, autocommit=True) as con, con.cursor() as cur:

                def sql(statement):
                    cur.execute(statement)
                    return cur.fetch_arrow_table().num_rows

                def small():
                    return sum(sql("select 1") for _ in range(50)) * rows // 50

                yield {
                    "select *": lambda: sql("select * from t"),
                    "50 × select 1": small,
                    "get": lambda: client.do_get(flight.Ticket(b'{"name":"t"}')).read_all().num_rows,
                }
        finally:
            server.terminate()
            server.wait()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("programs", nargs=2)
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--rows", type=int, default=3_000_000)
    o = p.parse_args()
    with serving(o.programs[0], o.rows) as one, serving(o.programs[1], o.rows) as other:
        durations = {name: ([], []) for name in one}
        for round_number in range(o.rounds + 1):
            for name, times in durations.items():
                for calls, all in zip((one, other), times):
                    start = time.monotonic()
                    if calls[name]() != o.rows:
                        raise SystemExit(f"{name} did not return {o.rows} rows")
                    if round_number:  # the first round warms up
                        all.append(time.monotonic() - start)
        for name, times in durations.items():
            a, b = map(statistics.median, times)
            print(f"{name}: {a * 1000:.0f} ms, {b * 1000:.0f} ms: {b / a:.2f}")


main()

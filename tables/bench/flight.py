"""Puts and gets the same rows with our server and shoots' server, which take turns.

flight.py PORT DIR ROUNDS ROWS PID prints, as JSON, the seconds of each call and the CPU seconds of the server.
PORT and PID are our server's port and process ID. DIR is a directory for temporary files."""

import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from shoots import ShootsClient
from pyarrow import flight

port, directory, rounds, rows, pid = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
with socket.socket() as free:
    free.bind(("localhost", 0))
    their_port = free.getsockname()[1]
shoots = subprocess.Popen(
    [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "shoots.shoots_server",
        "--port",
        str(their_port),
        "--bucket_dir",
        os.path.join(directory, "shoots"),
    ],
    stdout=subprocess.DEVNULL,
)
random = np.random.default_rng(1)
table = pa.table({f"c{i}": random.standard_normal(rows) for i in range(50)})


def cpu_seconds(pid):
    """Returns the CPU seconds that a process has used."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def put(client, name, batch):
    command = json.dumps({"name": name, "mode": "replace", "bucket": "bench", "batch_size": batch}).encode()
    writer, _ = client.do_put(flight.FlightDescriptor.for_command(command), table.schema)
    with writer:
        writer.write_table(table, batch)


def get(client, name):
    got = client.do_get(flight.Ticket(json.dumps({"name": name, "bucket": "bench"}).encode())).read_all()
    if got.num_rows != rows:
        sys.exit(f"got {got.num_rows} rows, want {rows}")


def sql(client, name):
    statement = f"SELECT * FROM {name}"
    got = client.do_get(
        flight.Ticket(json.dumps({"name": name, "bucket": "bench", "sql": statement}).encode())
    ).read_all()
    if got.num_rows != rows:
        sys.exit(f"got {got.num_rows} rows, want {rows}")


def parquet(_, name):
    pq.write_table(table, os.path.join(directory, name), compression="zstd")


try:
    for _ in range(100):
        try:
            their_client = ShootsClient("localhost", their_port)
            their_client.ping()
            break
        except Exception:
            time.sleep(0.2)
    servers = {"ours": (ShootsClient("localhost", port).client, pid), "shoots": (their_client.client, shoots.pid)}
    calls = {
        "put": lambda c: put(c, "t", 5000),
        "put in one message": lambda c: put(c, "t", rows),
        "get": lambda c: get(c, "t"),
        "get by SQL": lambda c: sql(c, "t"),
    }
    result = {}
    for name, call in calls.items():
        times = {}
        for _ in range(rounds):
            for server, (client, server_pid) in servers.items():
                start, cpu = time.perf_counter(), cpu_seconds(server_pid)
                call(client)
                times.setdefault(server, []).append((time.perf_counter() - start, cpu_seconds(server_pid) - cpu))
        result[name] = {s: [statistics.median(v) for v in zip(*t)] for s, t in times.items()}
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    parquet(None, "t.parquet")
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    result["pyarrow.parquet.write_table, zstd"] = {"alone": [time.perf_counter() - start, cpu]}
    print(json.dumps(result))
finally:
    shoots.kill()

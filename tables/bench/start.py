"""Measures programs from their start to their first result, on a store with many tables, in turns with DuckDB and
DuckLake.

    cd tables && go build -o /tmp/partd-tables ./cmd/partd-tables
    "${XDG_CACHE_HOME:-$HOME/.cache}/partd-peers/ducklake/bin/python" bench/start.py /tmp/partd-tables

Each run is a new process. DuckLake is timed within its process, without the start of Python, which imports DuckDB
first. Prints the median wall and CPU times of each job. At the end, prints the memory and CPU time of a server without
calls.
"""

import argparse
import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import pyarrow as pa
import pyarrow.flight as flight

LAKE = """import importlib.util, pathlib, sys, time, resource, duckdb
package = pathlib.Path(importlib.util.find_spec("duckdb_extension_ducklake").origin).parent
cpu, start = time.process_time(), time.perf_counter()
db = duckdb.connect()
db.execute(f"load '{next(package.rglob('*.duckdb_extension'))}'")
db.execute(f"attach 'ducklake:{sys.argv[1]}/lake.db' as lake (data_path '{sys.argv[1]}/lake')")
for sql in sys.argv[2:]:
    db.execute(sql).fetchall()
print(time.perf_counter() - start, time.process_time() - cpu)"""


def serve(program, directory):
    """Starts a server. Returns its process, and the line with its address."""
    server = subprocess.Popen(
        [program, "serve", "--listen", "grpc://127.0.0.1:0", "--dir", directory],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return server, next(line for line in server.stdout if "grpc://127.0.0.1:" in line)


def measure_idle(program, directory, seconds):
    """Prints what a server uses while nobody calls it."""
    start = time.perf_counter()
    server, _ = serve(program, directory)
    print(f"start of {os.path.basename(program)} serve: {1000 * (time.perf_counter() - start):.0f} ms")

    def cpu():
        fields = open(f"/proc/{server.pid}/stat").read().rsplit(")")[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    time.sleep(10)
    before = cpu()
    time.sleep(seconds)
    used = 100 * (cpu() - before) / seconds
    memory = {
        key: int(value.split()[0]) // 1024
        for key, value in (line.split(":", 1) for line in open(f"/proc/{server.pid}/status"))
        if key.startswith("Rss")
    }
    print(
        f"{os.path.basename(program)} serve without calls: {used:.2f} % of a core; {memory['RssAnon']} MiB of its "
        f"own, {memory['RssFile']} MiB of mapped files"
    )
    server.terminate()
    server.communicate()


def create(program, directory, tables):
    """Creates tables of one row each in our store, through a server, and in DuckLake."""
    start = time.perf_counter()
    server, line = serve(program, directory + "/ours")
    with flight.connect("grpc://127.0.0.1:" + line.split("grpc://127.0.0.1:")[1].split()[0].strip('",.')) as client:
        row = pa.table({"a": [1]})
        for i in range(tables):
            writer, _ = client.do_put(
                flight.FlightDescriptor.for_command(b'{"name":"t%d","mode":"append"}' % i), row.schema
            )
            writer.write_table(row)
            writer.close()
    server.terminate()
    server.communicate()
    between = time.perf_counter()
    creations = [f"create table lake.t{i} as select 1 as a" for i in range(tables)]
    for i in range(0, tables, 500):  # the arguments of a process are limited
        subprocess.run(
            [sys.executable, "-c", LAKE, directory, "begin", *creations[i : i + 500], "commit"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    print(
        f"{tables} tables created in {between - start:.0f} s; DuckLake: {time.perf_counter() - between:.0f} s, in "
        "transactions of 500",
        flush=True,
    )


def run(command):
    """Returns the wall and CPU seconds of a command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    elapsed, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    p = argparse.ArgumentParser()
    p.add_argument("programs", nargs="+", help="builds of partd-tables")
    p.add_argument("--tables", type=int, default=10_000)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--idle", type=float, default=60, help="seconds for which a server without calls is measured")
    o = p.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        create(o.programs[0], directory, o.tables)
        first = f"t{o.tables // 2}"
        jobs = {}
        for program in o.programs:
            jobs[program, "version"] = lambda program=program: run([program, "version"])
            for sql in ("SELECT 1", f"SELECT count(*) FROM {first}", f"SELECT a + 1 FROM {first}"):
                jobs[program, sql] = lambda program=program, sql=sql: run(
                    [program, "sql", sql, "--dir", directory + "/ours"]
                )
        cli = os.path.join(importlib.util.find_spec("duckdb_cli").submodule_search_locations[0], "duckdb")
        jobs["DuckDB's command line", "SELECT 1"] = lambda: run([cli, "-c", "SELECT 1"])
        for sql in ("SELECT 1", f"SELECT a + 1 FROM lake.{first}"):
            jobs["DuckLake", sql] = lambda sql=sql: map(
                float, subprocess.check_output([sys.executable, "-c", LAKE, directory, sql]).split()
            )
        times = {job: [] for job in jobs}
        for _ in range(o.rounds):
            for job, measure in jobs.items():
                times[job].append(tuple(measure()))
        for (program, what), all in times.items():
            wall, cpu = (1000 * statistics.median(t) for t in zip(*all))
            print(f"{what}, {os.path.basename(program)}: {wall:.0f} ms, {cpu:.0f} ms of CPU time")
        for program in o.programs:
            measure_idle(program, directory + "/empty", o.idle)


main()

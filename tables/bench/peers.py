"""Measures a peer: peers.py PEER DIR ROUNDS WHAT [METADATA] prints the seconds of each operation as JSON.

WHAT is bulk, upsert, stream, writers, statements, fetch, hits, one or resample. DIR/rows.parquet has the rows,
DIR/changes.parquet the rows to upsert, and DIR/hits.parquet the rows for hits. METADATA is the metadata file of one of
our tables, for the peer duckiceberg.
"""

import contextlib
import importlib.util
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

peer, directory, rounds, what = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
rows = os.path.join(directory, "rows.parquet")
FILTER = "where sym = 'S7' and price > 50"
TOKEN = "measured"


def median(work, n=rounds):
    times = []
    for i in range(n):
        start = time.perf_counter()
        work(i)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def load(db, *extensions):
    """Loads extensions, which are files in packages from PyPI."""
    for name in extensions:
        package = pathlib.Path(importlib.util.find_spec(f"duckdb_extension_{name}").origin).parent
        db.execute(f"load '{next(package.rglob('*.duckdb_extension'))}'")
    return db


def serve(port):
    """Runs Quack's server of a database file until standard input ends."""
    import duckdb

    db = load(duckdb.connect(os.path.join(directory, "t.db")), "httpfs", "quack")
    db.execute(f"call quack_serve('quack:localhost:{port}', token = '{TOKEN}')")
    print("serving", flush=True)
    sys.stdin.read()


@contextlib.contextmanager
def quack(place):
    """Starts Quack's server in a new process. Yields a function that connects to it."""
    import duckdb

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]

    def connect():
        db = load(duckdb.connect(), "httpfs", "quack")
        db.execute(f"attach 'quack:localhost:{port}' as remote (type quack, token '{TOKEN}')")
        return db

    command = [sys.executable, __file__, "quack", place, "0", "serve", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        if server.stdout.readline() != "serving\n":
            sys.exit("Quack's server did not start")
        yield connect
        server.stdin.close()


@contextlib.contextmanager
def connect_peer(place):
    """Yields a connection to the peer, and the prefix of table names."""
    import duckdb

    if peer == "quack":
        with quack(place) as connect:
            yield connect(), "remote."
    elif peer == "ducklake":
        db = load(duckdb.connect(), "ducklake")
        db.execute(f"attach 'ducklake:{place}/lake.db' as lake (data_path '{place}/lake')")
        yield db, "lake."
    else:
        db = load(duckdb.connect(os.path.join(place, "t.db")), *["avro", "iceberg"] * (peer == "duckiceberg"))
        yield db, ""


def measure_bulk(place):
    import pyarrow.parquet as pq

    if peer == "pyarrow":
        table = pq.read_table(rows)
        target = os.path.join(place, "t.parquet")
        filters = [("sym", "=", "S7"), ("price", ">", 50)]
        return {
            "append": median(lambda i: pq.write_table(table, target, compression="zstd")),
            "read": median(lambda i: pq.read_table(target, columns=["price"], filters=filters)),
        }
    with connect_peer(place) as (db, prefix):
        if peer == "duckiceberg":
            source, result = f"iceberg_scan('{sys.argv[5]}')", {}
        else:
            db.register("trades", pq.read_table(rows))
            result = {
                "append": median(lambda i: db.execute(f"create or replace table {prefix}t as select * from trades"))
            }
            source = f"read_parquet('{rows}')" if peer == "duckdb" else prefix + "t"
        query = f"select price from {source} {FILTER}"
        if peer == "quack":  # remote.query sends the filter to the server; a query of remote.t would not
            query = "from remote.query('" + query.replace("remote.", "").replace("'", "''") + "')"
        return result | {"read": median(lambda i: db.sql(query).to_arrow_table())}


def measure_upsert(place):
    changes = os.path.join(directory, "changes.parquet")
    times = []
    with connect_peer(place) as (db, prefix):
        for _ in range(rounds):
            db.execute(f"create or replace table {prefix}t as from read_parquet('{rows}')")
            start = time.perf_counter()
            db.execute(
                f"merge into {prefix}t using read_parquet('{changes}') as c using (\"at\") when matched then update "
                "when not matched then insert"
            )
            times.append(time.perf_counter() - start)
    return {"upsert": statistics.median(times)}


def measure_stream(place):
    """Returns the median time to append and commit a batch."""
    import pyarrow.parquet as pq

    batches = 100
    with connect_peer(place) as (db, prefix):
        db.register("batch", pq.read_table(rows))
        db.execute(f"create table {prefix}t as select * from batch limit 0")
        elapsed = median(lambda i: db.execute(f"insert into {prefix}t select * from batch"), batches)
    return {{"duckdb": "DuckDB", "ducklake": "DuckLake", "quack": "Quack"}[peer]: elapsed}


def time_per_call(calls, seconds):
    """Repeats all calls concurrently for some seconds, each in its own thread. Returns the elapsed time divided by the
    number of calls."""
    completed = [0] * len(calls)

    def repeat(k):
        while time.perf_counter() < end:
            calls[k]()
            completed[k] += 1

    start = time.perf_counter()
    end = start + seconds
    threads = [threading.Thread(target=repeat, args=(k,)) for k in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not all(completed):
        sys.exit(f"{peer}: one of {len(calls)} clients completed no call")
    return (time.perf_counter() - start) / sum(completed)


def measure_writers(place):
    """Commits single rows over one connection and, with a server, over eight. The keys of the
    result name the number of writers, and whether each wrote to its own table ("each") or all to one ("one")."""
    values = "values (timestamp '2026-01-01', 'S7', 50.5, 7)"
    schema = '("at" timestamp, sym varchar, price double, size bigint)'
    with contextlib.ExitStack() as stack:
        if peer == "quack":
            connect = stack.enter_context(quack(place))
            clients, insert = (
                [connect() for _ in range(8)],
                lambda t: f"call remote.query('insert into {t} " + values.replace("'", "''") + "')",
            )
            db, prefix, counts = clients[0], "remote.", (1, 8)
        else:
            db, prefix = stack.enter_context(connect_peer(place))
            clients, insert, counts = [db], lambda t: f"insert into {prefix}{t} {values}", (1,)
        for k in range(len(clients)):
            db.execute(f"create table {prefix}t{k} {schema}")
        results = {(n, own_tables): [] for n in counts for own_tables in (False, True) if n > 1 or not own_tables}
        for _ in range(rounds):
            for (n, own_tables), times in results.items():
                statements = [insert(f"t{k if own_tables else 0}") for k in range(n)]
                times.append(time_per_call([lambda db=db, s=s: db.execute(s) for db, s in zip(clients, statements)], 2))
        return {
            f"{n} {'each' if own_tables else 'one'}": statistics.median(times)
            for (n, own_tables), times in results.items()
        }


@contextlib.contextmanager
def adbc_lookups(_):
    """Yields eight functions that look up rows on our server, and eight that do so by a prepared statement."""
    import adbc_driver_flightsql.dbapi as flightsql

    with contextlib.ExitStack() as stack:
        connect = lambda: stack.enter_context(
            flightsql.connect(f"grpc://localhost:{sys.argv[5]}", autocommit=True)
        ).cursor()

        def execute(cursor, *statement):
            cursor.execute(*statement)
            return cursor.fetch_arrow_table()

        yield {
            "": [
                lambda id, c=connect(): execute(c, f"select id, value from b.points where id = {id}") for _ in range(8)
            ],
            " prepared": [
                lambda id, c=connect(): execute(c, "select id, value from b.points where id = ?", (id,))
                for _ in range(8)
            ],
        }


@contextlib.contextmanager
def quack_lookups(place):
    with quack(place) as connect:
        clients = [connect() for _ in range(8)]
        clients[0].execute(f"create table remote.points as from read_parquet('{rows}')")
        yield {
            "": [
                lambda id, db=db: db.sql(
                    f"from remote.query('select id, value from points where id = {id}')"
                ).to_arrow_table()
                for db in clients
            ]
        }


@contextlib.contextmanager
def shoots_lookups(place):
    import pyarrow.parquet as pq
    from pyarrow import flight
    from shoots import ShootsClient

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "shoots.shoots_server", "--port", str(port), "--bucket_dir", place]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(Exception):
                ShootsClient("localhost", port).ping()
                break
            time.sleep(0.2)
        clients = [ShootsClient("localhost", port).client for _ in range(8)]
        table = pq.read_table(rows)
        descriptor = flight.FlightDescriptor.for_command(
            json.dumps({"name": "points", "mode": "replace", "bucket": "b", "batch_size": 131072}).encode()
        )
        writer, _ = clients[0].do_put(descriptor, table.schema)
        with writer:
            writer.write_table(table, 131072)

        def lookup(client, id):
            ticket = {"name": "points", "bucket": "b", "sql": f"select id, value from points where id = {id}"}
            return client.do_get(flight.Ticket(json.dumps(ticket).encode())).read_all()

        yield {"": [lambda id, c=c: lookup(c, id) for c in clients]}
    finally:
        server.kill()


def measure_statements(place):
    """Looks up single rows with one and with eight clients. The keys of the result name the number of clients and the
    kind of statement."""
    import random

    import pyarrow.parquet as pq

    count = pq.read_metadata(rows).num_rows

    def check(lookup):
        id = random.randrange(count)
        if lookup(id).column("id").to_pylist() != [id]:
            sys.exit(f"{peer}: looking up {id} did not return its row")

    with {"adbc": adbc_lookups, "quack": quack_lookups, "shoots": shoots_lookups}[peer](place) as lookups:
        calls = {kind: [lambda f=f: check(f) for f in functions] for kind, functions in lookups.items()}
        times = {f"{n}{kind}": [] for kind in calls for n in (1, 8)}
        for _ in range(rounds):
            for kind, functions in calls.items():
                for n in (1, 8):
                    times[f"{n}{kind}"].append(time_per_call(functions[:n], 1))
        return {key: statistics.median(t) for key, t in times.items()}


def measure_fetch(place):
    import pyarrow.parquet as pq

    count = pq.read_metadata(rows).num_rows

    def fetch(_):
        got = all_rows()
        if got.num_rows != count:
            sys.exit(f"{peer}: fetched {got.num_rows} rows, want {count}")

    with contextlib.ExitStack() as stack:
        if peer == "adbc":
            import adbc_driver_flightsql.dbapi as flightsql

            cursor = stack.enter_context(flightsql.connect(f"grpc://localhost:{sys.argv[5]}", autocommit=True)).cursor()

            def all_rows():
                cursor.execute("select * from b.points")
                return cursor.fetch_arrow_table()
        else:
            db = stack.enter_context(quack(place))()
            db.execute(f"create table remote.points as from read_parquet('{rows}')")

            def all_rows():
                return db.sql("from remote.query('select * from points')").to_arrow_table()

        return {"fetch": median(fetch)}


def hits(place):
    """Runs the queries of hits.sql and returns their rows as strings."""
    queries = pathlib.Path(__file__).with_name("hits.sql").read_text().split(";")[:-1]
    with connect_peer(place) as (db, prefix):
        db.execute("set memory_limit = '4GB'")
        start = time.perf_counter()
        if peer == "duckiceberg":
            db.execute(f"create view hits as from iceberg_scan('{sys.argv[5]}')")
        else:
            db.execute(f"create table {prefix}hits as from read_parquet('{directory}/hits.parquet')")
        result = {
            "load": time.perf_counter() - start,
            "version": db.execute("select version()").fetchone()[0],
            "rows": [],
            "seconds": [],
        }
        files = [os.stat(os.path.join(d, f)).st_blocks * 512 for d, _, names in os.walk(place) for f in names]
        result["bytes"] = sum(files)
        if prefix:
            db.execute("use lake")
        for query in queries:
            result["rows"].append(db.execute(f"select columns(*)::varchar from ({query})").fetchall())
            result["seconds"].append(median(lambda i, query=query: db.execute(query).fetchall()))
        return result


def resample(place):
    import pandas as pd

    def resampled(function):
        prices = pd.read_parquet(rows, columns=["at", "price"]).set_index("at")
        result = getattr(prices["price"].resample("s"), function)()
        pd.DataFrame(result).to_parquet(os.path.join(place, "t.parquet"))

    return {f: median(lambda i, f=f: resampled(f)) for f in ("mean", "ohlc", "median")}


def pyiceberg(place):
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyiceberg.catalog import load_catalog

    catalog = load_catalog("bench", type="sql", uri=f"sqlite:///{place}/catalog.db", warehouse=f"file://{place}")
    catalog.create_namespace("b")
    table = pa.table({"x": [1], "s": ["a"]}) if what == "one" else pq.read_table(rows)
    created = catalog.create_table("b.t", table.schema)
    if what == "bulk":
        appended = median(lambda i: created.append(table))
        read = median(
            lambda i: created.scan(selected_fields=("price",), row_filter="sym = 'S7' and price > 50").to_arrow()
        )
        return {
            "append": appended,
            "read": read / rounds,
        }  # every round appended the same rows, so the table holds `rounds` copies of them
    if what == "upsert":
        changes, times = pq.read_table(os.path.join(directory, "changes.parquet")), []
        for i in range(rounds):
            changed = catalog.create_table(f"b.t{i}", table.schema)
            changed.append(table)
            start = time.perf_counter()
            changed.upsert(changes, join_cols=["at"])
            times.append(time.perf_counter() - start)
        return {"upsert": statistics.median(times)}
    created.append(table)
    return {"commit" if what == "one" else "Iceberg, by pyiceberg": median(lambda i: created.append(table))}


if what == "serve":
    serve(sys.argv[5])
else:
    works = {
        "bulk": measure_bulk,
        "upsert": measure_upsert,
        "stream": measure_stream,
        "writers": measure_writers,
        "statements": measure_statements,
        "fetch": measure_fetch,
        "hits": hits,
        "resample": resample,
    }
    with tempfile.TemporaryDirectory(dir=directory) as place:
        print(json.dumps((pyiceberg if peer == "pyiceberg" else works[what])(place)))

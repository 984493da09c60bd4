"""Measures a peer: peers.py PEER DIR ROUNDS [bulk|stream] prints seconds as JSON."""
import json
import os
import statistics
import sys
import tempfile
import time

peer, directory, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
bulk, stream = sys.argv[4:] == ["bulk"], sys.argv[4:] == ["stream"]
rows = os.path.join(directory, "rows.parquet")


def median(work):
    times = []
    for i in range(rounds):
        start = time.perf_counter()
        work(i)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def appended(db, batch, batches=100):
    """The time of a batch that is appended and committed, of some in a row."""
    db.execute("create table t as select * from batch limit 0")
    start = time.perf_counter()
    for _ in range(batches):
        db.execute("insert into t select * from batch")
    return (time.perf_counter() - start) / batches


def ducklake(place):
    """A lake in DuckDB, whose extension comes from PyPI."""
    import importlib.util
    import pathlib

    import duckdb

    lake = duckdb.connect()
    package = pathlib.Path(importlib.util.find_spec("duckdb_extension_ducklake").origin).parent
    lake.execute(f"load '{next(package.rglob('*.duckdb_extension'))}'")
    lake.execute(f"attach 'ducklake:{place}/lake.db' as lake (data_path '{place}/lake'); use lake")
    return lake


with tempfile.TemporaryDirectory(dir=directory) as place:
    if stream and peer == "duckdb":
        import duckdb
        import pyarrow.parquet as pq

        result = {"DuckDB": appended(duckdb.connect(os.path.join(place, "t.db")), pq.read_table(rows))}
    elif peer == "ducklake":
        import pyarrow.parquet as pq

        result = {"DuckLake": appended(ducklake(place), pq.read_table(rows))}
    elif peer == "pyarrow":
        import pyarrow.parquet as pq

        table = pq.read_table(rows)
        target = os.path.join(place, "t.parquet")
        wanted = [("sym", "=", "S7"), ("price", ">", 50)]
        result = {
            "append": median(lambda i: pq.write_table(table, target, compression="zstd")),
            "read": median(lambda i: pq.read_table(target, columns=["price"], filters=wanted)),
        }
    elif peer == "pandas":
        import pandas as pd

        def resampled(function):
            prices = pd.read_parquet(rows, columns=["at", "price"]).set_index("at")
            result = getattr(prices["price"].resample("s"), function)()
            pd.DataFrame(result).to_parquet(os.path.join(place, "t.parquet"))

        result = {f: median(lambda i: resampled(f)) for f in ("mean", "ohlc", "median")}
    elif peer == "duckdb":
        import duckdb
        import pyarrow.parquet as pq

        trades = pq.read_table(rows)
        db = duckdb.connect(os.path.join(place, "t.db"))
        result = {
            "append": median(lambda i: db.execute("create or replace table t as select * from trades")),
            "read": median(lambda i: db.execute(f"select price from read_parquet('{rows}') where sym = 'S7' and price > 50").to_arrow_table()),
        }
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq
        from pyiceberg.catalog import load_catalog

        catalog = load_catalog("bench", type="sql", uri=f"sqlite:///{place}/catalog.db", warehouse=f"file://{place}")
        catalog.create_namespace("b")
        table = pq.read_table(rows) if bulk or stream else pa.table({"x": [1], "s": ["a"]})
        made = catalog.create_table("b.t", table.schema)
        if bulk:
            result = {
                "append": median(lambda i: made.append(table)),
                "read": median(lambda i: made.scan(selected_fields=("price",), row_filter="sym = 'S7' and price > 50").to_arrow()) / rounds,
            }
        else:
            made.append(table)
            result = {"commit" if not stream else "Iceberg, by pyiceberg": median(lambda i: made.append(table))}
print(json.dumps(result))

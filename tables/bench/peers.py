"""Measures a peer: peers.py PEER DIR ROUNDS [bulk] prints seconds as JSON."""
import json
import os
import statistics
import sys
import tempfile
import time

peer, directory, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
bulk = sys.argv[4:] == ["bulk"]
rows = os.path.join(directory, "rows.parquet")


def median(work):
    times = []
    for i in range(rounds):
        start = time.perf_counter()
        work(i)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


with tempfile.TemporaryDirectory(dir=directory) as place:
    if peer == "pyarrow":
        import pyarrow.parquet as pq

        table = pq.read_table(rows)
        target = os.path.join(place, "t.parquet")
        wanted = [("sym", "=", "S7"), ("price", ">", 50)]
        result = {
            "append": median(lambda i: pq.write_table(table, target, compression="zstd")),
            "read": median(lambda i: pq.read_table(target, columns=["price"], filters=wanted)),
        }
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
        table = pq.read_table(rows) if bulk else pa.table({"x": [1], "s": ["a"]})
        made = catalog.create_table("b.t", table.schema)
        if bulk:
            result = {
                "append": median(lambda i: made.append(table)),
                "read": median(lambda i: made.scan(selected_fields=("price",), row_filter="sym = 'S7' and price > 50").to_arrow()) / rounds,
            }
        else:
            made.append(table)
            result = {"commit": median(lambda i: made.append(table))}
print(json.dumps(result))

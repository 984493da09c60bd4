"""Writes the same rows as Parquet files with other programs, with and without page indexes."""

import pathlib
import random
import sys

import datafusion
import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq

out = pathlib.Path(sys.argv[1])
r = random.Random(int(sys.argv[2]))
n = 30_000
odd = [float("nan"), -0.0, 0.0, float("inf"), float("-inf")]


def column(kind, value):
    """Returns values in runs, some of them null, sorted or in random order."""
    run, order = r.choice([1, 40, 3000]), r.choice(["up", "down", "any"])
    values = [value(i) for i in range(n // run + 1)]
    if order != "any":
        values.sort(key=lambda v: (v != v, v), reverse=order == "down")
    nulls = r.choice([0, 0.1, 0.5])
    empty = [r.random() < nulls for _ in range(n // 1500 + 1)]
    return pa.array([None if empty[i // 1500] or r.random() < nulls / 9 else values[i // run] for i in range(n)], kind)


wide = "p" * 70
rows = pa.table({
    "n": column(pa.int64(), lambda i: r.choice([-(2**63), 2**63 - 1, i, -i])),
    "i": column(pa.int32(), lambda i: r.choice([-(2**30), 2**30 - 1, i, -i])),  # arrow-go refuses DuckDB's deltas beyond 32 bits
    "f": column(pa.float64(), lambda i: r.choice(odd + [i, -i, 0.1])),
    "g": column(pa.float32(), lambda i: r.choice(odd + [i, -i])),
    "t": column(pa.string(), lambda i: r.choice(["", wide, wide + str(i), str(i), "\U0010ffff" * 30 + str(i), "é\0" + str(i)])),
    "s": column(pa.string(), lambda i: r.choice(["a", "b", "", "é" * 50])),
    "b": column(pa.binary(), lambda i: r.choice([b"", b"\xff" * 80, b"\xff" * 80 + bytes([i % 256]), bytes([i % 256, 0])])),
    "d": column(pa.date32(), lambda i: i - n // 2),
    "at": column(pa.timestamp("us"), lambda i: (i - n // 2) * 10**9),
})
for index in (False, True):
    for version in ("1.0", "2.0"):
        pq.write_table(rows, out / f"pyarrow-{index}-{version}.parquet", write_page_index=index, data_page_version=version, row_group_size=12_000, data_page_size=1000, write_batch_size=100)
pq.write_table(rows, out / "pyarrow-plain.parquet", write_page_index=True, use_dictionary=False, row_group_size=12_000, data_page_size=4000, write_batch_size=200, column_encoding={"n": "DELTA_BINARY_PACKED", "t": "DELTA_BYTE_ARRAY", "s": "DELTA_LENGTH_BYTE_ARRAY", "f": "BYTE_STREAM_SPLIT"})
duckdb.sql(f"COPY rows TO '{out}/duckdb.parquet' (ROW_GROUP_SIZE 10240)")
duckdb.sql(f"COPY rows TO '{out}/duckdb2.parquet' (ROW_GROUP_SIZE 10240, PARQUET_VERSION V2)")
polars.from_arrow(rows).write_parquet(out / "polars.parquet", row_group_size=9000, data_page_size=2000)
context = datafusion.SessionContext()
context.register_record_batches("rows", [rows.to_batches(max_chunksize=3000)])
for name, more in (("datafusion", ""), ("datafusion-2", ", 'format.writer_version' '2.0', 'format.dictionary_enabled' 'false'")):
    context.sql(f"COPY rows TO '{out}/{name}.parquet' STORED AS PARQUET OPTIONS ('format.max_row_group_size' '12000', 'format.data_page_row_count_limit' '500', 'format.statistics_enabled' 'page'{more})").collect()

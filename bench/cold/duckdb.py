# A job of DuckDB: see main.go. It generates the entries, writes 256 partitions as Parquet files, and
# groups the values of each partition. The arguments are the number of entries, of keys, the
# distribution of the keys, and DuckDB's memory limit in bytes.
import json
import resource
import sys
import time
import duckdb

entries, keys, dist, memory = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
key = f"floor(random() * {keys})" if dist == "uniform" else f"floor(exp(random() * ln({keys} + 1))) - 1"
value = "left(" + " || ".join(f"hash(i + {n})" for n in range(6)) + " || repeat('0', 50), 100)"
db = duckdb.connect()
for setting in [
    f"memory_limit = '{memory // 1000}kB'",
    "threads = 2",
    "temp_directory = 'tmp'",
    "preserve_insertion_order = false",
    "partitioned_write_max_open_files = 256",
    "enable_progress_bar = false",
]:
    db.execute("SET " + setting)
start = time.monotonic()
db.execute(f"""COPY (SELECT k % 256 AS part, format('k{{:010d}}', k) AS key, value
    FROM (SELECT ({key})::BIGINT AS k, {value} AS value FROM range({entries}) r(i)))
    TO 'parts' (FORMAT parquet, PARTITION_BY (part), COMPRESSION uncompressed)""")
middle, total = time.monotonic(), 0
for part in range(min(keys, 256)):
    total += db.execute(f"""SELECT sum(length(v)) FROM (SELECT string_agg(value, '') AS v
        FROM read_parquet('parts/part={part}/*.parquet') GROUP BY key)""").fetchone()[0]
if total != 100 * entries:
    sys.exit(f"read {total} bytes of {100 * entries}")
usage, end = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
io = dict(line.split(": ") for line in open("/proc/self/io"))
print(
    json.dumps(
        {
            "AppendSec": middle - start,
            "ReadSec": end - middle,
            "CPUSec": usage.ru_utime + usage.ru_stime,
            "Written": int(io["write_bytes"]) - int(io["cancelled_write_bytes"]),
            "P99Micros": 0,
            "InputBytes": total,
        }
    )
)

"""Runs SQL over Parquet files, named as a list of JSON."""
import json
import sys

import duckdb

files = json.loads(sys.argv[1])
query = sys.argv[2].replace("FILES", "read_parquet([" + ", ".join("'" + f + "'" for f in files) + "])")
for row in duckdb.sql(query).fetchall():
    print(json.dumps(row, default=str))

"""Runs SQL over the Parquet files in a JSON list. It finds columns by Iceberg's IDs, because
the files encode some names."""
import json
import sys

import duckdb

files, query, columns = json.loads(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
fields = ", ".join(f"{i}: {{name: '{name}', type: '{kind}', default_value: NULL}}" for i, (name, kind) in columns.items())
names = ", ".join("'" + f + "'" for f in files)
query = query.replace("FILES", f"read_parquet([{names}], schema=MAP {{{fields}}})")
for row in duckdb.sql(query).fetchall():
    print(json.dumps(row, default=str))

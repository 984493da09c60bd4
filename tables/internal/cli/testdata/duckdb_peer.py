"""Runs SQL over Parquet files, named as a list of JSON. Columns go by Iceberg's
ids: in the files some names are written in another way."""
import json
import sys

import duckdb

files, query, columns = json.loads(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
fields = ", ".join(f"{i}: {{name: '{name}', type: '{kind}', default_value: NULL}}" for i, (name, kind) in columns.items())
names = ", ".join("'" + f + "'" for f in files)
query = query.replace("FILES", f"read_parquet([{names}], schema=MAP {{{fields}}})")
for row in duckdb.sql(query).fetchall():
    print(json.dumps(row, default=str))

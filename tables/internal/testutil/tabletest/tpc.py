"""Generates the tables and queries of TPC-H or TPC-DS with DuckDB: tpc.py KIND SCALE DIR [answers].

It writes a Parquet file for each table to DIR/tables, the queries in order to DIR/queries.json, and
with answers, DuckDB's results as Arrow IPC streams to DIR/answers.
"""

import glob
import json
import os
import sys

import duckdb
import duckdb_extension_tpcds
import duckdb_extension_tpch
import pyarrow as pa

kind, scale, dir = sys.argv[1:4]
module = {"tpch": duckdb_extension_tpch, "tpcds": duckdb_extension_tpcds}[kind]
(extension,) = glob.glob(os.path.dirname(module.__file__) + "/**/*.duckdb_extension", recursive=True)
os.makedirs(dir + "/tables")
os.makedirs(dir + "/answers")
con = duckdb.connect()
con.execute(f"LOAD '{extension}'")
con.execute(f"CALL {'dbgen' if kind == 'tpch' else 'dsdgen'}(sf={scale})")
queries = con.execute(f"SELECT query FROM {kind}_queries() ORDER BY query_nr").fetchall()
with open(dir + "/queries.json", "w") as f:
    json.dump([sql.strip().rstrip(";") for (sql,) in queries], f)
for (table,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall():
    con.execute(f"COPY {table} TO '{dir}/tables/{table}.parquet' (FORMAT parquet)")
    con.execute(f"DROP TABLE {table}")
    con.execute(f"CREATE VIEW {table} AS SELECT * FROM '{dir}/tables/{table}.parquet'")
for i, (sql,) in enumerate(queries if "answers" in sys.argv else []):
    answer = con.execute(sql).to_arrow_table()
    with pa.ipc.new_stream(f"{dir}/answers/{i + 1}.arrow", answer.schema) as w:
        w.write_table(answer)

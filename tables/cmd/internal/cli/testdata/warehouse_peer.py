"""Reads a warehouse's table with pyiceberg, and with DuckDB through pyiceberg, and appends a row.

usage: warehouse_peer.py DATABASE-URL S3-ENDPOINT WAREHOUSE TABLE
"""
import sys

import pyarrow
from pyiceberg.catalog import load_catalog

uri, endpoint, warehouse, name = sys.argv[1:]
catalog = load_catalog("partd", **{
    "type": "sql", "uri": uri.replace("postgres://", "postgresql+psycopg2://", 1), "warehouse": warehouse,
    "py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO",  # the gateway does not support pyarrow's multipart uploads
    "s3.endpoint": endpoint, "s3.region": "us-east-1", "s3.access-key-id": "user", "s3.secret-access-key": "secretsecret",
})
table = catalog.load_table(name)
print(sorted(table.scan().to_arrow()["n"].to_pylist()))
print(table.scan().to_duckdb("t").sql("SELECT count(*), sum(n)::BIGINT FROM t").fetchall())
table.append(pyarrow.table({"n": [1000]}, schema=table.schema().as_arrow()))

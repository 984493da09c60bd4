"""Reads each Parquet file of a directory with pyarrow and with DuckDB, and compares the rows
with the Arrow file next to it."""

import pathlib
import sys

import duckdb
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

BITS = {pa.float32(): pa.int32(), pa.float64(): pa.int64()}


def columns(table, schema):
    """Returns the columns, with floats as bits, because NaN does not equal itself."""
    for column in table.cast(schema).combine_chunks().columns:
        whole = pa.concat_arrays(column.chunks)
        yield whole.view(BITS[whole.type]) if whole.type in BITS else whole


def check(name, program, got, want):
    for field, a, b in zip(want.schema, columns(got, want.schema), columns(want, want.schema), strict=True):
        if not a.equals(b):
            sys.exit(f"{name}, {field}: {program} reads {a}, want {b}")


for path in sorted(pathlib.Path(sys.argv[1]).glob("*.parquet")):
    want = pa.ipc.open_file(path.with_suffix(".arrow")).read_all()
    check(path.name, "pyarrow", pa.parquet.read_table(path), want)
    check(path.name, "DuckDB", duckdb.sql(f"from read_parquet('{path}')").to_arrow_table(), want)

"""Writes a table as Parquet, and prints random conditions with the rows for which they are
true in DuckDB, each as a line of JSON."""
import datetime as dt
import json
import random
import sys
from decimal import Decimal as D

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

path, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
R = random.Random(seed)
n = 60


def col(vals, t):
    return pa.array([R.choice(vals) for _ in range(n)], t)


t = pa.table({
    "id": pa.array(range(n), pa.int64()),
    "i": col([None, 1, 2, -5, 300], pa.int32()),
    "u": col([None, 2**64 - 1, 0, 7], pa.uint64()),
    "x": col([None, 1.0, 1.5, -2.0, float("nan"), float("inf"), -0.0, 0.0], pa.float64()),
    "f": col([None, 0.5, 2.0, -0.0], pa.float32()),
    "s": col([None, "a", "b", "", "é", "it's", 'q"'], pa.string()),
    "b": col([None, True, False], pa.bool_()),
    "d": col([None, dt.date(1970, 1, 1), dt.date(1970, 1, 2), dt.date(1969, 12, 31)], pa.date32()),
    "t": col([None, 0, 1000000, 1500000, -1], pa.timestamp("us")),
    "z": col([None, 0, 1000000, -1, 3600000000], pa.timestamp("us", tz="UTC")),
    "m": col([None, D("0.1"), D("0.2"), D("-5.0"), D("12345678.9")], pa.decimal128(9, 1)),
    "c": col([None, 0, 43200000000, 1], pa.time64("us")),
})
literals = {
    "i": ["1", "2", "1.5", "-3", "70000000000"], "u": ["7", "18446744073709551615", "0", "3.5"], "x": ["1", "1.5", "-2", "0", "-0.0"], "f": ["0.5", "2", "0"],
    "s": ["'a'", "''", "'é'", "'it''s'", "'q\"'"], "b": ["true", "false"], "d": ["'1970-01-02'", "'1969-12-31'"],
    "t": ["'1970-01-01 00:00:01'", "'1970-01-01 00:00:01.5'", "'1969-12-31 23:59:59.999999'"], "z": ["'1970-01-01 00:00:01+00:00'", "'1970-01-01 02:00:00+01:00'"],
    "m": ["0.1", "0.15", "-5", "1000000"], "c": ["'12:00:00'", "'00:00:00.000001'"],
}
types = {"d": "DATE ", "t": "TIMESTAMP ", "z": "TIMESTAMPTZ ", "c": "TIME "}


def expression(depth):
    """Returns an expression, and the same expression for DuckDB."""
    k = R.randrange(6)
    if depth and k < 2:
        a, b = expression(depth - 1), expression(depth - 1)
        op = R.choice([" and ", " or "])
        return tuple("(" + l + op + r + ")" for l, r in zip(a, b))
    if depth and k == 2:
        return tuple("not " + e for e in expression(depth - 1))
    c = R.choice(list(literals))
    kind = R.randrange(5)
    if kind == 0:
        return (c + R.choice([" is null", " is not null"]),) * 2
    if kind == 1:
        op = c + R.choice([" in (", " not in ("])
        a, b = R.choice(literals[c]), R.choice(literals[c])
        return op + a + "," + b + ")", op + types.get(c, "") + a + "," + types.get(c, "") + b + ")"
    op, l = c + R.choice([" = ", " != ", " < ", " <= ", " > ", " >= "]), R.choice(literals[c])
    if c == "x" and ">" in op:  # DuckDB orders NaN above all numbers
        return op + l, f"(case when x is null then null when isnan(x) then false else {op + l} end)"
    return op + l, op + types.get(c, "") + l


pq.write_table(t, path)
duckdb.sql("set timezone='UTC'")
for _ in range(count):
    ours, theirs = expression(3)
    ids = [r[0] for r in duckdb.sql(f"select id from t where {theirs} order by id").fetchall()]
    print(json.dumps({"where": ours, "ids": ids}))

"""Runs a query of the db-benchmark with polars' streaming engine, from CSV files to a CSV file."""

import json
import sys

import polars as pl

question = json.loads(sys.argv[1])
types = {"VARCHAR": pl.String, "INT": pl.Int32, "DOUBLE": pl.Float64}
tables = [
    pl.scan_csv(t["path"], schema={c: types[kind] for c, kind in zip(t["columns"], t["types"])})
    for t in question["tables"]
]
aggregates = {
    "sum": pl.sum,
    "mean": pl.mean,
    "median": pl.median,
    "stddev": pl.std,
    "max": pl.max,
    "min": pl.min,
    "count": pl.len,
    "largest2": lambda c: pl.col(c).top_k(2),
    "regr_r2": lambda y, x: pl.corr(y, x) ** 2,
}

if on := question["on"]:
    answer = tables[0].join(tables[1], on=on, how=question["how"])
    answer = answer.select(on, pl.exclude(on))
else:
    x, columns = tables[0], []
    for i, text in enumerate(question["aggregates"]):
        name, _, arguments = text.rstrip(")").partition("(")
        columns.append(aggregates[name](*filter(None, arguments.split(","))).alias(f"a{i}"))
        if name == "largest2":
            x = x.drop_nulls(arguments)
    answer = x.group_by(question["keys"]).agg(columns)
    if "largest2(v3)" in question["aggregates"]:
        answer = answer.explode("a0")
answer.sink_csv(question["out"], engine="streaming")

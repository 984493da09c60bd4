#!/usr/bin/env python3
import os

import pyarrow.compute as pc
from common_partd import column, data_name, rows_of, run

x = os.path.join("data", data_name + ".csv")
in_rows = rows_of(x)
print(in_rows, flush=True)


def group(question, by, aggregates, *totals):
    run(question, ["group", "--by", by, "--agg", aggregates, x], totals, in_rows)


group("sum v1 by id1", "id1", "sum(v1)", column("sum(v1)"))  # q1
group("sum v1 by id1:id2", "id1,id2", "sum(v1)", column("sum(v1)"))  # q2
group("sum v1 mean v3 by id3", "id3", "sum(v1),mean(v3)", column("sum(v1)"), column("mean(v3)"))  # q3
group("mean v1:v3 by id4", "id4", "mean(v1),mean(v2),mean(v3)", *(column(f"mean(v{i})") for i in (1, 2, 3)))  # q4
group("sum v1:v3 by id6", "id6", "sum(v1),sum(v2),sum(v3)", *(column(f"sum(v{i})") for i in (1, 2, 3)))  # q5
group(
    "median v3 sd v3 by id4 id5", "id4,id5", "median(v3),stddev(v3)", column("median(v3)"), column("stddev(v3)")
)  # q6
# partd has no arithmetic on aggregates, so the answer has both columns.
group(
    "max v1 - min v2 by id3", "id3", "max(v1),min(v2)", lambda b: pc.subtract(b.column("max(v1)"), b.column("min(v2)"))
)  # q7
# The answer has whole records, so it is wider than others.
run("largest two v3 by id6", ["top", "--per", "id6", "--by", "v3:n", "-n", "2", x], [column("v3")], in_rows)  # q8
group("regression v1 v2 by id2 id4", "id2,id4", "regr_r2(v1,v2)", column("regr_r2(v1,v2)"))  # q9
group("sum v3 count by id1:id6", "id1,id2,id3,id4,id5,id6", "sum(v3),count", column("sum(v3)"), column("count"))  # q10

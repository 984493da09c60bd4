#!/usr/bin/env python3
import os

from common_partd import column, data_name, join_to_tbls, rows_of, run

x, small, medium, big = (os.path.join("data", name + ".csv") for name in (data_name, *join_to_tbls(data_name)))
in_rows = rows_of(x)
print(in_rows, flush=True)


def join(question, on, how, right):
    run(question, ["join", "--on", on, "--how", how, x, right], [column("v1"), column("v2")], in_rows)


join("small inner on int", "id1", "inner", small)  # q1
join("medium inner on int", "id2", "inner", medium)  # q2
join("medium outer on int", "id2", "left", medium)  # q3
join("medium inner on factor", "id5", "inner", medium)  # q4
join("big inner on int", "id3", "inner", big)  # q5

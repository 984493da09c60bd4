"""Runs the statements from standard input, one per line, in DuckLake. Prints the net changes of table t since the
snapshot after each line, as a list of [kind, k, v] for each line."""

import collections
import glob
import json
import os
import sys

import duckdb

db = duckdb.connect()
extensions = glob.glob(os.path.join(sys.prefix, "lib", "python3*", "site-packages", "duckdb_extension_*", "extensions", "v*", "*.duckdb_extension"))
for extension in extensions:
    db.execute(f"LOAD '{extension}'")
db.execute(f"ATTACH 'ducklake:{sys.argv[1]}/lake.db' AS lake (DATA_PATH '{sys.argv[1]}/lake')")
db.execute("USE lake")
snapshots = []
for statement in sys.stdin:
    db.execute(statement)
    snapshots.append(db.execute("SELECT max(snapshot_id) FROM lake.snapshots()").fetchone()[0])
answers = []
for first in snapshots:
    net = collections.Counter()
    for kind, k, v in db.execute(f"SELECT change_type, k, v FROM lake.table_changes('t', {first + 1}, {snapshots[-1]})").fetchall() if first < snapshots[-1] else []:
        net[k, v] += 1 if kind in ("insert", "update_postimage") else -1
    answers.append(sorted(["insert" if n > 0 else "delete", k, v] for (k, v), n in net.items() for _ in range(abs(n))))
print(json.dumps(answers))

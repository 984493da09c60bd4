"""Keeps a copy of the table changes.source in DuckDB up to date: asks for the changes since the copy's version, applies
them, and stores the new version in the same transaction. It may be killed at any time."""

import json
import sys

import duckdb
import pyarrow.flight as flight

url, file, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = flight.connect(url)
db = duckdb.connect(file)
db.execute("CREATE TABLE IF NOT EXISTS copy (k BIGINT, v DOUBLE)")
db.execute("CREATE TABLE IF NOT EXISTS cursor (version BIGINT, uuid VARCHAR)")


def changes(version, uuid):
    call = {"partd": "changes", "bucket": "changes", "name": "source", "since": {"version": version}, "uuid": uuid}
    return client.do_get(flight.Ticket(json.dumps(call).encode())).read_all()


for _ in range(rounds):
    version, uuid = db.execute("SELECT * FROM cursor").fetchone() or (0, "")
    db.execute("BEGIN")
    try:
        changed = changes(version, uuid)
    except Exception as error:
        if "start again" not in str(error):
            raise
        db.execute("DELETE FROM copy")
        changed = changes(0, "")
        print("started again", flush=True)
    db.execute(
        """DELETE FROM copy WHERE rowid IN (
               SELECT c.rowid FROM (SELECT rowid, row_number() OVER (PARTITION BY k, v) AS number, k, v FROM copy) AS c
               JOIN (SELECT k, v, count(*) AS count FROM changed WHERE _change IN ('delete', 'update_before') GROUP BY ALL) AS d
               ON c.k IS NOT DISTINCT FROM d.k AND c.v IS NOT DISTINCT FROM d.v AND c.number <= d.count)"""
    )
    db.execute("INSERT INTO copy SELECT k, v FROM changed WHERE _change IN ('insert', 'update_after')")
    metadata = changed.schema.metadata
    db.execute("DELETE FROM cursor")
    db.execute("INSERT INTO cursor VALUES (?, ?)", [int(metadata[b"partd.version"]), metadata[b"partd.uuid"].decode()])
    db.execute("COMMIT")
    print(version, flush=True)
print(json.dumps(db.execute("SELECT k, v FROM copy ORDER BY ALL").fetchall()), flush=True)

"""Runs queries with parameters, ingests tables and lists the catalog with ADBC, and prints the results as one JSON object."""

import json
import sys

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa

url, token = sys.argv[1:]
options = {"adbc.flight.sql.authorization_header": "Bearer " + token}
results = {}


def record_error(name, call):
    try:
        call()
        results[name] = "no error"
    except Exception as e:
        results[name] = type(e).__name__ + " " + str(e)


rows = pa.table({"n": [1, 2, 3], "s": ["a", None, "c"]})
with flightsql.connect(url, db_kwargs=options, autocommit=True) as con:

    def ingest(table, **arguments):
        with con.cursor() as cur:  # a cursor remembers its db_schema_name
            return cur.adbc_ingest(table, rows, **arguments)

    results["ingested"] = [
        ingest("t", mode="create"),
        ingest("t", mode="append"),
        ingest("u", mode="create_append", db_schema_name="b"),
        ingest("u", mode="replace", db_schema_name="b"),
    ]
    record_error("exists", lambda: ingest("t", mode="create"))
    record_error("missing", lambda: ingest("x", mode="append"))
    record_error("temporary", lambda: ingest("x", mode="create", temporary=True))
with flightsql.connect(url, db_kwargs=options, autocommit=True) as con, con.cursor() as cur:
    cur.execute('SELECT s, sum(n) AS n FROM t JOIN "b".u USING (n, s) GROUP BY s ORDER BY s NULLS LAST')
    results["joined"] = cur.fetch_arrow_table().to_pydict()
    results["parameters"] = []
    for n in (1, 2):
        cur.execute("SELECT n, s FROM t WHERE n > ? AND s IS NOT NULL ORDER BY n", (n,))
        results["parameters"].append(cur.fetchall())
    results["untyped"] = []
    for statement, values in (
        ("SELECT n FROM t WHERE s LIKE ?", ("a%",)),
        ("SELECT n FROM t WHERE n = ? OR ? IS NULL", (3, 1)),
        ("SELECT n, ? AS run FROM t WHERE n < 2", ("r1",)),
        ("SELECT ? AS x", (2.5,)),
        ("SELECT coalesce(?, 1) AS x", (2,)),
    ):
        cur.execute(statement, values)
        results["untyped"].append(cur.fetchall())
    cur.execute("SELECT i, 'some text' AS t FROM range(300000) r(i)")
    results["many"] = sum(b.num_rows for b in cur.fetch_record_batch())
    results["about"] = []
    for statement in "DESCRIBE t", 'DESCRIBE "b".u', "EXPLAIN SELECT n FROM t", "SELECT arrow_typeof(n), arrow_typeof(s) FROM t LIMIT 1":
        cur.execute(statement)
        results["about"].append([[column[0] for column in cur.description][:2], [row[:2] for row in cur.fetchall() if "explain" not in cur.description[0][0]]])
    record_error("wrong", lambda: cur.execute("SELECT n\nFROM t WHERE nn = 1"))
    results["types"] = con.adbc_get_table_types()
    results["vendor"] = con.adbc_get_info()["vendor_name"]
    results["schema"] = str(con.adbc_get_table_schema("t"))
    objects = con.adbc_get_objects(depth="all").read_all().to_pylist()
    results["objects"] = [
        [c["catalog_name"], s["db_schema_name"], t["table_name"], [f["column_name"] for f in t["table_columns"]]]
        for c in objects
        for s in c["catalog_db_schemas"]
        for t in s["db_schema_tables"]
    ]
wide = pa.table({"b": [b"x" * (20 << 20)]})
options["adbc.flight.sql.client_option.with_max_msg_size"] = str(64 << 20)
with flightsql.connect(url, db_kwargs=options, autocommit=True) as con, con.cursor() as cur:
    results["wide"] = cur.adbc_ingest("wide", wide, mode="create")
print(json.dumps(results, sort_keys=True))

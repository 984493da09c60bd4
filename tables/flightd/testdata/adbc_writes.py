"""Changes tables by SQL with ADBC's dbapi and with SQLAlchemy, and prints the results as one JSON object."""

import json
import sys
import warnings

import adbc_driver_flightsql.dbapi as flightsql
import sqlalchemy

url, token = sys.argv[1:]
options = {"adbc.flight.sql.authorization_header": "Bearer " + token}
results = {}


def error(call):
    try:
        call()
        return "no error"
    except Exception as e:
        return type(e).__name__ + " " + str(e)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the driver warns that there are no transactions
    con = flightsql.connect(url, db_kwargs=options)
with con, con.cursor() as cur:

    def changed(sql, *parameters):
        cur.execute(sql, *parameters)
        return cur.rowcount

    results["dbapi"] = [
        changed("CREATE TABLE t (id BIGINT, s VARCHAR, price DOUBLE)"),
        changed("CREATE TABLE big AS SELECT range AS id, 'x' || range AS s, range / 4 AS price FROM range(1000000)"),
        changed("INSERT INTO t SELECT * FROM big WHERE id < 10"),
        changed("INSERT INTO t VALUES (?, ?, ?)", (10, "ten", None)),
        changed("UPDATE t SET price = -1 WHERE id % 2 = 0"),
        changed("MERGE INTO t USING (SELECT * FROM big WHERE id < 13) AS b ON t.id = b.id WHEN MATCHED AND t.price < 0 THEN UPDATE SET s = 'merged' WHEN NOT MATCHED THEN INSERT VALUES (b.id, b.s, b.price)"),
        changed("DELETE FROM t WHERE id = ?", (1,)),
        changed("ALTER TABLE t ADD COLUMN note VARCHAR"),
    ]
    cur.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", [(20, "a", 1.5, "n"), (21, "b", None, None), (22, None, 2.5, "n")])
    results["executemany"] = cur.rowcount
    con.commit()  # does nothing, because each statement is one commit
    cur.execute("SELECT count(*), count(note), sum(id), min(price) FROM t")
    results["rows"] = cur.fetchall()
    results["begin"] = error(lambda: cur.execute("BEGIN"))
    results["two"] = error(lambda: cur.execute("DELETE FROM t; DELETE FROM big"))
with flightsql.connect(url, db_kwargs=options, autocommit=True) as con:
    results["repeated"] = []
    for _ in range(2):
        with con.cursor(adbc_stmt_kwargs={"adbc.flight.sql.rpc.call_header.id": "one insert"}) as cur:
            cur.execute("INSERT INTO t (id) VALUES (30), (31)")
            results["repeated"].append(cur.rowcount)
            cur.execute("SELECT count(*) FROM t WHERE id >= 30")
            results["repeated"].append(cur.fetchone()[0])

engine = sqlalchemy.create_engine(
    "adbc+flightsql://", creator=lambda: flightsql.connect(url, db_kwargs=options, autocommit=True), poolclass=sqlalchemy.pool.NullPool
)
metadata = sqlalchemy.MetaData()
quotes = sqlalchemy.Table(
    "quotes", metadata, sqlalchemy.Column("sym", sqlalchemy.String), sqlalchemy.Column("price", sqlalchemy.Double)
)
with engine.connect() as con:
    con.execute(sqlalchemy.schema.CreateTable(quotes))
    con.execute(sqlalchemy.insert(quotes), [{"sym": "A", "price": 1.5}, {"sym": "B", "price": 2.5}, {"sym": "C", "price": 3.5}])
    con.execute(sqlalchemy.update(quotes).where(quotes.c.sym == "A").values(price=9.5))
    con.execute(sqlalchemy.delete(quotes).where(quotes.c.price < 3))
    con.execute(sqlalchemy.text("MERGE INTO quotes USING (SELECT 'C' AS sym, 0.5 AS price) AS n ON quotes.sym = n.sym WHEN MATCHED THEN UPDATE SET price = n.price"))
    con.execute(sqlalchemy.text("CREATE TABLE millions AS SELECT range AS id FROM range(1000000)"))
    con.execute(sqlalchemy.text("ALTER TABLE quotes RENAME COLUMN price TO last"))
    con.commit()
    results["sqlalchemy"] = [list(row) for row in con.execute(sqlalchemy.text("SELECT sym, last FROM quotes ORDER BY sym"))]
    results["millions"] = con.execute(sqlalchemy.text("SELECT count(*) FROM millions")).scalar()
    con.execute(sqlalchemy.text("DROP TABLE quotes"))
    con.execute(sqlalchemy.text("DROP TABLE IF EXISTS quotes"))
    results["dropped"] = error(lambda: con.execute(sqlalchemy.text("SELECT * FROM quotes")))
print(json.dumps(results))

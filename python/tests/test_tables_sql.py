"""Tests statements that write, in partd_go.tables."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
import pandas as pd

import partd_go.tables
from partd_go import Misuse, Refused


def test_writes(tmp_path):
    with partd_go.tables.connect(tmp_path) as tables:
        count = lambda: tables.sql("SELECT count(*) AS n FROM t")["n"][0]
        assert tables.sql("CREATE TABLE t AS SELECT range AS n, 'x' AS s FROM range(1000000)") == 1_000_000
        assert tables.sql("INSERT INTO t VALUES (?, ?)", params=[-1, "new"]) == 1
        assert tables.sql("UPDATE t SET s = $s WHERE n < 10", params={"s": "small"}) == 11
        assert (
            tables.sql(
                "MERGE INTO t USING (SELECT -2 AS n, 'merged' AS s) AS m ON t.n = m.n WHEN NOT MATCHED THEN INSERT *"
            )
            == 1
        )
        assert tables.sql("DELETE FROM t WHERE n >= 10") == 999_990
        for _ in range(2):  # the second call changes nothing
            assert tables.sql("INSERT INTO t SELECT * FROM t", id="doubled") == 12
            assert count() == 24
        assert tables.sql("ALTER TABLE t ADD COLUMN note VARCHAR") == 0
        assert list(tables.sql("SELECT * FROM t")) == ["n", "s", "note"]
        assert tables.sql("CREATE TABLE u (n BIGINT)", "b") == 0 and tables.list("b") == ["u"]
        with pytest.raises(Misuse, match="only one statement is allowed"):
            tables.sql("DELETE FROM t; DELETE FROM t")
        with pytest.raises(Misuse, match="cannot select a version"):
            tables.sql("DELETE FROM t", version=1)
        assert isinstance(tables.sql("SELECT 1 AS rows"), pd.DataFrame) and count() == 24
        assert tables.sql("DROP TABLE t") == 24 and tables.list() == []
        tables.sql("CREATE TABLE kept AS SELECT 1 AS n")
    with partd_go.tables.connect(tmp_path, read_only=True) as tables, pytest.raises(Refused):
        tables.sql("DELETE FROM kept")


def test_ids_after_a_kill(tmp_path):
    """A statement that is sent again after kill -9 changes nothing, and returns the same number."""
    statements = {
        "CREATE TABLE t AS SELECT range AS n FROM range(10)": 10,
        "INSERT INTO t VALUES (20), (21)": 2,
        "UPDATE t SET n = n + 100 WHERE n < 5": 5,
        "INSERT INTO t SELECT n FROM t": 12,
        "DELETE FROM t WHERE n = 20": 2,
    }
    for _ in range(2):
        server = partd_go.tables.serve(tmp_path, port=0)
        with partd_go.tables.connect(server.url) as tables:
            for statement, changed in statements.items():
                assert tables.sql(statement, id=statement) == changed
            assert len(tables.sql("FROM t")) == 22
        server._kill()


def test_async_writes(tmp_path):
    async def run():
        async with await partd_go.tables.connect_async(tmp_path) as tables:
            await tables.sql("CREATE TABLE t AS SELECT 1 AS n")
            return [await tables.sql("INSERT INTO t VALUES (2)", id="once") for _ in range(2)], len(
                await tables.sql("FROM t")
            )

    assert asyncio.run(run()) == ([1, 1], 2)

"""Tests the page about SQLAlchemy, which connects through Flight SQL."""

from __future__ import annotations

from pathlib import Path

import pages
import pytest

pytest.importorskip("sqlalchemy_adbc", reason="needs SQLAlchemy: .ci/peers sqlalchemy, and its bin/pytest")
pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")

import partd_go.tables

pytestmark = pytest.mark.filterwarnings("ignore")  # SQLAlchemy leaves the driver's cursors open


def test_page(tmp_path, monkeypatch):
    """The expressions equal pandas', and what SQLAlchemy writes is in the tables."""
    monkeypatch.chdir(tmp_path)
    names = {}
    with partd_go.tables.serve("data", port=0, secret="s" * 40, flags=("--insecure",)) as server:
        Path("token").write_text(server.token() + "\n")
        address = server.url.partition("://")[2]
        pages.run(pages.TABLES_DOCS / "sqlalchemy.md", names, {"localhost:8081": address})
        with partd_go.tables.connect(server.url, server.token()) as tables:
            assert sorted(tables.get("trades").price) == [2, 3, 4]
            tables.sql("CREATE SCHEMA nyse")
        sa, table = names["sa"], names["table"].to_metadata(names["sa"].MetaData(), schema="nyse")
        with names["engine"].connect() as con:
            con.execute(sa.schema.CreateTable(table))
            con.execute(sa.insert(table), [{"sym": "Z", "price": 1.5}])
            con.rollback()
            assert con.execute(sa.select(table)).all() == [("Z", 1.5)]
        url, autocommit = names["engine"].url, {"autocommit": True}
        bucket = sa.create_engine(url.update_query_dict({"header.bucket": "nyse"}), connect_args=autocommit)
        with bucket.connect() as con:
            assert con.execute(sa.select(names["table"])).all() == [("Z", 1.5)]
        wrong = sa.create_engine(url.set(password="wrong"), connect_args=autocommit)
        with pytest.raises(Exception, match="(?i)unauthenticated"), wrong.connect() as con:
            con.execute(sa.text("SELECT 1"))

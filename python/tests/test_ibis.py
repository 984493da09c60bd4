"""Tests the page about Ibis, whose DuckDB attaches the REST catalog."""

from __future__ import annotations

import pages
import pytest

pytest.importorskip("ibis", reason="needs Ibis: .ci/peers ibis, and its bin/pytest")
pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
import pyarrow as pa

import partd_go.tables

pytestmark = pytest.mark.filterwarnings("ignore")  # Ibis calls functions that DuckDB will remove


def test_page(tmp_path, monkeypatch):
    """The expressions equal pandas', and see rows that another client puts."""
    monkeypatch.chdir(tmp_path)
    rest, names = f"127.0.0.1:{pages.free_port()}", {"files": pages.duckdb_extensions()}
    with partd_go.tables.serve("data", port=0, flags=("--rest", rest)) as server:
        pages.run(
            pages.TABLES_DOCS / "ibis.md",
            names,
            {"localhost:8181'": rest + "'", "INSTALL {extension}; LOAD {extension}": "LOAD '{files[extension]}'"},
        )
        with partd_go.tables.connect(server.url) as tables:
            assert sorted(tables.get("trades", "nyse").price) == [1, 3, 4]
            tables.put("trades", pa.table({"sym": ["C"], "price": [9.0]}), "append", "nyse")
        assert names["best"].order_by("sym").to_pandas().best.tolist() == [4, 1, 9]

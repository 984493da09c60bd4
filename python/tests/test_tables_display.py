"""Tests how tables, stages and nodes are shown at a prompt and in a notebook."""

from __future__ import annotations

import pytest

pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
import pyarrow as pa

import partd_go.tables
from partd_go.pull import pullframe
from partd_go.stage import stage


def test_tables(tmp_path):
    with partd_go.tables.connect(tmp_path) as tables:
        tables.put("ten", pa.table({"n": range(10), "t": ["<b>"] * 10}))
        tables.put("ten", pa.table({"n": [1]}), bucket="b")
        shown = repr(tables).splitlines()
        assert shown[0] == f"<Tables at {tmp_path}: 2 tables>" and shown[1].split() == ["name", "rows", "size"]
        assert [line.split()[:2] for line in shown[2:]] == [["ten", "10"], ["b/ten", "1"]]
        assert "<td>b/ten</td>" in tables._repr_html_()
        title, _, *columns = repr(tables["ten"]).splitlines()
        assert title.startswith("<Table ten: 10 rows, 2 columns, ") and [column.split() for column in columns] == [
            ["n", "int64"],
            ["t", "string"],
        ]
        assert "does not exist" in repr(tables["none"]) and len(tables["ten"]) == 10
        tables.put("<b>", pa.table({"n": [1]}))
        assert "<td>&lt;b&gt;</td>" in tables._repr_html_()
        for n in range(30):
            tables.put(f"t{n:02}", pa.table({"n": [1]}))
        assert repr(tables).splitlines()[-1].strip() == "… and 13 more"
    assert "closed" in repr(tables)


def test_maximum_of_rows(tmp_path, monkeypatch):
    """A number of rows that is only a maximum is shown as one. len() then counts the rows."""
    tables = partd_go.tables.connect(tmp_path)
    tables.put("t", pa.table({"x": [1, 2, 3]}))
    ask = tables._ask

    def ask_with_maximum(action, *args, **fields):
        answer = list(ask(action, *args, **fields))
        for described in answer if action == "partd.tables" else [part["info"] for part in answer if "info" in part]:
            described.update(Rows=10, RowsExact=False)
        if action == "partd.versions":
            answer[0][-1].update(Rows=10, RowsExact=False)
        return answer

    assert tables.versions("t")[-1].rows_exact
    monkeypatch.setattr(tables, "_ask", ask_with_maximum)
    assert "at most 10 rows" in repr(tables["t"]) and "at most 10" in repr(tables) and len(tables["t"]) == 3
    newest = tables.versions("t")[-1]
    assert (newest.rows, newest.rows_exact) == (10, False)
    tables.close()


def test_stage(tmp_path):
    @stage(raw_file=str(tmp_path / "in.csv"), cache=True, format="parquet", cache_dir=tmp_path)
    def clean(raw_file):
        return raw_file

    @stage(rows=clean)
    def total(rows):
        return rows

    assert (
        repr(clean).splitlines()[0].startswith("<Stage ")
        and "parquet" in repr(clean)
        and str(tmp_path / "in.csv") in clean._repr_html_()
    )
    assert "clean" in repr(total).splitlines()[-1]


def test_pull(tmp_path):
    import pandas as pd

    with pullframe((), tmp_path / "node") as node:
        node.save("prices", pd.DataFrame({"a": [1.0, 2.0]}, pd.date_range("2024-01-01", periods=2)))
        title, head, row = repr(node).splitlines()
        assert (
            str(tmp_path / "node") in title
            and head.split()[:3] == ["name", "version", "rows"]
            and row.split()[0::2][:2] == ["prices", "2"]
        )
        assert "<td>prices</td>" in node._repr_html_()
    assert "closed" in repr(node)

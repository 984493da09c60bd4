"""Tests of Tables.follow."""

import itertools

import pyarrow as pa
import pytest

from partd_go.tables import NotFound, connect


def test_follow(tmp_path):
    """The iterator yields each change once, also if it continues where another one ended, and ends if the table is
    created again."""
    with connect(tmp_path / "tables") as tables:
        tables.put("t", pa.table({"id": [1, 2]}), "append")
        changes = tables.follow("t", every=0.05, as_="arrow")
        rows, version, uuid = next(changes)
        assert (rows["id"].to_pylist(), rows["_change"].to_pylist(), version) == ([1, 2], ["insert"] * 2, 1)
        tables.put("t", pa.table({"id": [3]}), "append")
        tables.delete_rows("t", "id = 1")
        rows, last, _ = next(changes)
        assert sorted(zip(rows["_change"].to_pylist(), rows["id"].to_pylist())) == [("delete", 1), ("insert", 3)]
        again = next(tables.table("t").follow(since=version, uuid=uuid, as_="arrow"))
        assert (again.version, again.rows.num_rows) == (last, 2)
        with pytest.raises(TypeError):
            next(tables.follow("t", version=1))
        tables.delete("t")
        for i in range(last):  # so that the new table has the same version
            tables.put("t", pa.table({"id": [9 + i]}), "append")
        with pytest.raises(NotFound):
            next(changes)
        with pytest.raises(NotFound):
            list(itertools.islice(tables.follow("t", since=last, uuid=uuid), 1))

"""Tests reading and writing tables with Ray Data, whose workers are killed."""

from __future__ import annotations

import os
import types
import warnings

import pages
import pytest

pytest.importorskip("ray.data", reason="needs Ray Data: .ci/peers raydata, and its bin/pytest")
pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
import pandas as pd
import pyarrow as pa
import ray

import partd_go
import partd_go.tables
from partd_go.tables.ray import TableDatasink, TableDatasource

ROWS = 3000


@pytest.fixture(scope="module", autouse=True)
def cluster():
    warnings.simplefilter("ignore")  # ray emits warnings about its own future
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def quiet():
    warnings.simplefilter("ignore")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    with partd_go.tables.connect(tmp_path_factory.mktemp("tables")) as tables:
        frame = pd.DataFrame({"n": range(ROWS), "sym": ["A", "B", "C"] * (ROWS // 3)})
        tables.put("rows", frame[:1000])
        tables.compact("rows")
        tables.put("rows", frame[1000:], "append")
        yield tables


def test_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages.run(pages.TABLES_DOCS / "ray.md", {})


def test_reading(tables):
    """All rows are read once, in the version of the start, with columns and filters, and in an earlier version."""
    dataset = ray.data.read_datasource(TableDatasource(tables, "rows"))
    tables.put("rows", pd.DataFrame({"n": [-1], "sym": ["later"]}), "append")
    assert sorted(row["n"] for row in dataset.take_all()) == list(range(ROWS))
    some = TableDatasource(tables, "rows", columns=["n"], where="n >= 0 and sym = 'A'", version=1)
    got = ray.data.read_datasource(some).to_pandas()
    assert list(got) == ["n"] and sorted(got.n) == list(range(0, 1000, 3))
    assert ray.data.read_datasource(TableDatasource(tables, "rows", where="n > 9999")).count() == 0
    with pytest.raises(partd_go.tables.NotFound):
        TableDatasource(tables, "none")


@pytest.mark.parametrize("moment", ["during the put", "after the put"])
def test_killed_workers_count_once(tables, tmp_path, moment):
    """The first worker of each task is killed. Its rows count once, in one version, and no temporary table is left."""
    marks = str(tmp_path)

    def die(mark):
        try:
            os.mkdir(os.path.join(marks, mark))
        except FileExistsError:
            return
        os._exit(1)

    class Killed(TableDatasink):
        def write(self, blocks, ctx):
            def dying():
                for block in blocks:
                    yield block
                    if moment == "during the put":
                        die(str(ctx.task_idx))

            done = super().write(dying(), ctx)
            die(str(ctx.task_idx))
            return done

    name = moment.replace(" ", "-")
    ray.data.range(ROWS, override_num_blocks=3).write_datasink(Killed(tables, name))
    assert len(os.listdir(marks)) == 3
    assert sorted(tables.get(name, as_="arrow")["id"].to_pylist()) == list(range(ROWS))
    assert len(tables.versions(name)) == 1 and not [found for found in tables.list() if ".ray-" in found]


def test_writing_modes_and_failures(tables):
    """The options of put apply to all rows together. A failing job changes nothing, and leaves no temporary table."""
    dataset = ray.data.from_arrow([pa.table({"k": [1, 2], "v": ["a", "b"]}), pa.table({"k": [3], "v": [None]})])
    dataset.write_datasink(TableDatasink(tables, "t", "error", "bucket", settings={"keys": ["k"]}))
    assert tables.settings("t", "bucket")["keys"] == ["k"]
    for _ in range(2):
        dataset.write_datasink(TableDatasink(tables, "t", "append", "bucket", id="once"))
    assert len(tables.table("t", "bucket")) == 6
    with pytest.raises(partd_go.tables.Exists):
        dataset.write_datasink(TableDatasink(tables, "t", bucket="bucket"))
    dataset.write_datasink(TableDatasink(tables, "t", "replace", "bucket"))
    assert tables.get("t", "bucket").v.tolist() == ["a", "b", None]

    def fail(batch):
        if 3 in batch["k"]:
            raise ValueError("row 3 is bad")
        return batch

    with pytest.raises(Exception, match="row 3 is bad"):
        dataset.map_batches(fail).write_datasink(TableDatasink(tables, "t", "append", "bucket"))
    assert len(tables.table("t", "bucket")) == 3 and tables.list("bucket") == ["t"]
    with pytest.raises(partd_go.Misuse, match="mode is 'add'"):
        TableDatasink(tables, "t", "add")


def test_blocks_that_differ(tables):
    """Blocks of several tasks may have a column without values. Within a task, the error names the columns."""
    none, some = pa.table({"s": pa.nulls(2)}), pa.table({"s": ["x"]})
    ray.data.from_arrow([none, some]).write_datasink(TableDatasink(tables, "nulls"))
    assert sorted(map(str, tables.get("nulls", as_="arrow")["s"].to_pylist())) == ["None", "None", "x"]
    sink = TableDatasink(tables, "differ")
    with pytest.raises(
        partd_go.SchemaMismatch, match=r"write 'differ': a block has the columns s \(string\), but the "
    ):
        sink.write([none, some], types.SimpleNamespace(task_idx=0))
    sink.on_write_failed(ValueError())
    assert "differ" not in tables and not [name for name in tables.list() if ".ray-" in name]


def test_dataset_without_rows(tables):
    """A dataset without rows may lack columns, too."""
    none = ray.data.from_items([])
    none.write_datasink(TableDatasink(tables, "absent", "append"))
    with pytest.raises(partd_go.Misuse, match="write 'absent': the dataset has no rows and no columns"):
        none.write_datasink(TableDatasink(tables, "absent"))
    filtered = ray.data.from_arrow(pa.table({"k": [1]})).filter(expr="k > 5")
    filtered.write_datasink(TableDatasink(tables, "absent", "append"))
    assert [name for name in tables.list() if name.startswith("absent")] in ([], ["absent"])

"""Runs the examples in the docstrings of the public modules, classes and functions."""

from __future__ import annotations

import ast
import asyncio
import re
import textwrap
import uuid
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "partd_go"
NEEDS = {"tables": "partd_go_tables", "pystore": "partd_go_tables", "pull": "partd_go_tables", "dask": "dask"}


def examples():
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                doc = re.sub(
                    r"^(?:Args|Attributes):\n(?: {4}.*\n)+",
                    "",
                    (ast.get_docstring(node) or "") + "\n",
                    flags=re.MULTILINE,
                )
                code = re.findall(r"^(?: {4}.*\n+)+", doc, re.MULTILINE)
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                name = getattr(node, "name", "")
                if code and not name.startswith("_"):
                    yield pytest.param(module, textwrap.dedent("\n".join(code)), id=f"{module}.{name}".strip("."))


def test_experimental():
    """docs/versions.md lists exactly the modules and functions whose docstrings say that they are experimental."""
    page = (ROOT.parent.parent / "docs" / "versions.md").read_text()
    row = re.search(r"^\| Python \|.*$", page, re.MULTILINE)
    listed = set(re.findall(r"`([a-z_.]+)`", row[0]))
    marked = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Module, ast.FunctionDef)) and "Experimental: " in (ast.get_docstring(node) or ""):
                module = ".".join(("partd_go", *path.relative_to(ROOT).with_suffix("").parts))
                marked.add(getattr(node, "name", module))
    assert marked == listed


@pytest.mark.parametrize("module, code", list(examples()))
def test_example(module, code, url, tmp_path, monkeypatch):
    area = module.split(".")[0]
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    if area in NEEDS:
        pytest.importorskip(NEEDS[area])
    monkeypatch.chdir(tmp_path)
    warnings.simplefilter("ignore")  # dask and pandas emit warnings about each other
    prices = f"prices {uuid.uuid4()}"  # unique, because tests share the machine's registry of frames
    names = prepare(area, pandas, prices)
    code = code.replace('"tcp://localhost:7000"', repr(url))
    code = code.replace('{"nats://a:4222"}', "()").replace('"prices"', repr(prices))
    try:
        exec(compile(code, module, "exec"), names)
        if "async def" in code:
            assert asyncio.run(names["count"]()) == len(names["frame"])
    finally:
        if "set_directory" in names:
            names["set_directory"](None)
        for name in ("tables", "pf"):
            if hasattr(names.get(name), "close"):
                names[name].close()


def prepare(area, pandas, prices):
    """Returns the names that examples of an area use, and writes the files and the frame prices that they read."""
    import partd_go

    index = pandas.date_range("2026-01-01", periods=3, freq="D", name="time")
    frame = pandas.DataFrame({"price": [1.0, 102.0, 3.0], "symbol": ["a", "b", "a"]}, index=index)
    frame.to_csv("trades.csv")
    Path("in.csv").write_text("sold\n1\n2\n")
    names = {"partd_go": partd_go, "pandas": pandas, "frame": frame, "Arrow": partd_go.Arrow, **vars(partd_go)}
    if area in ("tables", "dask"):
        import partd_go.tables

        names |= vars(partd_go.tables)
        names["tables"] = tables = partd_go.tables.connect("examples")
        for _ in range(3):  # an example reads version 3
            tables.put("trades", frame.reset_index(), mode="replace")
    if area == "dask":
        import dask.dataframe

        import partd_go.dask

        names["df"] = dask.dataframe.from_pandas(pandas.DataFrame({"name": ["a", "b"]}), npartitions=2)
    if area.startswith("stage"):
        from partd_go.stage import set_directory, stage

        set_directory("kept")
        names |= {"set_directory": set_directory, "stage": stage}
    if area == "pull":
        from partd_go.pull import pullframe

        names["pullframe"] = pullframe
        with pullframe((), "frames") as pf:
            pf.save(prices, frame)
    if area == "pystore":
        import partd_go.pystore as pystore

        later = frame.set_axis(frame.index + pandas.Timedelta(days=3))
        pystore.set_path("stores")
        pystore.store("market").collection("trades").write("AAPL", frame, overwrite=True)
        names |= {"pystore": pystore, "later": later}
    return names

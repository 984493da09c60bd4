"""Tests that mypy --strict and pyright accept a correct program and reject mistakes, and that no public function
returns Any."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import re
import subprocess
import types
import typing
from pathlib import Path

import pytest

TYPES = os.environ.get("PARTD_TYPES")
PROGRAM = Path(__file__).parent / "typed.py"
CHECKERS = {
    "mypy": ["mypy", "--strict", "--no-incremental", "--cache-dir", os.devnull],
    "pyright": ["pyright", "--pythonpath", f"{TYPES}/bin/python"],
}


@pytest.mark.skipif(not TYPES, reason="needs PARTD_TYPES, an environment with mypy, pyright, stubs, and partd-go")
@pytest.mark.parametrize("checker", CHECKERS)
def test_checker(checker, tmp_path):
    program, *flags = CHECKERS[checker]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    wrong = (
        'opened.sql("SELECT ?", [1])',
        'opened.get("t", columns=1)',
        'opened.get("t", as_="numpy")',
        'opened.get("t", colums=["a"])',
        'opened.get("t", as_="polars").iloc',
        'opened.put("t", 7)',
        'opened["t"].put(7)',
        'opened["t"].put("in.csv", bucket="b")',
        'opened["t"].get(colums=["a"])',
        'opened["t"].replace_range("in.csv", "2024-01-01", time="x")',
        'opened["t"].sink_polars(pl.LazyFrame(), "append", idd="x")',
        'opened["t"].follow(version=3)',
        'AsyncTables(opened).get("t", colums=["a"]).close()',
    )
    (tmp_path / "right.py").write_text(PROGRAM.read_text())
    (tmp_path / "wrong.py").write_text(PROGRAM.read_text() + "".join(f"    {line}\n" for line in wrong))
    run = subprocess.run(
        [f"{TYPES}/bin/{program}", *flags, "right.py", "wrong.py"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    first = len(PROGRAM.read_text().splitlines()) + 1
    found = re.findall(r"(\w+\.py):(\d+):.*\berror\b", run.stdout)
    assert {*found} == {("wrong.py", str(first + i)) for i in range(len(wrong))}, run.stdout + run.stderr


PUBLIC = ("partd_go", "partd_go.tables", "partd_go.stage", "partd_go.pull", "partd_go.dask", "partd_go.pystore")
RETURNED = {  # classes that are public because functions return them
    "partd_go.pystore.collection": ["Collection"],
    "partd_go.pystore.item": ["Item"],
    "partd_go.pystore.lock": ["CollectionLock"],
    "partd_go.pystore.transactions": ["Transaction", "BatchTransaction"],
    "partd_go.pystore.async_operations": ["AsyncItem"],
    "partd_go.tables.lazy": ["Dataset"],
}
ALLOWED_ANY = re.compile(r"(Series|Index|Coroutine)\[Any[], ]+")  # generic types whose parameter may be Any


def declared_results(obj, name):
    """Yields the name and the declared result of each public function of an object, and of each overload."""
    obj = obj.fget if isinstance(obj, property) else obj.func if isinstance(obj, functools.cached_property) else obj
    obj = getattr(obj, "__func__", obj)
    if isinstance(obj, types.FunctionType):
        for overload in typing.get_overloads(obj) or [inspect.unwrap(obj)]:
            yield name, str(overload.__annotations__.get("return", "nothing" if obj.__name__ == "__init__" else "Any"))
    elif isinstance(obj, type) and obj.__module__.startswith("partd_go") or isinstance(obj, types.ModuleType):
        for key, part in vars(obj).items():
            ours = not isinstance(obj, types.ModuleType) or getattr(part, "__module__", "") == obj.__name__
            if ours and (
                not key.startswith("_") or key in ("__call__", "__enter__", "__aenter__", "__getitem__", "__await__")
            ):
                yield from declared_results(part, f"{name}.{key}")


def test_no_result_is_any():
    named = {module: importlib.import_module(module).__all__ for module in PUBLIC} | RETURNED
    known = []
    for module, names in named.items():
        for name in names:
            known.extend(declared_results(getattr(importlib.import_module(module), name), f"{module}.{name}"))
    assert len(known) > 200
    assert not [(name, kind) for name, kind in known if re.search(r"\bAny\b", ALLOWED_ANY.sub("", kind))]

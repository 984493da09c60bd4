"""Tests that the packages have no import cycle, not even through imports inside functions or under TYPE_CHECKING."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = (ROOT / "partd_go", ROOT / "tables" / "partd_go_tables")
FILES = {
    ".".join(path.relative_to(package.parent).with_suffix("").parts): path
    for package in PACKAGES
    for path in package.rglob("*.py")
}
MODULES = {name.removesuffix(".__init__"): path for name, path in FILES.items()}


def imports(name: str, path: Path) -> Iterator[str]:
    """Yields the modules of the packages that a module imports anywhere in its file."""
    package = (name if path.stem == "__init__" else name.rpartition(".")[0]).split(".")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*parents, *([node.module] if node.module else [])])
            targets = (target if (target := f"{source}.{alias.name}") in MODULES else source for alias in node.names)
            yield from (target for target in targets if target in MODULES)


def test_no_cycle():
    graph = {name: set(imports(name, path)) for name, path in MODULES.items()}
    assert (
        graph["partd_go.tables.lazy"] >= {"partd_go.errors", "partd_go.tables.pushdown"}
        and "partd_go.tables" in graph["partd_go.pystore.utils"]
    )
    assert "partd_go.tables.lazy" in graph["partd_go.tables.reads"]  # imported in functions
    assert "partd_go.pystore.validation" in graph["partd_go.pystore.collection"]  # imported under TYPE_CHECKING
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))

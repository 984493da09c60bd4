"""Records the syntax trees of functions, and the names that the functions use."""

from __future__ import annotations

import ast
import copy
import dis
import functools
import linecache
import types
from collections.abc import Iterator
from typing import NamedTuple

_file_lines: dict[str, list[str]] = {}  # the lines of each file that record_sources has parsed
_sources: dict[types.CodeType, Source] = {}


class Source(NamedTuple):
    """The source of a function."""

    dump: str  # the syntax tree as text
    paths: set[tuple[str, ...]]  # each variable with the attributes that follow it: a.b.c is ("a", "b", "c")
    # Each import, as (variable, module, attribute). attribute is "" if the module itself is imported; variable is "" if
    # the import binds no variable.
    imports: list[tuple[str, str, str]]

    def uses_eval(self) -> bool:
        return not self.paths.isdisjoint({("eval",), ("exec",)})


def source_of(code: types.CodeType) -> Source | None:
    """Returns the source of a function, or None if it is unknown."""
    if code not in _sources:
        record_sources(code.co_filename)
    return _sources.get(code)


def record_sources(file: str) -> None:
    """Records the sources of a file's functions. It must be called when the file is loaded, before the file changes."""
    linecache.checkcache(file)
    lines = linecache.getlines(file)
    if _file_lines.get(file) is lines:
        return
    _file_lines[file] = lines
    try:
        tree = ast.parse("".join(lines))
        codes = list(nested_codes(compile(tree, file, "exec", dont_inherit=True)))
    except (SyntaxError, ValueError):  # not Python source
        return
    nodes: dict[tuple[str, int], list[ast.AST]] = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            nodes.setdefault((node.name, first), []).append(node)
        elif isinstance(node, ast.Lambda):
            nodes.setdefault(("<lambda>", node.lineno), []).append(node)
    for code in codes:
        matching = nodes.get((code.co_name, code.co_firstlineno), [])
        if len(matching) == 1:
            node = _NoDocstrings().visit(copy.deepcopy(matching[0]))
            for decorator in getattr(node, "decorator_list", ()):
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).rpartition(".")[2] == "stage":
                    # The argument ttl does not affect the result.
                    decorator.keywords = [keyword for keyword in decorator.keywords if keyword.arg != "ttl"]
            _sources[code] = Source(ast.dump(node), set(_attribute_paths(node)), list(_imports(node)))


def _attribute_paths(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    seen: set[ast.AST] = set()
    # ast.walk visits a.b.c before the a.b inside it. Both end at the same node a, which is then in seen, so a.b is not
    # yielded as well.
    for node in ast.walk(tree):
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name) and node not in seen:
            seen.add(node)
            yield node.id, *attributes


def _imports(tree: ast.AST) -> Iterator[tuple[str, str, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    yield (alias.asname, alias.name, "") if alias.asname else (top, top, "")
            case ast.ImportFrom():
                for alias in node.names:
                    yield alias.asname or alias.name, "." * node.level + (node.module or ""), alias.name
            case ast.Call(ast.Name(used) | ast.Attribute(attr=used), [ast.Constant(str(name)), *_]) if used in (
                "import_module",
                "__import__",
            ):
                yield "", name, ""
            case ast.Subscript(ast.Name(used) | ast.Attribute(attr=used), ast.Constant(str(name))) if used == "modules":
                yield "", name, ""


class _NoDocstrings(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if (
            isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
        return node


def nested_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            yield from nested_codes(c)


@functools.lru_cache(maxsize=1024)
def global_names(code: types.CodeType) -> frozenset[str]:
    """Returns the names that a function looks up as global variables or builtins. Attribute names are not included."""
    return frozenset(
        step.argval
        for part in nested_codes(code)
        for step in dis.get_instructions(part)
        if "GLOBAL" in step.opname or step.opname == "LOAD_NAME"
    )

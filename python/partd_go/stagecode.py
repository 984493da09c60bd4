"""The hash of a function's code, and of all that it uses of its user's code."""

from __future__ import annotations

import ast
import builtins
import copy
import dis
import functools
import hashlib
import importlib.util
import inspect
import io
import linecache
import os
import pickle
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from typing import Any

_PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes)
_LIBRARIES = tuple({os.path.join(p, "") for n, p in sysconfig.get_paths().items() if n in ("stdlib", "platstdlib", "purelib", "platlib")})
_indexed: dict[str, list[str]] = {}  # the lines of files
_dumps: dict[types.CodeType, str] = {}  # the syntax trees of functions


class Code:
    """Hashes values one after the other; what was seen before is hashed by its number."""

    def __init__(self, seen: Mapping[int, int] = types.MappingProxyType({})) -> None:
        self.seen = {**seen}
        self.held: list[Any] = []  # so that no id is used again
        self.names: set[str] = set()  # that functions use
        self.modules: dict[tuple[int, frozenset[str]], types.ModuleType] = {}  # with the names that were looked for
        self.hash = hashlib.sha256(repr(sys.version_info[:2]).encode())

    def of(self, value: Any) -> str:
        self.value("", value)
        seen = 0
        while seen < len(self.modules):  # those that objects hold: any function may use them
            seen = len(self.modules)
            for m in [m for (_, names), m in self.modules.items() if not names]:
                self.value("", m, frozenset(self.names))
        return self.hash.hexdigest()

    def add(self, *words: str) -> None:
        self.hash.update(repr(words).encode())

    def value(self, name: str, v: Any, names: frozenset[str] = frozenset()) -> None:
        """Hashes a value that a name stands for; of modules what names say that is used of them."""
        if type(v) in _PLAIN:
            return self.add(name, type(v).__name__, repr(v))
        if isinstance(v, types.ModuleType):
            return self.module(name, v, names)
        if id(v) in self.seen:
            return self.add(name, "seen", str(self.seen[id(v)]))
        self.seen[id(v)] = len(self.seen)
        self.held.append(v)
        if inputs := getattr(type(v), "_stage_inputs", None):
            self.value("inputs", inputs(v))  # of a stage that a function calls
        if not isinstance(v, (types.FunctionType, type)) and not _of_user(type(v).__module__):
            v = getattr(v, "__wrapped__", v)  # stages have one, and functools' caches
        self.add(name, type(v).__qualname__)
        if isinstance(v, (types.FunctionType, type)) and not _has_code_of_user(v):
            self.library(v.__module__, v.__qualname__)
        elif isinstance(v, types.FunctionType):
            self.function(v)
        elif isinstance(v, type):
            self.type(v)
        elif type(v) in (list, tuple):
            for item in v:
                self.value("", item)
            self.add("end")
        elif type(v) in (dict, types.MappingProxyType):
            for k, item in v.items():
                self.value("", k)
                self.value("", item)
            self.add("end")
        elif type(v) in (set, frozenset):
            self.add(*sorted(Code(self.seen).of(item) for item in v))
        elif isinstance(v, (staticmethod, classmethod, types.MethodType)):
            self.value("", v.__func__)
            self.value("", getattr(v, "__self__", None))
        elif isinstance(v, property):
            self.value("", (v.fget, v.fset, v.fdel))
        elif isinstance(v, functools.cached_property):
            self.value("", v.func)
        else:
            self.other(name, v)

    def other(self, name: str, v: Any) -> None:
        """Hashes an object by what pickle makes of it, and by the code of its class and of what it holds."""
        pickler = _Pickler(made := io.BytesIO(), 4)
        try:
            pickler.dump(v)
        except Exception as error:
            kind = type(v).__name__
            raise TypeError(f"{name or 'a value'} is a {kind}, which has no hash: make it within the function ({error})") from error
        self.hash.update(made.getvalue())
        self.value("", [type(v), *pickler.found])

    def library(self, module: str, name: str) -> None:
        top = sys.modules.get(module.partition(".")[0])
        self.add(module, name, str(getattr(top, "__version__", "")))

    def module(self, name: str, v: types.ModuleType, names: frozenset[str]) -> None:
        self.add(name, "module")
        if not _of_user(v.__name__):
            return self.library(v.__name__, "")
        if (id(v), names) not in self.modules:
            self.modules[id(v), names] = v
            for used in sorted(names & vars(v).keys()):
                self.value(used, vars(v)[used], names)

    def type(self, v: type) -> None:
        if type(v) is not type:
            self.value("metaclass", type(v))
        for base in v.__mro__[1:]:
            self.value("", base)
        for name, item in sorted(vars(v).items()):
            if name not in ("__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__") and not name.startswith("_abc"):
                if not isinstance(item, (types.GetSetDescriptorType, types.MemberDescriptorType)):
                    self.value(name, item)

    def function(self, f: types.FunctionType) -> None:
        code = f.__code__
        if code not in _dumps:
            index(code.co_filename)
        if code in _dumps:
            self.add(_dumps[code])
        else:
            for part in _parts(code):
                docstring = part.co_consts[:1] if part.co_flags & inspect.CO_NEWLOCALS else ()
                consts = [c for c in part.co_consts if not isinstance(c, types.CodeType) and c not in docstring]
                self.add(part.co_code.hex(), repr(part.co_names), repr(part.co_varnames))
                self.value("constants", consts)
        names = frozenset(name for part in _parts(code) for name in part.co_names)
        self.names |= names
        if _of_user(f.__globals__.get("__name__")):
            self.value("attributes", vars(f))
        else:
            self.value("implementations", getattr(f, "registry", None))  # of functools.singledispatch
        for module in _imported(f):
            self.value("import", module, names)
        self.value("defaults", f.__defaults__)
        self.value("defaults by name", f.__kwdefaults__)
        for name, cell in zip(code.co_freevars, f.__closure__ or (), strict=True):
            try:
                self.value(name, cell.cell_contents, names)
            except ValueError:  # it has none yet
                self.add(name, "empty")
        for name in sorted(names):
            if name in f.__globals__:
                self.value(name, f.__globals__[name], names - {name})
            elif hasattr(builtins, name):
                self.add(name, "builtin")


def _has_code_of_user(v: types.FunctionType | type) -> bool:
    """What functools.wraps has made says that it is of another module than it is."""
    return _of_user(v.__module__) or isinstance(v, types.FunctionType) and _of_user(v.__globals__.get("__name__"))


def _of_user(module: str | None) -> bool:
    found = sys.modules.get(module or "")
    file = getattr(found, "__file__", None) or next(iter(getattr(found, "__path__", ())), None)  # of a package without code
    if module == "__main__" or file is None and module not in sys.builtin_module_names and module not in sys.modules:
        return True
    return file is not None and not _of_library(file) and (module or "").partition(".")[0] != __package__


def _of_library(file: str) -> bool:
    """Python's directories, and those of packages: of a user, of the system, of what an environment is made upon."""
    return file.startswith(_LIBRARIES) or not {"site-packages", "dist-packages"}.isdisjoint(file.split(os.sep))


def _imported(f: types.FunctionType) -> Iterator[types.ModuleType]:
    """The modules of its user that a function itself imports, as it will."""
    for part in _parts(f.__code__):
        steps = [step for step in dis.get_instructions(part) if step.opname != "EXTENDED_ARG"]
        for level, names, step in zip(steps, steps[1:], steps[2:]):
            if step.opname != "IMPORT_NAME":
                continue
            top = step.argval.partition(".")[0]
            if not level.argval and top not in sys.modules:
                spec = importlib.util.find_spec(top)
                file = spec and (spec.origin or next(iter(spec.submodule_search_locations or ()), None))
                if not file or _of_library(file) or top in sys.builtin_module_names:
                    continue
            if level.argval or _of_user(top):
                try:
                    yield __import__(step.argval, f.__globals__, None, names.argval or (), level.argval)
                except ImportError:
                    pass  # it may do without


class _Pickler(pickle.Pickler):
    """Leaves out what has a hash of its own: of functions and classes pickle has but the name, and sets have no order."""

    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self.found: list[Any] = []

    def persistent_id(self, v: Any) -> int | None:
        if isinstance(v, (types.FunctionType, type)) and _has_code_of_user(v):
            pass
        elif type(v) not in (set, frozenset, types.MappingProxyType, types.ModuleType):
            return None
        self.found.append(v)
        return len(self.found)


def _parts(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            yield from _parts(c)


def index(file: str) -> None:
    """Notes the syntax trees of a file's functions, as long as the file is what was loaded."""
    linecache.checkcache(file)
    lines = linecache.getlines(file)
    if _indexed.get(file) is lines:
        return
    _indexed[file] = lines
    try:
        tree = ast.parse("".join(lines))
        codes = list(_parts(compile(tree, file, "exec", dont_inherit=True)))
    except (SyntaxError, ValueError):  # it is no Python
        return
    nodes: dict[tuple[str, int], list[ast.AST]] = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            nodes.setdefault((node.name, first), []).append(node)
        elif isinstance(node, ast.Lambda):
            nodes.setdefault(("<lambda>", node.lineno), []).append(node)
    for code in codes:
        found = nodes.get((code.co_name, code.co_firstlineno), [])
        if len(found) == 1:
            node = _NoDocstrings().visit(copy.deepcopy(found[0]))
            for decorator in getattr(node, "decorator_list", ()):
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).rpartition(".")[2] == "stage":
                    decorator.keywords = [keyword for keyword in decorator.keywords if keyword.arg != "ttl"]  # no result depends on it
            _dumps[code] = ast.dump(node)


class _NoDocstrings(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node

"""Hashes a function's code, with all user code that it uses."""

from __future__ import annotations

import builtins
import contextlib
import dis
import functools
import hashlib
import importlib.util
import inspect
import io
import os
import pickle
import re
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import Misuse
from .raw import RawFiles
from .sources import Source, global_names, nested_codes, source_of

_PLAIN_TYPES = (type(None), type(...), bool, int, float, complex, str, bytes)
_LIBRARY_DIRS = tuple(
    {
        os.path.join(p, "")
        for n, p in sysconfig.get_paths().items()
        if n in ("stdlib", "platstdlib", "purelib", "platlib")
    }
)
_OWN_PACKAGE = __name__.partition(".")[0]  # this package, whose code counts as a library
# Names that Python sets in modules.
_INTERNAL_NAMES = {f"__{n}__" for n in "name doc package loader spec file cached path builtins warningregistry".split()}
# A function that uses one of these can reach any name in its module.
_NAMESPACE_FUNCTIONS = {"globals", "__globals__", "f_globals", "getmodule"}


class Code:
    """Hashes a sequence of values. If a value repeats, only the index of its first occurrence is hashed."""

    def __init__(self, raw: RawFiles, seen: Mapping[int, int] = types.MappingProxyType({})) -> None:
        self.raw = raw  # hashes the raw files of stages among the values
        self.seen = {**seen}
        self.kept_alive: list[Any] = []  # keeps values alive, so that ids stay unique
        # The modules hashed so far: (id, names that the code looks up in it).
        self.modules: set[tuple[int, frozenset[str] | None]] = set()
        self.hash = hashlib.sha256(repr(sys.version_info[:2]).encode())

    def of(self, value: Any) -> str:
        """Adds a value to the hash. Returns the hash."""
        self.value("", value)
        return self.hash.hexdigest()

    def add(self, *words: str) -> None:
        self.hash.update(repr(words).encode())

    def value(self, name: str, v: Any, names: frozenset[str] | None = None) -> None:
        """Hashes a variable's value. names are the names that the code may look up in a module (None: all names)."""
        if type(v) in _PLAIN_TYPES:
            return self.add(name, type(v).__name__, repr(v))
        if isinstance(v, types.ModuleType):
            return self.module(name, v, names)
        if names and "__doc__" in names and isinstance(v, (types.FunctionType, type)):
            self.add("doc", str(v.__doc__))
        if id(v) in self.seen:
            return self.add(name, "seen", str(self.seen[id(v)]))
        self.seen[id(v)] = len(self.seen)
        self.kept_alive.append(v)
        if inputs := getattr(type(v), "_stage_inputs", None):
            self.value("inputs", inputs(v, self.raw))  # v is a stage that the hashed function calls
        if not isinstance(v, (types.FunctionType, type)) and not _is_user_module(type(v).__module__):
            v = getattr(v, "__wrapped__", v)  # the function that a stage or a functools cache wraps
        self.add(name, type(v).__qualname__)
        if isinstance(v, (types.FunctionType, type)) and not _is_user_code(v):
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
            self.add(*sorted(Code(self.raw, self.seen).of(item) for item in v))
        elif isinstance(v, (staticmethod, classmethod, types.MethodType)):
            self.value("", v.__func__)
            self.value("", getattr(v, "__self__", None))
        elif isinstance(v, property):
            self.value("", (v.fget, v.fset, v.fdel))
        elif isinstance(v, functools.cached_property):
            self.value("", v.func)
        else:
            self.object(name, v)

    def object(self, name: str, v: Any) -> None:
        """Hashes an object: its pickle, the code of its class, and the code of functions that it refers to."""
        pickler = _Pickler(pickled := io.BytesIO(), 4)
        try:
            pickler.dump(v)
        except Exception as error:
            kind = type(v).__name__
            raise Misuse(
                f"{name or 'a value'} is a {kind}, which cannot be hashed: create it inside the function ({error})"
            ) from error
        self.hash.update(pickled.getvalue())
        self.value("", [type(v), *pickler.collected])

    def library(self, module: str, name: str) -> None:
        top = sys.modules.get(module.partition(".")[0])
        self.add(module, name, str(getattr(top, "__version__", "")))

    def module(self, name: str, v: types.ModuleType, names: frozenset[str] | None) -> None:
        self.add(name, "module")
        if not _is_user_module(v.__name__):
            return self.library(v.__name__, "")
        if type(v) is not types.ModuleType:  # the class of v may compute attributes
            self.value("", type(v))
            names = None
        if (id(v), names) not in self.modules:
            self.modules.add((id(v), names))
            used = vars(v).keys() - _INTERNAL_NAMES if names is None else (names | {"__getattr__"}) & vars(v).keys()
            for key in sorted(used):
                self.value(f"{v.__name__}.{key}" if names is None else key, vars(v)[key], names)

    def type(self, v: type) -> None:
        if type(v) is not type:
            self.value("metaclass", type(v))
        for base in v.__mro__[1:]:
            self.value("", base)
        for name, item in sorted(vars(v).items()):
            if name not in (
                "__dict__",
                "__weakref__",
                "__doc__",
                "__module__",
                "__firstlineno__",
            ) and not name.startswith("_abc"):
                if not isinstance(item, (types.GetSetDescriptorType, types.MemberDescriptorType)):
                    self.value(name, item)

    def function(self, f: types.FunctionType) -> None:
        code = f.__code__
        source = source_of(code)
        if source:
            self.add(source.dump)
        else:
            for part in nested_codes(code):
                docstring = part.co_consts[:1] if part.co_flags & inspect.CO_NEWLOCALS else ()
                consts = [c for c in part.co_consts if not isinstance(c, types.CodeType) and c not in docstring]
                self.add(part.co_code.hex(), repr(part.co_names), repr(part.co_varnames))
                self.value("constants", consts)
        names = frozenset(name for part in nested_codes(code) for name in part.co_names)  # includes attributes
        variables = global_names(code)
        if source and source.uses_eval():
            texts = [c for part in nested_codes(code) for c in part.co_consts if isinstance(c, str)]
            names_in_strings = {name for text in texts for name in re.findall(r"\w+", text)}
            names |= names_in_strings
            variables |= names_in_strings
        if _is_user_module(f.__globals__.get("__name__")):
            self.value("attributes", vars(f))
        else:
            self.value("implementations", getattr(f, "registry", None))  # for functools.singledispatch
        for module in _imported_modules(f):
            self.value("import", module, names)
        self.value("defaults", f.__defaults__)
        self.value("defaults by name", f.__kwdefaults__)
        for name, cell in zip(code.co_freevars, f.__closure__ or (), strict=True):
            try:
                self.value(name, cell.cell_contents, names)
            except ValueError:  # the variable is not assigned yet
                self.add(name, "empty")
        for name in sorted(variables):
            if name in f.__globals__:
                self.value(name, f.__globals__[name], names - {name})
            elif hasattr(builtins, name):
                self.add(name, "builtin")
        for module in sorted(set(_modules_used_whole(f, source, names, variables)), key=lambda module: module.__name__):
            self.value("", module)


def _is_user_code(v: types.FunctionType | type) -> bool:
    """Reports whether a function or class is user code, according to its __module__. The module of a function's globals
    counts too, because functools.wraps changes __module__."""
    return (
        _is_user_module(v.__module__)
        or isinstance(v, types.FunctionType)
        and _is_user_module(v.__globals__.get("__name__"))
    )


def _is_user_module(module: str | None) -> bool:
    loaded = sys.modules.get(module or "")
    file = getattr(loaded, "__file__", None) or next(
        iter(getattr(loaded, "__path__", ())), None
    )  # a namespace package has only a path
    if module == "__main__" or file is None and module not in sys.builtin_module_names and module not in sys.modules:
        return True
    return file is not None and not _is_library_file(file) and (module or "").partition(".")[0] != _OWN_PACKAGE


def _is_library_file(file: str) -> bool:
    """Reports whether a file belongs to Python or to an installed package, even in another environment."""
    return file.startswith(_LIBRARY_DIRS) or not {"site-packages", "dist-packages"}.isdisjoint(file.split(os.sep))


def _modules_used_whole(
    f: types.FunctionType, source: Source | None, names: frozenset[str], variables: frozenset[str]
) -> Iterator[types.ModuleType]:
    """Yields modules in which a function may use any name, because it passes them on, stores them, or looks them up by
    name. names are all names in the function's code; variables are the names of its global variables."""
    own = sys.modules.get(f.__globals__.get("__name__", ""))
    if own and (not names.isdisjoint(_NAMESPACE_FUNCTIONS) or names >= {"modules", "__name__"}):
        yield own
    roots = [(name, f.__globals__[name]) for name in variables if name in f.__globals__]
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # the variable is not assigned yet
            roots.append((name, cell.cell_contents))
    for variable, module, attribute in source.imports if source else ():
        value = _import(f, module, ("__name__",))
        if value and not variable:
            yield value
        roots.append((variable, getattr(value, attribute, None) if attribute else value))
    exact = source and not source.uses_eval()
    for root, v in roots:
        for variable, *attributes in source.paths if source and exact else [(root,)]:
            value = v if variable == root else None
            for attribute in attributes:
                if not isinstance(value, types.ModuleType) or attribute == "__dict__":
                    break
                value = vars(value).get(attribute)
            if isinstance(value, types.ModuleType):
                yield value


def _imported_modules(f: types.FunctionType) -> Iterator[types.ModuleType]:
    """Yields the user's modules that a function imports when it runs. In the bytecode, the two instructions before an
    IMPORT_NAME load the level of a relative import and the imported names."""
    for part in nested_codes(f.__code__):
        steps = [step for step in dis.get_instructions(part) if step.opname != "EXTENDED_ARG"]
        for level, names, step in zip(steps, steps[1:], steps[2:]):
            if step.opname == "IMPORT_NAME" and (module := _import(f, "." * level.argval + step.argval, names.argval)):
                yield module


def _import(f: types.FunctionType, name: str, names: tuple[str, ...] | None) -> types.ModuleType | None:
    """Imports a module as the function would, but only if the module is user code. A relative name begins with dots."""
    absolute, top = name.lstrip("."), name.partition(".")[0]
    if top and top not in sys.modules:
        spec = importlib.util.find_spec(top)
        file = spec and (spec.origin or next(iter(spec.submodule_search_locations or ()), None))
        if not file or _is_library_file(file) or top in sys.builtin_module_names:
            return None
    if not name or top and not _is_user_module(top):
        return None
    try:
        return __import__(absolute, f.__globals__, None, names or (), len(name) - len(absolute))
    except ImportError:
        return None  # the function may handle the error


class _Pickler(pickle.Pickler):
    """A pickler that collects user code, sets and modules instead of pickling them, because their pickles do not
    identify them. The caller hashes the collected objects separately."""

    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self.collected: list[Any] = []

    def persistent_id(self, v: Any) -> int | None:
        if isinstance(v, (types.FunctionType, type)) and _is_user_code(v):
            pass
        elif type(v) not in (set, frozenset, types.MappingProxyType, types.ModuleType):
            return None
        self.collected.append(v)
        return len(self.collected)

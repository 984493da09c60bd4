"""Runs the stages of a pipeline, and keeps their results in files until their code or inputs change.

@stage(raw_file="in.csv", cache=True, format="parquet")
def clean(raw_file):
    return pandas.read_csv(raw_file).dropna()

@stage(rows=clean)
def total(rows):
    return rows["sold"].sum()

total()
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import functools
import hashlib
import inspect
import math
import os
import tempfile
import time
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, Generic, NamedTuple, TypeVar, overload

from .errors import Misuse
from .shown import Summary, Shown
from .stagecode import Code, record_sources
from .stagefiles import Damaged, Directory, Kept
from .stageformats import EXECUTE_NOTHING, digest, methods, read, result_hash, write
from .stagekept import IDENTITY, PART, gc, set_directory, storage_of

__all__ = ["Kept", "Stage", "Step", "gc", "set_directory", "stage"]

R = TypeVar("R")
T = TypeVar("T")
_MAX_ATTEMPTS = 10  # attempts of a run during which results of its stages change


class Step(NamedTuple):
    """What a call would do with a stage: "runs", "may run", "kept" or "skipped", and why."""

    stage: str
    action: str
    why: str


class Stage(Shown, Generic[R]):
    """A function with its raw files and ancestor stages. A call returns the kept result, if there is one. Otherwise it
    computes or reads the ancestors' results, and runs the function. Arguments of the call are passed to the function. With
    the function's defaults, they are part of the result's key."""

    def __init__(
        self, function: Callable[..., R], cache: bool, format: str | None, directory: Any, inputs: dict[str, Any],
        ttl: float | datetime.timedelta | None = None,
    ):  # fmt: skip
        if not hasattr(function, "__qualname__"):
            raise Misuse(f"stage must decorate a function with a name, not {function!r}: write a function with def, and pass arguments when you call the stage")
        functools.update_wrapper(self, function)
        self.function = function
        self.cache = cache
        self.format = format  # None: parquet if that preserves the result exactly, otherwise pickle
        self.directory = directory
        if not isinstance(ttl, (int, float, datetime.timedelta, type(None))):
            raise Misuse(f"{self.name}: ttl is a {type(ttl).__name__}: pass seconds, or a timedelta")
        seconds = ttl.total_seconds() if isinstance(ttl, datetime.timedelta) else float(ttl or 0)
        if not seconds >= 0:
            raise Misuse(f"{self.name}: ttl is {ttl}: pass at least 0")
        self.ttl = seconds if 0 < seconds < 1e10 else math.inf  # 0, and 300 years or more, mean forever
        self.files = {name: v for name, v in inputs.items() if isinstance(v, (str, os.PathLike))}
        self.ancestors = {name: v for name, v in inputs.items() if isinstance(v, Stage)}
        for name, value in inputs.items():
            if name not in self.files and name not in self.ancestors:
                raise Misuse(f"{self.name}: {name} is a {type(value).__name__}: pass the path of a file, or a stage")
        if cache and format not in (None, "parquet"):
            methods(format)
        self._parameters, self.signature = _signatures(function, inputs)
        if isinstance(function, FunctionType):
            record_sources(function.__code__.co_filename)  # now, because the file may change later

    @property
    def name(self) -> str:
        return f"{self.function.__module__}.{self.function.__qualname__}".replace("/", "_")

    def _summary(self) -> Summary:
        kept = "not kept"
        if self.cache:
            try:
                local, storage = storage_of(self.directory)
                format, where = ("parquet or pickle", local.base) if isinstance(storage, Directory) else ("parquet", storage.url)
                kept = f"kept as {self.format or format} in {where}"
            except Misuse as error:
                kept = str(error)
        inputs = [(name, "file", os.fspath(path)) for name, path in self.files.items()]
        inputs += [(name, "stage", ancestor.name) for name, ancestor in self.ancestors.items()]
        return f"Stage {self.name}{self.signature}, {kept}", ("input", "type", "source"), inputs

    def key(self, *args: Any, **options: Any) -> str:
        """Returns the hash of everything that the result depends on: code, format, contents of raw files, results of ancestors,
        and the arguments. It runs ancestors whose results are unknown."""
        run = _Run(self, self._bind(args, options))
        return run.repeat(lambda: run.key(self))

    def explain(self, *args: Any, **options: Any) -> list[Step]:
        """Returns what a call would do with the stage and each of its ancestors, ancestors first. It runs no stage."""
        return _Run(self, self._bind(args, options)).explain()

    def _bind(self, args: tuple[Any, ...], options: dict[str, Any]) -> inspect.BoundArguments:
        """Returns the arguments of a call, with the defaults. They do not contain files and results of ancestors."""
        try:
            bound = self.signature.bind(*args, **options)
        except TypeError as error:
            inputs = ", ".join([*self.files, *self.ancestors])
            note = f" (the stage itself passes {inputs})" if inputs else ""
            raise Misuse(f"{self.name}{self.signature}: {error}{note}") from None
        bound.apply_defaults()
        return bound

    def _call(self, call: inspect.BoundArguments, inputs: dict[str, Any]) -> R:
        """Calls the function with the arguments of a call, and with the inputs by name."""
        bound, names = self._parameters.bind_partial(), _named(self._parameters)
        bound.arguments.update(call.arguments | {name: value for name, value in inputs.items() if name in names})
        return self.function(*bound.args, **bound.kwargs, **{name: value for name, value in inputs.items() if name not in names})

    def _stage_inputs(self) -> Any:
        """Returns the inputs of this stage. If another stage's function calls this stage, they are part of that stage's key."""
        return {name: _content(path) for name, path in self.files.items()}, self.ancestors, self.format if self.cache else ""

    def __call__(self, *args: Any, **options: Any) -> R:
        run = _Run(self, self._bind(args, options))
        result: R = run.repeat(lambda: run.result(self))
        return result


def _signatures(function: Callable[..., Any], inputs: dict[str, Any]) -> tuple[inspect.Signature, inspect.Signature]:
    """Returns the signature of a function, and that of its stage, without the parameters that files and ancestors fill."""
    name = function.__qualname__
    try:
        signature = inspect.signature(function, follow_wrapped=False)  # a decorator's function may have other parameters
    except ValueError:  # a function that is not written in Python
        signature = inspect.signature(lambda *args, **options: None)
    owner, first = name.rpartition(".")[0], next(iter(signature.parameters), "")
    if isinstance(function, MethodType) or owner and not owner.endswith("<locals>") and first in ("self", "cls"):
        raise Misuse(f"{name} is a method, which cannot be a stage: write a function outside of a class, and pass it the values that it needs")
    unknown = inputs.keys() - _named(signature)
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        raise Misuse(f"{name} has no parameter {', '.join(sorted(unknown))}: a stage's function gets each input by its name")
    remaining = [parameter for key, parameter in signature.parameters.items() if key not in inputs.keys() & _named(signature)]
    return signature, signature.replace(parameters=remaining, return_annotation=signature.empty)


def _named(signature: inspect.Signature) -> set[str]:
    """Returns the names of the parameters, except *args and **kwargs."""
    return {key for key, parameter in signature.parameters.items() if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)}


class _Changed(Exception):
    """A result differs from the one that the keys of later stages contain."""


class _Run:
    """One call of a stage. It runs the stage and each of its ancestors at most once, unless a result changes during the run."""

    def __init__(self, target: Stage[Any], call: inspect.BoundArguments):
        self.target = target
        self.inputs: dict[Stage[Any], tuple[str, str, str]] = {}  # hashes of the stage's identity, code and raw files; ancestors first
        self.calls: dict[Stage[Any], inspect.BoundArguments] = {}
        self.uses: dict[Stage[Any], int] = {}  # number of stages whose functions get the stage's result
        self.stats: dict[Stage[Any], list[tuple[int, ...]]] = {}  # size, times and inode of the stage's raw files before the run
        self.hash_inputs(target, call)
        self.begin()

    def begin(self) -> None:
        self.keys: dict[Stage[Any], str] = {}
        self.contents: dict[Stage[Any], str] = {}  # what stands for the stage's result in the keys of later stages
        self.ttls: dict[Stage[Any], float] = {}  # shortest ttl of the stage, and of ancestors whose keys are part of its key
        self.expires: dict[Stage[Any], float] = {}  # times at which results expire
        self.results: dict[Stage[Any], Any] = {}

    def repeat(self, method: Callable[[], T]) -> T:
        """Calls a method until no result changes during the call."""
        for _ in range(_MAX_ATTEMPTS):
            try:
                return method()
            except _Changed:
                self.begin()
        raise RuntimeError(f"{self.target.name}: a result of its ancestors changed in each of {_MAX_ATTEMPTS} attempts: raise its ttl, or stop what removes it")

    def hash_inputs(self, s: Stage[Any], call: inspect.BoundArguments) -> None:
        """Hashes what the keys of a stage and its ancestors depend on, except results."""
        identities = []
        for name, ancestor in sorted(s.ancestors.items()):
            self.uses[ancestor] = self.uses.get(ancestor, 0) + 1
            if ancestor not in self.inputs:
                self.hash_inputs(ancestor, ancestor._bind((), {}))
            identities += [name, self.inputs[ancestor][0][:IDENTITY]]
        self.calls[s], self.stats[s] = call, _stats(s)
        closure = inspect.getclosurevars(s.function).nonlocals if isinstance(s.function, FunctionType) else {}
        arguments = [call.args, call.kwargs, closure] if call.kwargs else [call.args, closure]
        files = sorted(s.files.items())
        paths = [word for name, path in files for word in (name, os.fspath(path))]
        identity = digest(["3", s.name, s.format if s.cache else "", Code().of(arguments), *paths, *identities])
        self.inputs[s] = identity, digest(Code().of(s.function)), digest([_content(path) for _, path in files])

    def key(self, s: Stage[Any]) -> str:
        if s not in self.keys:
            ancestors = sorted(s.ancestors.items())
            contents = [(name, self.content(ancestor)) for name, ancestor in ancestors]
            self.ttls[s] = min([s.ttl, *(self.ttls[ancestor] for _, ancestor in ancestors if not self.is_known(ancestor))])
            identity, code, files = self.inputs[s]
            self.keys[s] = identity[:IDENTITY] + code[:PART] + files[:PART] + digest([self.inputs[s], contents])[: -IDENTITY - 2 * PART]
        return self.keys[s]

    def content(self, s: Stage[Any]) -> str:
        """Returns the hash of the stage's result, which gc keeps. If the result is kept in a format that does not determine its value,
        or not at all, content returns the stage's key instead."""
        if s not in self.contents:
            if not s.cache or s.format not in (None, *EXECUTE_NOTHING):
                self.contents[s] = self.key(s)
            elif kept := self.find(s):
                self.contents[s] = kept.content or self.key(s)
            else:
                self.value(s)
        return self.contents[s]

    def is_known(self, s: Stage[Any]) -> bool:
        """Reports whether later stages depend on the hash of the stage's result, and not on its key."""
        return self.contents[s] != self.keys[s]

    def check(self, s: Stage[Any], content: str) -> None:
        if self.contents.setdefault(s, content or self.key(s)) != (content or self.key(s)):
            raise _Changed

    def find(self, s: Stage[Any]) -> Kept | None:
        """Returns the description of the stage's result, unless the result has expired. gc may have removed the result."""
        kept = storage_of(s.directory)[1].find(s.name, self.key(s))
        return kept if kept and self.expiry(s, kept) > time.time() else None

    def expiry(self, s: Stage[Any], kept: Kept) -> float:
        return min(kept.expires, kept.made + self.ttls[s])

    def explain(self) -> list[Step]:
        unknown: set[Stage[Any]] = set()  # stages whose keys or results are unknown until they or their ancestors run
        steps: dict[Stage[Any], Step] = {}
        needed = {self.target: "runs"}  # whether the stages that need a result run, or may run
        for s in self.inputs:
            if names := [ancestor.name for ancestor in s.ancestors.values() if ancestor in unknown]:
                steps[s] = Step(s.name, "may run", f"if the result of {' or '.join(names)} differs")
                unknown.add(s)
                continue
            kept = self.find(s) if s.cache else None
            if kept and not kept.removed:
                steps[s] = Step(s.name, "kept", "its inputs have not changed")
            elif kept or not s.cache:
                steps[s] = Step(s.name, "skipped", "its result was removed" if kept else "its result is not kept")
            else:
                steps[s] = Step(s.name, "runs", self.why(s))
                unknown.update([s] if s.format in (None, *EXECUTE_NOTHING) else [])
        for s in reversed(self.inputs):
            if steps[s].action == "skipped":
                steps[s] = steps[s]._replace(action=needed[s]) if s in needed else steps[s]._replace(why="no stage that runs needs its result")
            for ancestor in s.ancestors.values():
                if steps[s].action == "runs" or steps[s].action == "may run" and ancestor not in needed:
                    needed[ancestor] = steps[s].action
        return list(steps.values())

    def why(self, s: Stage[Any]) -> str:
        """Compares the key of a stage that runs with the newest one of the same name, input names and arguments."""
        key = self.key(s)
        same = [kept for kept in storage_of(s.directory)[1].all() if kept.stage == s.name and kept.key[:IDENTITY] == key[:IDENTITY]]
        if not same:
            return "it never ran"
        old = max(same, key=lambda kept: (kept.key == key, kept.made)).key
        parts = "its code", "a raw file", "an ancestor's result"
        ends = IDENTITY, IDENTITY + PART, IDENTITY + 2 * PART, len(key)
        changed = [part for part, start, end in zip(parts, ends, ends[1:]) if old[start:end] != key[start:end]]
        return f"{' and '.join(changed[:-1] or changed)} changed" if old != key else "its result expired"  # the last digits depend on everything

    def result(self, s: Stage[Any]) -> Any:
        result = self.value(s)
        if self.uses.get(s, 0) <= 1:
            return result
        try:
            return copy.deepcopy(result)  # several stages use the result, and a stage's function may modify its inputs
        except Exception as error:
            raise Misuse(f"{s.name} returned a {type(result).__name__} to several stages, which cannot be copied ({error}): return a list or a table") from error

    def value(self, s: Stage[Any]) -> Any:
        if s not in self.results:
            self.key(s)
            self.results[s] = self.stored_result(s) if s.cache else self.compute(s)
        return self.results[s]

    def compute(self, s: Stage[Any]) -> Any:
        inputs = {name: self.result(ancestor) for name, ancestor in s.ancestors.items()}
        self.expires[s] = min([time.time() + s.ttl, *(self.expires[a] for a in s.ancestors.values() if not self.is_known(a))])
        result = s._call(self.calls[s], {**s.files, **inputs})
        if isinstance(result, (Generator, AsyncGenerator, Coroutine)):
            raise Misuse(f"{s.name} returned a {type(result).__name__}, which can be read only once: return a list or a table")
        if _stats(s) != self.stats[s]:
            raise RuntimeError(f"{s.name}: a raw file changed during the run, so the result is not kept: call it again")
        return result

    def stored_result(self, s: Stage[Any]) -> Any:
        local, storage = storage_of(s.directory)
        if storage is not local and s.format not in (None, "pickle", *EXECUTE_NOTHING):
            raise Misuse(f"{s.name}: reading a shared result as {s.format} could run another user's code: use parquet, csv or pickle")
        key, directory = self.keys[s], local.base / s.name
        directory.mkdir(parents=True, exist_ok=True)
        # Without a lock file, nobody is computing the result, so reading it needs no lock. If a killed process left the
        # lock file, the code below reads the result.
        if not (directory / f".{key}.lock").exists() and self.load(storage, s):
            return self.results[s]
        shared_lock = contextlib.nullcontext(True) if storage is local else storage.locked(s.name, key)
        with local.locked(s.name, key), shared_lock:
            local.sweep(s.name, key)
            if not self.load(storage, s, locked=True):
                result = self.compute(s)
                with tempfile.TemporaryDirectory(prefix=f".{key}-", dir=directory) as temp_directory:
                    written = write(s.name, result, Path(temp_directory, key), s.format if storage is local else s.format or "parquet")
                    self.results[s] = read(written, written.suffix[1:])
                    content = result_hash(written.suffix[1:], _content(written))
                    storage.put(s.name, key, self.expires[s], written, content)
                    self.check(s, content)
        return self.results[s]

    def load(self, storage: Any, s: Stage[Any], locked: bool = False) -> bool:
        """Reads the kept result into self.results, and reports whether it exists and has not expired. With the key's lock,
        it warns about a damaged result and removes it."""
        stored = self.find(s)
        if stored is None or stored.removed:
            return False
        try:
            self.results[s], self.expires[s] = storage.read(stored, s.format), self.expiry(s, stored)
        except FileNotFoundError:  # removed in the meantime
            return False
        except Damaged:
            if locked:
                storage.remove(stored)  # before the warning, which may be an error
                warnings.warn(f"{s.name}: its kept result {stored.at} is damaged: it is removed and computed again", RuntimeWarning, stacklevel=2)
            return False
        self.check(s, stored.content)
        return True


def _content(path: Any) -> str:
    content = hashlib.sha256()
    with open(path, "rb") as f:
        while piece := f.read(1 << 20):
            content.update(piece)
    return content.hexdigest()


def _stats(s: Stage[Any]) -> list[tuple[int, ...]]:
    stats = (os.stat(path) for path in s.files.values())
    return [(i.st_size, i.st_mtime_ns, i.st_ctime_ns, i.st_ino) for i in stats]


@overload
def stage(function: Callable[..., R], /) -> Stage[R]: ...


@overload
def stage(
    function: None = None,
    /,
    *,
    cache: bool = False,
    format: str | None = None,
    cache_format: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    ttl: float | datetime.timedelta | None = None,
    **inputs: str | os.PathLike[str] | Stage[Any],
) -> Callable[[Callable[..., R]], Stage[R]]: ...


def stage(
    function: Callable[..., Any] | None = None,
    /,
    *,
    cache: bool = False,
    format: str | None = None,
    cache_format: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    ttl: float | datetime.timedelta | None = None,
    **inputs: Any,
) -> Any:
    """Turns a function into a stage. The function gets each of inputs by keyword: the path of a raw file, or the result
    of a stage.

    If cache is true, the result is kept: a DataFrame or Series as Parquet if that preserves it exactly, any other value as
    a pickle. format forces "parquet" or "pickle", or, for a DataFrame, a format for which pandas has to_<format> and
    read_<format>, such as "csv". cache_format is another name for format.

    ttl is the lifetime of a result in seconds; 0 means forever. It also applies to results that another process kept. When
    a result expires, results computed from it expire too.

    Even the first call returns the value as read from the kept file. A call raises OSError if a raw file is missing. It
    raises Misuse if a value cannot be hashed or kept, and if a format does not exist or loses columns."""
    if function is not None:
        return Stage(function, False, None, None, {})
    return lambda function: Stage(function, cache, format or cache_format, cache_dir, inputs, ttl)

"""Runs a stage and its ancestors, except those with kept results, and explains what a run would do."""

from __future__ import annotations

import contextlib
import copy
import inspect
import os
import tempfile
import time
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple, Protocol, TypeVar

from ..errors import Misuse
from .code import Code
from .files import Damaged, Kept
from .formats import CODE_FREE_FORMATS, digest, result_hash, write
from .raw import RawFiles, content_hash
from .storage import IDENTITY, PART, storage_of

T = TypeVar("T")
_MAX_ATTEMPTS = 10  # attempts at a run while results of its stages keep changing


class Step(NamedTuple):
    """The action of a call for one stage ("runs", "may run", "kept" or "skipped") and its reason."""

    stage: str
    action: str
    why: str


class Runnable(Protocol):
    """The parts of a stage that a run uses."""

    function: Callable[..., Any]
    cache: bool
    format: str | None
    directory: Any
    ttl: float
    files: dict[str, Any]

    @property
    def name(self) -> str: ...
    @property
    def ancestors(self) -> Mapping[str, Runnable]: ...
    def _bind(self, args: tuple[Any, ...], options: dict[str, Any]) -> inspect.BoundArguments: ...
    def _call(self, call: inspect.BoundArguments, inputs: dict[str, Any]) -> Any: ...


class _Changed(Exception):
    """A result's hash differs from the hash that is part of the keys of later stages."""


class Run:
    """One call of a stage. It runs the stage and its ancestors at most once each, unless a result changes during the
    run."""

    def __init__(self, target: Runnable, call: inspect.BoundArguments):
        self.target = target
        # Hashes of the stage's identity, code and raw files; ancestors first.
        self.inputs: dict[Runnable, tuple[str, str, str]] = {}
        self.calls: dict[Runnable, inspect.BoundArguments] = {}
        self.uses: dict[Runnable, int] = {}  # number of stages whose functions get this stage's result
        self.raw: dict[Runnable, RawFiles] = {}  # the files of the stage, and of stages that its function calls
        self.hash_inputs(target, call)
        self.begin()

    def begin(self) -> None:
        self.keys: dict[Runnable, str] = {}
        self.result_ids: dict[Runnable, str] = {}  # what represents the stage's result in the keys of later stages
        # The shortest ttl of the stage, and of ancestors whose keys are part of its key.
        self.ttls: dict[Runnable, float] = {}
        self.expires: dict[Runnable, float] = {}  # times at which results expire
        self.results: dict[Runnable, Any] = {}

    def repeat(self, method: Callable[[], T]) -> T:
        """Calls a method until no result changes during the call."""
        for _ in range(_MAX_ATTEMPTS):
            try:
                return method()
            except _Changed:
                self.begin()
        raise RuntimeError(
            f"{self.target.name}: a result of its ancestors changed in each of {_MAX_ATTEMPTS} attempts: raise the "
            "ttl of the ancestors, or stop the program that removes their results"
        )

    def hash_inputs(self, s: Runnable, call: inspect.BoundArguments) -> None:
        """Hashes everything that the keys of a stage and its ancestors depend on, except results."""
        identities = []
        for name, ancestor in sorted(s.ancestors.items()):
            self.uses[ancestor] = self.uses.get(ancestor, 0) + 1
            if ancestor not in self.inputs:
                self.hash_inputs(ancestor, ancestor._bind((), {}))
            identities += [name, self.inputs[ancestor][0][:IDENTITY]]
        raw = self.raw[s] = RawFiles()
        self.calls[s] = call
        closure = inspect.getclosurevars(s.function).nonlocals if isinstance(s.function, FunctionType) else {}
        arguments = [call.args, call.kwargs, closure] if call.kwargs else [call.args, closure]
        files = sorted(s.files.items())
        paths = [word for name, path in files for word in (name, os.fspath(path))]
        identity = digest(["3", s.name, s.format if s.cache else "", Code(raw).of(arguments), *paths, *identities])
        self.inputs[s] = identity, digest(Code(raw).of(s.function)), digest([raw.hash(path) for _, path in files])

    def key(self, s: Runnable) -> str:
        if s not in self.keys:
            ancestors = sorted(s.ancestors.items())
            results = [(name, self.result_id(ancestor)) for name, ancestor in ancestors]
            self.ttls[s] = min(
                [s.ttl, *(self.ttls[ancestor] for _, ancestor in ancestors if not self.has_result_hash(ancestor))]
            )
            identity, code, files = self.inputs[s]
            self.keys[s] = (
                identity[:IDENTITY]
                + code[:PART]
                + files[:PART]
                + digest([self.inputs[s], results])[: -IDENTITY - 2 * PART]
            )
        return self.keys[s]

    def result_id(self, s: Runnable) -> str:
        """Returns what represents the stage's result in the keys of later stages: the result's hash, which is known
        even after gc has removed the result. If the result is not kept, or if its bytes do not determine its value (see
        CODE_FREE_FORMATS), the stage's key is used instead."""
        if s not in self.result_ids:
            if not s.cache or s.format not in (None, *CODE_FREE_FORMATS):
                self.result_ids[s] = self.key(s)
            elif entry := self.find(s):
                self.result_ids[s] = entry.content or self.key(s)
            else:
                self.value(s)  # records the ID
        return self.result_ids[s]

    def has_result_hash(self, s: Runnable) -> bool:
        """Reports whether the keys of later stages contain the hash of the stage's result, rather than the stage's key.
        result_id must be called first."""
        return self.result_ids[s] != self.keys[s]

    def record_result_id(self, s: Runnable, value_hash: str) -> None:
        """Records the hash of the stage's result. Raises _Changed if a different hash is already recorded."""
        result_id = value_hash or self.key(s)
        if self.result_ids.setdefault(s, result_id) != result_id:
            raise _Changed

    def find(self, s: Runnable) -> Kept | None:
        """Returns the description of the stage's valid result, or None. gc may have removed the result itself."""
        entry = storage_of(s.directory)[1].find(s.name, self.key(s))
        return entry if entry and self.expiry(s, entry) > time.time() else None

    def expiry(self, s: Runnable, entry: Kept) -> float:
        return min(entry.expires, entry.made + self.ttls[s])

    def explain(self) -> list[Step]:
        unknown: set[Runnable] = set()  # stages whose keys or results are unknown until they or their ancestors run
        steps: dict[Runnable, Step] = {}
        needed = {self.target: "runs"}  # by stage: whether a stage that needs its result "runs" or "may run"
        for s in self.inputs:
            if names := [ancestor.name for ancestor in s.ancestors.values() if ancestor in unknown]:
                steps[s] = Step(s.name, "may run", f"if the result of {' or '.join(names)} differs")
                unknown.add(s)
                continue
            entry = self.find(s) if s.cache else None
            if entry and not entry.removed:
                steps[s] = Step(s.name, "kept", "its inputs have not changed")
            elif entry or not s.cache:
                steps[s] = Step(s.name, "skipped", "its result was removed" if entry else "its result is not kept")
            else:
                steps[s] = Step(s.name, "runs", self.why(s))
                unknown.update([s] if s.format in (None, *CODE_FREE_FORMATS) else [])
        for s in reversed(self.inputs):
            if steps[s].action == "skipped":
                steps[s] = (
                    steps[s]._replace(action=needed[s])
                    if s in needed
                    else steps[s]._replace(why="no stage that runs needs its result")
                )
            for ancestor in s.ancestors.values():
                if steps[s].action == "runs" or steps[s].action == "may run" and ancestor not in needed:
                    needed[ancestor] = steps[s].action
        return list(steps.values())

    def why(self, s: Runnable) -> str:
        """Explains why a stage runs: how its key differs from the newest key with the same stage name, input names and
        arguments."""
        key = self.key(s)
        same = [
            entry
            for entry in storage_of(s.directory)[1].all()
            if entry.stage == s.name and entry.key[:IDENTITY] == key[:IDENTITY]
        ]
        if not same:
            return "it never ran"
        old = max(same, key=lambda entry: (entry.key == key, entry.made)).key
        parts = "its code", "a raw file", "an ancestor's result"
        ends = IDENTITY, IDENTITY + PART, IDENTITY + 2 * PART, len(key)
        changed = [part for part, start, end in zip(parts, ends, ends[1:]) if old[start:end] != key[start:end]]
        # The last digits depend on everything, so they give the reason only if the digits before them are unchanged.
        return f"{' and '.join(changed[:-1] or changed)} changed" if old != key else "its result expired"

    def result(self, s: Runnable) -> Any:
        result = self.value(s)
        if self.uses.get(s, 0) <= 1:
            return result
        try:
            return copy.deepcopy(result)  # several stages use the result, and their functions may modify it
        except Exception as error:
            raise Misuse(
                f"{s.name} returned a {type(result).__name__} to several stages, which cannot be copied ({error}): "
                "return a list or a table"
            ) from error

    def value(self, s: Runnable) -> Any:
        if s not in self.results:
            self.key(s)
            self.results[s] = self.stored_result(s) if s.cache else self.compute(s)
        return self.results[s]

    def compute(self, s: Runnable) -> Any:
        inputs = {name: self.result(ancestor) for name, ancestor in s.ancestors.items()}
        self.expires[s] = min(
            [time.time() + s.ttl, *(self.expires[a] for a in s.ancestors.values() if not self.has_result_hash(a))]
        )
        result = s._call(self.calls[s], {**s.files, **inputs})
        if isinstance(result, (Generator, AsyncGenerator, Coroutine)):
            raise Misuse(
                f"{s.name} returned a {type(result).__name__}, which can be read only once: return a list or a table"
            )
        if self.raw[s].have_changed():
            raise RuntimeError(f"{s.name}: a raw file changed during the run, so the result is not kept: call it again")
        return result

    def stored_result(self, s: Runnable) -> Any:
        local, storage = storage_of(s.directory)
        if storage is not local and s.format not in (None, "pickle", *CODE_FREE_FORMATS):
            raise Misuse(
                f"{s.name}: reading a shared result as {s.format} could run another user's code: pass parquet, csv or "
                "pickle"
            )
        key, directory = self.keys[s], local.base / s.name
        directory.mkdir(parents=True, exist_ok=True)
        # Without a lock file, nobody is computing the result, so it can be read without the lock. If a killed process
        # left a lock file behind, the code below reads the result.
        if not (directory / f".{key}.lock").exists() and self.load(storage, s):
            return self.results[s]
        shared_lock = contextlib.nullcontext(True) if storage is local else storage.locked(s.name, key)
        with local.locked(s.name, key), shared_lock:
            local.sweep(s.name, key)
            if not self.load(storage, s, locked=True):
                result = self.compute(s)
                with tempfile.TemporaryDirectory(prefix=f".{key}-", dir=directory) as temp_directory:
                    result_path, self.results[s] = write(
                        s.name,
                        result,
                        Path(temp_directory, key),
                        s.format if storage is local else s.format or "parquet",
                    )
                    value_hash = result_hash(result_path.suffix[1:], content_hash(result_path))
                    storage.put(s.name, key, self.expires[s], result_path, value_hash)
                    self.record_result_id(s, value_hash)
        return self.results[s]

    def load(self, storage: Any, s: Runnable, locked: bool = False) -> bool:
        """Reads the kept result of s into self.results. Returns False if there is no usable result, for example because
        it has expired, was removed or is damaged. If locked is true, the caller must hold the key's lock, and a damaged
        result is removed, with a warning."""
        entry = self.find(s)
        if entry is None or entry.removed:
            return False
        try:
            self.results[s], self.expires[s] = storage.read(entry, s.format), self.expiry(s, entry)
        except FileNotFoundError:  # removed in the meantime
            return False
        except Damaged:
            if locked:
                storage.remove(entry)  # before the warning, because a warning filter may raise it as an exception
                warnings.warn(
                    f"{s.name}: the kept result {entry.at} was damaged: it has been removed, and is computed again",
                    RuntimeWarning,
                    stacklevel=2,
                )
            return False
        self.record_result_id(s, entry.content)
        return True

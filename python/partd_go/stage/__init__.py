"""Runs the stages of a pipeline and keeps each result in a file until the stage's code or inputs change.

    @stage(raw_file="in.csv", cache=True, format="parquet")
    def clean(raw_file):
        return pandas.read_csv(raw_file).dropna()

    @stage(rows=clean)
    def total(rows):
        return rows["sold"].sum()

    total()

set_directory() sets the directory for the files.
"""

from __future__ import annotations

import datetime
import functools
import inspect
import math
import os
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, Generic, TypeVar, overload

from ..errors import Misuse
from ..shown import Summary, Shown
from .files import Directory, Kept
from .formats import pandas_functions
from .raw import RawFiles
from .run import Run, Step
from .sources import record_sources
from .storage import gc, set_directory, storage_of

__all__ = ["Kept", "Stage", "Step", "gc", "set_directory", "stage"]

R = TypeVar("R")


class Stage(Shown, Generic[R]):
    """A function with its inputs: raw files and the results of other stages, its ancestors. The decorator stage creates
    it. A call returns the kept result, if there is one. Otherwise, it gets the ancestors' results, runs the function
    and keeps the result.

        @stage(raw_file="in.csv", cache=True)
        def clean(raw_file):
            return pandas.read_csv(raw_file).dropna()

        rows = clean()

    A call's arguments are passed to the function. They and the defaults of its parameters are part of the key under
    which the result is kept.
    """

    def __init__(
        self,
        function: Callable[..., R],
        cache: bool,
        format: str | None,
        directory: Any,
        inputs: dict[str, Any],
        ttl: float | datetime.timedelta | None = None,
    ):
        if not hasattr(function, "__qualname__"):
            raise Misuse(
                f"stage must decorate a named function, not {function!r}: define one with def, and pass its arguments "
                "when you call the stage"
            )
        functools.update_wrapper(self, function)
        self.function = function
        self.cache = cache
        self.format = format  # None: parquet if that preserves the result exactly, otherwise pickle
        self.directory = directory
        if not isinstance(ttl, (int, float, datetime.timedelta, type(None))):
            raise Misuse(f"{self.name}: the argument ttl has type {type(ttl).__name__}: pass seconds or a timedelta")
        seconds = ttl.total_seconds() if isinstance(ttl, datetime.timedelta) else float(ttl or 0)
        if not seconds >= 0:
            raise Misuse(f"{self.name}: the argument ttl is {ttl}: pass at least 0")
        self.ttl = seconds if 0 < seconds < 1e10 else math.inf  # 0, or 300 years or more, means forever
        self.files = {name: v for name, v in inputs.items() if isinstance(v, (str, os.PathLike))}
        self.ancestors = {name: v for name, v in inputs.items() if isinstance(v, Stage)}
        for name, value in inputs.items():
            if name not in self.files and name not in self.ancestors:
                raise Misuse(f"{self.name}: {name} has type {type(value).__name__}: pass a stage or the path of a file")
        if cache and format not in (None, "parquet"):
            pandas_functions(format)
        self._function_signature, self.signature = _signatures(function, inputs)
        if isinstance(function, FunctionType):
            record_sources(function.__code__.co_filename)  # record them now: the file may change later

    @property
    def name(self) -> str:
        return f"{self.function.__module__}.{self.function.__qualname__}".replace("/", "_")

    def _summary(self) -> Summary:
        storage_text = "not kept"
        if self.cache:
            try:
                local, storage = storage_of(self.directory)
                format, where = (
                    ("parquet or pickle", local.base) if isinstance(storage, Directory) else ("parquet", storage.url)
                )
                storage_text = f"kept as {self.format or format} in {where}"
            except Misuse as error:
                storage_text = str(error)
        inputs = [(name, "file", os.fspath(path)) for name, path in self.files.items()]
        inputs += [(name, "stage", ancestor.name) for name, ancestor in self.ancestors.items()]
        return f"Stage {self.name}{self.signature}, {storage_text}", ("input", "type", "source"), inputs

    def key(self, *args: Any, **options: Any) -> str:
        """Returns the key of the result: a hash of everything that it depends on, which is the code, the format, the
        contents of raw files, the ancestors' results and the arguments. Runs the ancestors whose results are not
        known."""
        run = Run(self, self._bind(args, options))
        return run.repeat(lambda: run.key(self))

    def explain(self, *args: Any, **options: Any) -> list[Step]:
        """Returns what a call would do: a step for each ancestor, then one for the stage itself. Runs no stage."""
        return Run(self, self._bind(args, options)).explain()

    def _bind(self, args: tuple[Any, ...], options: dict[str, Any]) -> inspect.BoundArguments:
        """Binds the arguments of a call, without raw files and ancestors' results, and fills in defaults."""
        try:
            bound_call = self.signature.bind(*args, **options)
        except TypeError as error:
            inputs = ", ".join([*self.files, *self.ancestors])
            note = f" (the stage itself passes {inputs})" if inputs else ""
            raise Misuse(f"{self.name}{self.signature}: {error}{note}") from None
        bound_call.apply_defaults()
        return bound_call

    def _call(self, bound_call: inspect.BoundArguments, inputs: dict[str, Any]) -> R:
        """Calls the function with the arguments of bound_call, and with each input as a keyword argument."""
        full_call, names = self._function_signature.bind_partial(), _named_parameters(self._function_signature)
        full_call.arguments.update(
            bound_call.arguments | {name: value for name, value in inputs.items() if name in names}
        )
        return self.function(
            *full_call.args, **full_call.kwargs, **{name: value for name, value in inputs.items() if name not in names}
        )

    def _stage_inputs(self, raw: RawFiles) -> Any:
        """Returns the hashes of this stage's raw files, its ancestors and its format. If another stage's function calls
        this stage, they are part of that stage's key."""
        return (
            {name: raw.hash(path) for name, path in self.files.items()},
            self.ancestors,
            self.format if self.cache else "",
        )

    def __call__(self, *args: Any, **options: Any) -> R:
        run = Run(self, self._bind(args, options))
        result: R = run.repeat(lambda: run.result(self))
        return result


def _signatures(function: Callable[..., Any], inputs: dict[str, Any]) -> tuple[inspect.Signature, inspect.Signature]:
    """Returns the signatures of the function and of its stage, which lacks the parameters for the inputs."""
    name = function.__qualname__
    try:
        # A decorator's wrapper may have different parameters from the function that it wraps.
        signature = inspect.signature(function, follow_wrapped=False)
    except ValueError:  # a function that is not written in Python
        signature = inspect.signature(lambda *args, **options: None)
    owner = name.rpartition(".")[0]
    receiver = next(iter(signature.parameters), "")
    if isinstance(function, MethodType) or owner and not owner.endswith("<locals>") and receiver in ("self", "cls"):
        raise Misuse(
            f"{name} is a method, which cannot be a stage: define a function outside the class, and pass it the "
            "values that it needs"
        )
    unknown = inputs.keys() - _named_parameters(signature)
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        raise Misuse(
            f"{name} has no parameter {', '.join(sorted(unknown))}: each input is passed as a keyword argument"
        )
    remaining = [
        parameter
        for key, parameter in signature.parameters.items()
        if key not in inputs.keys() & _named_parameters(signature)
    ]
    return signature, signature.replace(parameters=remaining, return_annotation=signature.empty)


def _named_parameters(signature: inspect.Signature) -> set[str]:
    """Returns the names of the parameters, except *args and **kwargs."""
    return {
        key
        for key, parameter in signature.parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }


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
    """Turns a function into a Stage.

        @stage(raw_file="in.csv", cache=True, format="parquet", ttl=3600)
        def clean(raw_file):
            return pandas.read_csv(raw_file).dropna()

    Calling the stage raises OSError if a raw file is missing. It raises Misuse if a value cannot be hashed or kept, or
    if the format does not exist or would change the value.

    Args:
        cache: Keep the result in a file. Every call, even the first, then returns the value as read from the file.
        format: "parquet", "pickle" or, for a DataFrame, a format for which pandas has to_<format> and read_<format>,
            such as "csv". By default, a DataFrame or Series is kept as Parquet if that preserves it exactly, and any
            other value as a pickle.
        cache_format: Another name for format.
        cache_dir: The directory for the file; by default, the directory of set_directory().
        ttl: How long a result is valid, in seconds or as a timedelta; None and 0 mean forever. It also applies to
            results that another process kept. When a result expires, the results computed from it expire too.
        inputs: The files and stages on which the function depends. Each is passed to the function as a keyword
            argument: a file as its path, and a stage as its result.
    """
    if function is not None:
        return Stage(function, False, None, None, {})
    return lambda function: Stage(function, cache, format or cache_format, cache_dir, inputs, ttl)

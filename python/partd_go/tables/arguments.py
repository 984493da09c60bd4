"""Checks and converts arguments of calls. For a wrong type, a function raises Misuse with the argument's name."""

from __future__ import annotations

import base64
import decimal
import difflib
import enum
import inspect
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import pyarrow as pa

from ..errors import Misuse

F = TypeVar("F", bound=Callable[..., Any])
_MAX_INT = 2**63
_MAX_DIGITS = 38


def names(value: str | Iterable[str], argument: str) -> list[str]:
    """Returns a list of names. A string is a single name."""
    values = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    for name in values:
        if not isinstance(name, str):
            raise Misuse(f"{argument}: {name!r:.80} has type {type(name).__name__}: pass names as text")
    return values


def text(value: Any, argument: str) -> str:
    if not isinstance(value, str):
        raise Misuse(f"the argument {argument} has type {type(value).__name__}: pass text")
    return value


def whole(value: Any, argument: str) -> int:
    """Returns value as an int. It must be a whole number, of Python or NumPy, and not negative."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 0:
        raise Misuse(f"the argument {argument} is {value!r:.80}: pass a whole number that is not negative")
    return int(value)


def check_options(method: str, given: Mapping[str, Any], known: type) -> None:
    """Raises TypeError if a method was called with an unknown option. known is a TypedDict of the options."""
    for name in given:
        if name not in known.__annotations__:
            near = difflib.get_close_matches(name, known.__annotations__, 1)
            hint = f" (did you mean {near[0]}?)" if near else f": the options are {', '.join(known.__annotations__)}"
            raise TypeError(f"{method}() got an unexpected keyword argument {name!r}{hint}")


def options_of(source: Callable[..., Any], known: type | None = None) -> Callable[[F], F]:
    """Returns a decorator for a method that passes its **options on to source. The method's signature then shows these
    options with their defaults: those in the TypedDict known or, by default, all keyword-only parameters of source."""

    def show(method: F) -> F:
        signature, options = inspect.signature(method), inspect.signature(source).parameters
        own = {name: p for name, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD}
        chosen = known.__annotations__ if known else [name for name, p in options.items() if p.kind is p.KEYWORD_ONLY]
        own |= {name: p for name, p in options.items() if name in chosen}
        method.__signature__ = signature.replace(parameters=[*own.values()])  # type: ignore[attr-defined]
        return method

    return show


def also_takes(known: type) -> Callable[[F], F]:
    """Returns a decorator that shows the options in the TypedDict known in the signature of a function with
    **options."""

    def show(function: F) -> F:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        for name, annotation in known.__annotations__.items():
            own.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
        function.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
        return function

    return show


_INSTEAD = {
    "head": "get(limit=…)",
    "tail": "get(last=…)",
    "limit": "get(limit=…)",
    "drop": "delete()",
    "rename": 'evolve({"op": "rename", …}) to rename a column',
}


def no_attribute(owner: object, name: str) -> AttributeError:
    """Returns the error for an attribute that owner lacks. It names the method to call instead, if there is one."""
    hint = f": call {_INSTEAD[name]}" if name in _INSTEAD else ""
    return AttributeError(f"{type(owner).__name__!r} object has no attribute {name!r}{hint}", name=name, obj=owner)


def parameters(values: Any) -> str:
    """Encodes a statement's parameters as an Arrow stream of one row, in base64. Returns "" if there are no values."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise Misuse(
            f"params has type {type(values).__name__}: pass a list with a value for each ?, or a dict with a value for "
            "each $name"
        )
    named = (
        values if isinstance(values, Mapping) else {str(position): value for position, value in enumerate(values, 1)}
    )
    if not named:
        return ""
    row = pa.table({name: _parameter(value, f"parameter {name}") for name, value in named.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row.schema) as writer:
        writer.write_table(row)
    return base64.b64encode(sink.getvalue()).decode()


def _parameter(value: Any, argument: str) -> pa.Array:
    if isinstance(value, enum.Enum):
        value = value.value
    if type(value).__name__ in ("NaTType", "NAType"):
        value = None  # NaN is not a null
    elif type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:  # an array counts as a list
        if value.dtype.kind not in "mM":  # item() of a time in nanoseconds is an int
            value = value.item()
        elif value != value:
            value = None  # NaT
    if isinstance(value, int) and not -_MAX_INT <= value < _MAX_INT and abs(value) < 10**_MAX_DIGITS:
        return pa.array([decimal.Decimal(value)], pa.decimal128(_MAX_DIGITS, 0))
    try:
        return pa.array([value])
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise Misuse(
            f"{argument}, {value!r:.80} of type {type(value).__name__}, cannot be passed to SQL: {error}"
        ) from None

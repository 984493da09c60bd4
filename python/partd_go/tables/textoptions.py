"""The options of text files, which are flags of partd-tables (docs/import.md in the tables module)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from ..errors import Misuse
from . import arguments


class TextOptions(TypedDict, total=False):
    """The options of text files. Files in other formats ignore them, except sep."""

    sep: str | None
    null: str | Sequence[str] | None
    ragged: bool | Literal["fill", "cut"] | None
    decimal: str | None
    thousands: str | None
    encoding: Literal["utf-8", "utf-16", "utf-16le", "utf-16be", "latin-1", "windows-1252"] | None


def flags(method: str, op: str, options: Mapping[str, Any], data: Any, is_path: bool) -> list[str]:
    """Returns the flags for TextOptions. method and op name the call in errors."""
    arguments.check_options(method, options, TextOptions)
    result = []
    for name, value in options.items():
        if not value:
            continue
        if not is_path:
            raise Misuse(
                f"{op}: the option {name} is for a file, but data has type {type(data).__name__}: leave out {name}"
            )
        if name == "null":
            texts = arguments.names(value, name)
        elif name == "sep":
            texts = [arguments.text(value, name).replace("\\", r"\\")]
        else:
            texts = ["true" if name == "ragged" and value is True else arguments.text(value, name)]
        result += [f"--{name}={text}" for text in texts]
    return result

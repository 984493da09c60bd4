"""What calls take and return, for readers and for type checkers."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, TypedDict

import pyarrow as pa

from ..errors import Misuse

if TYPE_CHECKING:
    import pandas
    import polars

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Mode = Literal["error", "append", "replace"]
MODES = ("error", "append", "replace")
Time: TypeAlias = "datetime.datetime | str"


class Stream(Protocol):
    """Rows of any library that gives them to others, as pyarrow's and polars' tables and DuckDB's results do."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


Data: TypeAlias = "pandas.DataFrame | pandas.Series[Any] | polars.Series | pa.RecordBatch | Stream | str | os.PathLike[str]"


class Version(NamedTuple):
    """A version of a table: a commit that changed its rows."""

    version: int
    time: datetime.datetime
    operation: str
    rows: int
    current: bool


class Described(TypedDict):
    """What is known of a table. Parts are those that it can be read in, about one a file; times are texts, in UTC."""

    Bucket: str
    Name: str
    Rows: int
    Bytes: int
    Files: int
    Version: int
    Updated: str
    Metadata: dict[str, Json]
    parts: int
    schema: pa.Schema


class State(TypedDict, total=False):
    """Which state of a table is read, where it is not that of now: one of these."""

    version: int | None
    at: Time | None
    snapshot: str


class Read(State, total=False):
    """Which columns and rows are read: see scan()."""

    columns: Sequence[str] | None
    where: str | list[Any] | None
    limit: int | None
    last: int | None
    part: int
    timeout: float | None


class Query(State, total=False):
    """What goes with a statement: see sql()."""

    params: Sequence[Any] | Mapping[str, Any] | None
    timeout: float | None


class Resampled(TypedDict, total=False):
    """What goes with bins of time: see resampled()."""

    columns: Sequence[str] | None
    bucket: str
    timeout: float | None


def state(version: int | None, at: Time | None, snapshot: str) -> dict[str, Any]:
    """What the server is told of a state."""
    if (version is not None) + (at is not None) + bool(snapshot) > 1:
        raise Misuse("version, at and snapshot exclude each other: give one")
    if at is not None:
        moment = datetime.datetime.fromisoformat(at.replace("Z", "+00:00")) if isinstance(at, str) else at
        moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)
        return {"time": moment.isoformat()}
    return {**({} if version is None else {"version": version}), **({"snapshot": snapshot} if snapshot else {})}


def time_of(text: str) -> datetime.datetime:
    """A time as the server writes it, in UTC."""
    seconds, _, fraction = text.rstrip("Z").partition(".")
    known = datetime.datetime.fromisoformat(seconds).replace(tzinfo=datetime.timezone.utc)
    return known.replace(microsecond=int(f"{fraction:0<6}"[:6]))

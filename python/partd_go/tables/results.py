"""The types of calls' arguments and results."""

from __future__ import annotations

import contextlib
import datetime
import numbers
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, TypedDict

import pyarrow as pa

from ..errors import Misuse
from . import arguments

if TYPE_CHECKING:
    import pandas
    import polars
    from typing_extensions import NotRequired

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Mode = Literal["error", "append", "replace"]
MODES = ("error", "append", "replace")
Time: TypeAlias = "datetime.datetime | str"


class Stream(Protocol):
    """Rows from any library that exports Arrow streams, such as pyarrow and polars tables, and DuckDB results."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


Data: TypeAlias = (
    "pandas.DataFrame | pandas.Series[Any] | polars.Series | pa.RecordBatch | Stream | str | os.PathLike[str]"
)


class Version(NamedTuple):
    """A version of a table. Each change to the table's rows creates a version, but several small appends share one.
    time is when the version was created, operation says how ("append", "overwrite", …), rows is the table's number of
    rows, and current says whether it is the newest version. If rows_exact is False, rows is only a maximum, because
    other programs deleted some of the rows. user is the name in the token of the user who created the version, or "";
    only admins see it."""

    version: int
    time: datetime.datetime
    operation: str
    rows: int
    current: bool
    rows_exact: bool = True
    user: str = ""


class Changes(NamedTuple):
    """The rows that changed since an earlier state of a table. For later changes, pass version (as since) and uuid to
    changes()."""

    rows: Any
    version: int
    uuid: str


class Replaced(NamedTuple):
    """The result of replace_range(): the version with the new rows, and how many rows were deleted and written."""

    version: int
    deleted: int
    written: int


class Described(TypedDict):
    """A table's description. parts is the number of parts that scan() can read separately, about one per file; its
    argument part is a number from 1 to parts. Updated is in UTC."""

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
    RowsExact: NotRequired[bool]


class State(TypedDict, total=False):
    """Selects an earlier state of a table, by one of these fields: a version, a time, or the name of a snapshot."""

    version: int | None
    at: Time | None
    snapshot: str


class Read(State, total=False):
    """The options of scan()."""

    columns: str | Sequence[str] | None
    where: str | list[Any] | None
    limit: int | None
    last: int | None
    part: int
    timeout: float | None


class Query(State, total=False):
    """The options of sql()."""

    since: int | Time | None
    since_snapshot: str
    params: Sequence[Any] | Mapping[str, Any] | None
    timeout: float | None


class Resampled(TypedDict, total=False):
    """The options of resampled()."""

    columns: str | Sequence[str] | None
    by: str | Sequence[str] | None
    bucket: str
    timeout: float | None


def state(version: int | None, at: Time | None, snapshot: str) -> dict[str, Any]:
    """Returns the fields that select a state in a request."""
    if (version is not None) + (at is not None) + bool(snapshot) > 1:
        raise Misuse("pass only one of version, at and snapshot")
    if at is not None:
        return {"time": moment(at)}
    return {
        **({} if version is None else {"version": arguments.whole(version, "version")}),
        **({"snapshot": snapshot} if snapshot else {}),
    }


def moment(time: Time) -> str:
    """Formats a time for a request. A time without a zone is taken as UTC, and a date as its midnight."""
    parsed: Any = time
    if isinstance(time, str):
        with contextlib.suppress(ValueError):
            parsed = datetime.datetime.fromisoformat(time.replace("Z", "+00:00"))
    elif isinstance(time, datetime.date) and not isinstance(time, datetime.datetime):
        parsed = datetime.datetime.combine(time, datetime.time())
    if not isinstance(parsed, datetime.datetime):
        raise Misuse(f"{time!r} is not a time: pass a datetime, a date, or text such as '2026-01-31T10:00:00Z'")
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.timezone.utc)).isoformat()


def since_state(since: int | Time | None, snapshot: str) -> dict[str, Any]:
    """Returns a request's field that selects the earlier state to compare with. If neither argument is given, it
    returns {}, which selects an empty table."""
    if since is not None and snapshot:
        raise Misuse("pass only one of since and since_snapshot")
    is_version = isinstance(since, numbers.Integral)
    selected = state(since if is_version else None, None if is_version else since, snapshot)  # type: ignore[arg-type]
    return {"since": selected} if selected else {}


def time_of(text: str) -> datetime.datetime:
    """Parses a time in a reply from the server."""
    seconds, _, fraction = text.rstrip("Z").partition(".")
    time = datetime.datetime.fromisoformat(seconds).replace(tzinfo=datetime.timezone.utc)
    return time.replace(microsecond=int(f"{fraction:0<6}"[:6]))

"""The types of arguments and results."""

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
    """Any object that exports an Arrow stream, such as a pyarrow or polars table or a DuckDB result."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


Data: TypeAlias = (
    "pandas.DataFrame | pandas.Series[Any] | polars.Series | pa.RecordBatch | Stream | str | os.PathLike[str]"
)


class Version(NamedTuple):
    """A version of a table. Each change to the table's rows creates a version, but several small appends share one.

    Attributes:
        time: When the version was created.
        operation: What created the version: "append", "overwrite", …
        rows: The number of rows in the table, or an upper bound if rows_exact is False.
        current: Whether this is the newest version.
        rows_exact: False if other programs deleted some of the rows, so that their number is not known.
        user: The name in the token of the user who created the version, or "". Only admins see it.
    """

    version: int
    time: datetime.datetime
    operation: str
    rows: int
    current: bool
    rows_exact: bool = True
    user: str = ""


class Changes(NamedTuple):
    """The rows that changed since an earlier state of a table. To get later changes, call changes() with since=version
    and uuid=uuid."""

    rows: Any
    version: int
    uuid: str


class Replaced(NamedTuple):
    """The result of replace_range(): the new version, and the numbers of rows deleted and written."""

    version: int
    deleted: int
    written: int


class Described(TypedDict):
    """A table's description. Updated is in UTC. parts is the number of parts, about one per file, that scan() can read
    separately: pass part=1 to part=parts."""

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
    """Options that select an earlier state of a table. At most one is given: a version, a time or a snapshot's name."""

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
    """Returns the request fields that select a state of a table, or {} for the current state."""
    if (version is not None) + (at is not None) + bool(snapshot) > 1:
        raise Misuse("pass only one of version, at and snapshot")
    if at is not None:
        return {"time": moment(at)}
    return {
        **({} if version is None else {"version": arguments.whole(version, "version")}),
        **({"snapshot": snapshot} if snapshot else {}),
    }


def moment(time: Time) -> str:
    """Formats a time for a request. A time without a zone is in UTC, and a date means its midnight."""
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
    """Returns the request field that selects the earlier state to compare with. Without arguments, it returns {}, which
    selects an empty table."""
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

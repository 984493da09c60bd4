"""The exceptions of tables, all subclasses of partd_go.Error."""

from __future__ import annotations

import datetime
import json
import re

import pyarrow as pa
import pyarrow.flight as flight

from ..errors import (
    NO_SPACE_ADVICE,
    Busy,
    ConnectionFailed,
    Error,
    Misuse,
    NoSpace,
    Refused,
    SchemaMismatch,
    TimedOut,
    TooLarge,
    UnknownOutcome,
    Unsupported,
    failure,
    is_disk_full,
    seconds,
)
from .results import time_of


class NotFound(Error, LookupError):
    """The table, bucket, version or snapshot does not exist."""


class MomentError(NotFound):
    """No version contains exactly the rows that the table had at a given time (see tables/docs/snapshots.md). before
    and after are the nearest times that can be selected, or None."""

    before: datetime.datetime | None = None
    after: datetime.datetime | None = None


class Exists(Error):
    """The table, the snapshot or a file in the directory already exists."""


class MissingColumns(UserWarning):
    """Warns that appended rows lack some of the table's columns, which become null."""


_UNAVAILABLE = "check that the server is running, and that its address is correct"
_CLASS_OF_FLIGHT_ERROR: tuple[tuple[type[Exception], type[Error], str], ...] = (
    (flight.FlightUnavailableError, ConnectionFailed, _UNAVAILABLE),
    (flight.FlightUnauthenticatedError, Refused, "pass a token that is signed with the server's secret"),
    (flight.FlightUnauthorizedError, Refused, "pass an administrator's token"),
    (flight.FlightTimedOutError, TimedOut, "try again later"),
    (flight.FlightCancelledError, TimedOut, "try again later"),
    (pa.ArrowKeyError, NotFound, "see list() and buckets()"),
    (pa.ArrowCapacityError, Busy, "try again later, or send less"),
    (pa.ArrowTypeError, SchemaMismatch, ""),
    (pa.ArrowNotImplementedError, Unsupported, ""),
    (pa.ArrowInvalid, Misuse, ""),
)
_PUTS = ("put ", "partd.combine", "partd.resample")  # operations that have a mode
_MODE_ADVICE = 'pass mode="append" to add the rows, or mode="replace" to replace all rows'
_CLASS_OF_TYPE: dict[str, type[Error]] = {"FileNotFoundError": NotFound, "FileExistsError": Exists}
# Matches a Flight error's text. The group is the server's message, without the text that gRPC and Flight add around it.
_MESSAGE = re.compile(
    r"^(?:.*?, with message: )?(?:tables: )?(.*?)(?:\.? (?:gRPC client debug context|Client context|Detail): .*)?$",
    re.S,
)
# Matches the text of tables.MomentError. Group 1 is the requested time. Groups 2 and 3 are the nearest times that can
# be selected instead; group 3, or both, may be missing.
_MOMENT = re.compile(
    r"exactly the rows of ([^ ]+Z)(?:: the table was created[^:]*)?(?:: the nearest exact moments are ([^ ]+Z)(?: and "
    r"([^ ]+Z))?)?"
)
CHECK, REPEAT, REPEAT_ID = "check whether the change was applied", "repeat the call", "repeat the call with the same id"


def convert_error(
    error: Exception, op: str, url: str, advice_if_unknown: str = "", timeout: float | None = None
) -> Error:
    """Converts a Flight error to one of this package's, based on the error's type and the server's text. For a change,
    advice_if_unknown says what to do if its outcome is unknown."""
    match = _MESSAGE.match(str(error))
    problem = match[1] if match else str(error)
    if moment := _MOMENT.search(problem):
        return _moment_error(failure(MomentError, op, url, problem), moment)
    if is_disk_full(problem):
        return failure(NoSpace, op, url, problem, NO_SPACE_ADVICE)
    if "open only for reading" in problem and "token" not in problem:
        return failure(Refused, op, url, problem, "open the tables without read_only, as a user who can write")
    if "connect(memory=" in problem:
        return failure(TooLarge, op, url, problem)
    timed_out = isinstance(
        error, (flight.FlightTimedOutError, flight.FlightCancelledError)
    )  # if the server reaches the timeout first, it cancels the call
    if (
        timed_out
        and timeout is not None
        and "than the server allows" not in problem
        and "client sent" not in problem
        and "client received" not in problem
    ):
        problem = f"no answer within {seconds(timeout)}"
        return (
            failure(UnknownOutcome, op, url, problem, advice_if_unknown)
            if advice_if_unknown
            else failure(TimedOut, op, url, problem, "pass a longer timeout")
        )
    try:
        detail = json.loads(getattr(error, "extra_info", b"") or b"{}")
    except ValueError:
        detail = {}
    kind = _CLASS_OF_TYPE.get(detail.get("type", ""), Exists if "already exists" in str(error)[:80] else None)
    if kind is not None:
        return failure(kind, op, url, problem, _MODE_ADVICE if kind is Exists and op.startswith(_PUTS) else "")
    for flight_class, kind, advice in _CLASS_OF_FLIGHT_ERROR:
        if isinstance(error, flight_class):
            lost = kind is ConnectionFailed and "failed to connect" not in str(error)
            # After these errors, the server may still apply the change.
            if advice_if_unknown and (lost or kind is TimedOut or "canceled in favor of other users" in problem):
                return failure(UnknownOutcome, op, url, problem, advice_if_unknown)
            return failure(kind, op, url, problem, advice)
    return failure(Misuse if detail else Error, op, url, problem)


def _moment_error(error: Error, moment: re.Match[str]) -> Error:
    time, *nearest = [time_of(text) for text in moment.groups() if text]
    assert isinstance(error, MomentError)
    for candidate in nearest:
        if candidate <= time:
            error.before = candidate
        else:
            error.after = candidate
    return error

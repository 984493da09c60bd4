"""The exceptions of tables, all subclasses of partd_go.Error."""

from __future__ import annotations

import contextlib
import datetime
import re
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from ..errors import (
    NO_SPACE_ADVICE,
    Busy,
    ConnectionFailed,
    Corrupt,
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
    seconds,
)
from .results import time_of


class NotFound(Error, LookupError):
    """The table, bucket, version or snapshot does not exist."""


class MomentError(NotFound):
    """No version has exactly the rows that the table had at the requested time (see tables/docs/snapshots.md). before
    and after are the nearest times that can be requested, or None."""

    before: datetime.datetime | None = None
    after: datetime.datetime | None = None


class Exists(Error):
    """The table, the snapshot or a file in the directory already exists."""


class MissingColumns(UserWarning):
    """Warns that appended rows lack some of the table's columns, which become null."""


CHECK, REPEAT, REPEAT_ID = "check whether the change was applied", "repeat the call", "repeat the call with the same id"
_OPS_WITH_MODE = ("put ", "partd.combine", "partd.resample")
_MODE_ADVICE = 'pass mode="append" to add the rows, or mode="replace" to replace all rows'
_UNAVAILABLE = "check that the server is running, and that its address is correct"

# The exception class and advice for each kind of error. docs/dev/tables-wire.md lists the kinds that servers send, and
# docs/cli.md lists the kinds that programs report. An error has one or more kinds; the first kind that is a key counts.
KINDS: dict[str, tuple[type[Error], str]] = {
    "unknown_outcome": (UnknownOutcome, CHECK),
    "preempted": (Busy, "try again later, or send less"),
    **dict.fromkeys(
        ("call_limit", "idle_sender", "idle_receiver", "timed_out", "canceled"), (TimedOut, "try again later")
    ),
    **dict.fromkeys(("disk_full", "quota"), (NoSpace, NO_SPACE_ADVICE)),
    "moment": (MomentError, ""),
    "not_found": (NotFound, "see list() and buckets()"),
    "exists": (Exists, ""),
    **dict.fromkeys(("closed", "stopping", "unavailable"), (ConnectionFailed, _UNAVAILABLE)),
    "damaged": (Corrupt, ""),
    "read_only": (Refused, "open the tables without read_only, as a user who can write"),
    "unauthenticated": (Refused, "pass a token that is signed with the server's secret"),
    "permission": (Refused, "pass an administrator's token"),
    "unsupported": (Unsupported, ""),
    **dict.fromkeys(("too_large", "memory"), (TooLarge, "")),
    "busy": (Busy, "try again later, or send less"),
    "schema": (SchemaMismatch, ""),
    **dict.fromkeys(
        ("duplicates", "rules", "invalid", "sql", "filter", "bad_request", "not_empty", "usage"), (Misuse, "")
    ),
    **dict.fromkeys(("conflict", "requirement", "precondition", "in_use", "internal"), (Error, "")),
    **dict.fromkeys(("file_permission", "read_only_disk"), (Error, "")),
    "unknown_format": (Misuse, "rename the file so that its name ends with {formats}"),
    "not_per_key": (Misuse, "pass trust=True to run it anyway"),
    "dir_not_empty": (Exists, "pass append=True or replace=True, or force=True if it has no files of other keys"),
    "other_keys": (Exists, "pass append=True or replace=True"),
    "no_such_file": (NotFound, ""),
}
# The kind of a Flight error if the server sent no kinds, for example because the server could not be reached.
_KIND_OF_CLASS: tuple[tuple[type[Exception], str], ...] = (
    (flight.FlightUnavailableError, "closed"),
    (flight.FlightUnauthenticatedError, "unauthenticated"),
    (flight.FlightUnauthorizedError, "permission"),
    (flight.FlightTimedOutError, "timed_out"),
    (flight.FlightCancelledError, "canceled"),
    (pa.ArrowKeyError, "not_found"),
    (pa.ArrowCapacityError, "busy"),
    (pa.ArrowTypeError, "schema"),
    (pa.ArrowNotImplementedError, "unsupported"),
    (pa.ArrowInvalid, "invalid"),
)
_UNCERTAIN = (UnknownOutcome, ConnectionFailed, TimedOut)  # after these errors, the server may still apply a change

# gRPC and pyarrow do not document these texts. tests/test_tables_kinds.py checks them with the installed versions.
_NOT_CONNECTED = "failed to connect"  # part of gRPC's message if no server accepted the connection
# Matches the text of a Flight error. The group is the server's message, without what gRPC and Flight add around it.
_MESSAGE = re.compile(
    r"^(?:.*?, with message: )?(?:tables: )?(.*?)(?:\.? (?:gRPC client debug context|Detail): .*)?$", re.S
)


def convert_error(
    error: Exception,
    op: str,
    url: str,
    unknown_outcome_advice: str = "",
    timeout: float | None = None,
    details: dict[str, Any] | None = None,
) -> Error:
    """Converts a Flight error to an error of this package.

    op and url are for the message. details is the error's JSON object from the server, or None if it sent none. For a
    call that changes data, unknown_outcome_advice says what to do if the outcome is unknown; "" means the call only
    reads.
    """
    match = _MESSAGE.match(str(error))
    problem = match[1] if match else str(error)
    details = details or {"retry": "yes" if _NOT_CONNECTED in str(error) else "id"}
    of_class = (kind for flight_class, kind in _KIND_OF_CLASS if isinstance(error, flight_class))
    kind = next(kind for kind in (*details.get("kinds", ()), *of_class, "internal") if kind in KINDS)
    error_class, advice = KINDS[kind]
    if timeout is not None and kind in ("timed_out", "canceled"):  # the server may reach the timeout first
        problem, advice = f"no answer within {seconds(timeout)}", "pass a longer timeout"
    if error_class is Exists and op.startswith(_OPS_WITH_MODE):
        advice = _MODE_ADVICE
    if (
        unknown_outcome_advice
        and details.get("retry", "id") == "id"
        and (error_class in _UNCERTAIN or kind == "preempted")
    ):
        error_class, advice = UnknownOutcome, unknown_outcome_advice
    converted = failure(error_class, op, url, problem, advice)
    if isinstance(converted, MomentError):
        for name in ("before", "after"):
            with contextlib.suppress(KeyError, AttributeError, ValueError):  # missing, or not a time
                setattr(converted, name, time_of(details[name]))
    return converted

"""What can go wrong with tables, as exceptions below partd_go.Error."""

from __future__ import annotations

import json
import re

import pyarrow as pa
import pyarrow.flight as flight

from ..errors import (
    SPACE, Busy, ConnectionFailed, Error, Misuse, NoSpace, Refused, SchemaMismatch, TimedOut, TooLarge, UnknownOutcome,
    failure, full,
)  # fmt: skip


class NotFound(Error, LookupError):
    """There is no such table, bucket, version or snapshot."""


class Exists(Error):
    """The table, or the snapshot, exists already."""


Violation = Misuse  # its name of before


class MissingColumns(UserWarning):
    """Rows that were appended lack columns of the table, which are null in them."""


_UNAVAILABLE = "see whether the server runs, and check the address"
_OTHERS: tuple[tuple[type[Exception], type[Error], str], ...] = (
    (flight.FlightUnavailableError, ConnectionFailed, _UNAVAILABLE),
    (flight.FlightUnauthenticatedError, Refused, "give a token that the server's secret has signed"),
    (flight.FlightUnauthorizedError, Refused, "give an admin's token"),
    (flight.FlightTimedOutError, TimedOut, "try again later"),
    (flight.FlightCancelledError, TimedOut, "try again later"),
    (pa.ArrowKeyError, NotFound, "see list() and buckets()"),
    (pa.ArrowCapacityError, Busy, "try again later, or send less"),
    (pa.ArrowTypeError, SchemaMismatch, ""),
    (pa.ArrowInvalid, Violation, ""),
)  # fmt: skip
_KINDS = {"FileNotFoundError": NotFound, "FileExistsError": Exists}
_NOISE = re.compile(r"^(?:.*?, with message: )?(?:tables: )?(.*?)(?:\.? (?:gRPC client debug context|Client context|Detail): .*)?$", re.S)


_AGAIN = "see whether it was applied, or repeat it with the same id"


def told(error: Exception, op: str, url: str, changes: bool = False, timeout: float | None = None) -> Error:
    """Makes an error of one of Flight's, as the server or the connection has told it."""
    match = _NOISE.match(str(error))
    what = match[1] if match else str(error)
    if full(what):
        return failure(NoSpace, op, url, what, SPACE)
    if "for reading only" in what and "token" not in what:
        return failure(Refused, op, url, what, "open them without read_only, where this user can write")
    if "connect(memory=" in what:
        return failure(TooLarge, op, url, what)
    over = isinstance(error, (flight.FlightTimedOutError, flight.FlightCancelledError))  # the server may say so first
    if over and timeout is not None and "than the server allows" not in what and "client sent" not in what and "client took" not in what:
        what = f"no answer within {timeout:g} seconds"
        return failure(UnknownOutcome, op, url, what, _AGAIN) if changes else failure(TimedOut, op, url, what, "give it a longer timeout")
    try:
        detail = json.loads(getattr(error, "extra_info", b"") or b"{}")
    except ValueError:
        detail = {}
    if kind := _KINDS.get(detail.get("type", "")):
        return failure(kind, op, url, what)
    if "already exists" in str(error)[:80]:
        return failure(Exists, op, url, what)
    for known, kind, do in _OTHERS:
        if isinstance(error, known):
            if kind is ConnectionFailed and changes and "failed to connect" not in str(error):
                return failure(UnknownOutcome, op, url, what, _AGAIN)
            if changes and (kind is TimedOut or "ended for others" in what):  # the server may be in the midst of it
                return failure(UnknownOutcome, op, url, what, _AGAIN)
            return failure(kind, op, url, what, do)
    return failure(Violation if detail else Error, op, url, what)

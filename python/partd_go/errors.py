"""The exceptions of this package, all subclasses of `Error`."""

from __future__ import annotations

import contextlib
import errno
import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

M = TypeVar("M")


class Error(Exception):
    """The base class of all errors. The message says what failed, where, why, and what to do."""

    op = ""  # the operation that failed
    url = ""  # the server's URL
    # The server's error codes (docs/dev/wire.md); empty if the client raised the error.
    codes: frozenset[int] = frozenset()


class ConnectionFailed(Error, ConnectionError):
    """The client could not connect to the server in time."""


class TimedOut(Error, TimeoutError):
    """A call took longer than the client's timeout. No change was sent."""


class UnknownOutcome(Error):
    """A change may or may not have been applied; the client cannot tell."""


class Closed(Error, ValueError):
    """The client was closed."""


class Refused(Error, PermissionError):
    """The server does not permit the operation."""


class Unsupported(Error):
    """The server, or its store, does not support the operation."""


class TooLarge(Error, ValueError):
    """A key, a value or a batch exceeds the server's limits."""


class NoSpace(Error, OSError):
    """The server's disk is full, or the store has reached its quota."""


class Corrupt(Error):
    """The server's files, or the rows of a shuffle, are damaged."""


class Busy(Error):
    """The server is too busy for the request. No change was applied."""


class Lost(Error):
    """The server ended a read before the client had received the whole value or listing."""


class NoServer(Error):
    """The server could not be started."""


class Killed(NoServer):
    """A program that this one had started was killed, for example because the machine ran out of memory."""


class Misuse(Error, ValueError, TypeError):
    """An argument, a statement, rows or settings are invalid. Nothing was changed."""


class SchemaMismatch(Misuse):
    """Rows have a column that does not fit the table, or the other tables under the key."""


# Error codes of the protocol (docs/dev/wire.md).
UNSUPPORTED = 1
TOO_LARGE = 2
UNKNOWN = 3
NO_SPACE = 6
CORRUPT = 7
SESSION_EXPIRED = 8
SESSION_GAP = 9
SESSION_REUSED = 10
REFUSED = 11
NOT_EXIST = 14
QUOTA = 15
BUSY = 18
LOST = 19

TOO_LARGE_ADVICE = "send smaller batches, or raise the server's --max-message and --memory"
KILLED_ADVICE = "check whether the machine has enough memory"
NO_SPACE_ADVICE = "free space on the server's disk, or drop unneeded data"

# The error class and the advice for each error code. If a reply has several codes, the first one in this table counts.
_MEANINGS: dict[int, tuple[type[Error], str]] = {
    UNKNOWN: (UnknownOutcome, "read the keys to see whether it was applied"),
    CORRUPT: (Corrupt, "run partd verify on the server's machine"),
    REFUSED: (Refused, "check the token, and its user's rights in this namespace"),
    UNSUPPORTED: (Unsupported, "serve another kind of store, such as log:DIR"),
    TOO_LARGE: (TooLarge, TOO_LARGE_ADVICE),
    NO_SPACE: (NoSpace, NO_SPACE_ADVICE),
    QUOTA: (NoSpace, "drop unneeded data, or raise the server's --max-bytes"),
    BUSY: (Busy, "try again later"),
    LOST: (Lost, "read again from the start"),
    SESSION_EXPIRED: (UnknownOutcome, "read the keys to see whether it was applied"),
    SESSION_REUSED: (UnknownOutcome, "read the keys to see whether it was applied"),
}


def failure(kind: type[Error], op: str, url: str, problem: str, advice: str = "") -> Error:
    """Returns an error of class kind, which says that op failed at url because of problem, and what to do (advice)."""
    error = kind(f"{op} at {url}: {problem}" + (f": {advice}" if advice else ""))
    error.op, error.url = op, url
    return error


def seconds(count: float) -> str:
    """Returns a number of seconds as text."""
    return f"{count:g} second" + ("" if count == 1 else "s")


_READ_ONLY_ADVICE = ", or open tables with read_only=True"

# Class and advice for a server that does not start, by its error's kind or errno name. Other errors raise NoServer.
_START_ERRORS: dict[str, tuple[type[Error], str]] = {
    "killed": (Killed, KILLED_ADVICE),
    "usage": (NoServer, "run the program with --help to see its flags"),
    "in_use": (NoServer, "connect to the server that has it open"),
    **dict.fromkeys(("disk_full", "quota", "ENOSPC", "EDQUOT"), (NoSpace, NO_SPACE_ADVICE)),
    **dict.fromkeys(
        ("read_only_disk", "file_permission", "read_only", "permission", "EROFS", "EACCES", "EPERM"),
        (NoServer, "give a directory that this user can write to" + _READ_ONLY_ADVICE),
    ),
    **dict.fromkeys(("no_such_file", "not_found", "ENOENT"), (NoServer, "check the path")),
}


def start_failure(store: str, output: str | OSError, code: int = 0) -> Error:
    """Returns the error for a server that did not start. output is the server's output, or an exception. code is the
    exit code; it is negative if the shell that runs the server was killed."""
    if isinstance(output, OSError):
        kinds, text = [errno.errorcode.get(output.errno or 0, "")], str(output)
    else:
        details, text = parse_output(output)
        kinds = details["kinds"]
    kind, advice = meaning(["killed"] if code < 0 else kinds, _START_ERRORS) or (
        NoServer,
        "run the program in a terminal to see all its output",
    )
    if ":" in store:  # the URL of a store, not a directory of tables
        advice = advice.removesuffix(_READ_ONLY_ADVICE)
    return failure(kind, "serve", store, f"the server did not start: {text}", advice)


def meaning(kinds: Iterable[str], table: Mapping[str, M]) -> M | None:
    """Returns the table's entry for the first of the kinds that is in the table, or None."""
    return next((table[kind] for kind in kinds if kind in table), None)


def parse_output(output: str) -> tuple[dict[str, Any], str]:
    """Returns the details of the error that ended a program, and the program's output as text for people. The program's
    environment must contain PARTD_ERRORS=json."""
    lines = output.strip().splitlines()
    for index in reversed(range(len(lines))):
        details = parse_details(lines[index])
        if details is not None:
            lines[index] = str(details.get("error", lines[index]))
            return details, "\n".join(lines)
    return {"kinds": []}, "\n".join(lines)


def parse_details(text: str) -> dict[str, Any] | None:
    """Returns an error's details, or None if another program sent the text."""
    with contextlib.suppress(ValueError, RecursionError):
        details = json.loads(text)
        if isinstance(details, dict) and isinstance(details.get("kinds"), list):
            details["kinds"] = [kind for kind in details["kinds"] if isinstance(kind, str)]
            return details
    return None


def parse_error(body: bytes, op: str, url: str) -> Error:
    """Returns the error in the body of a reply."""
    try:
        (count,) = struct.unpack_from("<B", body)
        codes = struct.unpack_from(f"<{count}H", body, 1)
        texts, offset = [], 1 + 2 * count
        for has_flag in (False, True, False, False):  # the fields: operation, key (after a flag byte), file, text
            (n,) = struct.unpack_from("<I", body, offset + has_flag)
            offset += has_flag + 4 + n
            texts.append(body[offset - n : offset].decode("utf-8", "replace"))
    except struct.error:
        return failure(Error, op, url, "the server sent an error that cannot be parsed")
    _, key, path, text = texts
    return error_of_codes(codes, op, url, (f"key {key!r}: " if key else "") + (f"{path}: " if path else "") + text)


def error_of_codes(codes: Iterable[int], op: str, url: str, problem: str) -> Error:
    """Returns the error for a server's error codes."""
    codes = frozenset(codes)
    kind, advice = next((meaning for code, meaning in _MEANINGS.items() if code in codes), (Error, ""))
    error = failure(kind, op, url, problem, advice)
    error.codes = codes
    return error


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """If an import in the with block fails, its error names the partd-go extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "partd_go").partition(".")[0] == "partd_go":
            raise
        # partd-go is not published, so pip must not look for the name in an index
        text = f"{error.name} is not installed: in a clone of partd for Go, run pip install './python[{name}]'"
        raise ModuleNotFoundError(text, name=error.name, path=error.path) from error

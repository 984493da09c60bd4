"""What can go wrong, as exceptions below one: `Error`."""

from __future__ import annotations

import struct


class Error(Exception):
    """Says what was tried, where, what went wrong, and what to do about it."""

    op = ""  # what was tried
    url = ""  # of the server
    codes: frozenset[int] = frozenset()  # of docs/wire.md, where the server answered


class ConnectionFailed(Error, ConnectionError):
    """There is no connection to the server, nor came one about in time."""


class TimedOut(Error, TimeoutError):
    """A call took longer than the client's timeout. A change was not sent."""


class UnknownOutcome(Error):
    """A change may have been made, or not; the client cannot tell."""


class Closed(Error, ValueError):
    """The client was closed."""


class Refused(Error, PermissionError):
    """The server does not let this client do that."""


class Unsupported(Error):
    """The server's store cannot do that."""


class TooLarge(Error, ValueError):
    """A key, a value or a batch is larger than the server takes."""


class NoSpace(Error, OSError):
    """The server's disk, or what the store may take of it, is full."""


class Corrupt(Error):
    """The server's files are damaged."""


class Busy(Error):
    """The server has no room for the request now. Nothing was applied."""


class Lost(Error):
    """What was being read is no longer open on the server."""


class NoServer(Error):
    """The server could not be started."""


class Misuse(Error, ValueError, TypeError):
    """An argument, a statement, rows or settings are not as they have to be. Nothing was changed."""


class SchemaMismatch(Misuse):
    """Tables under one key have a column of types that do not go together."""


UNSUPPORTED, TOO_LARGE, UNKNOWN, CORRUPT = 1, 2, 3, 7
NO_SPACE, EXPIRED, GAP, REUSED, QUOTA, BUSY, LOST = 6, 8, 9, 10, 15, 18, 19

SPACE = "make room on the server's disk, or drop what is no longer needed"

# For each code the class of its error and what to do; the first that was answered counts.
_MEANINGS: dict[int, tuple[type[Error], str]] = {
    UNKNOWN: (UnknownOutcome, "read the keys to see whether it was applied"),
    CORRUPT: (Corrupt, "run partd verify on the server's machine"),
    11: (Refused, "check the token and the rights of its user in this namespace"),
    UNSUPPORTED: (Unsupported, "serve another store, such as log:DIR"),
    TOO_LARGE: (TooLarge, "send smaller batches, or give the server more with --max-message and --memory"),
    NO_SPACE: (NoSpace, "make room on the server's disk, or drop what is no longer needed"),
    QUOTA: (NoSpace, "drop what is no longer needed, or give the server more with --max-bytes"),
    BUSY: (Busy, "try again later"),
    LOST: (Lost, "begin to read again"),
    EXPIRED: (UnknownOutcome, "read the keys to see whether it was applied"),
    REUSED: (UnknownOutcome, "read the keys to see whether it was applied"),
}


def failure(kind: type[Error], op: str, url: str, what: str, do: str = "") -> Error:
    """Makes an error whose text says all that there is to say."""
    error = kind(f"{op} at {url}: {what}" + (f": {do}" if do else ""))
    error.op, error.url = op, url
    return error


_CAUSES: tuple[tuple[tuple[str, ...], type[Error], str], ...] = (
    (("no space left", "disk quota exceeded", "disk is full"), NoSpace, SPACE),
    (("in use by another", "in use by process"), NoServer, "close it there, or connect to the server that has it"),
    (("read-only", "permission denied", "readonly"), NoServer, "give a directory that this user can write, or open tables with read_only=True"),
    (("no such file",), NoServer, "see whether the path is right"),
    (("flag", "--"), NoServer, "see the flags with the program's --help"),
)  # fmt: skip


def not_started(where: str, said: object) -> Error:
    """Makes an error of why a server did not start."""
    text = str(said)
    kind, do = next(
        ((kind, do) for signs, kind, do in _CAUSES if any(sign in text.lower() for sign in signs)),
        (NoServer, "start the program by itself to see its whole output"),
    )
    return failure(kind, "serve", where, f"the server did not start: {text}", do)


def full(text: str) -> bool:
    """Reports whether an error's text says that a disk is full."""
    return any(sign in text.lower() for sign in _CAUSES[0][0])


def answered(body: bytes, op: str, url: str) -> Error:
    """Makes an error of the body of a reply that is one."""
    try:
        (count,) = struct.unpack_from("<B", body)
        codes = struct.unpack_from(f"<{count}H", body, 1)
        texts, at = [], 1 + 2 * count
        for has_flag in (False, True, False, False):  # operation; whether there is a key, and it; file; text
            (n,) = struct.unpack_from("<I", body, at + has_flag)
            at += has_flag + 4 + n
            texts.append(body[at - n : at].decode("utf-8", "replace"))
    except struct.error:
        return failure(Error, op, url, "the server answered with an error that cannot be read")
    kind, do = next((meaning for code, meaning in _MEANINGS.items() if code in codes), (Error, ""))
    _, key, path, text = texts
    what = (f"key {key!r}: " if key else "") + (f"{path}: " if path else "") + text
    error = failure(kind, op, url, what, do)
    error.codes = frozenset(codes)
    return error

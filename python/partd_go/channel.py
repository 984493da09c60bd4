"""Reconnects when a connection breaks, and applies each change once."""

from __future__ import annotations

import contextlib
import itertools
import random
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from . import wire
from .address import Address, Settings
from .errors import (
    BUSY,
    LOST,
    NO_SPACE,
    QUOTA,
    SESSION_EXPIRED,
    SESSION_GAP,
    SESSION_REUSED,
    UNKNOWN,
    ConnectionFailed,
    Error,
    Refused,
    TimedOut,
    TooLarge,
    UnknownOutcome,
    failure,
)
from .link import Link, Protocol, Session

T = TypeVar("T")

_MAX_LOST = 100  # maximum number of times that a read restarts because the server has closed a value's handle
_KEYS_BYTES = 64 << 10  # maximum size of the keys in one get request


class NumberedSession:
    """A session with the server's store, with the numbers of its changes and pops."""

    def __init__(self, session: Session, is_persistent: bool):
        self.session = session
        self.is_persistent = is_persistent  # whether the store keeps the session, even if the server restarts
        self.next = 1  # number of the next change
        self.has_abandoned = False  # whether the change with number self.next was sent but got no reply
        self.pops = 0  # number of the last pop
        # Numbers of completed pops. The server keeps their results until it gets a POP_DONE message.
        self.received_pops: list[int] = []


class Channel:
    """A connection that is replaced when it breaks. Only one thread at a time may use it.

    Each change has a number. If the connection breaks, the change is resent with the same number until the server
    replies; the server applies it only once. At most one change is pending.
    """

    link_class = Link
    entries = staticmethod(wire.entries)

    def __init__(self, settings: Settings, address: Address):
        self.settings, self.address = settings, address
        self.deadline: float | None = None  # when the current call times out, in terms of time.monotonic()
        self.link: Link | None = None
        self.changes: NumberedSession | None = None
        # Each change has a checksum field. The server uses it only to distinguish two changes
        # with the same number, so a counter suffices.
        self.checks = itertools.count(random.getrandbits(31))

    def close(self) -> None:
        """Ends the session, which takes at most two seconds. Then it closes the connection."""
        if self.link and self.changes:
            with contextlib.suppress(OSError, EOFError, Error):  # if the message is lost, the session expires later
                self.link.deadline = time.monotonic() + 2
                self.link.send(wire.END_SESSION, session=self.changes.session.id, wants_reply=False)
        self.changes = None
        self.hang_up()

    def hang_up(self) -> None:
        link, self.link = self.link, None
        if link:
            link.close()

    def connected(self) -> Link:
        """Returns a working connection. If necessary, it first connects and finishes an abandoned change."""
        if self.link is None:
            session = self.changes.session if self.changes else None
            link = self.link_class(self.settings, self.address, self.deadline, session)
            if self.changes and not self.changes.is_persistent and link.instance != self.instance:
                self.changes = None  # the server was restarted, which ended the session
            self.link, self.instance = link, link.instance
        self.link.deadline = self.deadline
        if self.changes and self.changes.has_abandoned:
            self._finish_abandoned(self.link, self.changes)
        return self.link

    instance = 0  # identifies the server process of the last connection

    @staticmethod
    def keys(requested: Sequence[wire.Key]) -> list[wire.Buffer]:
        return [wire.keys(requested)]

    def check(self, op: int) -> None:
        """Raises Unsupported if the server does not know the operation."""

    def repeat(self, op: int, attempt: Callable[[Link], T]) -> T:
        """Calls attempt with a connection. If the connection breaks, it calls attempt again with a new one."""
        start, wait, restarts = time.monotonic(), 0.0, 0
        while True:
            try:
                return attempt(self.connected())
            except Error as error:
                if LOST in error.codes and restarts < _MAX_LOST:
                    restarts += 1
                    continue
                if self.link or BUSY not in error.codes:
                    raise
                cause: Exception = error  # the server was too busy to accept the connection
            except Protocol as error:
                self.hang_up()
                raise failure(
                    ConnectionFailed,
                    wire.NAMES[op],
                    self.settings.url,
                    f"the reply did not come from a partd-server ({error})",
                    "pass the address of a partd-server, or python_server=True for partd's server",
                ) from error
            except (struct.error, IndexError) as error:
                self.hang_up()
                raise failure(
                    Error, wire.NAMES[op], self.settings.url, f"a reply cannot be parsed ({error})"
                ) from error
            except (OSError, EOFError) as error:
                self.hang_up()
                self._check_certificate(op, error)
                cause = error
            except BaseException:
                self.hang_up()  # a late reply may still arrive, and a later call must not read it
                raise
            now = time.monotonic()
            if self.deadline is not None and now + wait >= self.deadline:
                raise failure(
                    TimedOut,
                    wire.NAMES[op],
                    self.settings.url,
                    "no answer within the timeout",
                    "check whether the server is busy, or give the client a longer timeout",
                ) from cause
            remaining = start + self.settings.retry_for - now
            if remaining <= 0:
                raise failure(
                    ConnectionFailed,
                    wire.NAMES[op],
                    self.settings.url,
                    f"no connection for {round(now - start, 1):.3g} seconds ({cause})",
                    "check that the server is running, and that its address is correct",
                ) from cause
            time.sleep(min(wait * random.uniform(0.5, 1), remaining))
            wait = min(max(0.01, 2 * wait), 1.0)

    def _check_certificate(self, op: int, error: Exception) -> None:
        import ssl

        if isinstance(error, ssl.SSLCertVerificationError):
            raise failure(
                Refused,
                wire.NAMES[op],
                self.settings.url,
                f"the server's certificate is not trusted ({error})",
                "pass the signing authority's file as tls_ca, and tls_name if the certificate has another name",
            ) from error

    def change(self, op: int, pieces: Sequence[wire.Buffer]) -> None:
        """Sends a change, and resends it until the server replies. The server applies it only once."""
        check = next(self.checks) & 0xFFFFFFFF
        sessions: list[NumberedSession] = []  # the session that each send used

        def attempt(link: Link) -> None:
            if sessions and self.changes is not sessions[0]:
                raise self._unknown_outcome(op, "the server was restarted, and its store does not keep sessions")
            try:
                changes = self._ready_session(link)
            except Error as error:
                if op == wire.DROP and not sessions and error.codes & {NO_SPACE, QUOTA}:
                    # The disk is too full for a new session, but a drop frees space: send it once, without a session.
                    self._drop_unnumbered(link)
                    return
                raise
            sessions.append(changes)
            link.ask(op, pieces, session=changes.session.id, seq=changes.next, check=check)
            # Increment before anything else: otherwise, after an interrupt, the number could be reused.
            changes.next += 1

        for _ in range(3):
            try:
                self.repeat(op, attempt)
            except BaseException as error:
                if not self._should_resend(op, error, sessions):
                    raise
                sessions.clear()
            else:
                return
        raise self._unknown_outcome(op, "the server repeatedly lost the client's session")

    def _should_resend(self, op: int, error: BaseException, sessions: list[NumberedSession]) -> bool:
        """Records the outcome of a failed change and reports whether to send it again."""
        if not sessions:
            return False
        if not isinstance(error, Error) or not error.codes:
            sessions[-1].has_abandoned = True
            if isinstance(error, (TimedOut, ConnectionFailed)) or isinstance(error, TooLarge) and len(sessions) > 1:
                raise self._unknown_outcome(op, str(error)) from error
            return False
        if error.codes & {UNKNOWN, SESSION_GAP, SESSION_EXPIRED, SESSION_REUSED}:
            self.changes = None  # the server no longer accepts this session's numbers: begin a new session
        if UNKNOWN in error.codes:
            return False
        # The server did not apply the last send. If the session expired, the server may have applied an earlier send.
        return SESSION_GAP in error.codes or SESSION_EXPIRED in error.codes and len(sessions) == 1

    def _unknown_outcome(self, op: int, cause: str) -> Error:
        return failure(
            UnknownOutcome, wire.NAMES[op], self.settings.url, cause, "read the keys to see whether it was applied"
        )

    def _ready_session(self, link: Link) -> NumberedSession:
        """Returns the session, after opening one if necessary. It also tells the server which pops have ended, so that
        the server can discard their results."""
        if self.changes is None:
            body = link.ask(wire.SESSION, [bytes(24)]).body
            number, is_persistent, token = struct.unpack("<QB16s", body)
            self.changes = NumberedSession(Session(number, token), bool(is_persistent))
        while self.changes.received_pops:
            number = self.changes.received_pops[-1]
            link.send(wire.POP_DONE, session=self.changes.session.id, seq=number, wants_reply=False)
            self.changes.received_pops.pop()
        return self.changes

    def _finish_abandoned(self, link: Link, changes: NumberedSession) -> None:
        """Sends an empty change with the abandoned change's number, so that the server can no longer apply the
        abandoned change. If the server has already applied that change, it replies SESSION_REUSED."""
        check = next(self.checks) & 0xFFFFFFFF
        try:
            link.ask(wire.APPEND, [wire.U32.pack(0)], session=changes.session.id, seq=changes.next, check=check)
        except Error as error:
            if SESSION_REUSED not in error.codes:
                self.changes = None
                return
        changes.next += 1
        changes.has_abandoned = False

    def _drop_unnumbered(self, link: Link) -> None:
        try:
            link.ask(wire.DROP)
        except (OSError, EOFError) as error:
            self.hang_up()
            raise self._unknown_outcome(wire.DROP, f"the connection broke ({error})") from error

    def get(self, keys: list[wire.Key]) -> list[bytes]:
        """Returns the value of each key, in the order of keys."""
        encoded = list(map(wire.encode_key, keys))
        limit = max(1, min(4096, _KEYS_BYTES // (max(map(len, encoded), default=0) + 2)))
        values: list[bytes] = []
        count = 64
        while len(values) < len(encoded):
            requested = encoded[len(values) : len(values) + min(count, limit)]
            received = self.repeat(wire.GET, lambda link: self._get_some(link, requested))  # noqa: B023
            values += received
            # A reply holds only the values that fit, so next ask for four times the number just received.
            count = 4 * len(received)
        return values

    def _get_some(self, link: Link, keys: list[bytes]) -> list[bytes]:
        reply = link.ask(wire.GET, [wire.keys(keys)])
        if reply.value is not None:
            return [reply.value]
        values = []
        for value, handle in wire.values(reply.body):
            values.append(b"".join(link.pages(handle)) if handle else value)
        if not 0 < len(values) <= len(keys):
            raise link.bad_reply(wire.GET, f"{len(values)} values for {len(keys)} keys")
        return values

    def pop(self, keys: list[wire.Key]) -> list[bytes]:
        """Returns the values of keys and removes the keys, in one atomic step."""
        body = wire.keys(keys)
        first_send: list[Any] = []  # after the first send: the session, the pop's number, and the server's instance

        def attempt(link: Link) -> list[bytes]:
            changes = self._ready_session(link)
            if not first_send:
                changes.pops += 1
                first_send[:] = changes, changes.pops, link.instance
                flags = 0
            elif changes is not first_send[0]:
                raise self._unknown_outcome(wire.POP, "the server was restarted")
            else:
                flags = wire.RESENT
            header = {"session": changes.session.id, "seq": changes.pops}
            reply = link.ask(wire.POP, [wire.U64.pack(first_send[2]), body], flags=flags, **header)
            pages, size = [reply.body], len(reply.body)
            while reply.has_more:
                reply = link.ask(wire.POP_READ, [wire.U64.pack(size)], **header)
                pages.append(reply.body)
                size += len(reply.body)
            return wire.pop_values(b"".join(pages), len(keys))

        for is_retry in (False, True):
            try:
                result = self.repeat(wire.POP, attempt)
                break
            except BaseException as error:
                if first_send:
                    first_send[0].received_pops.append(first_send[1])
                if isinstance(error, Error) and SESSION_EXPIRED in error.codes and not is_retry:
                    self.changes, first_send[:] = None, []
                    continue
                if first_send and isinstance(error, (TimedOut, ConnectionFailed)):
                    raise self._unknown_outcome(wire.POP, str(error)) from error
                raise
        first_send[0].received_pops.append(first_send[1])
        with contextlib.suppress(OSError, EOFError, Error):  # if POP_DONE cannot be sent now, the next change sends it
            self._ready_session(self.connected())
        return result

"""A connection that is made again when it breaks, and changes that are made once."""

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
    BUSY, EXPIRED, GAP, LOST, NO_SPACE, QUOTA, REUSED, UNKNOWN,
    ConnectionFailed, Error, Refused, TimedOut, UnknownOutcome, failure,
)  # fmt: skip
from .link import Link, Protocol, Session

T = TypeVar("T")

_MAX_LOST = 100  # how often a value is begun again
_KEYS_BYTES = 64 << 10  # of the keys of a request to get


class Changes:
    """A session of the server's store, and the numbers of its changes and pops."""

    def __init__(self, session: Session, kept: bool):
        self.session = session
        self.kept = kept  # by the store, so that it outlives the server
        self.next = 1
        self.unsettled = False  # the next number was sent, and given up before it was answered
        self.pops = 0
        self.taken: list[int] = []  # pops whose results the server need not keep


class Channel:
    """One connection at a time, used by one thread at a time.

    A change has a number, under which it is sent again after a broken connection
    until it is answered: the server applies it once. There is one under way at most.
    """

    kind = Link
    entries = staticmethod(wire.entries)  # how a change's data is sent

    def __init__(self, settings: Settings, address: Address):
        self.settings, self.address = settings, address
        self.deadline: float | None = None  # of the call under way
        self.link: Link | None = None
        self.changes: Changes | None = None
        # The server compares checksums for nothing but to tell a change from another
        # that has its number: a number that is not used again does as well.
        self.checks = itertools.count(random.getrandbits(31))

    def close(self) -> None:
        """Ends the session, as far as that is quickly done, and the connection."""
        if self.link and self.changes:
            with contextlib.suppress(OSError, EOFError, Error):
                self.link.deadline = time.monotonic() + 2
                self.link.send(wire.END_SESSION, session=self.changes.session.id, answer=False)
        self.changes = None
        self.hang_up()

    def hang_up(self) -> None:
        link, self.link = self.link, None
        if link:
            link.close()

    def connected(self) -> Link:
        if self.link is None:
            session = self.changes.session if self.changes else None
            link = self.kind(self.settings, self.address, self.deadline, session)
            if self.changes and not self.changes.kept and link.instance != self.instance:
                self.changes = None  # it died with the server
            self.link, self.instance = link, link.instance
        self.link.deadline = self.deadline
        if self.changes and self.changes.unsettled:
            self._settle(self.link, self.changes)
        return self.link

    instance = 0  # of the server connected to last

    @staticmethod
    def keys(wanted: Sequence[wire.Key]) -> list[wire.Buffer]:
        return [wire.keys(wanted)]

    def check(self, op: int) -> None:
        """Raises what says that the server cannot do that."""

    def repeat(self, op: int, attempt: Callable[[Link], T]) -> T:
        """Makes an attempt over a connection, and another one where that breaks."""
        began, wait, lost = time.monotonic(), 0.0, 0
        while True:
            try:
                return attempt(self.connected())
            except Error as error:
                if LOST in error.codes and lost < _MAX_LOST:
                    lost += 1
                    continue
                if self.link or BUSY not in error.codes:
                    raise
                cause: Exception = error  # of the hello
            except Protocol as error:
                self.hang_up()
                raise failure(
                    ConnectionFailed, wire.NAMES[op], self.settings.url, f"no partd-server answers there ({error})",
                    "give the address of a partd-server, or python_server=True for partd's own",
                ) from error  # fmt: skip
            except (struct.error, IndexError) as error:
                self.hang_up()
                raise failure(Error, wire.NAMES[op], self.settings.url, f"a reply cannot be read ({error})") from error
            except (OSError, EOFError) as error:
                self.hang_up()
                self._check_certificate(op, error)
                cause = error
            except BaseException:
                self.hang_up()  # an answer may be on its way to nobody
                raise
            now = time.monotonic()
            if self.deadline is not None and now + wait >= self.deadline:
                raise failure(
                    TimedOut, wire.NAMES[op], self.settings.url, "no answer within the timeout",
                    "see whether the server is busy, or give the client a longer timeout",
                ) from cause  # fmt: skip
            if now + wait > began + self.settings.retry_for:
                raise failure(
                    ConnectionFailed, wire.NAMES[op], self.settings.url,
                    f"no connection for {now - began:.0f} seconds ({cause})",
                    "see whether the server runs and its address is right",
                ) from cause  # fmt: skip
            time.sleep(wait * random.uniform(0.5, 1))
            wait = min(max(0.01, 2 * wait), 1.0)

    def _check_certificate(self, op: int, error: Exception) -> None:
        import ssl

        if isinstance(error, ssl.SSLCertVerificationError):
            raise failure(
                Refused, wire.NAMES[op], self.settings.url, f"the server's certificate is not trusted ({error})",
                "give tls_ca, the file of the authority that signed it, and tls_name if it has another name",
            ) from error  # fmt: skip

    def change(self, op: int, pieces: Sequence[wire.Buffer]) -> None:
        """Makes a change once, however often it has to be sent."""
        check = next(self.checks) & 0xFFFFFFFF
        sent: list[Changes] = []  # the session at each sending

        def attempt(link: Link) -> None:
            if sent and self.changes is not sent[0]:
                raise self._unknown(op, "the server was restarted, and its store does not remember the change")
            try:
                changes = self._ready(link)
            except Error as error:
                if op == wire.DROP and not sent and error.codes & {NO_SPACE, QUOTA}:
                    # There is no room for a session, and this makes room. It goes once.
                    self._drop_unnumbered(link)
                    return
                raise
            sent.append(changes)
            link.ask(op, pieces, session=changes.session.id, seq=changes.next, check=check)
            changes.next += 1  # here, so that no interrupt comes between

        for _ in range(3):
            try:
                self.repeat(op, attempt)
            except BaseException as error:
                again = self._left(op, error, sent)
                if not again:
                    raise
                sent.clear()
            else:
                return
        raise self._unknown(op, "the server forgets its sessions again and again")

    def _left(self, op: int, error: BaseException, sent: list[Changes]) -> bool:
        """Notes what became of a change that failed, and reports whether it goes again."""
        if not sent:
            return False
        if not isinstance(error, Error) or not error.codes:
            sent[-1].unsettled = True
            if isinstance(error, (TimedOut, ConnectionFailed)):
                raise self._unknown(op, str(error)) from error
            return False
        if error.codes & {UNKNOWN, GAP, EXPIRED, REUSED}:
            self.changes = None  # its numbers are worth nothing
        if UNKNOWN in error.codes:
            return False
        # It was not applied now; when it was sent before, it may have been.
        return GAP in error.codes or EXPIRED in error.codes and len(sent) == 1

    def _unknown(self, op: int, what: str) -> Error:
        return failure(
            UnknownOutcome, wire.NAMES[op], self.settings.url, what, "read the keys to see whether it was applied"
        )

    def _ready(self, link: Link) -> Changes:
        """Returns the session, of which the server keeps no pop that was taken."""
        if self.changes is None:
            body = link.ask(wire.SESSION, [bytes(24)]).body
            number, kept, token = struct.unpack("<QB16s", body)
            self.changes = Changes(Session(number, token), bool(kept))
        while self.changes.taken:
            number = self.changes.taken[-1]
            link.send(wire.POP_DONE, session=self.changes.session.id, seq=number, answer=False)
            self.changes.taken.pop()
        return self.changes

    def _settle(self, link: Link, changes: Changes) -> None:
        """Puts a change that does nothing in the place of one that was given up, which can
        then be applied no more: or it has been, and the server says so."""
        check = next(self.checks) & 0xFFFFFFFF
        try:
            link.ask(wire.APPEND, [wire.U32.pack(0)], session=changes.session.id, seq=changes.next, check=check)
        except Error as error:
            if REUSED not in error.codes:
                self.changes = None
                return
        changes.next += 1
        changes.unsettled = False

    def _drop_unnumbered(self, link: Link) -> None:
        try:
            link.ask(wire.DROP)
        except (OSError, EOFError) as error:
            self.hang_up()
            raise self._unknown(wire.DROP, f"the connection broke ({error})") from error

    def get(self, keys: list[wire.Key]) -> list[bytes]:
        """The value of each key, in the order asked."""
        encoded = list(map(wire.encode_key, keys))
        most = max(1, min(4096, _KEYS_BYTES // (max(map(len, encoded), default=0) + 2)))
        values: list[bytes] = []
        few = 64
        while len(values) < len(encoded):
            wanted = encoded[len(values) : len(values) + min(few, most)]
            found = self.repeat(wire.GET, lambda link: self._get_some(link, wanted))  # noqa: B023
            values += found
            few = 4 * len(found)  # what a reply has no room for is asked for again
        return values

    def _get_some(self, link: Link, keys: list[bytes]) -> list[bytes]:
        reply = link.ask(wire.GET, [wire.keys(keys)])
        if reply.value is not None:
            return [reply.value]
        found = []
        for value, handle in wire.values(reply.body):
            found.append(b"".join(link.pages(handle)) if handle else value)
        if not 0 < len(found) <= len(keys):
            raise link.bad_reply(wire.GET, f"{len(found)} values for {len(keys)} keys")
        return found

    def pop(self, keys: list[wire.Key]) -> list[bytes]:
        """The values of keys, which are removed, as one step."""
        body = wire.keys(keys)
        sent: list[Any] = []  # session, number, server

        def attempt(link: Link) -> list[bytes]:
            changes = self._ready(link)
            if not sent:
                changes.pops += 1
                sent[:] = changes, changes.pops, link.instance
                resent = 0
            elif changes is not sent[0]:
                raise self._unknown(wire.POP, "the server was restarted")
            else:
                resent = wire.RESENT
            header = {"session": changes.session.id, "seq": changes.pops}
            reply = link.ask(wire.POP, [wire.U64.pack(sent[2]), body], flags=resent, **header)
            pages, size = [reply.body], len(reply.body)
            while reply.more:
                reply = link.ask(wire.POP_READ, [wire.U64.pack(size)], **header)
                pages.append(reply.body)
                size += len(reply.body)
            return wire.popped(b"".join(pages), len(keys))

        for fresh in (False, True):
            try:
                result = self.repeat(wire.POP, attempt)
                break
            except BaseException as error:
                if sent:
                    sent[0].taken.append(sent[1])
                if isinstance(error, Error) and EXPIRED in error.codes and not fresh:
                    self.changes, sent[:] = None, []
                    continue
                if sent and isinstance(error, (TimedOut, ConnectionFailed)):
                    raise self._unknown(wire.POP, str(error)) from error
                raise
        sent[0].taken.append(sent[1])
        with contextlib.suppress(OSError, EOFError, Error):  # else it goes with the next change
            self._ready(self.connected())
        return result

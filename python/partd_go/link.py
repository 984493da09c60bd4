"""One connection to a server: ZMTP, the hello, requests and their replies."""

from __future__ import annotations

import ctypes
import io
import os
import socket
import ssl
import struct
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from . import wire
from .address import Address, Settings, connect
from .errors import Error, answered, failure

_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL".ljust(23, b"\0") + bytes(32)
_READY = b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"
_LONG, _COMMAND = 2, 4  # flags of frames
_PAGE = 2 << 20  # bytes wanted in a reply
_LARGE = 256 << 10  # from which on a value is not copied out of its reply
_MAX_REPLY = 6 << 20
_PART = 4 << 20  # of a message that is too long for one
_HELLO_REPLY = struct.Struct("<IIQQII")
_VECTOR = 512  # buffers given to the system at a time


class Protocol(Exception):
    """What came was not what a partd-server sends."""


class Session(NamedTuple):
    id: int
    token: bytes


class Reply(NamedTuple):
    more: bool
    body: bytes
    value: bytes | None = None  # the only one of a get, if it is large


class _Source(io.RawIOBase):
    """What a connection receives, each piece of it in the time that the call has left."""

    def __init__(self, link: Link):
        self.link = link

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.link.arm()
        return self.link.sock.recv_into(buffer)


class Link:
    """A connection that is used by one thread at a time.

    An OSError or EOFError from it means that the connection is broken, and so does
    any other exception but an Error that the server answered.
    """

    inherited = False  # by a process that was forked
    python = False  # whether it speaks Python's protocol
    instance = 0  # of the server
    flags = _LONG | _COMMAND  # that frames may have
    longest = _MAX_REPLY  # of the frames that are no commands

    def __init__(self, settings: Settings, address: Address, deadline: float | None, session: Session | None = None):
        self.url = settings.url
        self.deadline = deadline
        latest = time.monotonic() + settings.connect_timeout
        self.deadline = latest if deadline is None else min(deadline, latest)
        self.number = 0
        self.sock = connect(settings, address, self._remaining())
        try:
            self.joins = isinstance(self.sock, ssl.SSLSocket) or not hasattr(self.sock, "sendmsg")
            self.file = io.BufferedReader(_Source(self), 64 << 10)
            _links.add(self)
            self._write([_GREETING, _READY])
            self._handshake()
            self._hello(settings.token or "", address.namespace, session or Session(0, bytes(16)))
            self.deadline = deadline
            self.sock.settimeout(None)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if hasattr(self, "file") and not self.inherited:
            self.file.close()
        self.sock.close()

    def hang_up(self) -> None:
        """Ends what another thread is waiting for on this connection."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is broken already

    def _remaining(self) -> float:
        assert self.deadline is not None
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the timeout has passed")
        return left

    def _handshake(self) -> None:
        theirs = self._read(64)
        if theirs[0] != 0xFF or theirs[9] != 0x7F or theirs[10] < 3:
            raise Protocol(f"the server's greeting is {theirs[:12]!r}, not one of ZMTP 3")
        if any(theirs[1:9]) and not self.python:  # our server sends zeros
            raise Protocol("libzmq answers, as of Python's own server, which a hello would end")
        if theirs[12:32].rstrip(b"\0") != b"NULL":
            raise Protocol(f"the server's mechanism is {theirs[12:32]!r}, not NULL")
        command, size = self._frame()
        ready = self._read(size)
        if not command or not ready.startswith(b"\x05READY"):
            raise Protocol(f"the server sends {ready[:20]!r}, not READY")

    def _hello(self, token: str, namespace: str, session: Session) -> None:
        body = struct.pack("<HHIQ16s", wire.VERSION, wire.VERSION, _PAGE, *session)
        number = self.send(wire.HELLO, [body, wire.text(namespace), wire.text(token)])
        reply = self.receive(wire.HELLO, number).body
        if len(reply) < _HELLO_REPLY.size:
            raise Protocol(f"the server's hello has {len(reply)} bytes")
        version, _, self.instance, self.max_message, page, _ = _HELLO_REPLY.unpack_from(reply)
        if version != wire.VERSION or self.max_message < 4096 or page > _MAX_REPLY:
            raise Protocol(f"the server's hello is of version {version}, with messages of {self.max_message} bytes")

    def send(
        self, op: int, pieces: Sequence[wire.Buffer] = (), *,
        flags: int = 0, session: int = 0, seq: int = 0, check: int = 0, answer: bool = True,
    ) -> int:  # fmt: skip
        """Sends a request, and returns its number."""
        if self.deadline is not None:
            self._remaining()
        number = 0
        if answer:
            self.number += 1
            number = self.number
        size = sum(map(len, pieces))
        if wire.REQUEST.size + size + 16 > self.max_message:
            offset = 0
            for part in wire.split(list(pieces), min(_PART, self.max_message - wire.REQUEST.size - 64)):
                where = struct.pack("<QQQ", number, size, offset)
                self._message(wire.REQUEST.pack(wire.MAGIC, wire.PART, 0, 0, 0, 0, 0), [where, *part])
                offset += sum(map(len, part))
            pieces, flags = [struct.pack("<QQ", number, size)], flags | wire.STAGED
        self._message(wire.REQUEST.pack(wire.MAGIC, op, flags, number, session, seq, check), pieces)
        return number

    max_message = 4096  # until the server has said

    def _message(self, header: bytes, pieces: Sequence[wire.Buffer]) -> None:
        size = len(header) + sum(map(len, pieces))
        self._write([struct.pack(">BQ", _LONG, size) + header, *pieces])

    def _write(self, pieces: Sequence[wire.Buffer]) -> None:
        if self.joins or sum(map(len, pieces)) < 64 << 10:
            pieces = [b"".join(pieces)]
        left = [memoryview(piece) for piece in pieces if len(piece)]
        while left:
            self.arm()
            sent = self.sock.sendmsg(left[:_VECTOR]) if left[1:] else self.sock.send(left[0])
            while left and sent >= len(left[0]):
                sent -= len(left.pop(0))
            if sent:
                left[0] = left[0][sent:]

    def arm(self) -> None:
        """Bounds what the next call of the system may take."""
        if self.deadline is not None:
            self.sock.settimeout(self._remaining())
        elif self.sock.gettimeout() is not None:
            self.sock.settimeout(None)

    def _read(self, size: int) -> bytes:
        data = self.file.read(size)
        if len(data) < size:
            raise EOFError(f"the server closed the connection, after {len(data)} of {size} bytes of a message")
        return data

    def _frame(self) -> tuple[int, int]:
        """The flags and the length of the next frame, which remains to be read."""
        flags, size = self._read(2)
        if flags & _LONG:
            (size,) = struct.unpack(">Q", bytes([size]) + self._read(7))
        if flags & ~self.flags or size > (_MAX_REPLY if flags & _COMMAND else self.longest):
            raise Protocol(f"a frame of {size} bytes with flags {flags}")
        return flags & ~_LONG, size

    def _no_command(self) -> tuple[int, int]:
        """The next frame that is no command."""
        while True:
            flags, size = self._frame()
            if not flags & _COMMAND:
                return flags, size
            body = self._read(size)
            if body.startswith(b"\x04PING"):
                pong = b"\x04PONG" + body[7:23]  # behind the time to live
                self._write([bytes([_COMMAND, len(pong)]), pong])

    def receive(self, op: int, number: int) -> Reply:
        """Waits for the reply to the oldest request without one, which has this number."""
        _, size = self._no_command()
        if size < wire.REPLY.size:
            raise Protocol(f"{size} bytes that are not a reply")
        magic, of, status, flags, got = wire.REPLY.unpack(self._read(wire.REPLY.size))
        if magic != wire.MAGIC or of != op or got != number:
            raise Protocol(f"a reply to operation {of}, number {got}, while {op}, number {number}, was expected")
        size -= wire.REPLY.size
        if op == wire.GET and size > _LARGE and not status:
            head, value = self._read(8), self._read(size - 8)
            if struct.unpack("<II", head) == (1, len(value)):
                return Reply(False, b"", value)
            return Reply(False, head + value)
        body = self._read(size)
        if status:
            raise answered(body, wire.NAMES.get(op, str(op)), self.url)
        return Reply(bool(flags & wire.MORE), body)

    def ask(self, op: int, pieces: Sequence[wire.Buffer] = (), **header: int) -> Reply:
        return self.receive(op, self.send(op, pieces, **header))  # type: ignore[arg-type]

    def pages(self, handle: int) -> Iterator[bytes]:
        """The pages of a large value, of which one is asked for ahead."""
        body, more, step = wire.U64.pack(handle), True, 1
        number = self.send(wire.READ, [body, wire.U64.pack(step)])
        while more:
            more, page, _ = self.receive(wire.READ, number)
            if more:
                step += 1
                number = self.send(wire.READ, [body, wire.U64.pack(step)])
            yield page

    def bad_reply(self, op: int, why: object) -> Error:
        return failure(Error, wire.NAMES[op], self.url, f"a reply of the server cannot be read ({why})")


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _forked() -> None:
    """A thread of the parent may have been reading: then whoever closes the reader here, be it
    the garbage collector, waits for that thread's lock for ever."""
    for link in list(_links):
        link.inherited = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(link.file))  # it is never collected


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

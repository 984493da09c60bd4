"""One connection to a server: ZMTP frames, the hello (the first request), further requests, and replies."""

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
from .errors import TOO_LARGE_ADVICE, Error, TooLarge, failure, parse_error

_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL".ljust(23, b"\0") + bytes(32)
_READY = b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"
_LONG, _COMMAND = 2, 4  # frame flags
_PAGE = 2 << 20  # size, in bytes, of the replies that the client asks for
_LARGE = 256 << 10  # values with more bytes than this are received without a copy
_MAX_REPLY = 6 << 20
_HELLO_REPLY = struct.Struct("<IIQQII")
_VECTOR = 512  # maximum number of buffers in one system call


class Protocol(Exception):
    """The server sent something that violates the protocol."""


class Session(NamedTuple):
    """A session with the server. Its changes are numbered, so that the server can detect resent ones."""

    id: int
    token: bytes


class Reply(NamedTuple):
    """The reply to a request."""

    has_more: bool
    body: bytes
    value: bytes | None = None  # the value, if a get returns a single large one; body is then empty


class _Source(io.RawIOBase):
    """A raw stream that reads from a link's socket, with the remaining time of the current call as its timeout."""

    def __init__(self, link: Link):
        self.link = link

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.link.set_socket_timeout()
        return self.link.sock.recv_into(buffer)


class Link:
    """A connection to a server. Only one thread at a time may use it.

    If a method raises anything except an Error that the server sent, the connection is broken.
    """

    inherited = False  # whether the process was forked after this link connected
    python = False  # whether the link uses the protocol of the server in the Python package partd
    instance = 0  # identifies the server's process
    flags = _LONG | _COMMAND  # the frame flags that the server may set
    max_frame = _MAX_REPLY  # maximum size of frames that are not commands, in bytes

    def __init__(self, settings: Settings, address: Address, deadline: float | None, session: Session | None = None):
        self.url = settings.url
        self.deadline = deadline
        limit = time.monotonic() + settings.connect_timeout
        self.deadline = limit if deadline is None else min(deadline, limit)
        self.last_request = 0
        self.sock = connect(settings, address, self._remaining())
        try:
            self.joins_buffers = isinstance(self.sock, ssl.SSLSocket) or not hasattr(self.sock, "sendmsg")
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
        """Shuts the connection down. Another thread that is waiting for data gets an exception."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the connection is already broken

    def _remaining(self) -> float:
        assert self.deadline is not None
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the timeout has passed")
        return remaining

    def _handshake(self) -> None:
        greeting = self._read(64)
        if greeting[0] != 0xFF or greeting[9] != 0x7F or greeting[10] < 3:
            raise Protocol(f"the server's greeting is {greeting[:12]!r}, not ZMTP 3")
        if any(greeting[1:9]) and not self.python:  # a partd-server sends zeros, but libzmq does not
            raise Protocol(
                "the server uses libzmq, so it is probably the server of the Python package partd, which this "
                "client's first message would stop"
            )
        if greeting[12:32].rstrip(b"\0") != b"NULL":
            raise Protocol(f"the server's mechanism is {greeting[12:32]!r}, not NULL")
        command, size = self._read_frame_header()
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
            raise Protocol(
                f"the server's hello is unsupported: it has version {version}, and a message limit of "
                f"{self.max_message} bytes"
            )

    def send(
        self,
        op: int,
        pieces: Sequence[wire.Buffer] = (),
        *,
        flags: int = 0,
        session: int = 0,
        seq: int = 0,
        check: int = 0,
        wants_reply: bool = True,
    ) -> int:
        """Sends a request and returns its number."""
        if self.deadline is not None:
            self._remaining()
        size = wire.REQUEST.size + sum(map(len, pieces)) + 9  # with the frame's header
        if size > self.max_message:
            problem = f"the message has {size} bytes, but the server accepts at most {self.max_message}"
            raise failure(TooLarge, wire.NAMES.get(op, str(op)), self.url, problem, TOO_LARGE_ADVICE)
        number = 0
        if wants_reply:
            self.last_request += 1
            number = self.last_request
        self._send_message(wire.REQUEST.pack(wire.MAGIC, op, flags, number, session, seq, check), pieces)
        return number

    max_message = 4096  # limit for the hello; the server's reply contains the real limit

    def _send_message(self, header: bytes, pieces: Sequence[wire.Buffer]) -> None:
        size = len(header) + sum(map(len, pieces))
        self._write([struct.pack(">BQ", _LONG, size) + header, *pieces])

    def _write(self, pieces: Sequence[wire.Buffer]) -> None:
        if self.joins_buffers or sum(map(len, pieces)) < 64 << 10:
            pieces = [b"".join(pieces)]
        remaining = [memoryview(piece) for piece in pieces if len(piece)]
        while remaining:
            self.set_socket_timeout()
            sent = self.sock.sendmsg(remaining[:_VECTOR]) if remaining[1:] else self.sock.send(remaining[0])
            while remaining and sent >= len(remaining[0]):
                sent -= len(remaining.pop(0))
            if sent:
                remaining[0] = remaining[0][sent:]

    def set_socket_timeout(self) -> None:
        """Sets the socket's timeout to the remaining time. It must be called before each system call."""
        if self.deadline is not None:
            self.sock.settimeout(self._remaining())
        elif self.sock.gettimeout() is not None:
            self.sock.settimeout(None)

    def _read(self, size: int) -> bytes:
        data = self.file.read(size)
        if len(data) < size:
            raise EOFError(f"the server closed the connection after {len(data)} of {size} bytes of a message")
        return data

    def _read_frame_header(self) -> tuple[int, int]:
        """Returns the flags and the length of the next frame. The caller must read the frame's body."""
        flags, size = self._read(2)
        if flags & _LONG:
            (size,) = struct.unpack(">Q", bytes([size]) + self._read(7))
        if flags & ~self.flags or size > (_MAX_REPLY if flags & _COMMAND else self.max_frame):
            raise Protocol(f"a frame of {size} bytes with flags {flags:#x}, which is too long or has unknown flags")
        return flags & ~_LONG, size

    def _message_frame(self) -> tuple[int, int]:
        """Returns the flags and the length of the next frame that is not a command, after answering pings."""
        while True:
            flags, size = self._read_frame_header()
            if not flags & _COMMAND:
                return flags, size
            body = self._read(size)
            if body.startswith(b"\x04PING"):
                # A pong repeats the ping's context, which follows the name (5 bytes) and the time to live (2 bytes).
                pong = b"\x04PONG" + body[7:23]
                self._write([bytes([_COMMAND, len(pong)]), pong])

    def receive(self, op: int, number: int) -> Reply:
        """Waits for the reply to the oldest pending request, which must have this number."""
        _, size = self._message_frame()
        if size < wire.REPLY.size:
            raise Protocol(f"a message of {size} bytes is too short for a reply")
        magic, reply_op, status, flags, reply_number = wire.REPLY.unpack(self._read(wire.REPLY.size))
        if magic != wire.MAGIC or reply_op != op or reply_number != number:
            raise Protocol(
                f"a reply to operation {reply_op}, number {reply_number}, while {op}, number {number}, was expected"
            )
        size -= wire.REPLY.size
        if op == wire.GET and size > _LARGE and not status:
            head, value = self._read(8), self._read(size - 8)
            if struct.unpack("<II", head) == (1, len(value)):
                return Reply(False, b"", value)
            return Reply(False, head + value)
        body = self._read(size)
        if status:
            raise parse_error(body, wire.NAMES.get(op, str(op)), self.url)
        return Reply(bool(flags & wire.MORE), body)

    def ask(self, op: int, pieces: Sequence[wire.Buffer] = (), **header: int) -> Reply:
        """Sends a request and returns its reply."""
        return self.receive(op, self.send(op, pieces, **header))  # type: ignore[arg-type]

    def pages(self, handle: int) -> Iterator[bytes]:
        """Yields the pages of a large value. It requests each page before it yields the previous one."""
        body, more, step = wire.U64.pack(handle), True, 1
        number = self.send(wire.READ, [body, wire.U64.pack(step)])
        while more:
            more, page, _ = self.receive(wire.READ, number)
            if more:
                step += 1
                number = self.send(wire.READ, [body, wire.U64.pack(step)])
            yield page

    def bad_reply(self, op: int, reason: object) -> Error:
        """Returns the error for a reply that cannot be parsed."""
        return failure(Error, wire.NAMES[op], self.url, f"the server's reply cannot be parsed ({reason})")


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _after_fork() -> None:
    """Keeps the links' readers alive in a forked process. If another thread in the parent held a reader's lock during
    the fork, closing the reader here would block forever, even in garbage collection."""
    for link in list(_links):
        link.inherited = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(link.file))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

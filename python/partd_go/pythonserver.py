"""The client's side of the protocol of the server in the Python package partd (docs/dev/wire.md).

Changes have no numbers in this protocol, so if the connection breaks, their outcome is unknown.
The Python server exits on an unknown request, so the client must not send any.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Mapping, Sequence

from . import wire
from .channel import Channel
from .errors import Unsupported, error_of_codes, failure
from .link import _COMMAND, _LONG, Link, Protocol, Session

_MORE = 1  # flag of a frame that is not the last of its message
_CHUNK = 64 << 20  # maximum bytes per read; memory for a large frame is allocated only as its data arrives
_ERROR = re.compile(rb"error((?: \d+)*): (.*)", re.S)
_COMMANDS = {
    wire.APPEND: b"append",
    wire.SET_ONCE: b"iset",
    wire.DELETE: b"delete",
    wire.DROP: b"drop",
    wire.GET: b"get",
}


class PythonLink(Link):
    """A connection to a Python server. Messages have several frames, and replies come in the order of the requests."""

    python = True
    flags = _MORE | _LONG | _COMMAND
    max_frame = 1 << 63

    def _hello(self, token: str, namespace: str, session: Session) -> None:
        self.request([b"syn"])
        self.wait_for_ack(wire.HELLO)

    def is_closed(self) -> bool:
        """Reports whether the server has closed the idle connection."""
        self.sock.settimeout(0)
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:  # open, and nothing to read
            return False
        except OSError:  # the connection is broken
            return True

    def request(self, frames: Sequence[wire.Buffer]) -> None:
        parts: list[wire.Buffer] = []
        for remaining, frame in zip(range(len(frames) - 1, -1, -1), frames):
            more, size = _MORE if remaining else 0, len(frame)
            parts += [struct.pack(">BQ", more | _LONG, size) if size > 255 else bytes([more, size]), frame]
        self._write(wire.join_small(parts))

    def read_message(self, limit: int) -> list[bytes]:
        """Returns the frames of a message, or raises Protocol if there are more than limit."""
        frames: list[bytes] = []
        more = _MORE
        while more:
            if len(frames) == limit:
                raise Protocol(f"more than {limit} frames")
            more, size = self._message_frame()
            frames.append(self._read(size))
        return frames

    def _read(self, size: int) -> bytes:
        if size <= _CHUNK:
            return super()._read(size)
        return b"".join([super(PythonLink, self)._read(min(_CHUNK, size - start)) for start in range(0, size, _CHUNK)])

    def wait_for_ack(self, op: int) -> None:
        """Waits for the server's ack. If a request fails, the Go program partd-server sends an error before the ack."""
        reply = self.read_message(1)
        error = None
        if match := _ERROR.fullmatch(reply[0]):
            codes = map(int, match[1].split())
            error = error_of_codes(codes, wire.NAMES[op], self.url, match[2].decode("utf-8", "replace"))
            reply = self.read_message(1)
        if reply != [b"ack"]:
            raise Protocol(
                f"expected the frame ack, but received {len(reply)} frames; the first begins with {reply[0][:20]!r}"
            )
        if error:
            raise error


class PythonChannel(Channel):
    """A channel that never resends a change, because changes have no numbers in this protocol: the server could apply
    it twice."""

    link_class = PythonLink

    def check(self, op: int) -> None:
        if op not in _COMMANDS:
            raise failure(
                Unsupported,
                wire.NAMES[op],
                self.settings.url,
                "the protocol of partd's server has no such request",
                "connect to a partd-server instead, and leave out python_server=True",
            )

    @staticmethod
    def entries(data: Mapping[wire.Key, wire.Buffer]) -> list[wire.Buffer]:
        """Returns alternating keys and values. It joins values of equal keys, because the server keeps only one of
        them."""
        values: dict[bytes, list[wire.Buffer]] = {}
        for key, value in zip(*wire.pairs(data)):
            values.setdefault(key, []).append(value)
        return [
            frame for key, parts in values.items() for frame in (key, parts[0] if len(parts) == 1 else b"".join(parts))
        ]

    @staticmethod
    def keys(requested: Sequence[wire.Key]) -> list[wire.Buffer]:
        return [wire.encode_key(key) for key in requested]

    def connected(self) -> Link:
        if isinstance(self.link, PythonLink) and self.link.is_closed():
            self.hang_up()
        return super().connected()

    def change(self, op: int, pieces: Sequence[wire.Buffer]) -> None:
        def attempt(link: Link) -> None:
            assert isinstance(link, PythonLink)
            try:
                link.request([_COMMANDS[op], *pieces])
                link.wait_for_ack(op)
            except (OSError, EOFError, Protocol) as error:
                self.hang_up()
                problem = (
                    "no answer within the timeout" if isinstance(error, TimeoutError) else f"no reply came ({error})"
                )
                raise self._unknown_outcome(op, problem) from error

        self.repeat(op, attempt)

    def get(self, keys: list[wire.Key]) -> list[bytes]:
        def attempt(link: Link) -> list[bytes]:
            assert isinstance(link, PythonLink)
            link.request([_COMMANDS[wire.GET], *self.keys(keys)])
            values = link.read_message(len(keys))
            if len(values) != len(keys):
                raise Protocol(f"{len(values)} values for {len(keys)} keys")
            link.wait_for_ack(wire.GET)
            return values

        return self.repeat(wire.GET, attempt) if keys else []

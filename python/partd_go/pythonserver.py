"""The protocol of partd's own server, for a client that talks to it: docs/wire.md has it.

That server numbers nothing, so what a broken connection leaves of a change is unknown; and
it ends with a request that it does not know, so that none is sent.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence

from . import wire
from .channel import Channel
from .errors import Error, UnknownOutcome, Unsupported, failure
from .link import _COMMAND, _LONG, Link, Protocol, Session

_MORE = 1  # flag of a frame
_CHUNK = 64 << 20  # read at a time, whatever a frame's length is said to be
_COMMANDS = {
    wire.APPEND: b"append", wire.SET_ONCE: b"iset", wire.DELETE: b"delete", wire.DROP: b"drop", wire.GET: b"get",
}  # fmt: skip


class PythonLink(Link):
    """A connection whose messages are of many frames, and answered in turn."""

    python = True
    flags = _MORE | _LONG | _COMMAND
    longest = 1 << 63

    def _hello(self, token: str, namespace: str, session: Session) -> None:
        self.request([b"syn"])
        self.acknowledged(wire.HELLO)

    def lost(self) -> bool:
        """Reports whether the server has closed the connection, on which no answer is due."""
        self.sock.settimeout(0)
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def request(self, frames: Sequence[wire.Buffer]) -> None:
        parts: list[wire.Buffer] = []
        for left, frame in zip(range(len(frames) - 1, -1, -1), frames):
            more, size = _MORE if left else 0, len(frame)
            parts += [struct.pack(">BQ", more | _LONG, size) if size > 255 else bytes([more, size]), frame]
        self._write(wire.gathered(parts))

    def message(self, most: int) -> list[bytes]:
        """The frames of a message, which are not more than were asked for."""
        frames: list[bytes] = []
        more = _MORE
        while more:
            if len(frames) == most:
                raise Protocol(f"more than {most} frames")
            more, size = self._no_command()
            frames.append(self._read(size))
        return frames

    def _read(self, size: int) -> bytes:
        if size <= _CHUNK:
            return super()._read(size)
        return b"".join([super(PythonLink, self)._read(min(_CHUNK, size - at)) for at in range(0, size, _CHUNK)])

    def acknowledged(self, op: int) -> None:
        """Waits for ack. Our server says before it what was wrong with the request."""
        reply = self.message(1)
        error = None
        if reply[0].startswith(b"error: "):
            text = reply[0][7:].decode("utf-8", "replace")
            error = failure(UnknownOutcome if "the outcome is unknown" in text else Error, wire.NAMES[op], self.url, text)
            reply = self.message(1)
        if reply != [b"ack"]:
            raise Protocol(f"{len(reply)} frames, {reply[0][:20]!r}, where ack should be")
        if error:
            raise error


class PythonChannel(Channel):
    """Sends each change once."""

    kind = PythonLink

    def check(self, op: int) -> None:
        if op not in _COMMANDS:
            raise failure(
                Unsupported, wire.NAMES[op], self.settings.url, "partd's own server has no request for it",
                "serve the store by partd-server, and leave python_server out",
            )  # fmt: skip

    @staticmethod
    def entries(data: Mapping[wire.Key, wire.Buffer]) -> list[wire.Buffer]:
        """Keys and values in turn. Of two values of a key the server would keep one."""
        values: dict[bytes, list[wire.Buffer]] = {}
        for key, value in zip(*wire.pairs(data)):
            values.setdefault(key, []).append(value)
        return [frame for key, of in values.items() for frame in (key, of[0] if len(of) == 1 else b"".join(of))]

    @staticmethod
    def keys(wanted: Sequence[wire.Key]) -> list[wire.Buffer]:
        return [wire.encode_key(key) for key in wanted]

    def connected(self) -> Link:
        if isinstance(self.link, PythonLink) and self.link.lost():
            self.hang_up()
        return super().connected()

    def change(self, op: int, pieces: Sequence[wire.Buffer]) -> None:
        def attempt(link: Link) -> None:
            assert isinstance(link, PythonLink)
            try:
                link.request([_COMMANDS[op], *pieces])
                link.acknowledged(op)
            except (OSError, EOFError, Protocol) as error:
                self.hang_up()
                what = "no answer within the timeout" if isinstance(error, TimeoutError) else f"it was not answered ({error})"
                raise self._unknown(op, what) from error

        self.repeat(op, attempt)

    def get(self, keys: list[wire.Key]) -> list[bytes]:
        def attempt(link: Link) -> list[bytes]:
            assert isinstance(link, PythonLink)
            link.request([_COMMANDS[wire.GET], *self.keys(keys)])
            values = link.message(len(keys))
            if len(values) != len(keys):
                raise Protocol(f"{len(values)} values for {len(keys)} keys")
            link.acknowledged(wire.GET)
            return values

        return self.repeat(wire.GET, attempt) if keys else []

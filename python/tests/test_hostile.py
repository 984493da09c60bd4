"""Tests the client with servers that send invalid replies."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest

import partd_go
from partd_go import wire

TEXT = struct.pack("<I", 1) + b"a"


class Fake:
    """A server that sends a valid hello, and answers each operation with the flags and body in answers. If trickle is
    set, it waits for that many seconds after each byte of a reply. It serves one connection at a time."""

    def __init__(self, path: str, answers: dict[int, tuple[int, bytes]], trickle: float = 0):
        self.answers, self.trickle, self.requests = answers, trickle, 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as file:
                try:
                    self.serve(connection, file)
                except OSError:
                    pass

    def serve(self, connection: socket.socket, file) -> None:
        connection.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL".ljust(23, b"\0") + bytes(32) + b"\x04\x06\x05READY")
        file.read(64 + 43)
        while head := file.read(9):
            body = file.read(struct.unpack(">xQ", head)[0])
            op, number = body[4], body[8:16]
            if number == bytes(8):
                continue
            self.requests += 1
            flags, answer = self.answers.get(op, (0, b""))
            if op == wire.HELLO:
                answer = struct.pack("<IIQQII", 2, 0xFFFF, 1, 1 << 20, 1 << 20, 16)
            if op == wire.SESSION:
                answer = struct.pack("<QB16s", 1, 1, b"")
            reply = wire.MAGIC + bytes([op, 0, flags, 0]) + number + answer
            message = struct.pack(">BQ", 2, len(reply)) + reply
            if op != wire.HELLO and self.trickle:
                for i in range(len(message)):
                    connection.sendall(message[i : i + 1])
                    time.sleep(self.trickle)
            connection.sendall(message)


CALLS: dict[str, tuple[int, bytes, Callable[[partd_go.Client], object]]] = {
    "get: no values": (wire.GET, struct.pack("<I", 0), lambda c: c.get("x")),
    "get: too many values": (wire.GET, struct.pack("<III", 2, 0, 0), lambda c: c.get("x")),
    "get: claims too large a size": (wire.GET, struct.pack("<II", 1 << 31, 1 << 31), lambda c: c.get("x")),
    "pop: no values": (wire.POP, struct.pack("<I", 0), lambda c: c.pop("x")),
    "pop: claims too large a size": (wire.POP, struct.pack("<IQ", 1, 1 << 60) + b"x", lambda c: c.pop("x")),
    "stat: truncated": (wire.STAT, b"1234", lambda c: c.stat()),
    "scan: empty reply": (wire.SCAN, b"", lambda c: list(c.scan())),
    "scan: claims too large a size": (wire.SCAN, bytes(8) + struct.pack("<I", 1 << 31), lambda c: list(c.scan())),
    "scan: truncated": (
        wire.SCAN,
        bytes(8) + struct.pack("<IBQIH", 1, 1, 0, 1000, 1) + b"kvalue",
        lambda c: list(c.scan()),
    ),
    "keys: truncated": (wire.KEYS, bytes(8) + struct.pack("<IQH", 1, 0, 9) + b"key", lambda c: list(c.keys())),
    "namespaces: truncated": (wire.NAMESPACES, TEXT + struct.pack("<I", 1), lambda c: c.namespaces()),
}


@pytest.mark.parametrize("name", CALLS)
def test_invalid_replies(name, tmp_path):
    op, body, call = CALLS[name]
    fake = Fake(f"{tmp_path}/socket", {op: (0, body)})
    with partd_go.Client(f"ipc://{tmp_path}/socket", retry_for=1) as client:
        with pytest.raises(partd_go.Error, match="cannot be parsed"):
            call(client)
    fake.listener.close()


def test_namespaces_that_do_not_end(tmp_path):
    fake = Fake(f"{tmp_path}/socket", {wire.NAMESPACES: (wire.MORE, TEXT + struct.pack("<I", 1) + TEXT + bytes(16))})
    with partd_go.Client(f"ipc://{tmp_path}/socket", retry_for=1) as client:
        with pytest.raises(partd_go.Error, match="the page after 'a' ends with 'a'"):
            client.namespaces()
    assert fake.requests == 3
    fake.listener.close()


def test_slow_reply(tmp_path):
    fake = Fake(f"{tmp_path}/socket", {}, trickle=0.1)
    with partd_go.Client(f"ipc://{tmp_path}/socket", timeout=0.4) as client:
        start = time.monotonic()
        with pytest.raises(partd_go.TimedOut):
            client.stat()
        assert time.monotonic() - start < 1.5
    fake.listener.close()

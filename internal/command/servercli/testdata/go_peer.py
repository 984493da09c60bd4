"""Tests the Go client's protocol with libzmq, implemented only from docs/dev/wire.md."""

import struct
import sys

import zmq

MAGIC = b"\0PD1"
HELLO, PING, SESSION, END_SESSION, APPEND, SET, SET_ONCE, DELETE, DROP = 1, 2, 3, 4, 5, 6, 7, 8, 9
GET, KEYS, SCAN, STAT = 13, 16, 17, 20
SESSION_EXPIRED, SESSION_GAP, SESSION_REUSED, TOO_LARGE, BAD_REQUEST, UNSUPPORTED = 8, 9, 10, 2, 17, 1


def crc32c(data):
    crc = 0xFFFFFFFF
    for b in data:
        crc ^= b
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def key_of(key):
    return struct.pack("<H", len(key)) + key


def keys_of(*keys):
    return struct.pack("<I", len(keys)) + b"".join(map(key_of, keys))


def entries(*pairs):
    body = struct.pack("<I", len(pairs))
    for key, value in pairs:
        body += struct.pack("<HI", len(key), len(value)) + key + value
    return body


class Failed(Exception):
    """The server replied with an error. The argument is its codes."""


class Peer:
    def __init__(self, context, address, session=0, token=bytes(16)):
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, 20000)
        self.socket.connect(address)
        self.number = 0
        hello = self.ask(HELLO, struct.pack("<HHIQ16sII", 2, 2, 1 << 20, session, token, 0, 0))
        self.version, self.abilities = struct.unpack_from("<II", hello)

    def ask(self, op, body=b"", session=0, seq=0, crc=None):
        self.number += 1
        if crc is None:
            crc = crc32c(bytes([op]) + body) if session else 0
        self.socket.send(MAGIC + struct.pack("<BBHQQQII", op, 0, 0, self.number, session, seq, crc, 0) + body)
        parts = self.socket.recv_multipart()
        reply = parts[0]
        assert len(parts) == 1 and reply[:4] == MAGIC, parts
        got_op, status, self.flags, _, number = struct.unpack_from("<BBBBQ", reply, 4)
        assert (got_op, number) == (op, self.number), reply
        if status:
            count = reply[16]
            raise Failed(struct.unpack_from("<%dH" % count, reply, 17))
        return reply[16:]

    def get(self, *keys):
        body = self.ask(GET, keys_of(*keys))
        (count,) = struct.unpack_from("<I", body)
        values, at = [], 4
        for _ in range(count):
            (n,) = struct.unpack_from("<I", body, at)
            values.append(body[at + 4 : at + 4 + n])
            at += 4 + n
        assert at == len(body), body
        return values

    def scan(self, part, parts):
        body = self.ask(SCAN, struct.pack("<II", part, parts))
        handle, count = struct.unpack_from("<QI", body)
        assert handle == 0, handle  # the values fit into one reply
        chunks, at = [], 12
        for _ in range(count):
            last, offset, n, k = struct.unpack_from("<BQIH", body, at)
            assert (last, offset) == (1, 0), (last, offset)
            at += 15 + k + n
            chunks.append((body[at - k - n : at - n], body[at - n : at]))
        assert at == len(body), body
        return chunks


def check(got, want):
    if got != want:
        raise AssertionError("got %.200r, want %.200r" % (got, want))


def fails(codes, f, *args, **kwargs):
    try:
        f(*args, **kwargs)
    except Failed as e:
        assert codes & set(e.args[0]), e.args
    else:
        raise AssertionError("no error of %s" % codes)


def main():
    address = sys.argv[1]
    context = zmq.Context()
    p = Peer(context, address)
    check(p.version, 2)
    fails({BAD_REQUEST}, p.ask, HELLO, struct.pack("<HHIQ", 1, 1, 1 << 20, 0))  # the previous version
    # The server has no namespaces, or the connection already has one.
    fails({UNSUPPORTED, BAD_REQUEST}, p.ask, HELLO, struct.pack("<HHIQ16sI3sI", 2, 2, 1 << 20, 0, bytes(16), 3, b"job", 0))
    check(p.abilities & 1023, 1023 & p.abilities)
    check(p.ask(PING, b"any\0thing"), b"any\0thing")
    session, kept, token = struct.unpack("<QB16s", p.ask(SESSION, struct.pack("<Q16s", 0, bytes(16))))
    one = entries((b"k", b"1"), (b"", b"empty key"), (b"k", b"2"))
    p.ask(APPEND, one, session, 1)
    p.ask(APPEND, one, session, 1)
    check(p.flags & 2, 2)
    check(p.get(b"k", b"", b"missing"), [b"12", b"empty key", b""])
    fails({SESSION_REUSED}, p.ask, APPEND, entries((b"k", b"other")), session, 1)
    fails({SESSION_GAP}, p.ask, APPEND, one, session, 3)
    fails({SESSION_EXPIRED}, p.ask, APPEND, one, session + 1000000, 1)
    fails({BAD_REQUEST}, p.ask, APPEND, one[:-1], session, 2)
    fails({BAD_REQUEST}, p.ask, 200)
    p.ask(SET, entries((b"s", b"set")), session, 2)
    p.ask(SET_ONCE, entries((b"s", b"once")), session, 3)
    p.ask(SET_ONCE, entries((b"t", b"once")), session, 4)
    p.ask(DELETE, keys_of(b"", b"missing"), session, 5)
    # Another connection continues the session.
    thief = Peer(context, address, session, bytes(16))
    fails({SESSION_EXPIRED}, thief.ask, APPEND, one, session, 6)
    fails({SESSION_EXPIRED}, thief.ask, SESSION, struct.pack("<Q16s", session, token[::-1]))
    thief.ask(END_SESSION, session=session)  # has no effect
    q = Peer(context, address, session, token)
    q.ask(DELETE, keys_of(b"", b"missing"), session, 5)
    check(q.flags & 2, 2)
    q.ask(APPEND, one, session, 6)
    check(q.get(b"k", b"s", b"t", b""), [b"1212", b"set", b"once", b"empty key"])
    q.ask(APPEND, entries((b"k", b"unnumbered")))
    keys, size = struct.unpack_from("<QQ", q.ask(STAT))
    check((keys, size), (4, 4 + 10 + 3 + 4 + 9))
    scanned = [q.scan(part, 4) for part in range(4)]
    check(sorted(sum(scanned, [])), [(b"", b"empty key"), (b"k", b"1212unnumbered"), (b"s", b"set"), (b"t", b"once")])
    check(sorted(q.scan(0, 1)), sorted(sum(scanned, [])))
    fails({BAD_REQUEST}, q.scan, 4, 4)
    q.ask(END_SESSION, session=session)
    fails({SESSION_EXPIRED}, q.ask, APPEND, one, session, 7)
    q.ask(DROP)
    check(q.get(b"k"), [b""])
    print("done")
    context.destroy(0)


if __name__ == "__main__":
    main()

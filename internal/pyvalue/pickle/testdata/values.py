"""Pickles random plain values with protocols 4 and 5, and checks the values that come back.

For each value it writes a description and two pickles, each after its length as
four bytes, and then reads one pickle, from which Python must restore the same value."""

import pickle
import random
import struct
import sys

SEED, COUNT = int(sys.argv[1]), int(sys.argv[2])
rng = random.Random(SEED)
CHARS = "aZ0 \\'\"\n\r\t\0\x1auU{}\x7f\x80\xe9\xff\u0100\u20ac\ud800\udfff\U0001f600"
EDGES = [0, 1, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 2**71, 2**2040]


def describe(v):
    """Returns text that is equal for equal values of the same types."""
    t = type(v)
    if v is None:
        return "N"
    if t is bool:
        return "T" if v else "F"
    if t is int:
        return "i%x" % v
    if t is float:
        return "f" + struct.pack(">d", v).hex()
    if t is str:
        return "s" + v.encode("utf-8", "surrogatepass").hex()
    if t is bytes:
        return "b" + v.hex()
    if t is bytearray:
        return "B" + v.hex()
    if t is list:
        return "[" + ",".join(map(describe, v)) + "]"
    if t is tuple:
        return "(" + ",".join(map(describe, v)) + ")"
    if t is dict:
        return "{" + ",".join(describe(k) + ":" + describe(x) for k, x in v.items()) + "}"
    if t is set:
        return "S" + ",".join(sorted(map(describe, v))) + "s"
    if t is frozenset:
        return "Z" + ",".join(sorted(map(describe, v))) + "z"
    raise TypeError(t)


def length():
    return rng.choice([0, 1, 2, 3, 4, 5, 10, rng.randrange(300)])


def leaf():
    kind = rng.randrange(9)
    if kind == 0:
        return None
    if kind == 1:
        return rng.random() < 0.5
    if kind == 2:
        return rng.choice([-1, 1]) * (rng.choice(EDGES) + rng.randrange(-1, 2))
    if kind == 3:
        return rng.choice([-1, 1]) * rng.getrandbits(rng.choice([8, 16, 31, 64, 100, 3000]))
    if kind == 4:
        return rng.choice([0.0, -0.0, 1.5, float("inf"), float("-inf"), 1e300, -1e-300, rng.gauss(0, 1e6)])
    if kind == 5:
        return rng.randbytes(rng.choice([length(), 70000 if rng.random() < 0.01 else 1]))
    if kind == 6:
        return bytearray(rng.randbytes(length()))
    text = "".join(rng.choice(CHARS) for _ in range(length()))
    return text * 300 if rng.random() < 0.01 else text


def key(depth=2):
    while True:
        v = leaf()
        if type(v) is not bytearray:
            break
    if depth and rng.random() < 0.1:
        return tuple(key(depth - 1) for _ in range(rng.randrange(5)))
    if depth and rng.random() < 0.05:
        return frozenset(key(depth - 1) for _ in range(rng.randrange(4)))
    return v


def value(depth, shared):
    """Returns a random value, sometimes an earlier one."""
    if shared and rng.random() < 0.08:
        return rng.choice(shared)
    if depth == 0 or rng.random() < 0.4:
        v = leaf()
    else:
        n = rng.choice([0, 1, 2, 3, 4, 6])
        kind = rng.randrange(6)
        if kind <= 1:
            v = [value(depth - 1, shared) for _ in range(n)]
        elif kind == 2:
            v = tuple(value(depth - 1, shared) for _ in range(n))
        elif kind == 3:
            v = {key(): value(depth - 1, shared) for _ in range(n)}
        elif kind == 4:
            v = {key() for _ in range(n)}
        else:
            v = frozenset(key() for _ in range(n))
    shared.append(v)
    return v


def send(b):
    sys.stdout.buffer.write(struct.pack("<I", len(b)) + b)


for n in range(COUNT):
    v = value(rng.randrange(5), [])
    if n % 500 == 250:
        v = list(range(2500)) + [{i: str(i) for i in range(2500)}, set(range(1500))]
    want = describe(v)
    send(want.encode())
    for protocol in (4, 5):
        send(pickle.dumps(v, protocol=protocol))
    sys.stdout.buffer.flush()
    (size,) = struct.unpack("<I", sys.stdin.buffer.read(4))
    got = describe(pickle.loads(sys.stdin.buffer.read(size)))
    if got != want:
        sys.exit("value %d: from Go came %.2000s, want %.2000s" % (n, got, want))

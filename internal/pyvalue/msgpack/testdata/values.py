"""Writes random plain values packed by Python's msgpack, each after its
length in four bytes. It checks that Python can read each of them."""

import random
import struct
import sys

import msgpack

rng = random.Random(int(sys.argv[1]))
EDGES = [0, 31, 32, 33, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**16, 2**31, 2**32 - 1, 2**32, 2**63 - 1]


def length():
    return rng.choice([0, 1, 2, 3, 4, 15, 16, rng.randrange(40)])


def value(depth):
    kind = rng.randrange(10 if depth else 7)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind == 1:
        n = rng.choice(EDGES) + rng.randrange(2)
        return rng.choice([n, -n])
    if kind == 2:
        return rng.getrandbits(64) | 1 << 63
    if kind == 3:
        return rng.choice([0.0, -0.0, float("inf"), float("nan"), rng.gauss(0, 1e9)])
    if kind == 4:
        text = "".join(rng.choice("a\u00e9\u20ac\U0001f600\0") for _ in range(length()))
        return text * rng.choice([1, 1, 1, 10, 3000])
    if kind == 5:
        return rng.randbytes(rng.choice([length(), 255, 256, 65535, 65536]) if rng.random() < 0.1 else length())
    if kind == 6:
        return bytearray(rng.randbytes(length()))
    if kind == 7:
        return [value(depth - 1) for _ in range(length())]
    if kind == 8:
        return tuple(value(depth - 1) for _ in range(length()))
    return {rng.choice([str, lambda n: b"%d" % n])(rng.randrange(10**6)): value(depth - 1) for _ in range(length())}


for n in range(int(sys.argv[2])):
    v = [None] * 70000 if n == 7 else value(rng.randrange(4))
    packed = msgpack.packb(v, use_bin_type=True)
    msgpack.unpackb(packed, raw=False)
    sys.stdout.buffer.write(struct.pack("<I", len(packed)) + packed)

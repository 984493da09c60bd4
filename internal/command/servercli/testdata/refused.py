"""Shows how partd's client handles a refused request: its next call raises an error,
and later calls work. A failed get, which has no such call, ends by a timeout."""

import sys

import partd
import zmq

address = sys.argv[1]


def raises(c, label):
    try:
        c.get("k")
    except AssertionError:
        assert c.get("k") == b"v", label
        c.append({"after": label.encode() + b"."})
        print(label)


c = partd.Client(address)
c.append({"k": b"v"})
c.append({"k" * 65536: b"too long a key"})
raises(c, "a key too long")
c.append({"k": b"x" * 3000000})
raises(c, "a message over the limit")
c.append({i: b"x" * 1000 for i in range(2000)})
raises(c, "many frames over the limit")
c.iset("k2", b"x" * 2000000)
raises(c, "an iset over the limit")
other = partd.Client(address)
assert other.get(["k", "k" * 65535]) == [b"v", b""]
other.close_server()
raises(other, "close")

# Also shown in docs/operations.md.
c = partd.Client(address)
c.socket.setsockopt(zmq.RCVTIMEO, 1000)  # milliseconds for each reply
try:
    c.get("k" * 65536)
except zmq.Again:
    print("a failed get ends by the timeout")
    c = partd.Client(address)
assert c.get("k") == b"v"
assert c.get("after") == b"a key too long.a message over the limit.many frames over the limit.an iset over the limit.close."

"""What partd's own client makes of a request that the server refuses."""

import sys

import partd

address = sys.argv[1]
c = partd.Client(address)
c.append({"k": b"v"})
c.append({"k" * 65536: b"too long a key"})
try:
    c.get("k")
except AssertionError:
    print("the refusal was raised")
other = partd.Client(address)
assert other.get(["k", "k" * 65535]) == [b"v", b""]
other.close_server()
try:
    other.get("k")
except AssertionError:
    print("close was refused")
assert partd.Client(address).get("k") == b"v"

"""Appends 300 batches with the client of Python's partd and prints MB/s. Each batch has 1,000 keys with 100 bytes
each."""

import sys
import time

import partd

BATCHES, KEYS, LENGTH = 300, 1000, 100
client = partd.Client(sys.argv[1])
data = {"key%05d" % i: b"v" * LENGTH for i in range(KEYS)}
client.get("key00000")
start = time.perf_counter()
for _ in range(BATCHES):
    client.append(data)
values = client.get(
    ["key00000", "key%05d" % (KEYS - 1)]
)  # append does not wait for its reply, but get waits for all replies
seconds = time.perf_counter() - start
assert [len(v) for v in values] == [BATCHES * LENGTH] * 2, values
print(BATCHES * KEYS * LENGTH / 1e6 / seconds)

"""Appends the data of the benchmark "layers" to Python's partd and reads it back. Prints
the number of bytes, the seconds and CPU seconds to append them, the seconds to get them,
and the checksum of all values."""

import sys
import time
import zlib

import partd

KEYS = 1000
data, name, value, batch, total = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
text = b"v" * 2**20 if data == "v" else open(data, "rb").read()
names = ["key%08d" % i for i in range(KEYS)]
store = getattr(partd, name)(partd.Dict())
batches, at, n = [], 0, 0
while n * value < total:
    # A batch is a dict, which holds each key once, so it must not have more values than there are keys.
    entries = []
    for _ in range(batch):
        if at + value > len(text):
            at = 0
        entries.append((names[n % KEYS], text[at : at + value]))
        at += value
        n += 1
    assert len(dict(entries)) == batch
    batches.append(dict(entries))
start, cpu = time.perf_counter(), time.process_time()
for entries in batches:
    store.append(entries)
append_seconds, append_cpu = time.perf_counter() - start, time.process_time() - cpu
get_seconds, crc, read = 0, 0, 0
for key in names:
    start = time.perf_counter()
    v = store.get(key)
    get_seconds += time.perf_counter() - start
    read += len(v)
    crc = zlib.crc32(v, crc)
assert read == n * value, (read, n * value)
print(n * value, append_seconds, append_cpu, get_seconds, "%08x" % crc)

"""Appends the data of the benchmark "core" to Python's partd. Prints the number of
entries, the seconds, and the peak memory in kB."""

import random
import resource
import sys
import time

from partd import Buffer, Dict, File

BATCH, VALUE = 1000, b"v" * 100
kind = sys.argv[1]
entries = {"file": 300_000, "buffer": 5_000_000, "spill": 20_000_000}[kind]
names = ["key%08d" % i for i in range(1000)]
random.seed(1)
if kind == "file":
    store = File("store")
else:
    memory = 256 << 20 if kind == "spill" else 1 << 30
    store = Buffer(Dict(), File("store"), available_memory=memory)
batches = [dict.fromkeys(names, VALUE)]
done = 0
start = time.perf_counter()
while done < entries:
    for batch in batches:
        store.append(batch)
        done += len(batch)
seconds = time.perf_counter() - start
size = sum(len(store.get(name)) for name in names)
assert size == done * len(VALUE), (size, done)
print(done, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

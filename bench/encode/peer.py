"""Appends the lists of the benchmark "encode" to Python's partd, and reads them back.
Prints the CPU seconds of both steps."""

import sys
import time

from partd import Dict, Pickle, Python

KEYS, LENGTH, ROUNDS = 100, 100, 100
codec, shape = sys.argv[1], sys.argv[2]
store = {"python": Python, "pickle": Pickle}[codec](Dict())
element = {
    "numbers": lambda i: i * 7919,
    "texts": lambda i: "text number %08d" % i,
    "rows": lambda i: {"id": i, "name": "name %d" % i, "score": i / 8, "tags": ["a", "b"]},
}[shape]
batches = [{"key%d" % k: [element(r * LENGTH + i) for i in range(LENGTH)] for k in range(KEYS)} for r in range(4)]
start = time.process_time()
for r in range(ROUNDS):
    store.append(batches[r % len(batches)])
appended = time.process_time()
got = 0
for k in range(KEYS):
    got += len(store.get("key%d" % k))
done = time.process_time()
assert got == KEYS * LENGTH * ROUNDS, got
print(appended - start, done - appended)

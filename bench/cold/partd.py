# A job of Python's partd: see main.go. The arguments are the number of entries, of keys, and the
# distribution of the keys.
import json
import math
import os
import random
import resource
import sys
import time
import partd

entries, keys, dist = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
pattern, counts, times = os.urandom(1 << 20), {}, []
start = time.monotonic()
store = partd.File("store")
for _ in range(entries // 1000):
    batch = {}
    for _ in range(1000):
        u = random.random()
        n = int(u * keys) if dist == "uniform" else int(math.exp(u * math.log(keys + 1))) - 1
        key, at = "k%010d" % n, random.randrange(1 << 19)
        batch.setdefault(key, []).append(pattern[at : at + 100])
        counts[key] = counts.get(key, 0) + 1
    begin = time.monotonic()
    store.append({key: b"".join(values) for key, values in batch.items()})
    times.append(time.monotonic() - begin)
middle = time.monotonic()
for key, count in counts.items():
    if len(store.get(key)) != 100 * count:
        sys.exit("wrong length of " + key)
usage, end = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
io = dict(line.split(": ") for line in open("/proc/self/io"))
print(
    json.dumps(
        {
            "AppendSec": middle - start,
            "ReadSec": end - middle,
            "CPUSec": usage.ru_utime + usage.ru_stime,
            "Written": int(io["write_bytes"]) - int(io["cancelled_write_bytes"]),
            "P99Micros": 1e6 * sorted(times)[len(times) * 99 // 100],
            "InputBytes": entries // 1000 * 100_000,
        }
    )
)

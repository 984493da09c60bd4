"""Counts the words of files into partitions, like "wordcount map" in Go.

    python3 worker.py tcp://127.0.0.1:7077 FILE...
"""

import collections
import re
import sys
import zlib

import partd

PARTITIONS = 16


def main():
    client = partd.Client(sys.argv[1])
    for name in sys.argv[2:]:
        counts = collections.Counter()
        with open(name, encoding="ascii", errors="replace") as f:
            for line in f:
                counts.update(re.findall("[a-z0-9]+", line.lower()))
        pieces = collections.defaultdict(list)
        for word, n in counts.items():
            pieces["part-%02d" % (zlib.crc32(word.encode()) % PARTITIONS)].append("%s %d\n" % (word, n))
        client.append({key: "".join(lines).encode() for key, lines in pieces.items()})
    client.get("")  # partd's client waits for the replies to earlier appends only in get
    client.close()


if __name__ == "__main__":
    main()

"""Shuffles the rows of a CSV file without quotes into Python's partd, as users typically do:
reads about 16 MB of rows, groups them by key, and appends the groups."""

import sys

from partd import File

path, store, column = sys.argv[1], File(sys.argv[2]), int(sys.argv[3]) - 1
with open(path, "rb") as rows:
    rows.readline()
    while True:
        lines = rows.readlines(16_000_000)
        if not lines:
            break
        groups = {}
        for line in lines:
            key = line.split(b",", column + 1)[column].rstrip(b"\n")
            groups.setdefault(key, []).append(line)
        store.append({key.decode(): b"".join(rows_of) for key, rows_of in groups.items()})

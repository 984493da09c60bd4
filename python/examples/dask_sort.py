"""Sorts the lines of files with dask's threads, which shuffle through a private partd-server.

python dask_sort.py FILE...
"""

from __future__ import annotations

import sys
from pathlib import Path

import dask.dataframe as dd
import pandas as pd

import partd_go.dask


def lines(file: str) -> pd.DataFrame:
    return pd.DataFrame({"line": Path(file).read_text().splitlines()}, dtype=object)


def main() -> None:
    files = sys.argv[1:] or sys.exit(__doc__)
    with partd_go.dask.use():
        df = dd.from_map(lines, files, meta=pd.DataFrame({"line": []}, dtype=object))
        for line in df.set_index("line").compute(scheduler="threads").index:
            print(line)


if __name__ == "__main__":
    main()

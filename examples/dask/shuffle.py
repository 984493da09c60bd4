"""Shuffles a data frame through the server at the address given, by threads and
by processes, and compares the result with what pandas had."""

import sys

import dask.dataframe as dd
import pandas as pd

import partd_server

ROWS = 20_000


def main():
    address = sys.argv[1]
    df = pd.DataFrame(
        {
            "name": ["name %d" % (i * 7919 % 500) for i in range(ROWS)],
            "value": [float(i) for i in range(ROWS)],
            "when": pd.date_range("2020-01-01", periods=ROWS, freq="min"),
        }
    )
    for scheduler in ("threads", "processes"):
        with partd_server.shuffles(address):
            shuffled = dd.from_pandas(df, npartitions=8).shuffle("name", shuffle="disk", npartitions=5)
            # Each partition says which names it has; none may be in two.
            names = shuffled.map_partitions(lambda p: p["name"].drop_duplicates(), meta=("name", "object"))
            rows, names = dd.compute(shuffled, names, scheduler=scheduler)
        assert len(names) == 500 and names.is_unique, "the rows of a name are in several partitions"
        pd.testing.assert_frame_equal(rows.sort_values("value").reset_index(drop=True), df)
        print("%s: %d rows in %d partitions, none lost or changed" % (scheduler, len(rows), shuffled.npartitions))


if __name__ == "__main__":
    main()

"""Splits a CSV larger than memory by a column: python split_table.py FILE COLUMN

It reads the file in batches and appends each row under its value in the column. Then each value's rows are one table.
"""

import sys

import pyarrow.compute as pc
import pyarrow.csv

import partd_go


def main():
    path, column = sys.argv[1:]
    with partd_go.serve() as url, partd_go.Client(url) as store:
        tables = partd_go.Arrow(store, compression="lz4")
        for batch in pyarrow.csv.open_csv(path):
            values = batch.column(column)
            tables.append({value.as_py(): batch.filter(pc.equal(values, value)) for value in values.unique()})
        for key in sorted(store.keys()):
            print(key, tables.get(key).num_rows)


if __name__ == "__main__":
    main()

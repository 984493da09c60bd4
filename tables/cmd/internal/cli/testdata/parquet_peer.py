"""Reads Parquet files with pyarrow and pandas, and prints a line of JSON for each file and library."""
import json
import sys

import pyarrow.parquet

for path in sys.argv[1:]:
    table = pyarrow.parquet.read_table(path)
    print(json.dumps({"rows": table.num_rows, "types": [str(f.type) for f in table.schema], "last": table.slice(table.num_rows - 1).to_pylist()[0]}, default=str))
    try:
        import pandas
    except ImportError:
        continue
    frame = pandas.read_parquet(path)
    print(json.dumps({"index": frame.index.name, "columns": list(frame.columns), "types": [str(t) for t in frame.dtypes]}))

"""Writes a store with pystore into the directory in the first argument."""
import datetime
import sys

import numpy as np
import pandas as pd
import pystore

# pystore 1.0.1 uses this name without importing it.
pystore.utils.timezone = datetime.timezone

pystore.set_path(sys.argv[1])
collection = pystore.store("mystore").collection("NASDAQ")
index = pd.date_range("2026-01-01", periods=50, freq="h", name="Date")
frame = pd.DataFrame({"open": np.arange(50) * 1.5, "volume": np.arange(50), "sym": ["AAPL", None] * 25}, index=index)
collection.write("AAPL", frame, metadata={"source": "test", "n": 5}, npartitions=12)
collection.create_snapshot("first")
collection.write("AAPL", frame.iloc[:30], metadata={"source": "again"}, overwrite=True)
collection.write("BRK.B", frame.tz_localize("America/New_York"))

"""Writes tables with shoots' server into the directory in the first argument."""
import sys
import threading

import numpy as np
import pandas as pd
from pyarrow import flight
from shoots import PutMode, ShootsClient, ShootsServer

server = ShootsServer(flight.Location.for_grpc_tcp("localhost", 0), bucket_dir=sys.argv[1])
threading.Thread(target=server.serve, daemon=True).start()
client = ShootsClient("localhost", server.port)
frame = pd.DataFrame({
    "Sensor": ["a", "b", None],
    "at": pd.date_range("2026-01-01", periods=3, freq="s"),
    "v": [1.5, np.nan, -2],
})
client.put("sensors", frame)
client.put("sensors", frame, mode=PutMode.APPEND)
frame["kind"] = pd.Categorical(["x", "y", "x"])  # shoots cannot append categories
client.put("AAPL 1", frame, bucket="trades", mode=PutMode.REPLACE)

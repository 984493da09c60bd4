"""partd_go.tables: tables of pandas, polars and pyarrow, in a directory or at a server.

with partd_go.tables.connect("trades") as tables:
    tables.put("quotes", frame)
    frame = tables.get("quotes")

It needs pyarrow, and for a directory the wheel partd-go-tables, which has the server.
"""

from .client import Tables, connect
from .errors import Exists, MissingColumns, NotFound, Violation
from .server import Server, serve

__all__ = ["Exists", "MissingColumns", "NotFound", "Server", "Tables", "Violation", "connect", "serve"]

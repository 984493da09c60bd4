"""Stores pandas, polars and pyarrow tables in a directory or on a server.

    with partd_go.tables.connect("trades") as tables:
        tables.put("quotes", frame)
        frame = tables.get("quotes")

This package needs pyarrow. To open a directory, it also needs the wheel partd-go-tables, which contains the server.
"""

from ..errors import extra

with extra("tables"):
    from .asynchronous import AsyncTables, connect_async
    from .bulk import Split, split
    from .client import Table, Tables, connect
    from .each import each
    from .errors import Exists, MissingColumns, MomentError, NotFound
    from .operations import Snapshot
    from .results import Changes, Described, Replaced, Version
    from .server import Server, serve

__all__ = [
    "AsyncTables",
    "Changes",
    "Described",
    "Exists",
    "MissingColumns",
    "MomentError",
    "NotFound",
    "Replaced",
    "Server",
    "Snapshot",
    "Split",
    "Table",
    "Tables",
    "Version",
    "connect",
    "connect_async",
    "each",
    "serve",
    "split",
]

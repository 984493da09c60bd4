"""partd_go: a client of partd-server, and the server for a program of its own.

with partd_go.serve("log:dir") as url, partd_go.Client(url) as store:
    store.append({"fruit": b"apple"})
"""

from typing import TYPE_CHECKING, Any

from .client import Client, Stats
from .errors import (
    Busy,
    Closed,
    ConnectionFailed,
    Corrupt,
    Error,
    Lost,
    Misuse,
    NoServer,
    NoSpace,
    Refused,
    SchemaMismatch,
    TimedOut,
    TooLarge,
    UnknownOutcome,
    Unsupported,
)
from .pages import Chunk, Namespace
from .server import Server, serve

if TYPE_CHECKING:
    from .arrow import Arrow

__all__ = [
    "Arrow", "Busy", "Chunk", "Client", "Closed", "ConnectionFailed", "Corrupt", "Error", "Lost", "Namespace", "NoServer",
    "NoSpace", "Refused", "SchemaMismatch", "Server", "Stats", "TimedOut", "TooLarge", "UnknownOutcome", "Unsupported",
    "serve",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "Arrow":  # which needs pyarrow; nothing else does
        from .arrow import Arrow

        return Arrow
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

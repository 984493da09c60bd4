"""A client for partd-server.

    with partd_go.serve("log:dir") as url, partd_go.Client(url) as store:
        store.append({"fruit": b"apple"})

serve() starts a private server for this program.
"""

from typing import TYPE_CHECKING, Any

from .client import Client, Stats
from .errors import (
    Busy,
    Closed,
    ConnectionFailed,
    Corrupt,
    Error,
    Killed,
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
    extra,
)
from .pages import Chunk, Namespace
from .server import Server, serve

if TYPE_CHECKING:
    __version__: str
    from .arrow import Arrow

__all__ = [
    "Arrow",
    "Busy",
    "Chunk",
    "Client",
    "Closed",
    "ConnectionFailed",
    "Corrupt",
    "Error",
    "Killed",
    "Lost",
    "Namespace",
    "Misuse",
    "NoServer",
    "NoSpace",
    "Refused",
    "SchemaMismatch",
    "Server",
    "Stats",
    "TimedOut",
    "TooLarge",
    "UnknownOutcome",
    "Unsupported",
    "serve",
]


def __getattr__(name: str) -> Any:
    if name == "Arrow":  # the only name that needs pyarrow
        with extra("arrow"):
            from .arrow import Arrow

        return Arrow
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("partd-go")
        except PackageNotFoundError:
            return "devel"  # imported from a clone
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

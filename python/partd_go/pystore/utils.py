"""The directory of the stores, their servers, and dask's client."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import tables
from ..errors import Misuse, NoServer
from ..tables import Tables
from ..tables.connection import check_not_forked

if TYPE_CHECKING:
    import dask.dataframe
    import distributed

_path: str | None = None
_PARTITION_SIZE = 99e6
_partition_size: float = _PARTITION_SIZE
_scheduler: Any = None
_client: distributed.Client | None = None

_lock = threading.Lock()
# By process ID and store; a forked process must not use its parent's connections.
_open_tables: dict[tuple[int, str], Tables] = {}
# Connections to servers that other processes started, by process ID and URL.
_remote_tables: dict[tuple[int, str], Tables] = {}


def get_path(*args: str) -> Path:
    return Path(_path or os.environ.get("PYSTORE_PATH") or Path.home() / "pystore", *args)


def set_path(path: str | os.PathLike[str] | None = None) -> Path:
    """Sets the directory for stores (created if necessary). Stops the servers of stores in other directories."""
    global _path
    if path is not None and "://" in os.fspath(path):
        url = urllib.parse.urlsplit(os.fspath(path))
        if url.scheme != "file" or url.netloc not in ("", "localhost"):
            # pystore's own tests expect these words
            raise Misuse("PyStore only works with local file system: pass a directory")
        path = urllib.request.url2pathname(url.path)
    directory = Path(path).expanduser().resolve() if path is not None else Path.home() / "pystore"
    directory.mkdir(parents=True, exist_ok=True)
    _path = str(directory)
    release(lambda store: directory not in Path(store).parents)
    return directory


def connection(datastore: str | os.PathLike[str]) -> Tables:
    """Returns this process's connection to a store, after starting its server if necessary."""
    key = os.getpid(), os.fspath(datastore)
    check_not_forked(key[1])
    with _lock:
        if (store_tables := _find_open(key)) is not None:
            return store_tables
        # --no-tail commits each put immediately, so that other processes can use the store too.
        _open_tables[key] = tables.connect(datastore, flags=("--no-tail",))
        return _open_tables[key]


def connection_at(datastore: str, url: str) -> Tables:
    """Returns a connection to a store. Another process, such as dask's client, may have started the server at url."""
    check_not_forked(datastore)
    with _lock:
        if known := _find_open((os.getpid(), datastore)):
            return known
        key = os.getpid(), url
        if key not in _remote_tables:
            _remote_tables[key] = Tables(url)
        return _remote_tables[key]


def _find_open(key: tuple[int, str]) -> Tables | None:
    """Returns the open connection, or None if no connection is open or its server was killed."""
    store_tables = _open_tables.get(key)
    if store_tables is not None and store_tables.ended():
        del _open_tables[key]
        with contextlib.suppress(NoServer):  # the server was killed
            store_tables.close()
        return None
    return store_tables


def release(matches: Any = lambda store: True) -> None:
    """Stops the server of each store for which matches(store) is true; by default, of all stores."""
    with _lock:
        closing = [
            (key, _open_tables.pop(key)) for key in list(_open_tables) if key[0] == os.getpid() and matches(key[1])
        ]
    for _, store_tables in closing:
        store_tables.close()


def list_stores() -> list[str]:
    get_path().mkdir(parents=True, exist_ok=True)
    return sorted(entry.name for entry in get_path().iterdir() if entry.is_dir())


def delete_store(store: str) -> bool:
    path = get_path(store)
    if Path(store).is_absolute() or not Path(store).parts or ".." in Path(store).parts:
        raise Misuse(f"{store!r} is not the name of a store: list_stores() returns the names")
    if not path.exists():
        raise Misuse(f"Store '{store}' does not exist: list_stores() returns the stores")
    release(lambda other: Path(other) == path)
    shutil.rmtree(path)
    return True


def delete_stores() -> bool:
    release(lambda store: get_path() in Path(store).parents)
    shutil.rmtree(get_path())
    return True


def set_client(scheduler: Any = None) -> distributed.Client | None:
    """Makes dask use a distributed scheduler (an address or a cluster). None restores dask's local scheduler."""
    global _scheduler, _client
    if scheduler != _scheduler and _client is not None:
        _client.close()
        _client = None
    _scheduler = scheduler
    if scheduler is not None and _client is None:
        from dask.distributed import Client

        _client = Client(scheduler)
    return _client


def get_client() -> distributed.Client | None:
    return _client


def set_partition_size(size: float | None = None) -> float:
    global _partition_size
    _partition_size = _PARTITION_SIZE if size is None else size
    return _partition_size


def get_partition_size() -> float:
    return _partition_size


def read_csv(urlpath: Any, *args: Any, **kwargs: Any) -> dask.dataframe.DataFrame:
    """Calls dask's read_csv. The additional options index_col and index_name set the index."""
    import dask.dataframe as dd

    kwargs.pop("index", None)
    column, name = kwargs.pop("index_col", None), kwargs.pop("index_name", None)
    frame = dd.read_csv(urlpath, *args, **kwargs)
    if column is not None:
        frame = frame.set_index(column[0] if isinstance(column, list) else column)
    return frame if name is None else frame.map_partitions(lambda part: part.rename_axis(index=name))

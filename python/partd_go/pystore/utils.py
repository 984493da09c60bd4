"""Where the stores are, the servers of those in use, and dask's client."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import tables
from ..errors import NoServer
from ..tables import Tables
from ..tables.connection import only_here

if TYPE_CHECKING:
    import dask.dataframe
    import distributed

_path: str | None = None
_PARTITION_SIZE = 99e6
_partition_size: float = _PARTITION_SIZE
_scheduler: Any = None
_client: distributed.Client | None = None

_lock = threading.Lock()
_open: dict[tuple[int, str], Tables] = {}  # by process: a forked one has connections of its own
_remote: dict[tuple[int, str], Tables] = {}


def get_path(*args: str) -> Path:
    return Path(_path or os.environ.get("PYSTORE_PATH") or Path.home() / "pystore", *args)


def set_path(path: str | os.PathLike[str] | None = None) -> Path:
    """Sets the directory of the stores, and makes it. Servers of stores elsewhere end."""
    global _path
    if path is not None and "://" in os.fspath(path) and "file://" not in os.fspath(path):
        raise ValueError("PyStore currently only works with local file system: write a directory")
    chosen = Path(path).expanduser().resolve() if path is not None else Path.home() / "pystore"
    chosen.mkdir(parents=True, exist_ok=True)
    _path = str(chosen)
    release(lambda store: chosen not in Path(store).parents)
    return chosen


def connection(datastore: str | os.PathLike[str]) -> Tables:
    """The tables of a store, in this process; its server is started where none runs."""
    key = os.getpid(), os.fspath(datastore)
    only_here(key[1])
    with _lock:
        if (found := _known(key)) is not None:
            return found
        _open[key] = tables.connect(datastore, flags=("--no-tail",))  # other processes may use the store, too
        return _open[key]


def connection_at(datastore: str, url: str) -> Tables:
    """The same in a process that may be another's worker, by the URL of its server."""
    only_here(datastore)
    with _lock:
        if known := _known((os.getpid(), datastore)):
            return known
        key = os.getpid(), url
        if key not in _remote:
            _remote[key] = Tables(url)
        return _remote[key]


def _known(key: tuple[int, str]) -> Tables | None:
    """What is open, unless its server was killed: another takes its place then."""
    known = _open.get(key)
    if known is not None and known.ended():
        del _open[key]
        with contextlib.suppress(NoServer):
            known.close()
        return None
    return known


def release(which: Any = lambda store: True) -> None:
    """Ends the servers of stores."""
    with _lock:
        ended = [(key, _open.pop(key)) for key in list(_open) if key[0] == os.getpid() and which(key[1])]
    for _, connected in ended:
        connected.close()


def list_stores() -> list[str]:
    get_path().mkdir(parents=True, exist_ok=True)
    return sorted(entry.name for entry in get_path().iterdir() if entry.is_dir())


def delete_store(store: str) -> bool:
    path = get_path(store)
    if not path.exists():
        raise ValueError(f"Store '{store}' does not exist")
    release(lambda known: Path(known) == path)
    shutil.rmtree(path)
    return True


def delete_stores() -> bool:
    release(lambda known: get_path() in Path(known).parents)
    shutil.rmtree(get_path())
    return True


def set_client(scheduler: Any = None) -> distributed.Client | None:
    """Has dask compute at a scheduler: its address, or a cluster; None ends that."""
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
    """dask's read_csv, with index_col and index_name."""
    import dask.dataframe as dd

    kwargs.pop("index", None)
    column, name = kwargs.pop("index_col", None), kwargs.pop("index_name", None)
    frame = dd.read_csv(urlpath, *args, **kwargs)
    if column is not None:
        frame = frame.set_index(column[0] if isinstance(column, list) else column)
    return frame if name is None else frame.map_partitions(lambda part: part.rename_axis(index=name))

"""Installs and removes the partd shuffle in dask."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import secrets
import threading
import weakref
from types import TracebackType
from typing import Any

import dask
import dask.dataframe as dd
import pandas as pd
from dask.dataframe.dask_expr import _merge, _shuffle
from dask.dataframe.dask_expr._shuffle import AssignPartitioningIndex
from dask.utils import get_default_shuffle_method

from .. import Client
from ..errors import Misuse
from . import private
from .expression import METHOD, PartdShuffle
from .private import Bucket, Private
from .shuffle import Store, _clients, delete

# The supported dask versions, as (year, month). They are limited because this module uses internals of dask's query
# planner. Tests run with the oldest and the newest version.
OLDEST, NEWEST = (2025, 7), (2026, 8)

_lock = threading.Lock()
_active: use | None = None


class use:
    """Makes "partd" dask's shuffle method, until the end of the with block or close().

        with partd_go.dask.use():
            df.groupby("name").apply(len, meta=("n", "int64")).compute()

    Without url, all processes must be on this machine. Tasks then write rows to files, and use() starts a server that
    records which tasks have committed.

    Stored rows are deleted when dask no longer needs them; a persisted collection keeps its rows. close() deletes the
    remaining rows. If the program is killed, its rows stay until the server removes the namespace in url (see
    partd-server's flag --namespace-ttl).

    Args:
        url: The address of a partd-server, of several such servers (tcp://A,B,C), or of a bucket (s3://BUCKET/PREFIX,
            which needs the program partd-cloud). All workers must be able to reach it. If it is a `partd_go.Client`,
            the workers use the client's address, token and certificates.
        directory: The directory for the files and the server's store if url is not given; by default, dask's setting
            temporary-directory.
        compression: "lz4" or "zstd"; by default, none.
    """

    def __init__(
        self,
        url: str | Client | None = None,
        directory: str | os.PathLike[str] | None = None,
        compression: str | None = None,
    ) -> None:
        global _active
        if url is not None and directory is not None:
            raise Misuse("pass either url or directory, not both: a running server has its own directory")
        if compression not in (None, "lz4", "zstd"):
            raise Misuse(f'the argument compression is {compression!r}: pass "lz4", "zstd" or None')
        _check_version()
        with _lock:
            if _active is not None:
                raise RuntimeError("partd_go.dask.use() is already active: close it first")
            _active = self
        self._prepared: weakref.WeakSet[Any] = weakref.WeakSet()
        self._undo = contextlib.ExitStack()
        try:
            if url is None:
                directory = directory or dask.config.get("temporary-directory", None)
            client, rows_directory = self._connect(url, directory)
            self.store = Store(f"dask-{secrets.token_hex(8)}", client, compression, rows_directory)
            self.store.reach()
            _clients[self.store.name] = client
            self._undo.callback(self._remove, self.store)
            self._patch()
            self._undo.enter_context(dask.config.set({"dataframe.shuffle.method": METHOD}))
            self._check_planner()
            self._prepare()
        except BaseException:
            self.close()
            raise
        atexit.register(self.close)

    def __enter__(self) -> use:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Restores dask's methods and deletes the remaining rows in the store."""
        global _active
        try:
            self._undo.close()
        finally:
            atexit.unregister(self.close)
            with _lock:
                if _active is self:
                    _active = None

    def _connect(
        self, url: str | Client | None, directory: str | os.PathLike[str] | None
    ) -> tuple[Client | Private, str | None]:
        """Returns a client of the store. Without a URL, it also returns the directory for files with rows."""
        if isinstance(url, Client):
            return url, None
        if url is None:
            from .. import serve

            if directory is not None:
                os.makedirs(directory, exist_ok=True)
            server = serve(directory=directory, flags=("--memory=256MiB",))
            # Nothing restarts this server, so long retries would be useless.
            client = Client(self._undo.enter_context(server), retry_for=5)
            self._undo.callback(client.close)
            rows_directory = os.path.join(server.directory, "rows")
            os.mkdir(rows_directory)
            return client, rows_directory
        opened = private.open_url(url)
        if opened is not None:
            return opened, None
        client = Client(url)
        self._undo.callback(client.close)
        return client, None

    @staticmethod
    def _remove(store: Store) -> None:
        """Deletes the rows that remain in the store."""
        if isinstance(store.client, Bucket):
            store.client.remove(store.name)
            return
        mine = [key for key in store.work("", lambda client: list(client.keys())) if key.startswith(store.name + "/")]
        store.work("", lambda client: delete(client, mine))

    def _patch(self) -> None:
        lower, is_broadcast = _shuffle.Shuffle._lower, _merge.Merge.is_broadcast_join

        @functools.wraps(lower)
        def lower_partd(shuffle: Any) -> Any:
            if (shuffle.method or get_default_shuffle_method()) != METHOD:
                return lower(shuffle)
            self._prepare()
            frame, assign_args = shuffle.frame, None
            if (
                type(frame) is AssignPartitioningIndex
                and isinstance(frame.partitioning_index, list)
                and frame.frame.ndim == 2
            ):
                # Use the frame as it is before dask adds the column partitioning_index: the writing tasks add the
                # column themselves, which saves one task for each partition.
                frame, *assign_args = frame.operands
            return PartdShuffle(
                frame,
                shuffle.partitioning_index,
                shuffle.npartitions_out,
                shuffle.ignore_index,
                shuffle.options,
                shuffle.original_partitioning_index,
                self.store,
                assign_args,
            )

        def is_broadcast_join(merge: Any) -> bool:
            # Broadcast a small side of a join whenever dask's method "tasks" would.
            if (merge.shuffle_method or get_default_shuffle_method()) == METHOD:
                merge = merge.substitute_parameters({"shuffle_method": "tasks"})
            return bool(is_broadcast.func(merge))

        self._replace_attribute(_shuffle.Shuffle, "_lower", lower_partd)
        prop = functools.cached_property(is_broadcast_join)
        prop.__set_name__(_merge.Merge, "is_broadcast_join")  # unlike a class statement, setattr does not call this
        self._replace_attribute(_merge.Merge, "is_broadcast_join", prop)

    def _replace_attribute(self, owner: type, name: str, value: Any) -> None:
        self._undo.callback(setattr, owner, name, owner.__dict__[name])
        setattr(owner, name, value)

    def _check_planner(self) -> None:
        df = dd.from_pandas(pd.DataFrame({"x": [1, 2]}), npartitions=2)
        if not list(df.shuffle("x").optimize().expr.find_operations(PartdShuffle)):
            raise RuntimeError(
                f"dask {dask.__version__} did not use partd for a shuffle: install a supported version of "
                f"dask[dataframe], {_supported_range()}"
            )

    def _prepare(self) -> None:
        """Prepares the cluster of dask's default client, if there is one."""
        try:
            from distributed import default_client

            client = default_client()
        except (ImportError, ValueError):  # there is no client
            return
        if client in self._prepared:
            return
        from .cluster import prepare

        self._undo.callback(prepare(client, self.store))
        self._prepared.add(client)


def _supported_range() -> str:
    return f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"


def _check_version() -> None:
    version = tuple(int(n) for n in dask.__version__.split(".")[:2])
    if not OLDEST <= version <= NEWEST:
        raise RuntimeError(
            f"partd_go.dask supports dask {_supported_range()}, but version {dask.__version__} is installed: install a "
            f'supported one, for example with pip install "dask[dataframe]=={NEWEST[0]}.{NEWEST[1]}.*"'
        )

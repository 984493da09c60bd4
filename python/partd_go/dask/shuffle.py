"""The tasks of a shuffle, and its keys in the store. One task writes each input partition. Then the barrier task checks
the commits. Finally, one task reads each output partition."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import queue
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from .. import Client
from ..errors import Misuse
from . import files
from .attempts import Attempt, Commit, commits, pieces
from .blocks import BLOCK_BYTES, Block, Layout, join, layout_of, split
from .private import Bucket, Private

T = TypeVar("T")
logger = logging.getLogger("partd_go.dask")

# This process's clients, by Store.name.
_clients: weakref.WeakValueDictionary[str, Client | Private] = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class Store:
    """The store of one `with use():` block. All its keys begin with name."""

    name: str
    client: Client | Private
    compression: str | None
    directory: str | None = None  # for files with rows, if all processes are on one machine

    def work(self, name: str, work: Callable[[Any], T]) -> T:
        """Returns work(client). In a bucket, client accesses the separate store called name. If a private server ends
        during the call, work is called again."""
        if isinstance(self.client, Private):
            return self.client.work(f"{self.name}/{name}", work)
        return work(self.client)

    def __dask_tokenize__(self) -> object:
        return "partd_go.dask.Store", self.name

    def __reduce__(self) -> Any:
        return _load, (self.name, self.client, self.compression, self.directory)

    def reach(self) -> None:
        """Raises an error if this process cannot use the store."""
        self.work("reach", lambda client: client.stat())
        if self.directory:
            tempfile.TemporaryFile(dir=self.directory).close()


def _load(name: str, client: Client | Private, *settings: Any) -> Store:
    return Store(name, _clients.setdefault(name, client), *settings)


@dataclass(frozen=True)
class Shuffle:
    """One shuffle. No other shuffle uses its keys."""

    store: Store
    name: str
    npartitions: int

    def key(self, suffix: object) -> str:
        return f"{self.store.name}/{self.name}/{suffix}"

    def work(self, work: Callable[[Any], T]) -> T:
        return self.store.work(self.name, work)

    def delete(self) -> None:
        if isinstance(self.store.client, Bucket):
            self.store.client.remove(f"{self.store.name}/{self.name}")
        elif self.store.directory and not os.path.isdir(self.store.directory):
            return  # `use` has ended and removed everything
        else:
            keys = [self.key(suffix) for suffix in ("commits", "layouts", *range(self.npartitions))]
            self.work(lambda client: delete(client, keys))
            if self.store.directory:
                shutil.rmtree(self.file(), ignore_errors=True)

    def file(self, attempt: str = "") -> str:
        return os.path.join(self.store.directory or "", self.name, attempt)


def delete(client: Client, keys: list[str]) -> None:
    """Deletes keys, in several calls if there are many."""
    for start in range(0, len(keys), 10_000):
        client.delete(keys[start : start + 10_000])


class Lease:
    """A handle in a shuffle's graph that deletes the shuffle's rows when this process garbage-collects the graph.
    Unpickling a Lease returns only the Shuffle, which deletes nothing."""

    def __init__(self, shuffle: Shuffle) -> None:
        self.shuffle = shuffle
        self._end = weakref.finalize(self, forget, shuffle)
        self._end.atexit = False  # at exit, use.close() deletes the remaining rows

    def __reduce__(self) -> Any:
        try:
            from distributed import default_client

            default_client()
            self._end.detach()  # a distributed scheduler has received the graph, and its plugin deletes the rows
        except (ImportError, ValueError):
            pass  # without a distributed client, this process deletes the rows
        return Shuffle, (self.shuffle.store, self.shuffle.name, self.shuffle.npartitions)


_to_delete: queue.SimpleQueue[Shuffle] = queue.SimpleQueue()
_cleaner = threading.Lock()


def forget(shuffle: Shuffle) -> None:
    """Deletes a shuffle's rows in the background. Any thread may call it, even in a finalizer."""
    _to_delete.put(shuffle)
    if _cleaner.acquire(blocking=False):
        threading.Thread(target=_clean, name="partd_go.dask cleaner", daemon=True).start()


def _clean() -> None:
    while True:
        shuffle = _to_delete.get()
        try:
            shuffle.delete()
        except Exception as err:
            logger.warning("a shuffle's rows could not be deleted, and stay until use() ends: %s", err)
        del shuffle


def open_shuffle(lease: Lease | Shuffle) -> Shuffle:
    """Returns the shuffle. It is the first task of each graph and passes the shuffle to all other tasks, so that two
    graphs use different keys in the store even if their tasks have the same names."""
    return lease.shuffle if isinstance(lease, Lease) else lease


def write(df: pd.DataFrame, shuffle: Shuffle, task: int, column: str, selected: Sequence[int] | None) -> None:
    """Writes an input partition, unless another attempt has already committed it. column is the name of the column
    that holds each row's output partition. Only rows for output partitions in selected are written; None means all."""
    ids = np.asarray(df[column], dtype=np.int64)
    if len(ids) and (ids.min() < 0 or ids.max() >= shuffle.npartitions):
        raise Misuse(
            f"rows have partitions from {ids.min()} to {ids.max()}: number them from 0 to {shuffle.npartitions - 1}"
        )
    if selected is not None:
        ids = np.where(np.isin(ids, selected), ids, -1)
    df = df.drop(columns=column)
    shuffle.work(lambda client: _attempt(client, df, shuffle, task, ids))


def _attempt(client: Any, df: pd.DataFrame, shuffle: Shuffle, task: int, ids: np.ndarray[Any, Any]) -> None:
    # In a bucket, do not check for an earlier commit: reading the commits costs a request for each segment.
    in_bucket = isinstance(shuffle.store.client, Bucket)
    if not in_bucket and str(task) in commits(client, shuffle.key("commits")):
        return
    layout = layout_of(df)
    rows = np.zeros(shuffle.npartitions, np.int64)
    attempt = Attempt(client, shuffle.key("commits"), str(task))
    with (
        files.attempt_file(shuffle.file(attempt.attempt))
        if shuffle.store.directory
        else contextlib.nullcontext() as file
    ):
        for block in split(df, layout, ids, shuffle.store.compression):
            for partition, count, _ in block:
                rows[partition] += count
            if file:
                file.append(block)
            else:
                _append(attempt, shuffle, block)
        if file:
            _append(
                attempt,
                shuffle,
                [(partition, 0, [bytes(positions)]) for partition, positions in file.positions.items()],
            )
        attempt.append([(shuffle.key("layouts"), pickle.dumps((layout, rows), 5))])
    attempt.commit()  # keep the file even after an error, because the commit may have been applied
    if in_bucket:
        client.sync()


def _append(attempt: Attempt, shuffle: Shuffle, block: Block) -> None:
    """Appends a block in batches of at most BLOCK_BYTES. A larger piece is a batch by itself."""
    batch: list[tuple[str, bytes]] = []
    size = 0
    for partition, _, piece in block:
        message = b"".join(piece)
        if size + len(message) > BLOCK_BYTES and batch:
            attempt.append(batch)
            batch, size = [], 0
        batch.append((shuffle.key(partition), message))
        size += len(message)
    attempt.append(batch)


@dataclass
class Plan:
    """The plan for reading: the committed attempts, the layouts of their pieces, and each partition's row count."""

    shuffle: Shuffle
    winners: dict[str, Commit]  # by task
    layouts: list[Layout]
    layout_of: dict[str, int]  # index in layouts, by task
    rows: np.ndarray[Any, Any]


def barrier(shuffle: Shuffle, tasks: int, *written: None) -> Plan:
    """Returns the plan for reading. The argument written exists only so that dask runs all writing tasks first."""
    commits_key = shuffle.key("commits")
    key = shuffle.key("layouts")
    winners, layouts_value = shuffle.work(lambda client: (commits(client, commits_key), client.get([key])[0]))
    pieces_of = pieces(key, layouts_value, winners)
    plan = Plan(shuffle, winners, layouts=[], layout_of={}, rows=np.zeros(shuffle.npartitions, np.int64))
    for task in map(str, range(tasks)):
        if len(pieces_of.get(task, ())) != 1:
            raise _lost(shuffle, f"the commit of task {task} of {tasks} is missing")
        layout, rows = pickle.loads(pieces_of[task][0])
        compatible = next((i for i, other in enumerate(plan.layouts) if other.is_compatible(layout)), None)
        if compatible is None:
            compatible = len(plan.layouts)
            plan.layouts.append(layout)
        plan.layout_of[task] = compatible
        plan.rows += rows
    return plan


def read(plan: Plan, partition: int) -> pd.DataFrame:
    """Returns an output partition. Its rows are in the order of the input partitions."""
    from dask.dataframe.core import _concat

    key = plan.shuffle.key(partition)
    pieces_of = pieces(key, plan.shuffle.work(lambda client: client.get([key])[0]), plan.winners)
    if plan.shuffle.store.directory:
        pieces_of = {task: _from_file(plan, task, positions) for task, positions in pieces_of.items()}
    compression = plan.shuffle.store.compression
    frames = [
        join(plan.layouts[layout], [piece for task in tasks for piece in pieces_of.pop(task)], compression)
        for layout, tasks in groupby(sorted(pieces_of, key=int), plan.layout_of.__getitem__)
    ]
    rows = sum(map(len, frames))
    if rows != plan.rows[partition]:
        raise _lost(plan.shuffle, f"partition {partition} has {rows} rows, but {plan.rows[partition]} were committed")
    if len(frames) == 1:
        return frames[0]
    return _concat(frames) if frames else plan.layouts[0].empty


def _from_file(plan: Plan, task: str, positions: list[memoryview]) -> list[memoryview]:
    try:
        return files.pieces(plan.shuffle.file(plan.winners[task].attempt), b"".join(positions))
    except FileNotFoundError as err:
        raise _lost(plan.shuffle, str(err)) from err


def _lost(shuffle: Shuffle, problem: str) -> RuntimeError:
    return RuntimeError(
        f"shuffle {shuffle.key('')} at {shuffle.store.client}: {problem}. The shuffle's rows were deleted, or use() "
        "has ended: compute again"
    )

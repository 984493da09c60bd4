"""The expression of a partd shuffle in dask's query planner."""

from __future__ import annotations

import functools
import secrets
from typing import Any

from dask._task_spec import Task, TaskRef
from dask.dataframe.dask_expr._shuffle import AssignPartitioningIndex, SimpleShuffle

from . import shuffle

METHOD = "partd"
OPEN = "partd-open-"  # the name of a shuffle's first task begins with this


class PartdShuffle(SimpleShuffle):  # type: ignore[misc]
    """A shuffle whose tasks store their rows in a partd store. The writing tasks call dask's function that adds the
    column partitioning_index to a partition of frame, with assign_args as its other arguments (None if frame already
    has the column)."""

    _parameters = [
        "frame",
        "partitioning_index",
        "npartitions_out",
        "ignore_index",
        "options",
        "original_partitioning_index",
        "store",
        "assign_args",
        "_partitions",
    ]

    @functools.cached_property
    def _meta(self) -> Any:
        return self.frame._meta if self.assign_args else self.frame._meta.drop(columns=self.partitioning_index)

    def _frame(self, i: int) -> Any:
        """Returns an argument of a writing task: partition i of frame with the column partitioning_index."""
        part = TaskRef((self.frame._name, i))
        return Task(None, AssignPartitioningIndex.operation, part, *self.assign_args) if self.assign_args else part

    def _layer(self) -> dict[Any, Task]:
        # dask expects equal task names for equal expressions, but each graph needs its own keys in the store.
        token = self._name.split("-")[-1]
        lease = shuffle.Lease(shuffle.Shuffle(self.store, secrets.token_hex(8), self.npartitions_out))
        opened = Task(OPEN + token, shuffle.open_shuffle, lease)
        selected = tuple(self._partitions) if self._filtered else None
        column = self.partitioning_index
        writers = [
            Task((f"partd-write-{token}", i), shuffle.write, self._frame(i), opened.ref(), i, column, selected)
            for i in range(self.frame.npartitions)
        ]
        barrier = Task(
            f"partd-barrier-{token}", shuffle.barrier, opened.ref(), len(writers), *(w.ref() for w in writers)
        )
        readers = [
            Task((self._name, i), shuffle.read, barrier.ref(), partition)
            for i, partition in enumerate(self._partitions)
        ]
        return {task.key: task for task in [opened, *writers, barrier, *readers]}

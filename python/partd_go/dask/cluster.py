"""Prepares a distributed cluster: checks that each process has the package and can reach the server, and installs a
plugin that deletes rows when they are no longer needed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

from . import shuffle
from .expression import OPEN


class Plugin(SchedulerPlugin):  # type: ignore[misc]
    """Deletes a shuffle's rows when the scheduler forgets the shuffle's first task: no task can read the rows again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.shuffles: dict[str, shuffle.Shuffle] = {}

    async def start(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        if not isinstance(key, str) or not key.startswith(OPEN):
            return
        if finish == "forgotten":
            if key in self.shuffles:
                shuffle.forget(self.shuffles.pop(key))
        elif key not in self.shuffles and self.scheduler.tasks[key].run_spec is not None:
            (lease,) = self.scheduler.tasks[key].run_spec.args
            self.shuffles[key] = shuffle.open_shuffle(lease)


def reach(store: shuffle.Store) -> None:
    """Checks that this process can use the store. prepare runs it in each process of the cluster."""
    store.reach()


def prepare(client: Any, store: shuffle.Store) -> Callable[[], None]:
    """Prepares the cluster of a dask client. Returns a function that undoes the preparation."""
    if client.asynchronous:
        raise RuntimeError(
            "partd_go.dask.use() cannot reach the scheduler and the workers with an asynchronous Client: "
            "use a synchronous Client, both to call use() and to compute"
        )
    try:
        # The scheduler needs the store too: it builds the graph and deletes the graph's rows.
        client.run_on_scheduler(reach, store)
        client.run(reach, store)
    except Exception as err:
        raise RuntimeError(
            f"a scheduler or a worker of {client!r} cannot shuffle through {store.client}: {err}. The scheduler and "
            "every worker need this version of partd_go, and must be able to reach the store's URL: start a "
            "partd-server that listens on the network, and pass its address to use()"
        ) from err
    plugin = Plugin(store.name)
    client.register_plugin(plugin, name=store.name)

    def undo() -> None:
        if client.status == "running":
            with contextlib.suppress(Exception):  # the scheduler may be gone
                client.unregister_scheduler_plugin(store.name)

    return undo

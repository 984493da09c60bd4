"""The client for asyncio. It runs each call in a thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyarrow as pa

from .client import Tables, connect

P = ParamSpec("P")
R = TypeVar("R")
_THREADS = 8  # maximum number of concurrent calls


def _in_thread(
    method: Callable[Concatenate[Tables, P], R],
) -> Callable[Concatenate[AsyncTables, P], Coroutine[Any, Any, R]]:
    @functools.wraps(method)
    async def call(self: AsyncTables, /, *args: P.args, **options: P.kwargs) -> R:
        return await self._run(functools.partial(method, self.tables, *args, **options))

    return call


def _in_batches(
    method: Callable[Concatenate[Tables, P], pa.RecordBatchReader],
) -> Callable[Concatenate[AsyncTables, P], AsyncIterator[pa.RecordBatch]]:
    @functools.wraps(method)
    async def batches(self: AsyncTables, /, *args: P.args, **options: P.kwargs) -> AsyncIterator[pa.RecordBatch]:
        reader = await self._run(lambda: iter(method(self.tables, *args, **options)))
        while (batch := await self._run(lambda: next(reader, None))) is not None:
            yield batch

    return batches


class AsyncTables:
    """The methods of Tables as coroutines, which take the same arguments. scan() is an asynchronous iterator of
    batches, as in async for batch in tables.scan("trades").

        async def count():
            async with await connect_async("data") as tables:
                await tables.put("trades", frame)
                return len(await tables.get("trades"))

    If a call is cancelled, it still runs to the end, but its result is dropped.
    """

    def __init__(self, tables: Tables):
        self.tables = tables
        self._threads = concurrent.futures.ThreadPoolExecutor(_THREADS, "partd-tables")

    async def _run(self, call: Callable[[], R]) -> R:
        self.tables._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def __aenter__(self) -> AsyncTables:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self.tables.close)

    put, put_many = _in_thread(Tables.put), _in_thread(Tables.put_many)
    sink_polars, replace_range = _in_thread(Tables.sink_polars), _in_thread(Tables.replace_range)
    get, scan, sql = _in_thread(Tables.get), _in_batches(Tables.scan), _in_thread(Tables.sql)
    list, describe, versions = _in_thread(Tables.list), _in_thread(Tables.describe), _in_thread(Tables.versions)
    delete, buckets = _in_thread(Tables.delete), _in_thread(Tables.buckets)
    delete_bucket, action = _in_thread(Tables.delete_bucket), _in_thread(Tables.action)
    resample, resampled = _in_thread(Tables.resample), _in_thread(Tables.resampled)
    combine, changes = _in_thread(Tables.combine), _in_thread(Tables.changes)
    snapshot, snapshots, restore = _in_thread(Tables.snapshot), _in_thread(Tables.snapshots), _in_thread(Tables.restore)
    delete_snapshots, delete_rows = _in_thread(Tables.delete_snapshots), _in_thread(Tables.delete_rows)
    settings, set_settings = _in_thread(Tables.settings), _in_thread(Tables.set_settings)
    metadata, set_metadata = _in_thread(Tables.metadata), _in_thread(Tables.set_metadata)
    rules, edit_rules, evolve = _in_thread(Tables.rules), _in_thread(Tables.edit_rules), _in_thread(Tables.evolve)
    fold, compact, expire = _in_thread(Tables.fold), _in_thread(Tables.compact), _in_thread(Tables.expire)


async def connect_async(url_or_dir: str | os.PathLike[str], *args: Any, **options: Any) -> AsyncTables:
    """Like connect(), but for asyncio, as in async with await connect_async("data") as tables."""
    return AsyncTables(await asyncio.to_thread(connect, url_or_dir, *args, **options))

"""The client for asyncio, which runs each call in a thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, overload

import pyarrow as pa

from ..frames import As
from .client import Tables, connect
from .results import Query, Read

if TYPE_CHECKING:
    import pandas
    import polars
    from typing_extensions import Unpack

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


class AsyncTables:
    """The methods of Tables as coroutines, which take the same arguments.

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
    list, describe, versions = _in_thread(Tables.list), _in_thread(Tables.describe), _in_thread(Tables.versions)
    delete, buckets, delete_bucket = (
        _in_thread(Tables.delete),
        _in_thread(Tables.buckets),
        _in_thread(Tables.delete_bucket),
    )
    resample, combine, action = _in_thread(Tables.resample), _in_thread(Tables.combine), _in_thread(Tables.action)
    resampled, changes = _in_thread(Tables.resampled), _in_thread(Tables.changes)
    snapshot, snapshots, restore = _in_thread(Tables.snapshot), _in_thread(Tables.snapshots), _in_thread(Tables.restore)
    delete_snapshots, delete_rows, evolve = (
        _in_thread(Tables.delete_snapshots),
        _in_thread(Tables.delete_rows),
        _in_thread(Tables.evolve),
    )
    settings, set_settings = _in_thread(Tables.settings), _in_thread(Tables.set_settings)
    metadata, set_metadata = _in_thread(Tables.metadata), _in_thread(Tables.set_metadata)
    rules, edit_rules = _in_thread(Tables.rules), _in_thread(Tables.edit_rules)
    fold, compact, expire = _in_thread(Tables.fold), _in_thread(Tables.compact), _in_thread(Tables.expire)

    @overload
    async def get(
        self, name: str, bucket: str = "", *, as_: Literal["pandas"] = "pandas", **scan_options: Unpack[Read]
    ) -> pandas.DataFrame: ...

    @overload
    async def get(
        self, name: str, bucket: str = "", *, as_: Literal["polars"], **scan_options: Unpack[Read]
    ) -> polars.DataFrame: ...

    @overload
    async def get(
        self, name: str, bucket: str = "", *, as_: Literal["arrow"], **scan_options: Unpack[Read]
    ) -> pa.Table: ...

    async def get(self, name: str, bucket: str = "", *, as_: As = "pandas", **scan_options: Unpack[Read]) -> Any:
        options: Any = {"as_": as_, **scan_options}
        return await self._run(lambda: self.tables.get(name, bucket, **options))

    @overload
    async def sql(
        self,
        statement: str,
        bucket: str = "",
        *,
        id: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> int: ...

    @overload
    async def sql(
        self, statement: str, bucket: str = "", *, as_: Literal["pandas"] = "pandas", **query: Unpack[Query]
    ) -> pandas.DataFrame: ...

    @overload
    async def sql(
        self, statement: str, bucket: str = "", *, as_: Literal["polars"], **query: Unpack[Query]
    ) -> polars.DataFrame: ...

    @overload
    async def sql(
        self, statement: str, bucket: str = "", *, as_: Literal["arrow"], **query: Unpack[Query]
    ) -> pa.Table: ...

    async def sql(
        self, statement: str, bucket: str = "", *, as_: As = "pandas", id: str = "", **query: Unpack[Query]
    ) -> Any:
        options: Any = {"as_": as_, "id": id, **query}
        return await self._run(lambda: self.tables.sql(statement, bucket, **options))

    async def scan(self, name: str, bucket: str = "", **scan_options: Unpack[Read]) -> AsyncIterator[pa.RecordBatch]:
        """Yields the batches that Tables.scan() reads, as in async for batch in tables.scan("trades")."""
        batches = await self._run(lambda: iter(self.tables.scan(name, bucket, **scan_options)))
        while (batch := await self._run(lambda: next(batches, None))) is not None:
            yield batch


async def connect_async(url_or_dir: str | os.PathLike[str], *args: Any, **options: Any) -> AsyncTables:
    """Connects to tables for asyncio, as in async with await connect_async("data") as tables. It takes the arguments of
    connect()."""
    return AsyncTables(await asyncio.to_thread(connect, url_or_dir, *args, **options))

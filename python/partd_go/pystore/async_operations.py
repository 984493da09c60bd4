"""pystore's API for asyncio. Each call runs in a thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .collection import Collection
from .item import Item
from .store import store as Store

if TYPE_CHECKING:
    import pandas

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R")
_THREADS = 4


class _Async:
    def __init__(self, executor: concurrent.futures.Executor | None = None):
        self.executor = executor or concurrent.futures.ThreadPoolExecutor(_THREADS)

    async def _run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self.executor, partial(call, *args, **kwargs))

    def close(self) -> None:
        self.executor.shutdown(wait=True)

    async def __aenter__(self: A) -> A:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await asyncio.to_thread(self.close)


class AsyncItem:
    """An item that is opened when it is awaited or read."""

    def __init__(self, collection: AsyncCollection, item: str, **options: Any):
        self._collection, self._name, self._options = collection, item, options

    def __await__(self) -> Generator[object, None, Item]:
        return self._collection._run(self._collection.collection.item, self._name, **self._options).__await__()

    async def to_pandas(self, **options: Any) -> pandas.DataFrame:
        return await asyncio.to_thread((await self).to_pandas, **options)


class AsyncCollection(_Async):
    def __init__(self, collection: Collection, executor: concurrent.futures.Executor | None = None):
        super().__init__(executor)
        self.collection = collection

    def item(self, item: str, **options: Any) -> AsyncItem:
        return AsyncItem(self, item, **options)

    async def write(self, item: str, data: Any, metadata: dict[str, Any] | None = None, **kwargs: Any) -> None:
        await self._run(self.collection.write, item, data, metadata=metadata, **kwargs)

    async def read(self, item: str, **kwargs: Any) -> pandas.DataFrame:
        return await self.item(item, **kwargs).to_pandas()

    async def append(self, item: str, data: Any, **kwargs: Any) -> None:
        await self._run(self.collection.append, item, data, **kwargs)

    async def delete(self, item: str, **kwargs: Any) -> bool:
        return await self._run(self.collection.delete_item, item, **kwargs)

    async def list_items(self, **kwargs: Any) -> set[str]:
        return await self._run(self.collection.list_items, **kwargs)

    async def write_batch(self, items_data: dict[str, Any], **kwargs: Any) -> None:
        await asyncio.gather(*(self.write(name, data, **kwargs) for name, data in items_data.items()))

    async def read_batch(self, items: list[str], **kwargs: Any) -> dict[str, pandas.DataFrame | None]:
        """Returns the items as DataFrames, or None for an item that cannot be read."""
        results = await asyncio.gather(*(self.read(item, **kwargs) for item in items), return_exceptions=True)
        return {item: None if isinstance(result, BaseException) else result for item, result in zip(items, results)}

    async def parallel_append(self, item: str, dataframes: Iterable[Any], **kwargs: Any) -> None:
        await asyncio.gather(*(self.append(item, frame, **kwargs) for frame in dataframes))


class AsyncStore(_Async):
    def __init__(self, store: Store, executor: concurrent.futures.Executor | None = None):
        super().__init__(executor)
        self.store = store

    def collection(self, name: str) -> AsyncCollection:
        return AsyncCollection(self.store.collection(name))

    async def list_collections(self) -> list[str]:
        return await self._run(self.store.list_collections)


class _AsyncPyStore:
    """The type of async_pystore. Calling async_pystore with a store or a collection, or calling its method store with a
    name, returns an AsyncStore or AsyncCollection for `async with`."""

    def __call__(self, store_or_collection: Store | Collection) -> AsyncStore | AsyncCollection:
        if isinstance(store_or_collection, Store):
            return AsyncStore(store_or_collection)
        return AsyncCollection(store_or_collection)

    def store(self, datastore: str) -> AsyncStore:
        return AsyncStore(Store(datastore))


async_pystore = _AsyncPyStore()

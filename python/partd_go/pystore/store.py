"""Stores, which are directories of collections."""

from __future__ import annotations

from . import utils
from .collection import Collection
from .exceptions import CollectionExistsError, CollectionNotFoundError
from .item import Item


class store:
    """A directory of collections.

        market = pystore.store("market")
        print(market.list_collections())

    The store is in the directory set by set_path(). It is created if it does not exist.
    """

    def __init__(self, datastore: str):
        self.datastore = utils.get_path(datastore)
        self.datastore.mkdir(parents=True, exist_ok=True)
        utils.connection(self.datastore)

    def __repr__(self) -> str:
        return f"PyStore.datastore <{self.datastore}>"

    @property
    def collections(self) -> list[str]:
        return self.list_collections()

    def list_collections(self) -> list[str]:
        return utils.connection(self.datastore).buckets()

    def collection(self, collection: str, overwrite: bool = False) -> Collection:
        """Returns a collection, after creating it if necessary. If overwrite is true, an existing collection is deleted
        first."""
        if overwrite or collection not in self.list_collections():
            return self._create_collection(collection, overwrite)
        return Collection(collection, self.datastore)._undo_unfinished()

    def _create_collection(self, collection: str, overwrite: bool = False) -> Collection:
        if collection in self.list_collections():
            if not overwrite:
                raise CollectionExistsError(
                    f"Collection '{collection}' already exists! To overwrite, use overwrite=True"
                )
            self.delete_collection(collection)
        utils.connection(self.datastore).action("partd.change_metadata", bucket=collection, set={"engine": "partd"})
        return Collection(collection, self.datastore)

    def delete_collection(self, collection: str) -> bool:
        if collection not in self.list_collections():
            raise CollectionNotFoundError(f"Collection '{collection}' does not exist")
        tables = utils.connection(self.datastore)
        tables.action("partd.delete_snapshots", bucket=collection, all=True)
        tables.delete_bucket(collection, tables=True)
        return True

    def item(self, collection: str, item: str) -> Item:
        return self.collection(collection).item(item)

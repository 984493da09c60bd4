"""Collections, which are buckets of tables. Each table is an item."""

from __future__ import annotations

import concurrent.futures
import functools
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import pandas as pd
import pyarrow as pa

from ..errors import Misuse, SchemaMismatch
from ..frames import index_of, to_arrow
from ..tables import Exists, NotFound, Tables
from ..tables.filters import Filters
from . import undo, utils
from .exceptions import (
    DataIntegrityError,
    ItemExistsError,
    ItemNotFoundError,
    SchemaError,
    StorageError,
    ValidationError,
)
from .frames import encode, fit_types, prepare, widened_fields
from .item import Item, encode_metadata
from .lock import CollectionLock
from .schema_evolution import EvolutionStrategy, SchemaEvolution

if TYPE_CHECKING:
    from ..tables.results import Json
    from .validation import DataValidator

_MIN_ROWS_BY_TIME = 10_000  # a larger table is divided into files by month, quarter or year
_THREADS = 4
_SCHEMA_VERSION = "_schema_version"  # metadata key whose value is the version of the item's rows
_LOCK_TIMEOUT = 600.0  # how long, in seconds, a change waits for earlier changes
DUPLICATE_POLICIES = ("keep_last", "keep_first", "keep_all", "error")


class Collection:
    """A collection of named items in a store, as returned by store.collection().

        collection = pystore.store("market").collection("trades")
        collection.write("AAPL", frame, overwrite=True)
        collection.append("AAPL", later)
        print(collection.list_items())

    The methods are those of the package pystore.
    """

    def __init__(self, collection: str, datastore: Path):
        self.collection, self.datastore = collection, datastore
        self._validator: DataValidator | None = None
        self._schema_evolutions: dict[str, SchemaEvolution] = {}

    def __repr__(self) -> str:
        return f"PyStore.collection <{self.collection}>"

    @property
    def _tables(self) -> Tables:
        return utils.connection(self.datastore)

    @property
    def items(self) -> set[str]:
        return self.list_items()

    @property
    def snapshots(self) -> set[str]:
        return self.list_snapshots()

    def get_item_path(self, item: str, as_string: bool = False) -> Path | str:
        path = Path(self.datastore, self.collection, item)
        return str(path) if as_string else path

    def list_items(self, **metadata: Any) -> set[str]:
        """Returns the names of all items or, if metadata is given, of the items that have these keys and values."""
        return set(self._tables.list(self.collection, metadata=encode_metadata(metadata) or None))

    def item(
        self, item: str, snapshot: str | None = None, filters: Filters | None = None, columns: list[str] | None = None
    ) -> Item:
        return Item(item, self.datastore, self.collection, snapshot, filters, columns)

    @overload
    def index(self, item: str, last: Literal[False] = False) -> pd.Index[Any]: ...

    @overload
    def index(self, item: str, last: Literal[True]) -> Hashable: ...

    def index(self, item: str, last: bool = False) -> Any:
        """Returns an item's index, or the index's last value."""
        stored = self.item(item)
        frame = stored.tail(1) if last else stored._read([]) if stored._index else stored._read()
        return frame.index[-1] if last else frame.index

    def get_item_metadata(self, item: str, use_cache: bool = True) -> dict[str, Json]:
        """Returns an item's metadata. use_cache is ignored: the metadata always comes from the server."""
        return self.item(item).metadata

    def clear_metadata_cache(self, item: str | None = None) -> None:
        """Does nothing, because there is no cache."""

    def delete_item(self, item: str, reload_items: bool = False) -> bool:
        with self._changing():
            return self._delete(item)

    def _delete(self, item: str) -> bool:
        try:
            self._tables.delete(item, bucket=self.collection)
        except NotFound as error:
            raise ItemNotFoundError(f"Item '{item}' does not exist") from error
        return True

    @contextmanager
    def _changing(self) -> Iterator[CollectionLock]:
        """Holds the lock for changes to the collection, after undoing an unfinished transaction."""
        with CollectionLock(self, "pystore.changes", _LOCK_TIMEOUT) as lock:
            undo.undo(self._tables, self.collection)
            yield lock

    def _undo_unfinished(self) -> Collection:
        """Undoes a transaction that a killed process left unfinished. Returns the collection."""
        if undo.has_unfinished(self._tables, self.collection):
            lock = CollectionLock(self, "pystore.changes")
            if lock.acquire(0.5):  # a transaction that is still running holds the lock
                try:
                    undo.undo(self._tables, self.collection)
                finally:
                    lock.release()
        return self

    def write(
        self,
        item: str,
        data: Any,
        metadata: Mapping[str, Any] | None = None,
        npartitions: int | None = None,
        overwrite: bool = False,
        epochdate: bool = False,
        reload_items: bool = False,
        **kwargs: Any,
    ) -> None:
        """Writes an item atomically.

        Args:
            data: A pandas or dask DataFrame, a Series, or an Item.
            npartitions: If above 1, the item is divided into files by time; by default, if it is large.
            overwrite: Replace an existing item. By default, an existing item raises ItemExistsError.
            epochdate: Ignored: times in an index are never converted to numbers.
        """
        data = prepare(data)  # before acquiring the lock, because dask may compute for a long time
        with self._changing():
            self._write(item, data, metadata, npartitions, overwrite)

    def _write(
        self,
        item: str,
        data: Any,
        metadata: Mapping[str, Any] | None = None,
        npartitions: int | None = None,
        overwrite: bool = False,
        epochdate: bool = False,
        reload_items: bool = False,
        **kwargs: Any,
    ) -> None:
        self._check(data)
        settings: dict[str, Any] = {}
        if isinstance(data.index, pd.DatetimeIndex) and not data.index.hasnans:
            by_time = len(data) > _MIN_ROWS_BY_TIME if npartitions is None else npartitions > 1
            settings = {"time": index_names(data)[0], "partition": "auto" if by_time else "none"}
        if item in self._schema_evolutions:
            settings["evolution"] = self._schema_evolutions[item].strategy.value
        try:
            self._put(
                item,
                data,
                "replace" if overwrite else "error",
                settings=settings,
                metadata=encode_metadata(metadata or {}),
            )
        except Exists as error:
            raise ItemExistsError(
                f"Item '{item}' already exists. To overwrite, use overwrite=True. Otherwise, use collection.append()"
            ) from error

    def _check(self, data: Any) -> None:
        if self._validator is not None:
            self._validator.validate(data)

    def _put(
        self, item: str, data: Any, mode: Any, to: pa.Schema | None = None, keep: Any = None, **options: Any
    ) -> None:
        try:
            rows = data if isinstance(data, pa.Table) else encode(data)
            if keep is not None:  # filter after encoding, so that column types do not depend on the filter
                rows = rows.filter(pa.array(keep))
            rows = fit_types(rows, to) if to else rows
            if to and item not in self._schema_evolutions and (changed := widened_fields(rows.schema, to)):
                changes = [{"op": "widen", "column": field.name, "type": str(field.type)} for field in changed]
                self._tables._ask("partd.evolve", bucket=self.collection, name=item, changes=changes)
            self._tables.put(item, rows, mode, self.collection, missing="ignore", **options)
        except (SchemaMismatch, Misuse, pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise SchemaError(f"Item '{item}': {error}") from error

    def append(
        self,
        item: str,
        data: Any,
        npartitions: int | None = None,
        epochdate: bool = False,
        threaded: bool = False,
        reload_items: bool = False,
        duplicate_handling: str = "keep_last",
        validate_schema: bool = True,
        **kwargs: Any,
    ) -> None:
        """Appends rows atomically. An item with a time index is read in the order of the index.

        Args:
            duplicate_handling: What happens to rows with the same index value: "keep_last", "keep_first" and "keep_all"
                keep these rows, and "error" raises an error. A RangeIndex has no duplicates.
            validate_schema: If true, columns that differ from the item's raise an error, unless the item's schema
                evolution allows the difference. If false, or if it is allowed, new columns are added, and missing
                columns are null.
        """
        data = data if isinstance(data, (pd.DataFrame, pd.Series)) and not len(data) else prepare(data)
        with self._changing():
            self._append(item, data, duplicate_handling=duplicate_handling, validate_schema=validate_schema)

    def _append(
        self, item: str, data: Any, duplicate_handling: str = "keep_last", validate_schema: bool = True, **kwargs: Any
    ) -> None:
        if duplicate_handling not in DUPLICATE_POLICIES:
            raise Misuse(f"duplicate_handling is {duplicate_handling!r}: pass one of {', '.join(DUPLICATE_POLICIES)}")
        stored = self.item(item)
        if not len(data):
            return
        self._check(data)
        evolving = item in self._schema_evolutions or not validate_schema
        if isinstance(data, pd.DataFrame):
            evolving = self._evolve(stored, data, evolving)
        if not stored._index or duplicate_handling == "keep_all":
            return self._put(item, data, "append", stored._schema)
        if list(index_names(data)) != stored._index:
            raise ValidationError(
                f"Schema mismatch detected:\n  The index of the new data is {index_names(data)}, not {stored._index}"
            )
        if duplicate_handling == "keep_last":
            return self._put(
                item,
                data[~data.index.duplicated(keep="last")],
                "append",
                stored._schema,
                upsert=stored._index,
                null_keys=True,
            )
        existing = self._between(stored, data).index
        is_duplicate = data.index.isin(existing) | data.index.duplicated()
        if existing.nlevels == 1 and existing.hasnans:  # as keys, NaN, NaT and NA are equal
            is_duplicate |= data.index.isna()
        if is_duplicate.any() and duplicate_handling == "error":
            raise DataIntegrityError(
                f"Found {is_duplicate.sum()} duplicate indices. Use duplicate_handling='keep_last' or 'keep_first' to "
                "handle them."
            )
        if evolving or not is_duplicate.all():
            self._put(item, data, "append", stored._schema, keep=~is_duplicate)

    def _evolve(self, stored: Item, data: pd.DataFrame, allowed: bool) -> bool:
        """Lets the item take the data's columns if they differ from the item's columns. Reports whether they differ.
        Raises ValidationError if a difference is not allowed."""
        missing, extra = (
            set(stored._value_columns) - set(map(str, data.columns)),
            set(map(str, data.columns)) - set(stored._value_columns),
        )
        if not missing and not extra:
            return False
        if not allowed:
            raise ValidationError(
                "Schema mismatch detected:\n"
                + (f"  Missing columns in new data: {missing}\n" if missing else "")
                + (f"  Extra columns in new data: {extra}\n" if extra else "")
            )
        if stored.item not in self._schema_evolutions:
            self._tables._ask("partd.evolve", bucket=self.collection, name=stored.item, mode="flexible")
        return True

    def _between(self, stored: Item, data: Any) -> Any:
        """Returns the item's rows (without columns) whose index is in the range of the new data's index. The new rows
        can duplicate only these rows."""
        first = stored._index[0]
        level = data.index.get_level_values(0)
        if level.hasnans or level.dtype == "category" or not isinstance(level.min(), (int, float, str, pd.Timestamp)):
            return stored._read([])
        return stored._read([], [(first, ">=", level.min()), (first, "<=", level.max())])

    def append_stream(
        self,
        item: str,
        data_iterator: Iterable[pd.DataFrame],
        chunk_size: int = 10_000,
        epochdate: bool = False,
        duplicate_handling: str = "keep_last",
        validate_schema: bool = True,
        reload_items: bool = True,
        **kwargs: Any,
    ) -> None:
        """Appends frames one by one, in pieces of at most chunk_size rows."""
        self.item(item)  # raises an error if the item does not exist
        for chunk in data_iterator:
            if not isinstance(chunk, pd.DataFrame):
                raise ValidationError(f"Expected pandas DataFrame, got {type(chunk)}")
            for start in range(0, len(chunk), chunk_size):
                piece = chunk.iloc[start : start + chunk_size]
                self.append(item, piece, duplicate_handling=duplicate_handling, validate_schema=validate_schema)

    def write_threaded(self, item: str, data: Any, **kwargs: Any) -> None:
        self.write(item, data, **kwargs)

    def write_batch(
        self,
        items_data: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        npartitions: Mapping[str, int] | None = None,
        overwrite: bool = False,
        epochdate: bool = False,
        parallel: bool = True,
        **kwargs: Any,
    ) -> None:
        """Writes several items, four at a time if parallel is true. If some items cannot be written, the others are
        still written, and StorageError names the failed items."""
        metadata, npartitions = metadata or {}, npartitions or {}

        def write(name: str, data: Any) -> None:
            self._write(name, prepare(data), metadata.get(name), npartitions.get(name), overwrite)

        with self._changing(), concurrent.futures.ThreadPoolExecutor(_THREADS if parallel else 1) as pool:
            running = {name: pool.submit(write, name, data) for name, data in items_data.items()}
        failed = {name: error for name, future in running.items() if (error := future.exception())}
        if failed:
            written = len(running) - len(failed)
            raise StorageError(f"Batch write partially failed: only {written}/{len(running)} items written: {failed}")

    def read_batch(
        self,
        items: list[str],
        columns: Mapping[str, list[str]] | None = None,
        filters: Mapping[str, Filters] | None = None,
    ) -> dict[str, pd.DataFrame | None]:
        """Returns several items as DataFrames, or None for an item that does not exist."""
        columns, filters = columns or {}, filters or {}

        def read(name: str) -> pd.DataFrame | None:
            try:
                return self.item(name, columns=columns.get(name), filters=filters.get(name)).to_pandas()
            except ItemNotFoundError:
                return None

        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            return dict(zip(items, pool.map(read, items)))

    def create_snapshot(self, snapshot: str | None = None) -> bool:
        """Creates a snapshot of all items. The name is snapshot, without characters other than letters, digits, "." and
        "_". The default is the current time."""
        name = "".join(c for c in snapshot or "" if c.isalnum() or c in "._")
        self._tables._ask("partd.snapshot", bucket=self.collection, name=name)
        return True

    def list_snapshots(self) -> set[str]:
        return {snapshot.name for snapshot in self._tables.snapshots(self.collection)}

    def delete_snapshot(self, snapshot: str) -> bool:
        if snapshot in self.list_snapshots():
            self._tables._ask("partd.delete_snapshots", bucket=self.collection, name=snapshot)
        return True

    def delete_snapshots(self) -> bool:
        with self._changing():  # a running transaction needs its snapshot
            self._tables._ask("partd.delete_snapshots", bucket=self.collection, all=True)
        return True

    def set_validator(self, validator: DataValidator | None) -> None:
        self._validator = validator

    def get_validator(self) -> DataValidator | None:
        return self._validator

    def enable_schema_evolution(self, item: str, strategy: EvolutionStrategy | None = None) -> SchemaEvolution:
        """Allows appends to change an item's columns within the limits of a strategy, which the server enforces."""
        evolution = SchemaEvolution(strategy or EvolutionStrategy.COMPATIBLE)
        evolution._migrate_item = functools.partial(self._migrate, item)
        self._tables._ask("partd.evolve", bucket=self.collection, name=item, mode=evolution.strategy.value)
        self._schema_evolutions[item] = evolution
        return evolution

    def get_item_evolution(self, item: str) -> SchemaEvolution | None:
        return self._schema_evolutions.get(item)

    def migrate_item_to_version(self, item: str, to_version: int) -> None:
        evolution = self._schema_evolutions.get(item)
        if evolution is None:
            raise Misuse(f"Schema evolution not enabled for item '{item}': call enable_schema_evolution() first")
        evolution.migrate_to_version(to_version)

    def _migrate(self, item: str, evolution: SchemaEvolution, to_version: int) -> pd.DataFrame:
        with self._changing():
            stored = self.item(item)
            kept = {key: value for key, value in stored.metadata.items() if key != "_updated"}
            migrated = evolution.migrate(stored.to_pandas(), cast(int, kept.get(_SCHEMA_VERSION, 1)), to_version)
            self._write(item, prepare(migrated), {**kept, _SCHEMA_VERSION: to_version}, overwrite=True)
        return migrated


def index_names(data: Any) -> list[str]:
    """Returns the names of the columns that store the data's index."""
    columns = data.iloc[:0].to_frame().columns if isinstance(data, pd.Series) else data.columns
    return index_of(to_arrow(pd.DataFrame(index=data.index[:0], columns=columns)).schema)

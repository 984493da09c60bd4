"""Reads items. An item is a table in one state: as it was when the item was opened, or as it is in a snapshot."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from ..frames import index_of
from ..tables import NotFound
from ..tables.filters import Filters, text
from . import utils
from .exceptions import ItemNotFoundError, SnapshotNotFoundError
from .frames import decode

if TYPE_CHECKING:
    import dask.dataframe

    from ..tables.results import Json

_FLOAT = "partd.float"  # the key of an object that stands for NaN or infinity in JSON


class Item:
    """A table in a collection, as returned by collection.item().

        item = pystore.store("market").collection("trades").item("AAPL")
        print(item.metadata, item.to_pandas())

    Rows are read only when they are needed.
    """

    def __init__(
        self,
        item: str,
        datastore: Path,
        collection: str,
        snapshot: str | None = None,
        filters: Filters | None = None,
        columns: list[str] | None = None,
    ):
        self.datastore, self.collection, self.item, self.snapshot = datastore, collection, item, snapshot
        self._filters, self._columns = filters, columns
        tables = utils.connection(datastore)
        state: dict[str, Any] = {"snapshot": snapshot} if snapshot else {}
        try:
            description = tables.describe(item, collection, **state)
        except NotFound as error:
            if not snapshot:
                raise ItemNotFoundError(
                    f"Item '{item}' doesn't exist. Create it using collection.write('{item}', data, ...)"
                ) from error
            if all(kept.name != snapshot for kept in tables.snapshots(collection)):
                raise SnapshotNotFoundError(f"Snapshot '{snapshot}' doesn't exist") from error
            raise ItemNotFoundError(f"Item '{item}' doesn't exist in snapshot '{snapshot}'") from error
        self._state = state or ({"version": description["Version"]} if description["Version"] else {})
        self._parts, self._schema, self._index = (
            description["parts"],
            description["schema"],
            index_of(description["schema"]),
        )
        self._value_columns = [name for name in self._schema.names if name not in self._index]
        self.metadata = metadata_of(description["Metadata"])

    def __repr__(self) -> str:
        return f"PyStore.item <{self.collection}/{self.item}>"

    def _read(self, columns: list[str] | None = None, filters: Filters | None = None, **options: Any) -> Any:
        return decode(self._scan(columns, filters, **options).read_all())

    def _scan(
        self, columns: list[str] | None = None, filters: Filters | None = None, **options: Any
    ) -> pa.RecordBatchReader:
        columns, filters = self._columns if columns is None else columns, filters or self._filters
        selected = None if columns is None else [*columns, *self._index]
        where = text(filters, self._index) if filters else None
        tables = utils.connection(self.datastore)
        return tables.scan(self.item, self.collection, columns=selected, where=where, **self._state, **options)

    def to_pandas(
        self, parse_dates: bool = True, columns: list[str] | None = None, filters: Filters | None = None
    ) -> pd.DataFrame:
        """Returns the rows that match filters, by default all. parse_dates converts an index of seconds (floats) or
        nanoseconds (integers) to times."""
        frame = self._read(columns, filters)
        if parse_dates and len(frame) and not isinstance(frame.index, (pd.RangeIndex, pd.MultiIndex)):
            if pd.api.types.is_float_dtype(frame.index.dtype):
                frame.index = pd.to_datetime(frame.index, unit="s")
            elif pd.api.types.is_integer_dtype(frame.index.dtype) and frame.index[0] > 1e6:
                frame.index = pd.to_datetime(frame.index)
        return frame

    def head(self, n: int = 5) -> pd.DataFrame:
        return self._read(limit=n if n >= 0 else None).head(n)

    def tail(self, n: int = 5) -> pd.DataFrame:
        return self._read(last=n if n >= 0 else None).tail(n)

    @cached_property
    def data(self) -> dask.dataframe.DataFrame:
        """Returns the rows as a lazy dask DataFrame, with about one partition for each of the table's files."""
        import dask.dataframe as dd

        tables = utils.connection(self.datastore)
        where = text(self._filters, self._index) if self._filters else None
        read = Part(str(self.datastore), tables.url, self.collection, self.item, self._state, self._index, where)
        columns = self._columns or self._value_columns
        label = f"pystore-{self.collection}-{self.item}"
        return dd.from_map(read, range(1, self._parts + 1), columns=columns, meta=self._empty(columns), label=label)

    def _empty(self, columns: list[str]) -> Any:
        frame = self._read(columns, limit=1).iloc[:0]
        return frame.to_frame() if isinstance(frame, pd.Series) and self._columns else frame


class Part:
    """Reads one part of a table, in any process on this machine."""

    def __init__(
        self,
        datastore: str,
        url: str,
        collection: str,
        item: str,
        state: dict[str, Any],
        index: list[str],
        where: str | None,
    ):
        self.location, self.collection, self.item = (datastore, url), collection, item
        self.state, self.index, self.where = state, index, where

    def __call__(self, part: int, columns: list[str] | None = None) -> Any:
        selected = None if columns is None else [*columns, *self.index]
        rows = utils.connection_at(*self.location).scan(
            self.item, self.collection, columns=selected or None, where=self.where, part=part, **self.state
        )
        return decode(rows.read_all())


def encode_metadata(metadata: Mapping[str, Any]) -> dict[str, Json]:
    """Returns metadata with NaN and infinity, which JSON lacks, as objects such as {"partd.float": "NaN"}."""
    encoded: dict[str, Json] = json.loads(json.dumps(metadata), parse_constant=lambda name: {_FLOAT: name})
    return encoded


def metadata_of(metadata: dict[str, Any]) -> dict[str, Json]:
    """Reverses encode_metadata. Formats the time of the last change, "_updated", as pystore does."""
    updated = datetime.datetime.fromisoformat(metadata["_updated"].replace("Z", "+00:00"))
    known = [{_FLOAT: name} for name in ("NaN", "Infinity", "-Infinity")]
    decoded = json.loads(
        json.dumps(metadata), object_hook=lambda entry: float(entry[_FLOAT]) if entry in known else entry
    )
    return {**decoded, "_updated": updated.strftime("%Y-%m-%d %H:%M:%S.%f")}

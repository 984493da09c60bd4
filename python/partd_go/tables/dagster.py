"""Stores Dagster's assets in tables (docs/dagster.md in the tables module).

Experimental: it may change in any minor version.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow import types

from ..errors import Misuse, extra
from ..frames import to_stream
from . import bulk, filters
from .client import Tables, connect

with extra("dagster"):
    from dagster import ConfigurableIOManager, InputContext, OutputContext, TimeWindowPartitionsDefinition
    from pydantic import PrivateAttr


class TablesIOManager(ConfigurableIOManager):  # type: ignore[misc]
    """Stores each asset in a table. The last part of the asset's key names the table. The parts before it, joined by
    dots, name the bucket.

    A time partition is a time range of the table. The time column is named by "time_col" in the asset's metadata; the
    default is the table's first column with times. Any other partition is a separate table, ASSET.PARTITION.

    Each materialization replaces the table or the range in one commit, so repeating it duplicates no rows. The metadata
    of a materialization contains the table, the version, and the number of rows written.

    The fields url, token and tls_ca are the arguments of connect().
    """

    url: str
    token: str | None = None
    tls_ca: str | None = None
    _tables: Tables = PrivateAttr()

    def setup_for_execution(self, context: Any) -> None:
        self._tables = connect(self.url, self.token, self.tls_ca)

    def teardown_after_execution(self, context: Any) -> None:
        self._tables.close()

    def handle_output(self, context: OutputContext, obj: Any) -> None:
        rows = _Rows(obj)
        bucket, name = _table_of(context)
        if _is_by_time(context):
            column = (context.definition_metadata or {}).get("time_col")
            settings = {"time": column} if column else None
            empty = rows.data.schema.empty_table()  # putting it creates the table or widens its columns
            self._tables.put(name, empty, "append", bucket, settings=settings, missing="ignore")
            start, end = context.asset_partitions_time_window
            version = self._tables.replace_range(name, rows.data, start, end, bucket).version
        else:
            (name,) = _tables_of(context, name).values()
            version = self._tables.put(name, rows.data, "replace", bucket)
        table = "/".join(filter(None, (bucket, name)))
        context.add_output_metadata({"table": table, "version": version, "rows": rows.count})

    def load_input(self, context: InputContext) -> Any:
        """Returns the input's rows in the type of its annotation: a pandas or polars DataFrame or a pyarrow Table. The
        default is pandas. For several partitions in separate tables, returns a dict of the rows of each partition."""
        library = getattr(context.dagster_type.typing_type, "__module__", "").partition(".")[0]
        as_: Any = {"polars": "polars", "pyarrow": "arrow"}.get(library, "pandas")
        bucket, name = _table_of(context)
        if _is_by_time(context):
            return self._tables.get(name, bucket, where=self._range(context, name, bucket), as_=as_)
        names = _tables_of(context, name)
        results = {key: self._tables.get(table, bucket, as_=as_) for key, table in names.items()}
        return results if len(results) > 1 else results.popitem()[1]

    def _range(self, context: InputContext, name: str, bucket: str) -> str:
        """Returns a filter for the times of the input's partitions."""
        column = self._tables.settings(name, bucket).get("time")
        if not column:  # use the same default as replace_range
            fields = self._tables.describe(name, bucket)["schema"]
            column = next(field.name for field in fields if types.is_timestamp(field.type) or types.is_date(field.type))
        start, end = map(_utc, context.asset_partitions_time_window)
        quoted = filters.quoted(str(column))
        return f"{quoted} >= '{start}' and {quoted} < '{end}'"


class _Rows:
    """The rows of an asset. count is their number, which is complete once data has been read to the end."""

    def __init__(self, obj: Any):
        is_lazy = type(obj).__module__.startswith("polars.") and type(obj).__name__ == "LazyFrame"
        rows = bulk.reader(obj) if is_lazy else to_stream(obj)
        is_table = isinstance(rows, pa.Table)
        self.count = rows.num_rows if is_table else 0
        self.data = rows if is_table else pa.RecordBatchReader.from_batches(rows.schema, self._counted(rows))

    def _counted(self, batches: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            self.count += batch.num_rows
            yield batch


def _table_of(context: InputContext | OutputContext) -> tuple[str, str]:
    """Returns the bucket and the name of an asset's table."""
    *prefix, name = context.asset_key.path
    return ".".join(prefix), name


def _is_by_time(context: InputContext | OutputContext) -> bool:
    return context.has_asset_partitions and isinstance(context.asset_partitions_def, TimeWindowPartitionsDefinition)


def _tables_of(context: InputContext | OutputContext, name: str) -> dict[str, str]:
    """Returns the name of the table for each partition key. An asset without partitions has the single key ""."""
    if not context.has_asset_partitions:
        return {"": name}
    keys = context.asset_partition_keys
    if isinstance(context, OutputContext) and len(keys) != 1:
        raise Misuse(f"{name}: a run writes {len(keys)} partitions in separate tables: run each partition by itself")
    return {key: f"{name}.{key}" for key in keys}


def _utc(time: datetime.datetime) -> str:
    """Formats a time for a filter. The offset -00:00 means UTC, whether or not the column has a time zone."""
    return f"{time.astimezone(datetime.timezone.utc).replace(tzinfo=None).isoformat()}-00:00"

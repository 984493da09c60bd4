"""Reads and writes tables with Ray Data, which may run a task several times (docs/ray.md in the tables module).

Experimental: it may change in any minor version.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ..errors import Misuse, SchemaMismatch, extra
from . import lazy
from .errors import NotFound
from .results import MODES, Mode

with extra("ray"):
    from ray.data import Datasink, Datasource, ReadTask
    from ray.data.block import BlockAccessor, BlockMetadata

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .client import Tables
    from .results import State


class TableDatasource(Datasource):  # type: ignore[misc]
    """The rows of one version of a table, for ray.data.read_datasource().

    Each part of the table is a read task, which reads the part from the server. Small appends that are not in a version
    yet are first moved into data files, as in Tables.scan_dask(). columns and where are as in Tables.scan(). version,
    at or snapshot selects an earlier state.
    """

    def __init__(
        self,
        tables: Tables,
        name: str,
        bucket: str = "",
        *,
        columns: str | Sequence[str] | None = None,
        where: str | list[Any] | None = None,
        **selection: Unpack[State],
    ):
        super().__init__()
        _, self._parts, selected = lazy.parts(tables, name, bucket, {**selection})
        self._read = _Read(tables, name, bucket, {"columns": columns, "where": where, **selected})
        self._schema = tables.scan(name, bucket, limit=1, columns=columns, **selected).schema

    def estimate_inmemory_data_size(self) -> int | None:
        return None  # unknown: the server reports sizes of files, not of columns in memory

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        metadata = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
        return [
            ReadTask(self._read.reader_of(part), metadata, schema=self._schema, per_task_row_limit=per_task_row_limit)
            for part in self._parts
        ]


class _Read:
    """Reads parts of a table batch by batch, in any process."""

    def __init__(self, tables: Tables, name: str, bucket: str, options: dict[str, Any]):
        self.tables, self.name, self.bucket, self.options = tables, name, bucket, options

    def reader_of(self, part: int) -> Callable[[], Iterator[pa.Table]]:
        def read() -> Iterator[pa.Table]:
            rows = self.tables.scan(self.name, self.bucket, part=part, **self.options)
            yield rows.schema.empty_table()  # a part can have no rows, but each task needs a block
            for batch in rows:
                yield pa.Table.from_batches([batch])

        return read


class TableDatasink(Datasink):  # type: ignore[misc]
    """Writes a dataset to a table, for Dataset.write_datasink(). Either all rows appear in the table or none does.

    Each write task puts its rows into a temporary table, NAME.ray-ID. All attempts at a task use the same put id, so a
    retried task adds its rows only once. When all tasks have finished, the driver puts the rows of the temporary table
    into the table, and deletes the temporary table. If the driver is killed, the temporary table remains. The options
    are those of Tables.put(). Use a datasink for only one write.
    """

    def __init__(self, tables: Tables, name: str, mode: Mode = "error", bucket: str = "", **options: Any):
        if mode not in MODES:
            raise Misuse(f"mode is {mode!r}: pass one of {', '.join(MODES)}")
        self.tables, self.name, self.mode, self.bucket, self.options = tables, name, mode, bucket, options
        self._temporary = f"{name}.ray-{secrets.token_hex(8)}"

    def write(self, blocks: Iterable[Any], ctx: Any) -> bool:
        """Writes the blocks of one task. Returns whether any block has columns."""
        rows = (BlockAccessor.for_block(block).to_arrow() for block in blocks)
        with_columns = (table for table in rows if table.num_columns)
        first = next(with_columns, None)
        if first is None:
            return False
        tables = itertools.chain([first], with_columns)
        batches = (batch for table in tables for batch in self._cast(table, first.schema).to_batches())
        reader = pa.RecordBatchReader.from_batches(first.schema, batches)
        self.tables.put(self._temporary, reader, "append", self.bucket, id=str(ctx.task_idx), missing="error")
        return True

    def _cast(self, block: pa.Table, schema: pa.Schema) -> pa.Table:
        try:
            return block.cast(schema)
        except (pa.ArrowException, ValueError) as error:
            raise SchemaMismatch(
                f"write {self.name!r}: a block has the columns {_columns(block.schema)}, but the first block of its "
                f"task has {_columns(schema)}: give all blocks the same columns and types, for example with map_batches"
            ) from error

    def on_write_complete(self, write_result: Any) -> None:
        if any(write_result.write_returns):
            rows = self.tables.scan(self._temporary, self.bucket)
            self.tables.put(self.name, rows, self.mode, self.bucket, **self.options)
            self._remove()
        elif self.mode != "append":
            raise Misuse(f"write {self.name!r}: the dataset has no rows and no columns: write at least one block")

    def on_write_failed(self, error: Exception) -> None:
        self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(NotFound):
            self.tables.delete(self._temporary, bucket=self.bucket)


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)

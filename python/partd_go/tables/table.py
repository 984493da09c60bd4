"""A handle to a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import pyarrow as pa

from ..errors import Error
from ..frames import As
from ..shown import Summary, Shown, size
from .results import Data, Described, Mode, Read, State, Version

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow.dataset
    from typing_extensions import Unpack

    from .client import Tables


class Table(Shown):
    """A handle to the current or an earlier state of a table, which need not exist.

    Libraries that import Arrow streams, such as polars, pandas 3 and DuckDB, can read it directly.
    """

    def __init__(self, tables: Tables, name: str, bucket: str = "", **selection: Unpack[State]):
        self.tables, self.name, self.bucket, self.state = tables, name, bucket, selection

    def _summary(self) -> Summary:
        label = f"Table {'/'.join(filter(None, (self.bucket, self.name)))}"
        try:
            found = self.tables.describe(self.name, self.bucket, timeout=5.0, **self.state)
        except Error as error:
            return f"{label}: {error}", (), ()
        columns = [(field.name, field.type) for field in found["schema"]]
        title = f"{label}: {found['Rows']} rows, {len(columns)} columns, {size(found['Bytes'])}, version {found['Version']}"
        return title, ("column", "type"), columns

    def __len__(self) -> int:
        return self.describe()["Rows"]

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.scan().__arrow_c_stream__(requested_schema)

    @property
    def schema(self) -> pa.Schema:
        return self.describe()["schema"]

    def describe(self) -> Described:
        return self.tables.describe(self.name, self.bucket, **self.state)

    def versions(self) -> list[Version]:
        return self.tables.versions(self.name, self.bucket)

    def put(self, data: Data, mode: Mode = "error", **options: Any) -> int:
        return self.tables.put(self.name, data, mode, self.bucket, **options)

    @overload
    def get(self, *, as_: Literal["pandas"] = "pandas", **read: Unpack[Read]) -> pandas.DataFrame: ...

    @overload
    def get(self, *, as_: Literal["polars"], **read: Unpack[Read]) -> polars.DataFrame: ...

    @overload
    def get(self, *, as_: Literal["arrow"], **read: Unpack[Read]) -> pa.Table: ...

    def get(self, *, as_: As = "pandas", **read: Unpack[Read]) -> Any:
        options: Any = {**self.state, **read, "as_": as_}
        return self.tables.get(self.name, self.bucket, **options)

    def scan(self, **read: Unpack[Read]) -> pa.RecordBatchReader:
        options: Any = {**self.state, **read}
        return self.tables.scan(self.name, self.bucket, **options)

    def scan_polars(self) -> polars.LazyFrame:
        return self.tables.scan_polars(self.name, self.bucket, **self.state)

    def dataset(self) -> pyarrow.dataset.Dataset:
        return self.tables.dataset(self.name, self.bucket, **self.state)

"""Lists, describes and deletes tables and buckets."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import pyarrow as pa

from . import arguments
from .connection import Connection
from .results import Described, Time, Version, state, time_of

Names: TypeAlias = list[str]  # an alias, because in the class Catalog, list is a method
Versions: TypeAlias = list[Version]


class Catalog(Connection):
    """A connection with methods for tables and buckets."""

    def list(
        self,
        bucket: str = "",
        pattern: str = "",
        *,
        metadata: Mapping[str, Any] | None = None,
        snapshot: str = "",
        timeout: float | None = None,
    ) -> Names:
        """Returns the sorted names of the tables in a bucket. If pattern, metadata or snapshot is given, it returns
        only tables whose names match the pattern, such as "AA*", whose metadata contains these keys and values, and
        that are in the snapshot."""
        table_filter = {"Pattern": pattern, "Metadata": metadata, "Snapshot": snapshot}
        return [table["Name"] for table in self._ask("partd.tables", timeout, bucket=bucket, filter=table_filter)]

    def describe(
        self,
        name: str,
        bucket: str = "",
        *,
        version: int | None = None,
        at: Time | None = None,
        snapshot: str = "",
        timeout: float | None = None,
    ) -> Described:
        """Returns a dict that describes a table. "schema" is its pyarrow schema, and "parts" is the number of parts
        that scan() can read separately. "Rows", "Bytes", "Files", "Version", "Updated" and "Metadata" describe the
        state. If other programs deleted rows, "Rows" is only an upper bound, and "RowsExact" is False."""
        (answer,) = self._ask("partd.describe", timeout, bucket=bucket, name=name, **state(version, at, snapshot))
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(answer["schema"])))
        return cast(Described, {**answer["info"], "parts": answer["parts"], "schema": schema})

    def versions(self, name: str, bucket: str = "", *, timeout: float | None = None) -> Versions:
        """Returns the readable versions of a table, oldest first. All small appends that are not yet in data files
        count as one version."""
        (entries,) = self._ask("partd.versions", timeout, bucket=bucket, name=name)
        return [
            Version(
                entry["Version"],
                time_of(entry["Time"]),
                entry["Operation"],
                entry["Rows"],
                entry["Current"],
                entry.get("RowsExact", True),
                entry.get("User", ""),
            )
            for entry in entries or ()
        ]

    def delete(self, *names: str, bucket: str = "", timeout: float | None = None) -> None:
        """Deletes tables in a bucket. If any of them does not exist, raises NotFound and deletes no table."""
        self._ask("partd.delete", timeout, bucket=bucket, names=arguments.names(names, "delete"))

    def buckets(self, *, timeout: float | None = None) -> Names:
        """Returns the names of the buckets, except the default bucket ""."""
        return [name for name in self._ask("partd.buckets", timeout) if name]

    def delete_bucket(self, name: str, *, tables: bool = False, timeout: float | None = None) -> None:
        """Deletes a bucket. If it contains tables, the call fails unless tables is true, which deletes them as well."""
        self._ask("delete_bucket", timeout, name=name, mode="delete" if tables else "error")

"""Runs SQL statements on a server."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import pyarrow as pa

from ..frames import As, from_arrow
from ..wire import uvarint
from . import arguments
from .calls import to_json
from .connection import Connection
from .errors import CHECK, REPEAT_ID
from .results import Query, Time, since_state, state

if TYPE_CHECKING:
    import pandas
    import polars
    from typing_extensions import Unpack

# The pattern also matches some statements that only read.
_MAY_WRITE = re.compile(r"\b(insert|update|delete|merge|truncate|create|alter|drop)\b", re.I)
_CHANGED_ROWS = b"partd.changed_rows"  # metadata key in the reply to a statement that writes
_STATEMENT = b"type.googleapis.com/arrow.flight.protocol.sql.TicketStatementQuery"


class Statements(Connection):
    """A connection with the method sql()."""

    @overload
    def sql(
        self,
        statement: str,
        bucket: str = "",
        *,
        id: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> int: ...

    @overload
    def sql(
        self, statement: str, bucket: str = "", *, as_: Literal["pandas"] = "pandas", **query: Unpack[Query]
    ) -> pandas.DataFrame: ...

    @overload
    def sql(
        self, statement: str, bucket: str = "", *, as_: Literal["polars"], **query: Unpack[Query]
    ) -> polars.DataFrame: ...

    @overload
    def sql(self, statement: str, bucket: str = "", *, as_: Literal["arrow"], **query: Unpack[Query]) -> pa.Table: ...

    def sql(
        self,
        statement: str,
        bucket: str = "",
        *,
        as_: As = "pandas",
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        id: str = "",
        version: int | None = None,
        at: Time | None = None,
        snapshot: str = "",
        since: int | Time | None = None,
        since_snapshot: str = "",
        timeout: float | None = None,
    ) -> Any:
        """Runs an SQL statement. Returns the rows of a SELECT, or the number of rows that an INSERT, UPDATE, DELETE or
        MERGE changed.

        To query an earlier state of all tables, pass version, at or snapshot. To query changes, pass since or
        since_snapshot. The statement can then read changes."bucket"."table", which has the rows that changes() returns,
        and before."bucket"."table", which is the table before these changes.

        Args:
            bucket: The bucket of the tables that the statement names without a bucket. To name a table in another
                bucket, write "bucket"."table".
            as_: The type of the returned rows: "pandas", "polars" or "arrow".
            params: The values of the statement's parameters: a sequence for ? or $1, or a mapping for $name.
            id: Makes it safe to repeat a statement that writes: if a statement with this id was already applied, the
                call changes nothing and returns the same number of rows. Use a new id for each statement. DROP, ALTER
                and CREATE SCHEMA ignore the id.
        """
        call = {
            "sql": statement,
            "bucket": bucket,
            "write_id": id,
            **state(version, at, snapshot),
            **since_state(since, since_snapshot),
        }
        if params is not None and (row := arguments.parameters(params)):
            call["parameters"] = row
        ticket = _protobuf_field(1, _STATEMENT) + _protobuf_field(2, _protobuf_field(1, to_json(call, "sql")))
        unknown_outcome_advice = (REPEAT_ID if id else CHECK) if _MAY_WRITE.search(statement) else ""
        rows = self._retry(
            lambda: self._rows(ticket, "sql", timeout, None, unknown_outcome_advice, bool(id)).read_all(), bool(id)
        )
        if _CHANGED_ROWS in (rows.schema.metadata or ()):
            return rows[0][0].as_py()
        return from_arrow(rows, as_)


def _protobuf_field(number: int, value: bytes) -> bytes:
    """Returns a bytes field of a protobuf message."""
    return uvarint(number << 3 | 2) + uvarint(len(value)) + value

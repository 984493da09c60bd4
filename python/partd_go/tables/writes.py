"""Writes rows to tables."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import pyarrow as pa
import pyarrow.flight as flight

from ..errors import Error, Misuse, failure
from ..frames import to_arrow, to_stream
from . import arguments, files, progress, textoptions
from .arguments import also_takes, options_of
from .bulk import reader, record_errors
from .calls import Call, call_each, to_json
from .catalog import Catalog
from .errors import CHECK, REPEAT, REPEAT_ID, MissingColumns, NotFound
from .results import MODES, Data, Mode, Replaced, Time, moment
from .textoptions import TextOptions

if TYPE_CHECKING:
    import polars
    from typing_extensions import Unpack

Missing = Literal["warn", "error", "ignore"]
_MESSAGE_BYTES = 4 << 20  # approximate size of each message that a put sends
_ABANDONED = b"partd.gave-up"  # metadata that tells the server to discard a put


class Writes(Catalog):
    """A catalog with methods that write rows to tables."""

    @also_takes(TextOptions)
    def put(
        self,
        name: str,
        data: Data,
        mode: Mode = "error",
        bucket: str = "",
        *,
        id: str = "",
        metadata: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        upsert: str | Sequence[str] | None = None,
        null_keys: bool = False,
        missing: Missing = "warn",
        timeout: float | None = None,
        **text_options: Unpack[TextOptions],
    ) -> int:
        """Writes rows to a table, after creating the table if necessary. Either all rows appear or none does. Returns
        the version of the table that contains them.

        Args:
            data: A pandas, polars or pyarrow table or frame, another object that exports an Arrow stream, or the path
                of a .parquet, .arrow, .csv (with a header line) or .jsonl file. A RecordBatchReader is sent batch by
                batch, so it can be larger than memory.
            mode: What happens if the table exists: "error" raises Exists, "append" adds the rows, and "replace"
                replaces all rows.
            id: Makes it safe to repeat the put: if a put with this id was already applied, the call changes nothing.
            metadata: The metadata of a new table, as a dict.
            settings: The settings of a new table, such as {"time": "when", "on_duplicate": "keep_last"}.
            upsert: Names of key columns. A row replaces the existing rows with the same key, and is added if there are
                none. It cannot be combined with mode="replace", id, metadata or settings.
            null_keys: Allow nulls in the keys of an upsert and treat them as equal. By default, a null in a key is an
                error.
            missing: What happens if appended rows lack columns of the table: "warn" and "ignore" fill them with nulls,
                with or without a warning, and "error" raises an error.
            sep: The byte between the fields of CSV; by default, a comma.
            null: Texts, such as ["NA"], that mean null in CSV and TSV unless they are quoted.
            ragged: True or "fill" fills records that have too few fields with nulls; "cut" also cuts records that have
                too many.
            decimal: The decimal mark of numbers, "," or ".".
            thousands: The character between groups of three digits.
            encoding: The encoding of a text file: "utf-16le", "utf-16be", "latin-1" or "windows-1252". The default is
                UTF-8, or UTF-16 if the file begins with its byte order mark.
        """
        arguments.text(name, "name")
        if mode not in MODES:
            raise Misuse(f"mode is {mode!r}: pass one of {', '.join(MODES)}")
        if missing not in ("warn", "error", "ignore"):
            raise Misuse(f"missing is {missing!r}: pass 'warn', 'error' or 'ignore'")
        is_path = isinstance(data, (str, os.PathLike))
        text_flags = textoptions.flags("put", f"put {name!r}", text_options, data, is_path)
        call: dict[str, Any] = {"partd": "put", "bucket": bucket, "name": name, "mode": MODES.index(mode), "id": id}
        call["whole"] = (mode == "append" or upsert is not None) and missing == "error"
        if upsert is not None:
            if mode == "replace" or id or metadata is not None or settings is not None:
                raise Misuse(
                    f"put {name!r}: an upsert has no mode, id, metadata or settings: leave these out (repeating an "
                    "upsert needs no id)"
                )
            call["upsert"] = {"keys": arguments.names(upsert, "upsert"), "null_keys": null_keys}
        call.update(
            {key: value for key, value in (("metadata", metadata), ("settings", settings)) if value is not None}
        )
        unknown_outcome_advice = (
            REPEAT if upsert is not None else REPEAT_ID if id else f"{CHECK}; with id=, a put can be repeated"
        )
        is_upsert = upsert is not None
        result = self._send_rows(
            f"put {name!r}",
            call,
            data,
            timeout,
            unknown_outcome_advice,
            is_typed=is_upsert or mode == "append",
            is_idempotent=is_upsert or bool(id),
            text_flags=text_flags,
        )
        if missing == "warn" and result.get("lacks"):
            warnings.warn(
                f"put {name!r}: the rows lack columns of the table, which become null: {result['lacks']}",
                MissingColumns,
                stacklevel=2,
            )
        return int(result["version"])

    def replace_range(
        self,
        name: str,
        data: Data,
        start: Time | None = None,
        end: Time | None = None,
        bucket: str = "",
        *,
        time_col: str = "",
        timeout: float | None = None,
    ) -> Replaced:
        """Replaces the rows of a table whose times are at or after start and before end. The change is atomic. Returns
        the new version and the numbers of rows deleted and written.

        If start or end is None, the range has no limit on that side. Every row in data must be in the range. Times
        without a zone are in UTC. time_col names the time column; the default is the time column in the table's
        settings, or else the table's first column with times.
        """
        if start is None and end is None:
            raise Misuse('replace_range: pass start, end or both; to replace all rows, use put with mode="replace"')
        limits = {key: moment(limit) for key, limit in (("from", start), ("to", end)) if limit is not None}
        call = {
            "partd": "put",
            "bucket": bucket,
            "name": arguments.text(name, "name"),
            "mode": 0,
            "range": {**limits, "time_column": time_col},
        }
        result = self._send_rows(
            f"replace a range of {name!r}", call, data, timeout, REPEAT, is_typed=True, is_idempotent=True
        )
        return Replaced(result["version"], result["deleted"], result["written"])

    def _send_rows(
        self,
        op: str,
        call: dict[str, Any],
        data: Data,
        timeout: float | None,
        unknown_outcome_advice: str,
        *,
        is_typed: bool,
        is_idempotent: bool,
        text_flags: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Sends rows with call, the command for a put. Returns the server's reply. If is_typed is true, a text file is
        read with the types of the table's columns. For unknown_outcome_advice, see convert_error; for is_idempotent,
        see _retry."""
        if isinstance(data, (str, os.PathLike)):
            table_schema = None
            with contextlib.suppress(NotFound):  # if the table does not exist, the put creates it
                table_schema = self.describe(call["name"], call["bucket"])["schema"] if is_typed else None
            data = files.reader(data, table_schema, text_flags)
        rows = to_stream(data)
        if not rows.schema.names:
            raise Misuse(f"{op}: the table has no columns: pass at least one, or an index with a name")
        command = to_json(call, op)
        source_errors: list[BaseException] = []

        def attempt() -> pa.Buffer | None:
            with self._call(op, timeout, unknown_outcome_advice) as flight_call:
                pieces = record_errors(_pieces(rows, flight_call), source_errors)
                if self._shows_progress():
                    pieces = progress.with_bar(pieces, op, rows.num_rows if isinstance(rows, pa.Table) else None)
                return flight_call.wait(_send, flight_call, command, rows.schema, pieces)

        try:
            reply = self._retry(attempt, is_idempotent) if isinstance(rows, pa.Table) else attempt()
        except Error:
            if source_errors:
                raise source_errors[0] from None
            raise
        if reply is None:
            raise failure(Error, op, self.url, "the server did not answer")
        return cast("dict[str, Any]", json.loads(reply.to_pybytes()))

    @options_of(put)
    def put_many(
        self, tables: Mapping[str, Data], /, mode: Mode = "error", bucket: str = "", **options: Any
    ) -> dict[str, int]:
        """Calls put() for several tables concurrently, with the same mode and options. tables maps names to rows.
        Returns a dict from names to versions. After an error, no more puts start, but finished puts are kept."""
        return call_each(tables, lambda name: self.put(name, tables[name], mode, bucket, **options))

    @options_of(put)
    def sink_polars(
        self, /, name: str, lazyframe: polars.LazyFrame, mode: Mode = "error", bucket: str = "", **options: Any
    ) -> int:
        """Runs a polars query and writes its rows to a table while they are computed, so that they can be larger than
        memory. Either all rows appear or none does. The other arguments and the result are those of put()."""
        if type(lazyframe).__name__ != "LazyFrame":
            raise Misuse(
                f"sink_polars {name!r}: the rows have type {type(lazyframe).__name__}: pass a LazyFrame, or call put()"
            )
        return self.put(name, reader(lazyframe), mode, bucket, **options)


def _pieces(rows: pa.Table | pa.RecordBatchReader, call: Call) -> Iterator[pa.RecordBatch]:
    """Yields the rows in batches of about _MESSAGE_BYTES. Raises InterruptedError once the call is abandoned."""
    for piece in [rows] if isinstance(rows, pa.Table) else map(to_arrow, rows):
        for batch in piece.to_batches(max(1, piece.num_rows * _MESSAGE_BYTES // max(_MESSAGE_BYTES, piece.nbytes))):
            call.check()
            yield batch


def _send(call: Call, command: bytes, schema: pa.Schema, pieces: Iterator[pa.RecordBatch]) -> pa.Buffer | None:
    writer, answer = call.client.do_put(flight.FlightDescriptor.for_command(command), schema, call.options)
    try:
        for piece in pieces:
            writer.write_batch(piece)
        call.check()
        writer.done_writing()
        reply = answer.read()
        writer.close()
        return reply
    except BaseException:
        with contextlib.suppress(pa.ArrowException, OSError):  # the connection may be broken
            writer.write_metadata(_ABANDONED)  # without this, the server would commit the rows received so far
        writer.close()  # raises the server's error, if there is one
        raise

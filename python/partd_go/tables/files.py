"""Reads files for put: Arrow and most Parquet with pyarrow; CSV, JSON lines and Parquet's INT96 with partd-tables
(docs/import.md in the tables module)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

import pyarrow as pa

from ..errors import Misuse, failure
from .bulk import rows_of
from .server import program

_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".arrows": "stream",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
# Extensions of compressed text files, which partd-tables decompresses.
_COMPRESSED = (".gz", ".gzip", ".zst", ".zstd", ".bz2", ".bzip2", ".lz4")


def reader(
    path: str | os.PathLike[str], schema: pa.Schema | None = None, text_flags: Sequence[str] = ()
) -> pa.RecordBatchReader:
    """Returns a reader of a file's rows. A column of a CSV or JSON file gets the type that schema has for its name or,
    by default, a type that fits all its values. The same holds for INT96 times, except that their default is
    microseconds."""
    name = os.path.expanduser(os.fspath(path))
    stem, extension = os.path.splitext(name)
    if extension.lower() in _COMPRESSED:
        extension = os.path.splitext(stem)[1]
    format = _FORMATS.get(extension.lower())
    if format is None:
        raise Misuse(
            f"{name}: the name does not show the format: rename the file to end with one of {', '.join(_FORMATS)}"
        )
    try:
        if format in ("csv", "tsv", "jsonl"):
            return _convert(name, format, schema, text_flags)
        if format == "stream":
            return pa.ipc.open_stream(name)
        if format == "arrow":
            file = pa.ipc.open_file(pa.memory_map(name))
            return pa.RecordBatchReader.from_batches(
                file.schema, (file.get_batch(i) for i in range(file.num_record_batches))
            )
        import pyarrow.parquet as parquet

        rows = parquet.ParquetFile(name)
        # pyarrow would drop digits from INT96 times, or change their years.
        if any(rows.schema.column(i).physical_type == "INT96" for i in range(len(rows.schema))):
            rows.close()
            return _convert(name, format, schema)
        return pa.RecordBatchReader.from_batches(rows.schema_arrow, rows.iter_batches())
    except pa.ArrowInvalid as error:
        raise failure(Misuse, "put", name, str(error), "pass a file whose format matches its name") from error


def _convert(name: str, format: str, schema: pa.Schema | None, text_flags: Sequence[str] = ()) -> pa.RecordBatchReader:
    """Returns a reader of a file's rows. It runs `partd-tables convert`, which sends rows from a text file only after
    it has read the whole file."""
    with open(name, "rb"):
        pass  # fails if the file cannot be read
    command = [program(), "convert", "--from", format, "--to-format", "arrow", *text_flags]
    with tempfile.NamedTemporaryFile(suffix=".arrow") as like_file:
        if schema is not None:
            with pa.ipc.new_file(like_file, schema) as writer:
                writer.write_table(schema.empty_table())
            like_file.flush()
            command += ["--like", like_file.name]
        return rows_of([*command, "--", os.path.abspath(name)], "put", name)

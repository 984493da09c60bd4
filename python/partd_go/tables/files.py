"""Reads files for put(). pyarrow reads Arrow files and most Parquet files; partd-tables reads all others
(docs/import.md in the tables module)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

import pyarrow as pa

from ..errors import Misuse, failure
from .bulk import rows_of
from .server import program


def reader(
    path: str | os.PathLike[str], schema: pa.Schema | None = None, text_flags: Sequence[str] = ()
) -> pa.RecordBatchReader:
    """Returns a reader of a file's rows. A column of a CSV or JSON file gets the type of the column of this name in
    schema. Without such a column, it gets a type that fits all its values. INT96 times in Parquet files also get the
    type in schema, but their default is microseconds."""
    name = os.path.expanduser(os.fspath(path))
    with open(name, "rb"):
        pass  # fails if the file cannot be read
    extension = os.path.splitext(name)[1].lower()
    try:
        if extension == ".arrows":
            return pa.ipc.open_stream(name)
        if extension in (".arrow", ".feather", ".ipc"):
            file = pa.ipc.open_file(pa.memory_map(name))
            return pa.RecordBatchReader.from_batches(
                file.schema, (file.get_batch(i) for i in range(file.num_record_batches))
            )
        if extension in (".parquet", ".pq"):
            import pyarrow.parquet as parquet

            rows = parquet.ParquetFile(name)
            # pyarrow would drop digits from INT96 times, or change their years.
            if all(rows.schema.column(i).physical_type != "INT96" for i in range(len(rows.schema))):
                return pa.RecordBatchReader.from_batches(rows.schema_arrow, rows.iter_batches())
            rows.close()
            return _convert(name, schema)
        return _convert(name, schema, text_flags)
    except pa.ArrowInvalid as error:
        raise failure(Misuse, "put", name, str(error), "pass a file whose format matches its name") from error


def _convert(name: str, schema: pa.Schema | None, text_flags: Sequence[str] = ()) -> pa.RecordBatchReader:
    """Returns a reader of a file's rows, which `partd-tables convert` reads. For a text file, the program sends the
    first rows only after it has read the whole file, because it must know the types of the columns."""
    command = [program(), "convert", "--to-format", "arrow", *text_flags]
    with tempfile.NamedTemporaryFile(suffix=".arrow") as like_file:
        if schema is not None:
            with pa.ipc.new_file(like_file, schema) as writer:
                writer.write_table(schema.empty_table())
            like_file.flush()
            command += ["--like", like_file.name]
        return rows_of([*command, "--", os.path.abspath(name)], "put", name)

"""Files to put: Parquet and Arrow by pyarrow, CSV and JSON lines by partd-tables, as docs/import.md of the module of tables says."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator

import pyarrow as pa

from ..errors import Misuse, failure
from .server import VARIABLES, program

_FORMATS = {".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow", ".arrows": "stream",
            ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}  # fmt: skip


def reader(path: str | os.PathLike[str], like: pa.Schema | None = None) -> pa.RecordBatchReader:
    """The rows of a file. Texts get the types that columns of this name have, or those that fit all values."""
    name = os.fspath(path)
    form = _FORMATS.get(os.path.splitext(name)[1].lower())
    if form is None:
        raise Misuse(f"{name}: its name does not say its format: end it with one of {', '.join(_FORMATS)}")
    try:
        if form in ("csv", "jsonl"):
            return _converted(name, form, like)
        if form == "stream":
            return pa.ipc.open_stream(name)
        if form == "arrow":
            file = pa.ipc.open_file(pa.memory_map(name))
            return pa.RecordBatchReader.from_batches(file.schema, (file.get_batch(at) for at in range(file.num_record_batches)))
        import pyarrow.parquet as parquet

        rows = parquet.ParquetFile(name)
        return pa.RecordBatchReader.from_batches(rows.schema_arrow, rows.iter_batches())
    except pa.ArrowInvalid as error:
        raise failure(Misuse, "put", name, str(error), "give a file in the format of its name") from error


def _converted(name: str, form: str, like: pa.Schema | None) -> pa.RecordBatchReader:
    """What `partd-tables convert` makes of a file of texts. It reads all of it before the first row."""
    with open(name, "rb"):
        pass  # or say why not
    command = [program(), "convert", "--from", form, "--format", "arrow"]
    said = tempfile.TemporaryFile()
    with tempfile.NamedTemporaryFile(suffix=".arrow") as known:
        if like is not None:
            with pa.ipc.new_file(known, like) as writer:
                writer.write_table(like.empty_table())
            known.flush()
            command += ["--like", known.name]
        env = {key: value for key, value in os.environ.items() if not key.startswith(VARIABLES)}
        process = subprocess.Popen([*command, "--", os.path.abspath(name)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, env=env)
        assert process.stdout
        out = process.stdout

        def failed(error: Exception | None) -> Exception:
            out.close()  # whereupon it ends
            process.wait()
            said.seek(0)
            what = said.read(64 << 10).decode(errors="replace").strip().removeprefix("partd-tables: ")
            said.close()
            return failure(Misuse, "put", name, what or str(error))

        try:
            stream = pa.ipc.open_stream(out)
        except pa.ArrowException as error:
            raise failed(error) from error

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from stream
            if process.wait():
                raise failed(None)
        except (pa.ArrowException, OSError) as error:
            raise failed(error) from error
        finally:
            process.kill()
            process.wait()
            out.close()
            said.close()

    return pa.RecordBatchReader.from_batches(stream.schema, batches())

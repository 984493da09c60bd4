"""Splits rows into files with the program partd-tables, without a table (docs/import.md in the tables module)."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import pyarrow as pa

from ..errors import KILLED_ADVICE, Error, Killed, Misuse, failure, meaning, parse_output
from ..frames import to_arrow, to_stream
from ..server import environment_of
from . import arguments, progress, textoptions
from .errors import KINDS
from .results import Data
from .server import IGNORED_ENV_PREFIXES, program
from .textoptions import TextOptions

if TYPE_CHECKING:
    import dask.dataframe
    import polars
    import pyarrow.dataset
    from typing_extensions import Unpack

Rows: TypeAlias = """(
    Data | Sequence[str | os.PathLike[str]] | pa.dataset.Dataset | pa.dataset.Scanner
    | polars.LazyFrame | dask.dataframe.DataFrame
)"""


class Split(NamedTuple):
    """The result of split(): the numbers of rows and files written."""

    rows: int
    files: int


@arguments.also_takes(TextOptions)
def split(
    data: Rows,
    by: str | Sequence[str],
    dir: str | os.PathLike[str],
    *,
    hive: bool = False,
    append: bool = False,
    replace: bool = False,
    force: bool = False,
    format: str = "parquet",
    memory: int | str | None = None,
    **text_options: Unpack[TextOptions],
) -> Split:
    """Splits rows into one file for each key, which is a combination of values in the key columns. Returns the numbers
    of rows and files written. The number of keys is not limited. Rows with the same key keep their order.

        split("trades.csv", by="symbol", dir="by-symbol")

    If dir already contains files, split raises Exists unless append, replace or force is true. It never changes files
    that it could not have written. New files appear only when all are complete; after an error, dir is unchanged.

    Args:
        data: The rows to split: a pandas, polars or pyarrow table, or a source that is read batch by batch (a pyarrow
            reader, dataset or scanner, a polars LazyFrame or a dask DataFrame). A path of a file or directory, or a
            list of paths, is read by partd-tables itself.
        by: The names of the key columns.
        dir: The directory for the files, which are named dir/VALUE.parquet.
        hive: Name the files dir/COLUMN=VALUE/data.parquet, and leave out the key columns.
        append: Add to the files of earlier runs, which must have the same columns. With hive, this adds files such as
            data-2.parquet.
        replace: Replace the files of earlier runs, and remove the files for keys that this run does not have.
        force: Replace files that have the same names. Raises Exists if files for other keys would remain.
        format: The format of the files, as in the flag --to-format of `partd-tables split`, such as "csv".
        memory: The approximate memory limit, in bytes or as text such as "1GiB". With the default of 256 MiB, the
            program used up to 404 MiB in benchmarks. Rows beyond it go to temporary files next to dir and in $TMPDIR.
        text_options: Options for reading CSV and TSV files, such as sep, as in put(); only if data consists of paths.
    """
    flags = {"by": comma_separated(arguments.names(by, "by")), "output": absolute(dir), "to-format": format}
    if memory is not None:
        flags["memory"] = str(memory)
    command = [
        program(),
        "split",
        "--json",
        *(f"--{name}={value}" for name, value in flags.items()),
        *(["--hive"] * hive + ["--append"] * append + ["--replace"] * replace + ["--force"] * force),
    ]
    paths = [data] if isinstance(data, (str, os.PathLike)) else data
    if isinstance(paths, (list, tuple)) and paths and all(isinstance(path, (str, os.PathLike)) for path in paths):
        files = [absolute(cast("str | os.PathLike[str]", path)) for path in paths]
        command += textoptions.flags("split", "split", text_options, data, is_path=True)
        return _run([*command, "--", *files], flags["output"], None)
    textoptions.flags("split", "split", text_options, data, is_path=False)
    return _run([*command, "--from=arrow", "-"], flags["output"], reader(data))


def absolute(path: str | os.PathLike[str]) -> str:
    """Returns an absolute path for the program's command line, with ~ expanded."""
    return os.path.abspath(os.path.expanduser(os.fspath(path)))


def comma_separated(names: Sequence[str]) -> str:
    return ",".join('"' + name.replace('"', '""') + '"' for name in names)


def reader(data: Any) -> pa.RecordBatchReader:
    """Returns a reader of data that holds only a few batches in memory."""
    library, kind = type(data).__module__.partition(".")[0], type(data).__name__
    if library == "dask" and kind == "DataFrame":
        parts = (to_arrow(part.compute()) for part in data.to_delayed())
    elif library == "polars" and kind == "LazyFrame":
        empty = data.collect_schema().to_frame()  # sets the schema even if the query returns no rows
        parts = (frame.to_arrow() for frame in itertools.chain([empty], data.collect_batches(lazy=True)))
    elif hasattr(data, "to_batches") and hasattr(data, "to_table"):  # a dataset or a Scanner
        options = {"batch_readahead": 2, "fragment_readahead": 1} if hasattr(data, "schema") else {}
        schema = data.schema if options else data.projected_schema
        return pa.RecordBatchReader.from_batches(schema, data.to_batches(**options))
    else:
        stream = to_stream(data)
        return stream.to_reader() if isinstance(stream, pa.Table) else stream
    first = next(parts, None)
    if first is None:
        raise Misuse("split: the frame has no partitions")
    schema = first.schema

    def batches() -> Iterator[pa.RecordBatch]:
        yield from first.to_batches()
        for part in parts:
            yield from part.cast(schema).to_batches()  # a column can have the null type in some parts and not in others

    return pa.RecordBatchReader.from_batches(schema, batches())


def record_errors(batches: Iterable[pa.RecordBatch], errors: list[BaseException]) -> Iterator[pa.RecordBatch]:
    """Yields the batches. If their source fails, appends the error to errors."""
    try:
        yield from batches
    except GeneratorExit:  # the source did not fail: the caller stopped reading
        raise
    except BaseException as error:
        errors.append(error)
        raise


def _run(command: Sequence[str], dir: str, rows: pa.RecordBatchReader | None) -> Split:
    with running(command, "split", dir, subprocess.DEVNULL if rows is None else subprocess.PIPE) as process:
        if rows is not None:
            _send(rows, process)
        assert process.stdout
        out = process.stdout.read()
    return Split(**json.loads(out))


@contextlib.contextmanager
def running(
    command: Sequence[str], op: str, name: str, stdin: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs the program during a with block, with a pipe for its output and without the environment variables that set
    its flags. The end of the block waits for the program and raises an error if it failed. If the block raises an
    error, the program is stopped. op and name are for the errors."""
    env = environment_of(IGNORED_ENV_PREFIXES)
    with tempfile.TemporaryFile() as stderr:
        with subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, env=env) as process:
            try:
                yield process
                process.wait()
            except BaseException:
                process.terminate()  # a signal that lets the program remove its temporary files
                if process.stdin:
                    with contextlib.suppress(OSError):  # closing flushes, which fails if the process has ended
                        process.stdin.close()
                raise
        if process.returncode:
            raise problem_of(process, stderr, op, name)


def rows_of(command: Sequence[str], op: str, name: str) -> pa.RecordBatchReader:
    """Starts the program. Returns a reader of the rows that the program writes in Arrow's stream format."""

    def parts() -> Iterator[Any]:
        problem = None
        with running(command, op, name) as process:
            assert process.stdout
            try:
                stream = pa.ipc.open_stream(process.stdout)
                yield stream.schema
                yield from stream
            except (pa.ArrowException, OSError) as error:
                problem = error  # if the program failed, the end of the with block raises its error instead
            process.stdout.close()
        if problem:
            raise problem

    batches = parts()
    schema = next(batches)
    return pa.RecordBatchReader.from_batches(schema, batches)


def problem_of(process: subprocess.Popen[bytes], stderr: IO[bytes], op: str, name: str) -> Exception:
    """Returns the error of a program that failed."""
    stderr.seek(0)
    details, problem = parse_output(stderr.read(64 << 10).decode(errors="replace"))
    if process.returncode < 0:
        return failure(Killed, op, name, f"the program was killed, with exit code {process.returncode}", KILLED_ADVICE)
    kind, advice = meaning(details["kinds"], KINDS) or (Error, "")
    return failure(Misuse if kind is Error and op == "put" else kind, op, name, problem, advice.format(**details))


def _send(rows: pa.RecordBatchReader, process: subprocess.Popen[bytes]) -> None:
    """Sends rows to the program. If the program has ended, it returns without an error."""
    assert process.stdin
    errors: list[BaseException] = []
    batches = record_errors(rows, errors)
    try:
        # Do not use a with block: it would end the stream as if it were complete, even if reading the rows failed.
        writer = pa.ipc.new_stream(process.stdin, rows.schema)
        for batch in progress.with_bar(batches, "split", None) if progress.is_watched() else batches:
            writer.write_batch(batch)
        writer.close()
        process.stdin.close()
    except (OSError, pa.ArrowException):
        if errors:
            raise
        with contextlib.suppress(OSError):  # closing flushes, which fails if the process has ended
            process.stdin.close()

"""Runs SQL or a function on files that are larger than memory. The program partd-tables divides the rows into parts by
key."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast, overload

import pyarrow as pa

from ..errors import Misuse
from ..frames import As, from_arrow
from . import arguments
from .bulk import absolute, comma_separated, rows_of, running
from .server import program

Path = str | os.PathLike[str]
By = str | Sequence[str] | Mapping[str, str | Sequence[str]]
Result = TypeVar("Result")


@overload
def each(
    job: str,
    by: By | None = None,
    *,
    memory: int | str | None = None,
    parts: int | None = None,
    trust: bool = False,
    as_: As = "pandas",
    **inputs: Path | Sequence[Path],
) -> pa.RecordBatchReader: ...


@overload
def each(
    job: Callable[..., Result],
    by: By,
    *,
    memory: int | str | None = None,
    parts: int | None = None,
    trust: bool = False,
    as_: As = "pandas",
    **inputs: Path | Sequence[Path],
) -> Iterator[Result]: ...


def each(
    job: str | Callable[..., Any],
    by: By | None = None,
    *,
    memory: int | str | None = None,
    parts: int | None = None,
    trust: bool = False,
    as_: As = "pandas",
    **inputs: Path | Sequence[Path],
) -> Any:
    """Runs a SELECT statement or a function once for each part of the rows of files that are larger than memory.

        each("SELECT symbol, count(*) FROM rows GROUP BY symbol", rows="trades.csv").read_pandas()

        for counts in each(lambda rows: rows.groupby("symbol").size(), by="symbol", rows="trades.csv"):
            print(counts)

    For a statement, each returns a pyarrow reader of the rows of the result, which it computes part by part. It raises
    Misuse if the result could depend on the parts, unless trust is true.

    For a function, each returns an iterator over the function's results, one for each part. A single input is passed as
    the first argument; several inputs are passed as keyword arguments. All rows of a key are in the same part. Unless
    parts is given, a part with several keys has at most `memory`/8 bytes in Arrow's format.

    Temporary files are in $TMPDIR. To end early, delete the reader or iterator.

    Args:
        job: A SELECT statement or a function.
        by: The name of the key column, a list of names, or a dict from inputs to these. Rows with equal keys are in the
            same part of every input. NULL counts as a value. By default, the key consists of the columns that all joins
            in the statement compare and all groupings contain. A function needs by.
        memory: About how much memory the program uses, in bytes or as "1GiB". The default is 256 MiB, which led to up
            to 404 MiB in benchmarks. It does not limit the function: in pandas 2, a part with texts takes about ten
            times its size in Arrow's format.
        parts: The number of parts; by default, it depends on memory.
        trust: Run the statement even if its result could depend on the parts.
        as_: The type of the tables passed to a function: "pandas", "polars" or "arrow".
        inputs: The files of each input, as name=path or name=[path, …]. A path is a file, in one of the formats of
            put(), or a directory. job sees the rows under the name.
    """
    if not isinstance(job, str) and not callable(job):
        raise Misuse(f"the argument job has type {type(job).__name__}: pass a SELECT statement or a function")
    if not inputs:
        raise Misuse('each: pass at least one input, such as rows="data.parquet"')
    if as_ not in ("pandas", "polars", "arrow"):
        raise Misuse(f"the argument as_ is {as_!r}: pass 'pandas', 'polars' or 'arrow'")
    if by is None and (trust or not isinstance(job, str)):
        raise Misuse("by is required for a function and with trust: pass the names of the key columns")
    if trust and not isinstance(job, str):
        raise Misuse("trust applies only to a statement: leave it out")
    flags = [f"--by={text}" for text in _by_values(by, inputs)]
    if memory is not None:
        flags.append(f"--memory={memory}")
    if parts is not None:
        flags.append(f"--parts={arguments.whole(parts, 'parts')}")
    files = [f"{name}={path}" for name, value in inputs.items() for path in _paths(name, value)]
    command = [program(), "each", "--to-format=arrow", *flags]
    if isinstance(job, str):
        return rows_of([*command, *["--trust"] * trust, "--", job, *files], "each", files[-1])
    return _run_function(job, command, files, as_)


def _by_values(by: By | None, inputs: Mapping[str, Any]) -> Iterator[str]:
    """Yields the values of the flag --by."""
    if by is None:
        return
    if not isinstance(by, Mapping):
        yield comma_separated(arguments.names(by, "by"))
        return
    for name, columns in by.items():
        if name not in inputs:
            raise Misuse(f"by has columns for an input {name!r}, which is missing: pass the input as {name}=")
        yield f"{name}={comma_separated(arguments.names(columns, 'by'))}"


def _paths(name: str, value: Path | Sequence[Path]) -> list[str]:
    paths = [value] if isinstance(value, (str, os.PathLike)) else value
    if not isinstance(paths, (list, tuple)) or not all(isinstance(path, (str, os.PathLike)) for path in paths):
        raise Misuse(f"input {name} has type {type(value).__name__}: pass paths of files or directories")
    return [absolute(cast("Path", path)) for path in paths]


def _run_function(job: Callable[..., Any], command: Sequence[str], files: Sequence[str], as_: As) -> Iterator[Any]:
    with tempfile.TemporaryDirectory(prefix="partd-each-") as dir:
        with running([*command, f"--output={dir}/parts/", "--", *files], "each", files[0]):
            pass
        for part in sorted(pathlib.Path(dir, "parts").iterdir()):
            tables = {}
            for file in part.iterdir():
                with pa.memory_map(os.fspath(file)) as source:
                    tables[file.stem] = from_arrow(pa.ipc.open_file(source).read_all(), as_)
            yield job(*tables.values()) if len(tables) == 1 else job(**tables)
            shutil.rmtree(part)

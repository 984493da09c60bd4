"""Writes and reads the results of stages, as Parquet, as a pickle, or in a pandas format."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import Any

from ..errors import Misuse, extra

# Formats that cannot run code when they are read, so that the bytes of a file determine its value.
CODE_FREE_FORMATS = ("parquet", "csv")
_NOT_FILES = ("clipboard", "gbq", "iceberg", "sql")  # formats that pandas does not write to files
_WRITE_OPTIONS: dict[str, dict[str, Any]] = {
    "hdf": {"key": "result"},
    "stata": {"write_index": False},
    "xml": {"index": False},
}
# The index is the first column, and only "" is a missing value.
_TEXT_READ_OPTIONS: dict[str, Any] = {"index_col": 0, "keep_default_na": False, "na_values": [""]}
_READ_OPTIONS = {"csv": _TEXT_READ_OPTIONS, "excel": _TEXT_READ_OPTIONS}


def digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def result_hash(format: str, checksum: str) -> str:
    """Returns a result's hash for the keys of later stages, or "" if the format's bytes do not determine the value."""
    return digest([format, checksum]) if format in CODE_FREE_FORMATS else ""


def pandas_functions(format: str) -> tuple[Any, Any]:
    """Returns the pandas functions that write and read a format."""
    with extra("stage"):
        import pandas

    write, read = getattr(pandas.DataFrame, f"to_{format}", None), getattr(pandas, f"read_{format}", None)
    if not write or not read or format in _NOT_FILES:
        raise Misuse(f"pandas has no to_{format} and read_{format} for files: pass format='csv', 'parquet' or 'pickle'")
    return write, read


def write(name: str, result: Any, path: Path, format: str | None) -> tuple[Path, Any]:
    """Writes a stage's result to path, with the format as its suffix. Returns the path and the value as read back from
    the file, which equals the result."""
    path = path.with_suffix(f".{format or 'parquet'}")
    try:
        reloaded = _write(name, result, path)
    except (ImportError, NotImplementedError, TypeError, ValueError):
        if format:
            raise
        path = path.with_suffix(".pickle")
        reloaded = _write(name, result, path)
    sync(path)
    return path, reloaded


def _write(name: str, result: Any, path: Path) -> Any:
    with extra("stage"):
        import pandas

    format, kind = path.suffix[1:], type(result)
    tables = [pandas.DataFrame, pandas.Series] if format == "parquet" else [pandas.DataFrame]
    if format != "pickle" and kind not in tables:
        raise Misuse(
            f"{name} returned a {kind.__name__}: return a pandas DataFrame, use format='pickle', or leave out "
            "cache=True"
        )
    try:
        if format == "pickle":
            pandas.to_pickle(result, path)
        elif format == "parquet":
            import pyarrow.parquet

            from ..frames import to_arrow

            pyarrow.parquet.write_table(to_arrow(result, keep_dictionaries=False), path)
        else:
            pandas_functions(format)[0](result, path, **_WRITE_OPTIONS.get(format, {}))
        reloaded = read(path, format)
        if format != "pickle" and (difference := _difference(reloaded, result, format)):
            raise ValueError(f"the value read back differs from the result: {difference}")
        return reloaded
    except (ImportError, MemoryError, OSError):
        raise
    except Exception as error:
        problem = " ".join(str(error).split())
        if format == "pickle":
            raise Misuse(
                f"{name} returned a {kind.__name__}, which cannot be pickled ({problem}): return a table or plain "
                "values, or leave out cache=True"
            ) from error
        advice = "pickle" if format == "parquet" else "parquet or pickle"
        raise Misuse(f"{name}: its result cannot be kept as {format} ({problem}): use {advice}") from error


def _difference(reloaded: Any, result: Any, format: str) -> str:
    """Describes how the reloaded value differs from the result, or returns "" if they are equal."""
    import pandas

    from ..columns import is_identical

    if type(reloaded) is not type(result):
        return f"it has type {type(reloaded).__name__}"
    assert_equal = (
        pandas.testing.assert_frame_equal
        if isinstance(result, pandas.DataFrame)
        else pandas.testing.assert_series_equal
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas warns that later versions will compare differently
            assert_equal(reloaded, result, check_exact=True)
    except AssertionError as error:
        return str(error)
    for reloaded_column, column in zip(_objects(reloaded), _objects(result)):  # pandas ignores the types of objects
        reloaded_values, values = reloaded_column.tolist(), column.tolist()
        if [*map(type, reloaded_values)] != [*map(type, values)]:
            return f"values of {column.name} have other types, or None and NaN are mixed up"
        if format != "parquet" and not is_identical(reloaded_values, values):  # to_arrow has checked Parquet
            return f"a value of {column.name} differs"
    is_same = is_identical(reloaded.attrs, result.attrs) and reloaded.flags == result.flags
    return "" if is_same else "its attrs or flags differ"


def _objects(rows: Any) -> list[Any]:
    """Returns the columns, index levels and labels whose dtype is object."""
    columns = [rows] if rows.ndim == 1 else [rows.iloc[:, position] for position in range(rows.shape[1])]
    columns += [axis.get_level_values(position) for axis in rows.axes for position in range(axis.nlevels)]
    return [column for column in columns if column.dtype == object]


def read(file: Any, format: str) -> Any:
    """Reads a result from a file."""
    with extra("stage"):
        import pandas

    if format == "parquet":
        with extra("stage"):
            import pyarrow.parquet

        from ..frames import from_arrow

        return from_arrow(pyarrow.parquet.ParquetFile(file).read(), "pandas")
    options = _READ_OPTIONS.get(format, {})
    if format == "csv" and int(pandas.__version__.partition(".")[0]) < 3:  # pandas 3 always reads exact floats
        options = {**options, "float_precision": "round_trip"}
    return pandas_functions(format)[1](file, **options)


def sync(path: Path) -> None:
    """Flushes a file or directory to disk."""
    f = os.open(path, os.O_RDONLY)
    try:
        os.fsync(f)
    finally:
        os.close(f)

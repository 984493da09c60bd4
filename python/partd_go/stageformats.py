"""Writes and reads results of stages: as Parquet, pickle, or in a pandas format."""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

from .errors import Misuse, extra

EXECUTE_NOTHING = ("parquet", "csv")  # formats that cannot run code when they are read, so that the bytes determine the value


def digest(words: Any) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()


def result_hash(format: str, checksum: str) -> str:
    """Returns the hash of a result for the keys of later stages, or "" if the bytes of the format do not determine the value."""
    return digest([format, checksum]) if format in EXECUTE_NOTHING else ""


def methods(format: str) -> tuple[Any, Any]:
    """Returns the pandas functions that write and read a format."""
    with extra("stage"):
        import pandas

    write, read = getattr(pandas.DataFrame, f"to_{format}", None), getattr(pandas, f"read_{format}", None)
    if not write or not read:
        raise Misuse(f"pandas has no to_{format} and read_{format}: use csv, parquet or pickle")
    return write, read


def write(name: str, result: Any, path: Path, format: str | None) -> Path:
    """Writes a stage's result to path with the format as its suffix, checks that it can be read back, and returns the path."""
    with extra("stage"):
        import pandas

    path = path.with_suffix(f".{format or 'parquet'}")
    if path.suffix == ".parquet":
        try:
            _write_parquet(name, result, path)
        except (ImportError, NotImplementedError, TypeError, ValueError):
            if format:
                raise
            path = path.with_suffix(".pickle")
    if path.suffix == ".parquet":
        pass
    elif path.suffix == ".pickle":
        try:
            pandas.to_pickle(result, path)
        except (AttributeError, TypeError, pickle.PicklingError) as error:
            kind = type(result).__name__
            raise Misuse(f"{name} returned a {kind}, which cannot be pickled ({error}): return a table or plain values, or leave out cache=True") from error
    elif not isinstance(result, pandas.DataFrame):
        kind = type(result).__name__
        raise Misuse(f"{name} returned a {kind}: return a DataFrame, use format='pickle', or leave out cache=True")
    else:
        methods(path.suffix[1:])[0](result, path)
        back = read(path, path.suffix[1:])
        if not isinstance(back, pandas.DataFrame) or back.shape != result.shape or list(back.columns) != list(result.columns):
            raise Misuse(f"{name}: its result does not come back from {format} unchanged: use parquet or pickle")
    sync(path)
    return path


def _write_parquet(name: str, result: Any, path: Path) -> None:
    import pandas
    import pyarrow.parquet

    from .frames import to_arrow

    if type(result) not in (pandas.DataFrame, pandas.Series):
        raise Misuse(f"{name} returned a {type(result).__name__}: return a DataFrame, use format='pickle', or leave out cache=True")
    pyarrow.parquet.write_table(to_arrow(result, keep_dictionaries=False), path)
    equal = pandas.testing.assert_frame_equal if isinstance(result, pandas.DataFrame) else pandas.testing.assert_series_equal
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas warns that later versions will compare differently
            equal(back := read(path, "parquet"), result, check_exact=True)
        if _nulls(back) != _nulls(result):
            raise AssertionError("None and NaN are mixed up: use only one of them")
    except AssertionError as error:
        raise Misuse(f"{name}: its result does not come back from parquet unchanged ({error}): use pickle") from error


def _nulls(rows: Any) -> list[list[type]]:
    """Returns the types of the missing values in object columns. Comparing them tells None from NaN, which pandas treats as equal."""
    columns = [rows] if rows.ndim == 1 else [rows.iloc[:, at] for at in range(rows.shape[1])]
    columns += [rows.index.get_level_values(at) for at in range(rows.index.nlevels)]
    return [[type(value) for value in column[column.isna()]] for column in columns if column.dtype == object]


def read(file: Any, format: str) -> Any:
    """Returns the result in a file."""
    if format == "parquet":
        with extra("stage"):
            import pyarrow.parquet

        from .frames import from_arrow

        return from_arrow(pyarrow.parquet.ParquetFile(file).read(), "pandas")
    index = {"index_col": 0} if format in ("csv", "excel") else {}  # pandas writes the index as the first column
    return methods(format)[1](file, **index)


def sync(path: Path) -> None:
    """Flushes a file or directory to disk."""
    f = os.open(path, os.O_RDONLY)
    try:
        os.fsync(f)
    finally:
        os.close(f)

"""Stages of a pipeline, whose results are kept as files of pandas until their code or their inputs change.

@stage(raw_file="in.csv", cache=True, format="parquet")
def clean(raw_file):
    return pandas.read_csv(raw_file).dropna()

@stage(rows=clean)
def total(rows):
    return rows["sold"].sum()

total()
"""

from __future__ import annotations

import copy
import functools
import hashlib
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any, overload

from .shown import Looks, Shown
from .stagecode import Code, index

__all__ = ["Stage", "set_directory", "stage"]

_directory: Path | None = None


def set_directory(path: str | os.PathLike[str] | None) -> None:
    """Sets where results are kept by stages without a directory of their own. None is $PARTD_STAGES, or
    ~/.partd_stages without that."""
    global _directory
    _directory = None if path is None else Path(path)


class Stage(Shown):
    """A function with its raw files and ancestors. Calling it runs what is missing above it, and itself unless its
    result is kept; what it is called with goes to the function, and is a part of the key."""

    def __init__(self, function: Callable[..., Any], cache: bool, format: str | None, directory: Any, inputs: dict[str, Any]):
        if not hasattr(function, "__qualname__"):
            raise TypeError(f"{function!r} has no name: decorate a function")
        functools.update_wrapper(self, function)
        self.function = function
        self.cache = cache
        self.format = format  # None: parquet where the result comes back from it, else pickle
        self.directory = directory
        self.files = {name: v for name, v in inputs.items() if isinstance(v, (str, os.PathLike))}
        self.ancestors = {name: v for name, v in inputs.items() if isinstance(v, Stage)}
        for name, value in inputs.items():
            if name not in self.files and name not in self.ancestors:
                raise TypeError(f"{self.name}: {name} is a {type(value).__name__}: give the path of a file, or a stage")
        if cache and format not in (None, "parquet"):
            _methods(format)
        if isinstance(function, FunctionType):
            index(function.__code__.co_filename)  # while that is what was loaded

    @property
    def name(self) -> str:
        return f"{self.function.__module__}.{self.function.__qualname__}".replace("/", "_")

    def _looks(self) -> Looks:
        kept = f"kept as {self.format} in {self.directory or 'the directory of stages'}" if self.cache else "not kept"
        inputs = [(name, "file", os.fspath(path)) for name, path in self.files.items()]
        return f"Stage {self.name}, {kept}", ("input", "is a", ""), inputs + [(name, "stage", of.name) for name, of in self.ancestors.items()]

    def key(self, *args: Any) -> str:
        """The hash of all that the result depends on: code, format, the content of raw files, ancestors' keys and args."""
        return _Run(self).key(self, args)

    def _stage_inputs(self) -> Any:
        """What a function depends on that calls this stage itself, as well as on its code."""
        return {name: _content(path) for name, path in self.files.items()}, self.ancestors, self.format if self.cache else ""

    def __call__(self, *args: Any) -> Any:
        return _Run(self).result(self, args)


class _Run:
    """One call of a last stage: each stage runs once at most."""

    def __init__(self, last: Stage):
        self.keys: dict[Stage, str] = {}
        self.results: dict[Stage, Any] = {}
        self.uses: dict[Stage, int] = {}  # how many stages have this ancestor
        self.stats: dict[Stage, list[tuple[int, ...]]] = {}
        seen = {last}
        todo = [last]
        while todo:
            for above in todo.pop().ancestors.values():
                self.uses[above] = self.uses.get(above, 0) + 1
                if above not in seen:
                    seen.add(above)
                    todo.append(above)

    def key(self, s: Stage, args: tuple[Any, ...] = ()) -> str:
        if s not in self.keys:
            self.stats[s] = _stats(s)
            parts = ["2", s.name, s.format if s.cache else "", Code().of(s.function), Code().of(args)]
            for name, path in sorted(s.files.items()):
                parts += [name, os.fspath(path), _content(path)]
            for name, above in sorted(s.ancestors.items()):
                parts += [name, self.key(above)]
            self.keys[s] = hashlib.sha256(repr(parts).encode()).hexdigest()
        return self.keys[s]

    def result(self, s: Stage, args: tuple[Any, ...] = ()) -> Any:
        if s not in self.results:
            self.key(s, args)
            self.results[s] = self.kept(s, args) if s.cache else self.compute(s, args)
        result = self.results[s]
        # A stage may change what it gets, which is nobody else's then.
        return copy.deepcopy(result) if self.uses.get(s, 0) > 1 else result

    def compute(self, s: Stage, args: tuple[Any, ...]) -> Any:
        inputs = {name: self.result(above) for name, above in s.ancestors.items()}
        result = s.function(*args, **s.files, **inputs)
        if _stats(s) != self.stats[s]:
            raise RuntimeError(f"{s.name}: a raw file was changed while it ran: nothing is kept, call it again")
        return result

    def kept(self, s: Stage, args: tuple[Any, ...]) -> Any:
        base = s.directory or _directory or os.environ.get("PARTD_STAGES") or Path.home() / ".partd_stages"
        if re.match(r"[a-z][a-z0-9+.-]+:/", os.fspath(base)):
            raise ValueError(f"{s.name}: {base} is a URL: results are kept in a directory of this machine")
        directory = Path(base) / s.name
        key = self.keys[s]
        paths = [directory / f"{key}.{format}" for format in ([s.format] if s.format else ["parquet", "pickle"])]
        directory.mkdir(parents=True, exist_ok=True)
        if not any(path.exists() for path in paths) or (directory / f".{key}.lock").exists():  # whose holder may have been killed
            with _locked(directory, key):
                for left in directory.glob(f".{key}-*"):  # of those that were killed
                    shutil.rmtree(left)
                if not any(path.exists() for path in paths):
                    result = self.compute(s, args)
                    made = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=directory))
                    try:
                        written = _write(s, result, made / paths[0].name)
                        os.replace(written, directory / written.name)
                        _sync(directory)
                    finally:
                        shutil.rmtree(made)
        found = next(path for path in paths if path.exists())
        if s.format is None and found.suffix == ".pickle" and os.name == "posix" and found.stat().st_uid not in (0, os.getuid()):
            raise PermissionError(f"{s.name}: {found} is another user's, whose code it may run: choose format='pickle' to trust it, or remove it")
        return _read(found)


def _content(path: Any) -> str:
    content = hashlib.sha256()
    with open(path, "rb") as f:
        while piece := f.read(1 << 20):
            content.update(piece)
    return content.hexdigest()


def _stats(s: Stage) -> list[tuple[int, ...]]:
    stats = (os.stat(path) for path in s.files.values())
    return [(i.st_size, i.st_mtime_ns, i.st_ctime_ns, i.st_ino) for i in stats]


def _methods(format: str) -> tuple[Any, Any]:
    """The functions of pandas that write and read a format."""
    import pandas

    write, read = getattr(pandas.DataFrame, f"to_{format}", None), getattr(pandas, f"read_{format}", None)
    if not write or not read:
        raise ValueError(f"pandas has no to_{format} and read_{format}: take csv, parquet or pickle")
    return write, read


def _write(s: Stage, result: Any, path: Path) -> Path:
    """Writes a result, looks whether it is read back, and returns its path, which is another where no format was chosen."""
    import pandas

    if path.suffix == ".parquet":
        try:
            _write_parquet(s, result, path)
        except (ImportError, NotImplementedError, TypeError, ValueError):
            if s.format:
                raise
            path = path.with_suffix(".pickle")
    if path.suffix == ".parquet":
        pass
    elif path.suffix == ".pickle":
        pandas.to_pickle(result, path)
    elif not isinstance(result, pandas.DataFrame):
        kind = type(result).__name__
        raise TypeError(f"{s.name} returned a {kind}: return a DataFrame, take format='pickle', or do without cache")
    else:
        _methods(path.suffix[1:])[0](result, path)
        back = _read(path)
        if not isinstance(back, pandas.DataFrame) or back.shape != result.shape or list(back.columns) != list(result.columns):
            raise ValueError(f"{s.name}: its result does not come back from {s.format} as it is: take parquet or pickle")
    _sync(path)
    return path


def _write_parquet(s: Stage, result: Any, path: Path) -> None:
    import pandas
    import pyarrow.parquet

    from .frames import to_arrow

    if type(result) not in (pandas.DataFrame, pandas.Series):
        raise TypeError(f"{s.name} returned a {type(result).__name__}: return a DataFrame, take format='pickle', or do without cache")
    pyarrow.parquet.write_table(to_arrow(result, dictionaries=False), path)
    equal = pandas.testing.assert_frame_equal if isinstance(result, pandas.DataFrame) else pandas.testing.assert_series_equal
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how later versions of pandas will compare
            equal(_read(path), result, check_exact=True)
    except AssertionError as error:
        raise ValueError(f"{s.name}: its result does not come back from parquet as it is: take pickle ({error})") from error


def _read(path: Path) -> Any:
    format = path.suffix[1:]
    if format == "parquet":
        import pyarrow.parquet

        from .frames import from_arrow

        return from_arrow(pyarrow.parquet.ParquetFile(path).read(), "pandas")
    index = {"index_col": 0} if format in ("csv", "excel") else {}  # which pandas writes, too
    return _methods(format)[1](path, **index)


def _sync(path: Path) -> None:
    f = os.open(path, os.O_RDONLY)
    try:
        os.fsync(f)
    finally:
        os.close(f)


@contextmanager
def _locked(directory: Path, key: str) -> Iterator[None]:
    """Has the lock of a key, among threads and processes. The system frees it when a process dies."""
    import fcntl

    path = directory / f".{key}.lock"
    while True:
        f = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(f, fcntl.LOCK_EX)
            try:  # who had it before has removed the file
                mine = os.path.samestat(os.fstat(f), os.stat(path))
            except FileNotFoundError:
                mine = False
            if mine:
                try:
                    yield
                finally:
                    os.unlink(path)
                return
        finally:
            os.close(f)
        time.sleep(0.001)


@overload
def stage(function: Callable[..., Any], /) -> Stage: ...


@overload
def stage(
    function: None = None,
    /,
    *,
    cache: bool = False,
    format: str | None = None,
    cache_format: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    **inputs: str | os.PathLike[str] | Stage,
) -> Callable[[Callable[..., Any]], Stage]: ...


def stage(
    function: Callable[..., Any] | None = None,
    /,
    *,
    cache: bool = False,
    format: str | None = None,
    cache_format: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    **inputs: Any,
) -> Any:
    """Makes a stage of a function, which gets each of inputs under its keyword: of a path the path of a raw file, of a
    stage its result.

    With cache its result is kept, as it is: a DataFrame or Series as Parquet if all of it comes back from that, any other
    value by pickle. format is "parquet" or "pickle" alone, or one of which pandas has to_<format> and read_<format>, such as
    "csv", for a DataFrame. cache_format is another name of format.

    The stage returns what was read back, the first time as later. Errors: OSError for a raw file that is not there,
    TypeError for what cannot be hashed or kept, ValueError for a format that there is not or that loses columns."""
    if function is not None:
        return Stage(function, False, None, None, {})
    return lambda function: Stage(function, cache, format or cache_format, cache_dir, inputs)

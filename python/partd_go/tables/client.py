"""The client of a table server."""

from __future__ import annotations

import functools
import inspect
import os
import re
import urllib.parse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

import pyarrow as pa

from ..errors import Error, Misuse
from ..server import START_TIMEOUT
from ..shown import Summary, Shown, row_count, size
from . import arguments
from .arguments import options_of
from .calls import CONCURRENT
from .connection import check_not_forked
from .operations import Operations
from .reads import Reads
from .results import Data, Mode, State, Time
from .server import location_of, open_server, server_flags
from .statements import Statements
from .transforms import Transforms
from .writes import Writes

if TYPE_CHECKING:
    import polars
    from typing_extensions import Unpack

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
_REPR_TIMEOUT = 5.0  # timeout of each call that __repr__ makes, in seconds


class Tables(Reads, Writes, Statements, Transforms, Operations, Shown):
    """A client of the tables on a server, as returned by connect(). Several threads may use it until close().

        with connect("data") as tables:
            tables.put("trades", frame)
            tables["trades"].get(where="price > 100")

    A bucket is a namespace of tables; by default, tables are in the bucket "". The timeout of connect() limits each
    call, in seconds, unless the call has its own. Ctrl-C interrupts a call within a second.
    """

    if not TYPE_CHECKING:  # otherwise, type checkers would accept any name

        def __getattr__(self, name: str) -> Any:
            raise arguments.no_attribute(self, name)

    def __enter__(self) -> Tables:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getitem__(self, name: str) -> Table:
        return self.table(name)

    def __iter__(self) -> Iterator[str]:
        """Yields the names of the tables in the bucket ""."""
        return iter(self.list())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self.list(pattern=re.sub(r"([][*?\\])", r"\\\1", name))

    def __len__(self) -> int:
        return len(self.list())

    def __bool__(self) -> bool:
        return True  # even if there are no tables

    def _ipython_key_completions_(self) -> list[str]:
        return self.list()

    @options_of(Reads.describe, State)
    def table(self, name: str, bucket: str = "", **selection: Unpack[State]) -> Table:
        """Returns a handle to a table: to its current state or, if version, at or snapshot is given, to an earlier
        state. The table need not exist. tables["trades"] is short for tables.table("trades")."""
        arguments.text(name, "name")
        return Table(self, name, arguments.text(bucket, "bucket"), **selection)

    def _summary(self) -> Summary:
        location = self._server.directory if self._server else self.url
        try:
            buckets = sorted(self._ask("partd.buckets", _REPR_TIMEOUT))
            tables = [
                table
                for bucket in buckets[:CONCURRENT]
                for table in self._ask("partd.tables", _REPR_TIMEOUT, bucket=bucket, filter={})
            ]
        except Error as error:
            return f"Tables at {location}: {error}", (), ()
        rows = [
            ("/".join(filter(None, (table["Bucket"], table["Name"]))), row_count(table), size(table["Bytes"]))
            for table in tables
        ]
        more = f", and {len(buckets) - CONCURRENT} more buckets" if len(buckets) > CONCURRENT else ""
        return f"Tables at {location}: {len(tables)} tables{more}", ("name", "rows", "size"), rows


def _method_of(method: Callable[Concatenate[Any, str, str, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Returns a method of Table that calls a method of Tables with the handle's name and bucket. It also passes the
    handle's state if the method can read earlier states. _put_of, _sink_of and _range_of are like _method_of, but for
    methods with other parameters."""
    return _derived(method)


def _put_of(method: Callable[Concatenate[Any, str, Data, Mode, str, P], R]) -> _Put[P, R]:
    return _derived(method)


def _sink_of(method: Callable[..., R], put: Callable[Concatenate[Any, str, Data, Mode, str, P], Any]) -> _Sink[P, R]:
    return _derived(method)


def _range_of(
    method: Callable[Concatenate[Any, str, Data, Time | None, Time | None, str, P], R],
) -> _Range[P, R]:
    return _derived(method)


class _Put(Protocol[P, R]):
    def __call__(self, data: Data, mode: Mode = "error", *args: P.args, **options: P.kwargs) -> R: ...


class _Sink(Protocol[P, R]):
    def __call__(self, lazyframe: polars.LazyFrame, mode: Mode = "error", *args: P.args, **options: P.kwargs) -> R: ...


class _Range(Protocol[P, R]):
    def __call__(
        self, data: Data, start: Time | None = None, end: Time | None = None, *args: P.args, **options: P.kwargs
    ) -> R: ...


def _derived(method: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(method)
    parameters = [parameter for name, parameter in signature.parameters.items() if name not in ("name", "bucket")]
    has_state = "version" in signature.parameters

    @functools.wraps(method)
    def call(self: Any, /, *args: Any, **options: Any) -> Any:
        if has_state:
            options = {**self.state, **options}
        elif self.state and method.__name__ == "follow":
            raise Misuse("follow() reads the newest versions: call it on a handle without version, at or snapshot")
        return method(self.tables, self.name, *args, bucket=self.bucket, **options)

    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return call


class Table(Shown):
    """A handle to a table, in its current state or an earlier state. The table need not exist. It has methods of Tables
    without the arguments name and bucket. version, at and snapshot default to the handle's state.

        trades = tables.table("trades", version=3)
        frame = trades.get(columns=["time", "price"])

    Libraries that import Arrow streams, such as polars, pandas 3 and DuckDB, can read it directly.
    """

    def __init__(self, tables: Tables, name: str, bucket: str = "", **selection: Unpack[State]):
        self.tables, self.name, self.bucket, self.state = tables, name, bucket, selection

    if not TYPE_CHECKING:  # otherwise, type checkers would accept any name

        def __getattr__(self, name: str) -> Any:
            raise arguments.no_attribute(self, name)

    def _summary(self) -> Summary:
        label = f"Table {'/'.join(filter(None, (self.bucket, self.name)))}"
        try:
            description = self.describe(timeout=_REPR_TIMEOUT)
        except Error as error:
            return f"{label}: {error}", (), ()
        columns = [(field.name, field.type) for field in description["schema"]]
        rows, version = row_count(description), description["Version"]
        title = f"{label}: {rows} rows, {len(columns)} columns, {size(description['Bytes'])}, version {version}"
        return title, ("column", "type"), columns

    def __len__(self) -> int:
        description = self.describe()
        if description.get("RowsExact", True):
            return description["Rows"]
        return sum(batch.num_rows for batch in self.scan(columns=description["schema"].names[:1]))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.scan().__arrow_c_stream__(requested_schema)

    @property
    def schema(self) -> pa.Schema:
        return self.describe()["schema"]

    describe, versions = _method_of(Tables.describe), _method_of(Tables.versions)
    get, scan = _method_of(Tables.get), _method_of(Tables.scan)
    changes, follow = _method_of(Tables.changes), _method_of(Tables.follow)
    scan_polars, dataset = _method_of(Tables.scan_polars), _method_of(Tables.dataset)
    put, sink_polars = _put_of(Tables.put), _sink_of(Tables.sink_polars, Tables.put)
    replace_range = _range_of(Tables.replace_range)


def connect(
    url_or_dir: str | os.PathLike[str],
    token: str | None = None,
    tls_ca: str | None = None,
    *,
    flags: tuple[str, ...] = (),
    memory: int | str | None = None,
    read_only: bool = False,
    timeout: float | None = None,
    start_timeout: float = START_TIMEOUT,
    catalog: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Tables:
    """Opens tables on a server, in a directory or in a cloud bucket, as in connect("data") or
    connect("grpc://host:8815", token="…").

    For a directory or a bucket, connect starts a server on a socket that only this user can open. All of this user's
    clients on this machine share a directory's server, which stops when the last one closes. If the server was killed,
    the next call starts it again. flags, memory, read_only, start_timeout and catalog are only for a directory or a
    bucket.

    Args:
        url_or_dir: grpc://HOST:PORT, grpc+tls://HOST:PORT or grpc+unix:///PATH for a server; a directory; or
            s3://BUCKET/PREFIX or gs://BUCKET/PREFIX.
        token: The token that authenticates this client to a server.
        tls_ca: A PEM file, or its text, with the certificate authorities to trust for the server's certificate; by
            default, the system's.
        flags: Additional flags for `partd-tables serve`.
        memory: The server's memory limit, as "8GiB" or in bytes; by default, a quarter of the machine's memory. In all,
            the server and its processes use at most 1.25 times the limit plus 256 MiB, and 144 MiB for each process.
        read_only: Open the tables in their current state, without changing the directory. This is the default if this
            user cannot write to the directory.
        timeout: The time limit of each call, in seconds; None means no limit.
        start_timeout: How long the server may take to start, in seconds.
        catalog: Where the list of tables and their current versions is kept: a directory on this machine, or
            postgres://HOST/DATABASE. Required for a bucket. By default, the list of a directory's tables is in that
            directory.
        progress: Whether long puts, gets and scans show a progress bar, if tqdm is installed. By default, they do in a
            terminal or a notebook.
    """
    location = location_of(url_or_dir)
    check_not_forked(location)
    scheme = urllib.parse.urlsplit(location).scheme if "://" in location else ""
    if scheme not in ("", "s3", "gs") and not scheme.startswith("grpc"):
        raise Misuse(f"{location} is neither a server's nor a bucket's URL: see help(connect)")
    if scheme.startswith("grpc"):
        if flags or memory is not None or read_only or catalog is not None:
            raise Misuse(
                f"flags, memory, read_only and catalog do not apply to the server {location}: pass them only with a "
                "directory or a bucket"
            )
        return Tables(location, token=token, tls_ca=tls_ca, timeout=timeout, progress=progress)
    catalog_flags = () if catalog is None else ("--catalog", location_of(catalog))
    server = open_server(location, (*server_flags(memory, read_only), *catalog_flags, *flags), start_timeout)
    return Tables(server.url, server=server, timeout=timeout, progress=progress)

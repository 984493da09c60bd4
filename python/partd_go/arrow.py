"""Stores pyarrow, pandas and polars tables as values, in Arrow's IPC stream format."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

import pyarrow as pa

from .arrowsafe import check
from .errors import Error, Misuse, SchemaMismatch
from .frames import VALUES, from_arrow, to_arrow
from .wire import Key, Nested

if TYPE_CHECKING:
    import pandas
    import polars

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

_KIND = b"partd_go"  # metadata key that records a stored table's library: pandas or polars
KINDS = ("pyarrow", "pandas", "polars")


def encode(table: Any, compression: str | None = None) -> pa.Buffer:
    """Encodes a pyarrow, pandas or polars table, or a record batch, as an IPC stream."""
    arrow = _to_arrow(table)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression, unify_dictionaries=True)
    with pa.ipc.new_stream(sink, arrow.schema, options=options) as stream:
        stream.write_table(arrow)
    return sink.getvalue()


def _to_arrow(table: Any) -> pa.Table:
    kind = type(table).__module__.partition(".")[0]
    if kind == "pandas" and not hasattr(table, "columns"):
        raise Misuse(f"a value of type {type(table).__name__}: convert it to a DataFrame, for example with to_frame()")
    # Store a RangeIndex as a column, because the ranges of several appended pieces do not form one range.
    arrow = to_arrow(table, store_range_index=True)
    if kind not in ("pandas", "polars"):
        return arrow
    return arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _KIND: kind.encode()})


def decode(data: bytes | pa.Buffer, key: Key = "", kind: str | None = None) -> Any:
    """Decodes data, which holds an IPC stream for each appended piece, into a single table. kind is the library whose
    table type is returned ("pyarrow", "pandas" or "polars"); the default is the library of the first piece."""
    try:
        return _decode(pa.BufferReader(data), key, kind)
    except (Error, ImportError, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # raised by polars
            raise
        raise Misuse(
            f"get {key!r}: the value is not a table ({error}): read it with the client that appended it"
        ) from error


def _decode(reader: pa.BufferReader, key: Key, kind: str | None) -> Any:
    pieces, size = [], reader.size()
    while reader.tell() < size:
        pieces.append(pa.ipc.open_stream(reader).read_all())
    if not pieces:
        return _convert(pa.table({}), kind or "pyarrow")
    metadata = dict(pieces[0].schema.metadata or {})
    stored_kind = metadata.pop(_KIND, b"pyarrow").decode()
    kind = kind or stored_kind
    schema = pieces[0].schema
    if all(piece.schema.equals(schema, check_metadata=True) for piece in pieces):
        pieces = [pa.concat_tables(pieces)]  # copies no values; a single table is checked faster
    check(pieces, text=kind == "polars")
    return _convert(join(pieces, key).replace_schema_metadata(metadata or None), kind)


def _convert(table: pa.Table, kind: str) -> Any:
    return from_arrow(table, "polars" if kind == "polars" else "pandas" if kind == "pandas" else "arrow")


def join(pieces: list[pa.Table], key: Key = "") -> pa.Table:
    """Concatenates tables. A column that a table lacks is null in that table's rows."""
    schema = pieces[0].schema
    _check_value_kinds([piece.schema for piece in pieces], key)
    if all(piece.schema.equals(schema) for piece in pieces):
        joined = pa.concat_tables(pieces)
    else:
        schema = _unify([piece.schema for piece in pieces], key)
        joined = pa.concat_tables([_cast(piece, schema, key) for piece in pieces])
    for field in schema:
        if pa.types.is_dictionary(field.type) and field.type.ordered:
            _check_order(joined.column(field.name), field.name, key)
    if any(pa.types.is_dictionary(field.type) and pa.types.is_nested(field.type.value_type) for field in schema):
        return joined  # pyarrow cannot unify dictionaries in nested values
    return joined.unify_dictionaries()


def _check_value_kinds(schemas: list[pa.Schema], key: Key) -> None:
    """Raises SchemaMismatch if a column has different kinds of values in two pieces, such as periods of days and of
    months. Both have the same Arrow type, so the field's metadata records the kind."""
    known: dict[str, str] = {}
    for field in (field for schema in schemas for field in schema if not pa.types.is_null(field.type)):
        value_kind = (field.metadata or {}).get(VALUES, b"").decode()
        if (other := known.setdefault(field.name, value_kind)) != value_kind:
            first, second = other or field.type, value_kind or field.type
            raise SchemaMismatch(
                f"get {key!r}: column {field.name!r} is {first} in one piece and {second} in another: use the same "
                "type in every piece"
            )


def _unify(schemas: list[pa.Schema], key: Key) -> pa.Schema:
    fields: dict[str, pa.Field] = {}
    for schema in schemas:
        if len(set(schema.names)) < len(schema.names):
            raise SchemaMismatch(f"get {key!r}: two columns share a name in {schema.names}: rename one")
        for field in schema:
            known = fields.get(field.name)
            target = field.type if known is None else _common(known.type, field.type)
            if known is not None and target is None:
                raise SchemaMismatch(
                    f"get {key!r}: column {field.name!r} is {known.type} in one piece and {field.type} in another: "
                    "use the same type in every piece"
                )
            base = known if known is not None else field
            fields[field.name] = base.with_type(target).with_nullable(True)
    return pa.schema(list(fields.values()), metadata=schemas[0].metadata)


def _common(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """Returns a type that represents all values of a and b exactly, or None if no such type exists."""
    if a.equals(b) or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    for family, widest in ((_STRINGS, pa.large_string()), (_BINARIES, pa.large_binary())):
        if any(map(a.equals, family)) and any(map(b.equals, family)):
            return widest
    if pa.types.is_dictionary(a) and pa.types.is_dictionary(b) and a.ordered == b.ordered:
        values = _common(a.value_type, b.value_type)
        return values and pa.dictionary(pa.int32(), values, a.ordered)
    return None


_STRINGS = (pa.string(), pa.large_string(), pa.string_view())
_BINARIES = (pa.binary(), pa.large_binary(), pa.binary_view())


def _cast(piece: pa.Table, schema: pa.Schema, key: Key) -> pa.Table:
    columns = []
    for field in schema:
        if field.name in piece.schema.names:
            columns.append(_retype(piece.column(field.name), field.type))
        else:
            columns.append(pa.nulls(piece.num_rows, field.type))
    return pa.table(columns, schema=schema)


def _retype(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    if column.type.equals(target):
        return column
    if not pa.types.is_dictionary(column.type):
        return column.cast(target)
    return pa.chunked_array(
        [
            pa.DictionaryArray.from_arrays(
                chunk.indices.cast(target.index_type), chunk.dictionary.cast(target.value_type), ordered=target.ordered
            )
            for chunk in column.chunks
        ],
        target,
    )


def _check_order(column: pa.ChunkedArray, name: str, key: Key) -> None:
    # A piece without the column has an empty dictionary.
    orders = [chunk.dictionary for chunk in column.chunks if len(chunk.dictionary)]
    for order in orders[1:]:
        if not order.equals(orders[0]):
            raise SchemaMismatch(
                f"get {key!r}: the ordered categories of column {name!r} are {orders[0].to_pylist()} in one piece and "
                f"{order.to_pylist()} in another: give all pieces the same categories"
            )


class Arrow(Generic[T]):
    """Stores tables in a Client or another store. Tables that are appended to the same key are read back as one table.

        with Client("tcp://localhost:7000") as store:
            tables = Arrow(store, kind="pandas")
            tables.append({"trades": frame})
            frame = tables.get("trades")

    kind is the library whose tables get() returns: "pyarrow", "pandas" or "polars". The default
    is the library of a key's first table. compression is "lz4" or "zstd" (default: none).

    If all columns of an appended table have Arrow's null type, get() rejects more than 33,554,432 rows: such rows have
    no bytes, so a damaged table could claim any number of them.
    """

    @overload
    def __init__(
        self: Arrow[pa.Table | pandas.DataFrame | polars.DataFrame],
        partd: Any,
        *,
        kind: None = None,
        compression: str | None = None,
    ): ...

    @overload
    def __init__(self: Arrow[pa.Table], partd: Any, *, kind: Literal["pyarrow"], compression: str | None = None): ...

    @overload
    def __init__(
        self: Arrow[pandas.DataFrame], partd: Any, *, kind: Literal["pandas"], compression: str | None = None
    ): ...

    @overload
    def __init__(
        self: Arrow[polars.DataFrame], partd: Any, *, kind: Literal["polars"], compression: str | None = None
    ): ...

    def __init__(self, partd: Any, *, kind: str | None = None, compression: str | None = None):
        if kind not in (None, *KINDS):
            raise Misuse(f"kind is {kind!r}: pass one of {', '.join(KINDS)}")
        if compression not in (None, "lz4", "zstd"):
            raise Misuse(f"compression is {compression!r}: pass 'lz4' or 'zstd'")
        self.partd, self.kind, self.compression = partd, kind, compression

    def append(self, data: Mapping[Key, Any], **options: Any) -> None:
        """Appends each table's rows to its key. Either all tables are appended or none is."""
        self.partd.append({key: bytes(encode(table, self.compression)) for key, table in data.items()}, **options)

    @overload
    def get(self, keys: list[K], **options: Any) -> list[T]: ...

    @overload
    def get(self, keys: list[Any], **options: Any) -> list[Nested[T]]: ...

    @overload
    def get(self, keys: Hashable, **options: Any) -> T: ...

    def get(self, keys: Any, **options: Any) -> Any:
        """Returns the table of a key or, for a list of keys (which may be nested), a list of tables.

        If a key does not exist, its table has no columns.
        """
        return self._decode(keys, self.partd.get(keys, **options))

    @overload
    def pop(self, keys: list[K], **options: Any) -> list[T]: ...

    @overload
    def pop(self, keys: list[Any], **options: Any) -> list[Nested[T]]: ...

    @overload
    def pop(self, keys: Hashable, **options: Any) -> T: ...

    def pop(self, keys: Any, **options: Any) -> Any:
        """Like get(), but also removes the keys, in the same atomic step."""
        return self._decode(keys, self.partd.pop(keys, **options))

    def _decode(self, keys: Any, values: Any) -> Any:
        if isinstance(keys, list):
            return [self._decode(key, value) for key, value in zip(keys, values)]
        return decode(values, keys, self.kind)

    def delete(self, keys: Any, **options: Any) -> None:
        self.partd.delete(keys, **options)

    def drop(self) -> None:
        self.partd.drop()

    def close(self) -> None:
        self.partd.close()

    def __enter__(self) -> Arrow[T]:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

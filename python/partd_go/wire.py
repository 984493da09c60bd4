"""Encodes requests and decodes replies, as docs/dev/wire.md describes."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar, Union

from .errors import Misuse

Buffer = Union[bytes, bytearray, memoryview]

MAGIC = b"\0PD1"
VERSION = 2
REQUEST = struct.Struct("<4sBBxxQQQIxxxx")  # magic, operation, flags, number, session, number in the session, checksum
REPLY = struct.Struct("<4sBBBxQ")  # magic, operation, status, flags, number

HELLO, SESSION, END_SESSION = 1, 3, 4
APPEND, SET_ONCE, DELETE, DROP = 5, 7, 8, 9
POP, POP_READ, POP_DONE, GET = 10, 11, 12, 13
READ, KEYS, SCAN, NEXT = 15, 16, 17, 18
STAT, SYNC, KEEP_HANDLE, NAMESPACES = 20, 22, 25, 26
NAMES = {
    HELLO: "connect",
    SESSION: "session",
    END_SESSION: "end session",
    APPEND: "append",
    SET_ONCE: "iset",
    DELETE: "delete",
    DROP: "drop",
    POP: "pop",
    POP_READ: "pop",
    GET: "get",
    READ: "get",
    KEYS: "keys",
    SCAN: "scan",
    NEXT: "scan",
    STAT: "stat",
    SYNC: "sync",
    NAMESPACES: "namespaces",
}

RESENT = 2  # flag of requests
MORE = 1  # flag of replies

U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")
KEY = struct.Struct("<H")
ENTRY = struct.Struct("<HI")

BY_REFERENCE = 32 << 10  # values of this size or more are not copied
MAX_KEY = 0xFFFF
LARGE = 0xFFFFFFFF  # replaces the size in a get's reply: a handle for reading a large value follows

Key = Union[str, bytes, tuple[Any, ...], Any]
V = TypeVar("V")
Nested: TypeAlias = "Union[V, list[Nested[V]]]"  # the result for a key or for a nested list of keys


def encode_key(key: Key) -> bytes:
    """Returns the bytes of a key, encoded in the same way as in the Python package partd."""
    if type(key) is str:
        return key.encode("utf-8", "surrogateescape")
    if isinstance(key, tuple):
        return b"-|-".join(map(encode_key, key))
    if isinstance(key, bytes):
        return key
    return str(key).encode("utf-8", "surrogateescape")


def decode_key(key: Buffer) -> str:
    """Returns a string that encode_key converts back to the same bytes."""
    return str(key, "utf-8", "surrogateescape")


def keys(requested: Iterable[Key]) -> bytes:
    """Returns the number of keys and the encoded keys, as a request contains them."""
    encoded = [encode_key(key) for key in requested]
    _check_keys(encoded)
    lengths = map(KEY.pack, map(len, encoded))
    return b"".join([U32.pack(len(encoded)), *itertools.chain.from_iterable(zip(lengths, encoded))])


def _check_keys(encoded: list[bytes]) -> None:
    if encoded and max(map(len, encoded)) > MAX_KEY:
        raise Misuse(f"a key of {max(map(len, encoded))} bytes: shorten it to at most {MAX_KEY}")


def pairs(data: Mapping[Key, Buffer]) -> tuple[list[bytes], list[Buffer]]:
    """Returns the encoded keys, and the values as bytes."""
    encoded = [encode_key(key) for key in data]
    values: list[Buffer] = list(data.values())
    if set(map(type, values)) - {bytes}:
        values = [value if isinstance(value, bytes) else _as_bytes(value) for value in values]
    _check_keys(encoded)
    return encoded, values


def entries(data: Mapping[Key, Buffer]) -> list[Buffer]:
    """Returns encoded keys with their values, as a list of pieces. Each large value is a separate piece."""
    encoded, values = pairs(data)
    sizes = list(map(len, values))
    heads = map(ENTRY.pack, map(len, encoded), sizes)
    parts = itertools.chain.from_iterable(zip(heads, encoded, values))
    count = U32.pack(len(encoded))
    longest = max(sizes, default=0)
    if longest < BY_REFERENCE:
        return [b"".join([count, *parts])]
    if longest >= LARGE:
        raise Misuse(f"a value of {longest} bytes: append it in pieces of less than 4 GiB")
    return join_small(itertools.chain([count], parts))


def join_small(parts: Iterable[Buffer]) -> list[Buffer]:
    """Returns the same bytes in fewer pieces, by joining small ones."""
    pieces: list[Buffer] = []
    small: list[Buffer] = []
    for part in parts:
        if len(part) < BY_REFERENCE:
            small.append(part)
        else:
            pieces += (b"".join(small), part)
            small = []
    return [*pieces, b"".join(small)] if small else pieces


def _as_bytes(value: Buffer) -> Buffer:
    """Returns a value as bytes, without a copy if possible."""
    try:
        view = memoryview(value)
    except TypeError:
        raise Misuse(f"a value of type {type(value).__name__}: encode it to bytes first") from None
    return view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()


def text(value: str) -> bytes:
    """Returns a string as UTF-8, after its length."""
    encoded = value.encode()
    return U32.pack(len(encoded)) + encoded


def uvarint(n: int) -> bytes:
    """Encodes a number as a varint, as protobuf and Go do."""
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


def values(body: bytes) -> Iterator[tuple[bytes, int]]:
    """Yields (value, 0) for each value in a get's reply, or (b"", handle) if the value is too large for the reply."""
    (count,) = U32.unpack_from(body)
    offset = 4
    for _ in range(count):
        (size,) = U32.unpack_from(body, offset)
        offset += 4
        if size == LARGE:
            yield b"", U64.unpack_from(body, offset)[0]
            return
        if offset + size > len(body):
            raise struct.error("the message is truncated")
        yield body[offset : offset + size], 0
        offset += size


def pop_values(result: bytes, count: int) -> list[bytes]:
    """Parses the result of a pop of count keys. Returns their values."""
    (received,), offset, values = U32.unpack_from(result), 4, []
    for _ in range(received):
        (size,) = U64.unpack_from(result, offset)
        values.append(result[offset + 8 : offset + 8 + size])
        offset += 8 + size
    if received != count or offset != len(result):
        raise struct.error(f"{received} values for {count} keys, in {offset} of {len(result)} bytes")
    return values

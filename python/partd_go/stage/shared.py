"""Keeps results of stages in storage that other users share: in tables, or on a partd-server.

Shared results may be damaged or hostile. So the stage's own code determines the format in which a result is read, never
the result."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ..errors import NOT_EXIST, Corrupt, Error, TimedOut, failure
from ..tables.errors import NotFound
from .files import Kept
from .formats import read, result_hash

if TYPE_CHECKING:
    from ..client import Client
    from ..tables import Tables

_INFO = "partd_go.stage"  # metadata key of a table, under which the result's description is stored
_MAX_PIECE_SIZE = 1 << 20  # maximum number of bytes in one row of a result's table
_LEASE = 30.0  # seconds until the lock of a killed process expires
_CHECKSUM_SIZE = 32  # size in bytes of the SHA-256 checksum that precedes a result


class TableStorage:
    """Keeps each result as bytes in a table. The table's name is the result's key, and its metadata describes the
    result."""

    def __init__(self, tables: Tables, bucket: str):
        self.tables, self.bucket, self.url = tables, bucket, tables.url

    def find(self, stage: str, key: str) -> Kept | None:
        with contextlib.suppress(NotFound):  # there may be no such result
            (table,) = self.tables._ask("partd.describe", bucket=self.bucket, name=key)
            return _parse_info((table["info"]["Metadata"] or {}).get(_INFO), key)
        return None

    def read(self, entry: Kept, format: str | None) -> Any:
        try:
            rows = self.tables.get(entry.key, self.bucket, as_="arrow")
        except NotFound as error:
            raise FileNotFoundError(entry.key) from error
        columns = rows.columns if rows.schema.types in ([pa.binary()], [pa.large_binary()]) else []
        pieces = (
            piece.as_buffer() for column in columns for chunk in column.chunks for piece in chunk if piece.is_valid
        )
        try:
            return _result(b"".join(pieces), entry, format, self.url)
        except Corrupt as error:
            if self.find(entry.stage, entry.key) == entry:
                raise
            raise FileNotFoundError(entry.key) from error  # replaced since the description was read

    def put(self, stage: str, key: str, expires: float, result_path: Path, value_hash: str) -> None:
        info, data = _pack(stage, expires, result_path, value_hash)
        pieces = [data[i : i + _MAX_PIECE_SIZE] for i in range(0, len(data), _MAX_PIECE_SIZE)]
        rows = pa.table({"data": pa.array(pieces, pa.large_binary())})
        self.tables.put(key, rows, "replace", self.bucket, metadata={_INFO: info})

    def all(self) -> Iterator[Kept]:
        tables = self.tables._ask("partd.tables", bucket=self.bucket, filter={})
        parsed = (_parse_info((table["Metadata"] or {}).get(_INFO), table["Name"]) for table in tables)
        return (entry for entry in parsed if entry)

    def remove(self, entry: Kept, keep_hash: bool = False) -> bool:
        if self.find(entry.stage, entry.key) != entry:
            return False
        if keep_hash:
            empty = pa.table({"data": pa.array([], pa.large_binary())})
            self.tables.put(
                entry.key, empty, "replace", self.bucket, metadata={_INFO: _info(entry._replace(removed=True))}
            )
        else:
            self.tables.delete(entry.key, bucket=self.bucket)
        return True

    @contextlib.contextmanager
    def locked(self, stage: str, key: str, wait: bool = True) -> Iterator[bool]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.tables.lock(key, self.bucket, seconds=_LEASE, timeout=None if wait else 1.0))
            except TimedOut:
                if wait:
                    raise
                yield False
                return
            yield True


class ServerStorage:
    """Keeps each result as a value of the store: a line that describes the result, then the result. The value must fit
    into one message."""

    def __init__(self, store: Client):
        self.store, self.url = store, store.url

    def find(self, stage: str, key: str) -> Kept | None:
        try:
            value = self.store.get(f"pystage/{key}")
        except Error as error:
            if NOT_EXIST in error.codes:  # the server's namespace has expired, with all results in it
                return None
            raise
        end = value.find(b"\n")
        return _parse_info(value[:end], key, memoryview(value)[end + 1 :])

    def read(self, entry: Kept, format: str | None) -> Any:
        return _result(entry.at, entry, format, self.url)

    def put(self, stage: str, key: str, expires: float, result_path: Path, value_hash: str) -> None:
        info, data = _pack(stage, expires, result_path, value_hash)
        self.store.delete(f"pystage/{key}")
        self.store.iset(f"pystage/{key}", info.encode() + b"\n" + data)

    def all(self) -> Iterator[Kept]:
        starts = (chunk for chunk in self.store.scan_chunks() if chunk.offset == 0 and chunk.key.startswith("pystage/"))
        parsed = (_parse_info(chunk.data.partition(b"\n")[0], chunk.key[len("pystage/") :]) for chunk in starts)
        return (entry for entry in parsed if entry)

    def remove(self, entry: Kept, keep_hash: bool = False) -> bool:
        current = self.find(entry.stage, entry.key)
        if current is None or current.made != entry.made:
            return False
        self.store.delete(f"pystage/{entry.key}")
        if keep_hash:
            self.store.iset(f"pystage/{entry.key}", _info(entry._replace(removed=True)).encode() + b"\n")
        return True

    @contextlib.contextmanager
    def locked(self, stage: str, key: str, wait: bool = True) -> Iterator[bool]:
        yield True  # a store has no locks, so machines may compute the same result twice


def _pack(stage: str, expires: float, result_path: Path, value_hash: str) -> tuple[str, bytes]:
    """Returns a result's description, and the bytes to keep: the checksum and the result."""
    data = result_path.read_bytes()
    made = min(time.time(), math.nextafter(expires, 0))  # _parse_info rejects a result that was made after its expiry
    return _info(Kept(stage, "", made, expires, len(data), content=value_hash)), hashlib.sha256(data).digest() + data


def _info(entry: Kept) -> str:
    return json.dumps(
        [entry.stage, entry.made, entry.expires, 0 if entry.removed else entry.bytes, entry.content, entry.removed]
    )


def _parse_info(text: Any, key: str, at: Any = None) -> Kept | None:
    """Parses a result's description, or returns None if text is not a description."""
    try:
        stage, made, expires, size, value_hash, removed = json.loads(text)
        entry = Kept(stage, key, float(made), float(expires), int(size), at, "", str(value_hash), bool(removed))
        return entry if isinstance(stage, str) and made < expires else None
    except Exception:  # other programs can write the text too
        return None


def _result(data: bytes | memoryview, entry: Kept, format: str | None, url: str) -> Any:
    """Returns the result in data, which consists of a checksum and the result in the stage's format. Raises Corrupt if
    the result does not match the checksum or entry.content, or if the result cannot be read."""
    try:
        payload = memoryview(data)[_CHECKSUM_SIZE:]
        if hashlib.sha256(payload).digest() != data[:_CHECKSUM_SIZE]:
            raise ValueError("the checksum differs")
        if entry.content not in ("", result_hash(format or "parquet", data[:_CHECKSUM_SIZE].hex())):
            raise ValueError("its hash differs from the one in its description")
        return read(
            pa.BufferReader(payload) if format in (None, "parquet") else io.BytesIO(payload), format or "parquet"
        )
    except Exception as error:
        problem = f"the result of {entry.stage} under {entry.key} is damaged, or not {format or 'parquet'}: {error}"
        raise failure(
            Corrupt, "read a result of a stage", url, problem, "delete it, so that the stage computes it again"
        ) from error

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
_PIECE = 1 << 20  # maximum number of bytes of a result in one row of its table
_LEASE = 30.0  # seconds until the lock of a killed process expires
_SUM = 32  # bytes of the SHA-256 checksum that precedes a result


class InTables:
    """Keeps each result as bytes in a table. The table's name is the result's key, and its metadata describes the
    result."""

    def __init__(self, tables: Tables, bucket: str):
        self.tables, self.bucket, self.url = tables, bucket, tables.url

    def find(self, stage: str, key: str) -> Kept | None:
        with contextlib.suppress(NotFound):  # there may be no such result
            (table,) = self.tables._ask("partd.describe", bucket=self.bucket, name=key)
            return _parse_info((table["info"]["Metadata"] or {}).get(_INFO), key)
        return None

    def read(self, kept: Kept, format: str | None) -> Any:
        try:
            rows = self.tables.get(kept.key, self.bucket, as_="arrow")
        except NotFound as error:
            raise FileNotFoundError(kept.key) from error
        columns = rows.columns if rows.schema.types in ([pa.binary()], [pa.large_binary()]) else []
        pieces = (
            piece.as_buffer() for column in columns for chunk in column.chunks for piece in chunk if piece.is_valid
        )
        try:
            return _result(b"".join(pieces), kept, format, self.url)
        except Corrupt as error:
            if self.find(kept.stage, kept.key) == kept:
                raise
            raise FileNotFoundError(kept.key) from error  # replaced since the description was read

    def put(self, stage: str, key: str, expires: float, result_path: Path, content: str) -> None:
        info, data = _pack(stage, expires, result_path, content)
        rows = pa.table(
            {"data": pa.array([data[i : i + _PIECE] for i in range(0, len(data), _PIECE)], pa.large_binary())}
        )
        self.tables.put(key, rows, "replace", self.bucket, metadata={_INFO: info})

    def all(self) -> Iterator[Kept]:
        tables = self.tables._ask("partd.tables", bucket=self.bucket, filter={})
        parsed = (_parse_info((table["Metadata"] or {}).get(_INFO), table["Name"]) for table in tables)
        return (kept for kept in parsed if kept)

    def remove(self, kept: Kept, keep_hash: bool = False) -> bool:
        if self.find(kept.stage, kept.key) != kept:
            return False
        if keep_hash:
            empty = pa.table({"data": pa.array([], pa.large_binary())})
            self.tables.put(
                kept.key, empty, "replace", self.bucket, metadata={_INFO: _info(kept._replace(removed=True))}
            )
        else:
            self.tables.delete(kept.key, bucket=self.bucket)
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


class InStore:
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

    def read(self, kept: Kept, format: str | None) -> Any:
        return _result(kept.at, kept, format, self.url)

    def put(self, stage: str, key: str, expires: float, result_path: Path, content: str) -> None:
        info, data = _pack(stage, expires, result_path, content)
        self.store.delete(f"pystage/{key}")
        self.store.iset(f"pystage/{key}", info.encode() + b"\n" + data)

    def all(self) -> Iterator[Kept]:
        starts = (chunk for chunk in self.store.scan_chunks() if chunk.offset == 0 and chunk.key.startswith("pystage/"))
        parsed = (_parse_info(chunk.data.partition(b"\n")[0], chunk.key[len("pystage/") :]) for chunk in starts)
        return (kept for kept in parsed if kept)

    def remove(self, kept: Kept, keep_hash: bool = False) -> bool:
        current = self.find(kept.stage, kept.key)
        if current is None or current.made != kept.made:
            return False
        self.store.delete(f"pystage/{kept.key}")
        if keep_hash:
            self.store.iset(f"pystage/{kept.key}", _info(kept._replace(removed=True)).encode() + b"\n")
        return True

    @contextlib.contextmanager
    def locked(self, stage: str, key: str, wait: bool = True) -> Iterator[bool]:
        yield True  # a store has no locks, so machines may compute the same result twice


def _pack(stage: str, expires: float, result_path: Path, content: str) -> tuple[str, bytes]:
    """Returns a result's description, and the bytes to keep: the checksum and the result."""
    data = result_path.read_bytes()
    made = min(time.time(), math.nextafter(expires, 0))  # _parse_info rejects a result that was made after its expiry
    return _info(Kept(stage, "", made, expires, len(data), content=content)), hashlib.sha256(data).digest() + data


def _info(kept: Kept) -> str:
    return json.dumps(
        [kept.stage, kept.made, kept.expires, 0 if kept.removed else kept.bytes, kept.content, kept.removed]
    )


def _parse_info(text: Any, key: str, at: Any = None) -> Kept | None:
    """Parses a result's description, or returns None if text is not a description."""
    try:
        stage, made, expires, size, content, removed = json.loads(text)
        kept = Kept(stage, key, float(made), float(expires), int(size), at, "", str(content), bool(removed))
        return kept if isinstance(stage, str) and made < expires else None
    except Exception:  # other programs can write the text too
        return None


def _result(data: bytes | memoryview, kept: Kept, format: str | None, url: str) -> Any:
    """Returns the result in data, which consists of a checksum and the result in the stage's format. Raises Corrupt if
    the result does not match the checksum or kept.content, or if the result cannot be read."""
    try:
        payload = memoryview(data)[_SUM:]
        if hashlib.sha256(payload).digest() != data[:_SUM]:
            raise ValueError("the checksum differs")
        if kept.content not in ("", result_hash(format or "parquet", data[:_SUM].hex())):
            raise ValueError("its hash differs from the one in its description")
        return read(
            pa.BufferReader(payload) if format in (None, "parquet") else io.BytesIO(payload), format or "parquet"
        )
    except Exception as error:
        problem = f"the result of {kept.stage} under {kept.key} is damaged, or not {format or 'parquet'}: {error}"
        raise failure(
            Corrupt, "read a result of a stage", url, problem, "delete it, so that the stage computes it again"
        ) from error

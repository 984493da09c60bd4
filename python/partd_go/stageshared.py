"""Results of stages where others read and write them, too: in tables, or at a partd-server.

What is there may be damaged, or of somebody hostile: it is read in the format that its stage has, whatever it says of itself."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .errors import Corrupt, Error, TimedOut, failure
from .stageformats import read
from .stagekept import Kept
from .tables.errors import NotFound

if TYPE_CHECKING:
    from .client import Client
    from .tables import Tables

_INFO = "partd_go.stage"  # in the metadata of a table
_PIECE = 1 << 20  # bytes in a row of a table
_LEASE = 30.0  # seconds after which the lock of a process that was killed is free
_SUM = 32  # bytes before a result


class InTables:
    """Each result in the table of its key, as bytes, with what is known of it in the table's metadata."""

    def __init__(self, tables: Tables, bucket: str):
        self.tables, self.bucket, self.url = tables, bucket, tables.url

    def find(self, stage: str, key: str) -> Kept | None:
        with contextlib.suppress(NotFound):
            table = self.tables.describe(key, self.bucket)
            return _known((table["Metadata"] or {}).get(_INFO), key)
        return None

    def read(self, kept: Kept, format: str | None) -> Any:
        try:
            rows = self.tables.get(kept.key, self.bucket, as_="arrow")
        except NotFound as error:
            raise FileNotFoundError(kept.key) from error
        columns = rows.columns if rows.schema.types in ([pa.binary()], [pa.large_binary()]) else []
        pieces = (piece.as_buffer() for column in columns for chunk in column.chunks for piece in chunk if piece.is_valid)
        return _result(b"".join(pieces), kept, format, self.url)

    def put(self, stage: str, key: str, expires: float, written: Path) -> None:
        info, data = _packed(stage, expires, written)
        rows = pa.table({"data": pa.array([data[at : at + _PIECE] for at in range(0, len(data), _PIECE)], pa.large_binary())})
        self.tables.put(key, rows, "replace", self.bucket, metadata={_INFO: info})

    def all(self) -> Iterator[Kept]:
        tables = self.tables._ask("partd.tables", bucket=self.bucket, filter={})
        return (kept for table in tables if (kept := _known((table["Metadata"] or {}).get(_INFO), table["Name"])))

    def remove(self, kept: Kept) -> bool:
        if self.find(kept.stage, kept.key) != kept:
            return False
        self.tables.delete(kept.key, bucket=self.bucket)
        return True

    @contextlib.contextmanager
    def locked(self, stage: str, key: str, wait: bool = True) -> Iterator[bool]:
        """Has a lock of the server, which is renewed as long as this process lives."""
        try:
            (lease,) = self.tables._ask("partd.lock", None if wait else 1.0, bucket=self.bucket, name=key, seconds=_LEASE)
        except TimedOut:
            if wait:
                raise
            yield False
            return
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(_LEASE / 3):
                with contextlib.suppress(Error):  # somebody else may have it then: each puts a whole result
                    self.tables._ask("partd.lock", _LEASE / 3, lease=lease["lease"])

        threading.Thread(target=renew, name="partd stage", daemon=True).start()
        try:
            yield True
        finally:
            ended.set()
            with contextlib.suppress(Error):  # it ends by itself
                self.tables._ask("partd.unlock", lease=lease["lease"])


class InStore:
    """Each result under its key, behind a line with what is known of it. What is longer than a message is no result."""

    def __init__(self, store: Client):
        self.store, self.url = store, store.url

    def find(self, stage: str, key: str) -> Kept | None:
        value = self.store.get(f"pystage/{key}")
        return _known(value[: (end := value.find(b"\n"))], key, memoryview(value)[end + 1 :])

    def read(self, kept: Kept, format: str | None) -> Any:
        return _result(kept.at, kept, format, self.url)

    def put(self, stage: str, key: str, expires: float, written: Path) -> None:
        info, data = _packed(stage, expires, written)
        self.store.delete(f"pystage/{key}")
        self.store.iset(f"pystage/{key}", info.encode() + b"\n" + data)

    def all(self) -> Iterator[Kept]:
        starts = (chunk for chunk in self.store.scan_chunks() if chunk.offset == 0 and chunk.key.startswith("pystage/"))
        return (kept for chunk in starts if (kept := _known(chunk.data.partition(b"\n")[0], chunk.key[len("pystage/") :])))

    def remove(self, kept: Kept) -> bool:
        if (again := self.find(kept.stage, kept.key)) is None or again.made != kept.made:
            return False
        self.store.delete(f"pystage/{kept.key}")
        return True

    @contextlib.contextmanager
    def locked(self, stage: str, key: str, wait: bool = True) -> Iterator[bool]:
        yield True  # those who do not share the directory are not excluded


def _packed(stage: str, expires: float, written: Path) -> tuple[str, bytes]:
    """What is known of a result, and the result, with its checksum."""
    data = written.read_bytes()
    made = min(time.time(), math.nextafter(expires, 0))  # what expired while it was made is known to gc(), too
    return json.dumps([stage, made, expires, len(data)]), hashlib.sha256(data).digest() + data


def _known(text: Any, key: str, at: Any = None) -> Kept | None:
    """What a text says of a result; None where it is damaged, or somebody has written another."""
    try:
        stage, made, expires, size = json.loads(text)
        return Kept(stage, key, float(made), float(expires), int(size), at) if isinstance(stage, str) and made < expires else None
    except Exception:
        return None


def _result(data: bytes | memoryview, kept: Kept, format: str | None, url: str) -> Any:
    """The result that bytes are, if they are whole, and of the format that the stage has."""
    try:
        content = memoryview(data)[_SUM:]
        if hashlib.sha256(content).digest() != data[:_SUM]:
            raise ValueError("its checksum differs")
        return read(pa.BufferReader(content) if format in (None, "parquet") else io.BytesIO(content), format or "parquet")
    except Exception as error:
        what = f"what {kept.stage} kept under {kept.key} is damaged, or no {format or 'parquet'}: {error}"
        raise failure(Corrupt, "read a result of a stage", url, what, "delete it, and it is made again") from error

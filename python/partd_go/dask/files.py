"""Stores rows in files, for shuffles on one machine. Each attempt at a task writes a separate
file, and the store keeps only the positions of the pieces."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator

import numpy as np
import xxhash

from .attempts import retry_while_full
from .blocks import Block

_VECTOR = 512  # maximum number of buffers in one system call
_POSITION = struct.Struct("<QQQ")  # a piece's offset, length and checksum


class Rows:
    """Writes the rows of one attempt to a file and records the positions of the pieces."""

    def __init__(self, file: int) -> None:
        self.file, self.end = file, 0
        self.positions: dict[int, bytearray] = {}  # by partition: the packed positions of its pieces

    def append(self, block: Block) -> None:
        buffers: list[memoryview] = []
        for partition, _, piece in block:
            size, sum_ = sum(map(len, piece)), xxhash.xxh3_64()
            for buffer in piece:
                sum_.update(buffer)
            positions = self.positions.setdefault(partition, bytearray())
            positions += _POSITION.pack(self.end, size, sum_.intdigest())
            self.end += size
            buffers += [memoryview(buffer) for buffer in piece if len(buffer)]
        self._write(buffers)

    def _write(self, remaining: list[memoryview]) -> None:
        offset = 0
        while offset < len(remaining):
            buffers = remaining[offset : offset + _VECTOR]
            wrote = retry_while_full(lambda: os.writev(self.file, buffers))  # noqa: B023
            while offset < len(remaining) and wrote >= len(remaining[offset]):
                wrote -= len(remaining[offset])
                offset += 1
            if wrote:
                remaining[offset] = remaining[offset][wrote:]


@contextlib.contextmanager
def attempt_file(path: str) -> Iterator[Rows]:
    """Creates a file for an attempt and removes it if the attempt fails."""
    with contextlib.suppress(FileExistsError):  # several attempts share the directory
        # Do not create the parent: if the parent is gone, `use` has ended and would not remove the file.
        os.mkdir(os.path.dirname(path))
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield Rows(file)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):  # `use` has ended, and has removed the file
            os.unlink(path)
        raise
    finally:
        os.close(file)


def pieces(path: str, positions: bytes | bytearray) -> list[memoryview]:
    """Reads the pieces at the given positions in an attempt's file and verifies their checksums."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return [_piece(file, path, *position) for position in _POSITION.iter_unpack(positions)]
    finally:
        os.close(file)


def _piece(file: int, path: str, offset: int, size: int, sum_: int) -> memoryview:
    piece = np.empty(size, np.uint8).data
    filled = 0
    while filled < size:
        read = os.preadv(file, [piece[filled:]], offset + filled)
        if not read:
            raise OSError(f"{path} ends before byte {offset + size}: it was truncated; compute again")
        filled += read
    if xxhash.xxh3_64_intdigest(piece) != sum_:
        raise OSError(f"{path} is damaged at byte {offset}: it was changed or the disk is failing; compute again")
    return piece

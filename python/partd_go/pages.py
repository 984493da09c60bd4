"""Lists and scans keys over a separate connection. Lists namespaces."""

from __future__ import annotations

import contextlib
import os
import queue
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from . import wire
from .address import Address, Settings
from .channel import Channel
from .errors import Error, Lost, failure
from .link import Link, Protocol

T = TypeVar("T")

_KEEP_EVERY = 30.0  # seconds between the messages that stop the server from closing an idle listing


class Chunk(NamedTuple):
    """A piece of a key's value. A key's chunks come in order, without chunks of other keys in between."""

    key: str
    offset: int
    data: bytes
    last: bool


class Namespace(NamedTuple):
    """A namespace of a server. Each namespace is a separate store."""

    name: str
    bytes: int
    last_used: int  # seconds since 1970


_ITEM = struct.Struct("<BQIH")  # a chunk's header: whether it is the last of its key, offset, size, size of the key


def pages(
    settings: Settings, address: Address, timeout: float | None, op: int, body: bytes, parse: Callable[[bytes], list[T]]
) -> Iterator[T]:
    """Yields the items in a listing. A thread fetches one page ahead. While the caller is not reading, the thread keeps
    the listing open on the server."""
    channel = Channel(settings, address)
    channel.deadline = None if timeout is None else time.monotonic() + timeout
    process = os.getpid()
    stop = threading.Event()
    fetched_pages: queue.Queue[bytes | BaseException | None] = queue.Queue(1)
    try:
        first = channel.repeat(op, lambda link: link.ask(op, [body]))
        handle = first.body[:8]
        link = channel.connected()
        fetching = threading.Thread(
            target=_fetch, args=(link, handle, timeout, fetched_pages, stop), name="partd scan", daemon=True
        )
        try:
            if first.has_more:
                fetching.start()
            yield from parse(first.body[8:])
            while first.has_more and (page := fetched_pages.get()) is not None:
                if isinstance(page, BaseException):
                    raise _as_lost(op, settings.url, page)
                yield from parse(page)
        except struct.error as error:
            raise link.bad_reply(op, error) from error
        finally:
            stop.set()
            if os.getpid() == process:  # in a forked process, the link still serves the parent
                link.hang_up()  # the server closes the listing
            with contextlib.suppress(queue.Empty):  # make room for the thread's page, so that the thread stops at once
                fetched_pages.get_nowait()
            if fetching.is_alive():
                fetching.join()
    finally:
        channel.hang_up()


def _as_lost(op: int, url: str, error: BaseException) -> BaseException:
    if isinstance(error, (OSError, EOFError, Protocol)) and not isinstance(error, Error):
        lost = failure(Lost, wire.NAMES[op], url, f"the connection broke ({error})", "read again from the start")
        lost.__cause__ = error
        return lost
    return error


def _fetch(
    link: Link,
    handle: bytes,
    timeout: float | None,
    output: queue.Queue[bytes | BaseException | None],
    stop: threading.Event,
) -> None:
    step, more = 1, True
    page: bytes | BaseException | None
    while not stop.is_set():
        try:
            if more:
                link.deadline = None if timeout is None else time.monotonic() + timeout
                more, page, _ = link.ask(wire.NEXT, [handle, wire.U64.pack(step)])
                step += 1
            else:
                page = None
        except BaseException as error:
            page = error
        while not stop.is_set():
            try:
                output.put(page, timeout=_KEEP_EVERY)
                break
            except queue.Full:
                with contextlib.suppress(OSError):  # if the link is broken, fetching the next page fails
                    link.deadline = time.monotonic() + _KEEP_EVERY
                    link.send(wire.KEEP_HANDLE, [handle], wants_reply=False)
        if page is None or isinstance(page, BaseException):
            return


def chunks(page: bytes) -> list[Chunk]:
    """Returns the chunks in a page of a scan."""
    (count,), position, items = wire.U32.unpack_from(page), 4, []
    for _ in range(count):
        is_last, offset, size, n = _ITEM.unpack_from(page, position)
        position += _ITEM.size + n
        key = wire.decode_key(page[position - n : position])
        items.append(Chunk(key, offset, page[position : position + size], is_last == 1))
        position += size
    return _check_end(page, position, items)


def names(page: bytes) -> list[str]:
    """Returns the keys in a page of a listing."""
    (count,), offset, items = wire.U32.unpack_from(page), 4, []
    for _ in range(count):
        (n,) = wire.KEY.unpack_from(page, offset + 8)
        offset += 10 + n
        items.append(wire.decode_key(page[offset - n : offset]))
    return _check_end(page, offset, items)


def _check_end(page: bytes, offset: int, items: list[T]) -> list[T]:
    if offset != len(page):
        raise struct.error(f"parsing a page of {len(page)} bytes ended at byte {offset}")
    return items


def joined(pieces: Iterator[Chunk]) -> Iterator[tuple[str, bytes]]:
    """Yields each key with its whole value."""
    parts: list[bytes] = []
    with contextlib.closing(pieces):  # type: ignore[type-var]
        for chunk in pieces:
            parts.append(chunk.data)
            if chunk.last:
                yield chunk.key, b"".join(parts)
                parts = []


def namespaces(last: str, link: Link) -> tuple[bool, str, list[Namespace]]:
    """Reads the page of namespaces after the name last. Returns whether more pages follow, the page's last name, and
    the namespaces."""
    has_more, page, _ = link.ask(wire.NAMESPACES, [wire.text(last)])
    page_end, offset = _text(page, 0)
    if has_more and page_end <= last:
        raise link.bad_reply(wire.NAMESPACES, f"the page after {last!r} ends with {page_end!r}")
    (count,) = wire.U32.unpack_from(page, offset)
    offset += 4
    items = []
    for _ in range(count):
        name, offset = _text(page, offset)
        items.append(Namespace(name, *struct.unpack_from("<Qq", page, offset)))
        offset += 16
    return has_more, page_end, items


def _text(body: bytes, offset: int) -> tuple[str, int]:
    (size,) = wire.U32.unpack_from(body, offset)
    return wire.decode_key(body[offset + 4 : offset + 4 + size]), offset + 4 + size

"""Calls of Flight that Ctrl-C interrupts within a second, and that end in time."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.flight as flight

from .errors import told

T = TypeVar("T")

_CANCEL = 2.0  # seconds that the server has to answer that it ends a call
_UNTIL = 10.0  # seconds in which a call that is on its way may come to the server, to be ended there
_LATE = 0.5  # seconds that Flight has to say itself that the time is over
_PATIENCE = 0.5  # seconds of them that are waited for


class Call:
    """A call at a server: with it, what is done by wait() fails as partd_go's errors do.

    Where anything else ends the block, as Ctrl-C does, the server ends the call, too.
    """

    def __init__(
        self, client: Any, op: str, url: str, headers: Sequence[tuple[bytes, bytes]], timeout: float | None, changes: bool
    ):
        self.client, self._op, self._url, self._headers, self._timeout, self._changes = client, op, url, headers, timeout, changes
        self._id, self.left, self._under = secrets.token_hex(16), False, 0
        self._latest = None if timeout is None else time.monotonic() + timeout + _LATE
        self.options = flight.FlightCallOptions(timeout=timeout, headers=[*headers, (b"partd-call", self._id.encode())])

    def __enter__(self) -> Call:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (pa.ArrowException, KeyError, OSError)):
            raise told(error, self._op, self._url, self._changes, self._timeout) from error
        if error is not None:
            self.cancel()

    def check(self) -> None:
        """Fails in the thread of a call whose caller waits no more, so that no change of his is completed."""
        if self.left:
            raise InterruptedError(self._op)

    def wait(self, do: Callable[..., T], *args: Any) -> T:
        """What do returns. Python's signals come to the main thread, which must not be within Flight then; and a
        put whose time is over waits on there for a server that takes nothing."""
        if self._latest is None and threading.current_thread() is not threading.main_thread():
            return do(*args)
        ended, results, errors = threading.Event(), [], []

        def run() -> None:
            try:
                if not self.left:
                    results.append(do(*args))
            except BaseException as error:
                errors.append(error)
            self._under -= 1
            ended.set()

        self._under += 1
        threading.Thread(target=run, name=self._op, daemon=True).start()
        if not ended.wait(None if self._latest is None else max(0, self._latest - time.monotonic())):
            self.cancel()
            raise flight.FlightTimedOutError("Deadline Exceeded")
        if errors:
            raise errors[0]
        return results[0]

    def cancel(self) -> None:
        """Lets the server end the call, once it is there."""
        self.left = True
        options = flight.FlightCallOptions(timeout=_CANCEL, headers=list(self._headers))
        request = flight.Action("partd.cancel", json.dumps({"id": self._id}).encode())

        def ask() -> None:
            late = time.monotonic() + _UNTIL
            while time.monotonic() < late:
                with contextlib.suppress(Exception):  # a server that was stopped may go on
                    if any(json.loads(answer.body.to_pybytes())["cancelled"] for answer in self.client.do_action(request, options)):
                        return
                if not self._under:
                    return
                time.sleep(0.05)

        asking = threading.Thread(target=ask, name="cancel", daemon=True)
        asking.start()
        asking.join(_PATIENCE)

"""Makes Flight calls end at their timeout, and within a second of Ctrl-C."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.flight as flight

from ..errors import Misuse, parse_details
from .errors import convert_error

T = TypeVar("T")

CONCURRENT = 4  # maximum number of concurrent calls by call_each; by default, a server permits no more per connection
_CANCEL_TIMEOUT = 2.0  # time limit of one request to cancel a call, in seconds
_CANCEL_WINDOW = 10.0  # how long, in seconds, cancel repeats its request
_GRACE = 0.5  # how long, in seconds, wait lets Flight report a timeout itself
_CANCEL_WAIT = 0.5  # maximum time, in seconds, that cancel blocks its caller


def to_json(call: Mapping[str, Any], op: str) -> bytes:
    """Returns a call's fields as JSON. If JSON cannot represent a value, such as NaN, the error names the field."""
    for key in ("bucket", "name"):
        if not isinstance(value := call.get(key, ""), str):
            raise Misuse(
                f"{op}: {key} must be a string, not {type(value).__name__}: pass other arguments by name, such as "
                "columns= or params="
            )
    try:
        return json.dumps(call, allow_nan=False, default=_numpy_to_python).encode()
    except (TypeError, ValueError) as error:
        for name, value in _leaves(call, ""):
            if isinstance(value, float) and not math.isfinite(value):
                raise Misuse(f"{op}: {name} is {value}, which JSON cannot represent: pass None or a string") from None
            if not isinstance(value, (str, int, float, type(None))) and not _is_numpy(value):
                raise Misuse(
                    f"{op}: {name} has type {type(value).__name__}, which JSON cannot represent: pass strings, "
                    "numbers, lists or dicts"
                ) from None
        raise Misuse(f"{op}: {error}") from None


def _numpy_to_python(value: Any) -> Any:
    if not _is_numpy(value):
        raise TypeError(type(value).__name__)
    return value.tolist()


def _is_numpy(value: Any) -> bool:
    """Reports whether value is a NumPy value other than a time or a duration, whose tolist may return an int."""
    dtype = getattr(value, "dtype", None)
    return type(value).__module__ == "numpy" and dtype is not None and dtype.kind not in "mM"


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else None
    if parts is None:
        yield name, value
    for key, part in parts or ():
        yield from _leaves(part, f"{name}[{key!r}]" if name else str(key))


_current = threading.local()  # _current.call is the Call that this thread is working on


class Middleware(flight.ClientMiddlewareFactory):  # type: ignore[misc]
    """Lets each Call receive the details of its error, because Flight's exceptions do not have them."""

    def start_call(self, info: Any) -> Any:
        return getattr(_current, "call", None)


class Call(flight.ClientMiddleware):  # type: ignore[misc]
    """A call to a server. Its with block converts Flight's errors to partd_go's. If another exception, such as
    KeyboardInterrupt, ends the block, the call is cancelled on the server. For unknown_outcome_advice, see
    convert_error."""

    def __init__(
        self,
        client: Any,
        op: str,
        url: str,
        headers: Sequence[tuple[bytes, bytes]],
        timeout: float | None,
        unknown_outcome_advice: str,
    ):
        self.client = client
        self._op = op
        self._url = url
        self._headers = headers
        self._timeout = timeout
        self._unknown_outcome_advice = unknown_outcome_advice
        self._id = secrets.token_hex(16)
        self.details: dict[str, Any] | None = None  # the details that the server sent about an error
        self.abandoned = False
        self._thread_count = 0  # number of threads that still do work for wait
        self._deadline = None if timeout is None else time.monotonic() + timeout + _GRACE
        self.options = flight.FlightCallOptions(timeout=timeout, headers=[*headers, (b"partd-call", self._id.encode())])

    def __enter__(self) -> Call:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (pa.ArrowException, KeyError, OSError)):
            arguments = self._op, self._url, self._unknown_outcome_advice, self._timeout, self.details
            raise convert_error(error, *arguments) from error
        if error is not None:
            self.cancel()

    def check(self) -> None:
        """Raises InterruptedError if the call was abandoned, so that its thread does not complete a change."""
        if self.abandoned:
            raise InterruptedError(self._op)

    def wait(self, work: Callable[..., T], *args: Any) -> T:
        """Runs work and returns its result. Work runs in another thread in two cases: if the caller is the main thread,
        which handles signals and so must not block in Flight; and if the call has a timeout, because Flight does not
        end a put at its timeout if the server reads nothing."""
        if self._deadline is None and threading.current_thread() is not threading.main_thread():
            return self._run(work, *args)
        done, results, errors = threading.Event(), [], []

        def run() -> None:
            try:
                if not self.abandoned:
                    results.append(self._run(work, *args))
            except BaseException as error:
                errors.append(error)
            self._thread_count -= 1
            done.set()

        self._thread_count += 1
        threading.Thread(target=run, name=self._op, daemon=True).start()
        if not done.wait(None if self._deadline is None else max(0, self._deadline - time.monotonic())):
            self.cancel()
            raise flight.FlightTimedOutError("Deadline Exceeded")
        if errors:
            raise errors[0]
        return results[0]

    def _run(self, work: Callable[..., T], *args: Any) -> T:
        """Runs work as the current call of this thread, so that received_headers gets the details of an error."""
        _current.call = self
        try:
            return work(*args)
        finally:
            _current.call = None

    def received_headers(self, headers: Mapping[str, list[str]]) -> None:
        for details in headers.get("partd-error", ()):
            self.details = parse_details(details)

    def cancel(self) -> None:
        """Asks the server to end the call. It repeats the request, because the request may arrive before the call."""
        self.abandoned = True
        options = flight.FlightCallOptions(timeout=_CANCEL_TIMEOUT, headers=list(self._headers))
        request = flight.Action("partd.cancel", json.dumps({"id": self._id}).encode())

        def send() -> None:
            deadline = time.monotonic() + _CANCEL_WINDOW
            while time.monotonic() < deadline:
                with contextlib.suppress(Exception):  # retry after a failure: a suspended server may resume
                    if any(
                        json.loads(answer.body.to_pybytes())["cancelled"]
                        for answer in self.client.do_action(request, options)
                    ):
                        return
                if not self._thread_count:
                    return
                time.sleep(0.05)

        thread = threading.Thread(target=send, name="cancel", daemon=True)
        thread.start()
        thread.join(_CANCEL_WAIT)


def call_each(names: Iterable[str], call: Callable[[str], T]) -> dict[str, T]:
    """Returns a dict with the result of call for each name. It runs up to CONCURRENT calls at a time. After an error,
    it starts no more calls."""
    all_names = list(names)
    pool = concurrent.futures.ThreadPoolExecutor(CONCURRENT, "partd-tables")
    try:
        return dict(zip(all_names, pool.map(call, all_names)))
    finally:
        pool.shutdown(cancel_futures=True)

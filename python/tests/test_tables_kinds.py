"""Tests that errors get their classes from the kinds that servers and programs send, and not from our texts: here, all
our texts are x. Texts of gRPC and pyarrow are provoked, so a new version that changes them fails here."""

from __future__ import annotations

import datetime
import errno
import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
flight = pytest.importorskip("pyarrow.flight")

import partd_go
from partd_go.errors import parse_output, start_failure
from partd_go.tables import Exists, MomentError, NotFound, bulk, connect, errors, server
from partd_go.tables.errors import KINDS, convert_error

ROOT = Path(__file__).parents[2]
TIMES = {"time": "2024-01-02T00:00:00Z", "before": "2024-01-01T00:00:00Z", "after": "2024-01-03T00:00:00.5Z"}
# The classes for the kinds that Flight sends. The second one, if any, is for changes.
FLIGHT = {
    "unknown_outcome": (partd_go.UnknownOutcome,),
    "preempted": (partd_go.Busy, partd_go.UnknownOutcome),
    "call_limit": (partd_go.TimedOut, partd_go.UnknownOutcome),
    "idle_sender": (partd_go.TimedOut, partd_go.UnknownOutcome),
    "idle_receiver": (partd_go.TimedOut, partd_go.UnknownOutcome),
    "disk_full": (partd_go.NoSpace,),
    "canceled": (partd_go.TimedOut, partd_go.UnknownOutcome),
    "timed_out": (partd_go.TimedOut, partd_go.UnknownOutcome),
    "moment": (MomentError,),
    "not_found": (NotFound,),
    "exists": (Exists,),
    "conflict": (partd_go.Error,),
    "requirement": (partd_go.Error,),
    "not_empty": (partd_go.Misuse,),
    "closed": (partd_go.ConnectionFailed, partd_go.UnknownOutcome),
    "stopping": (partd_go.ConnectionFailed,),
    "unavailable": (partd_go.ConnectionFailed, partd_go.UnknownOutcome),
    "damaged": (partd_go.Corrupt,),
    "read_only": (partd_go.Refused,),
    "unsupported": (partd_go.Unsupported,),
    "too_large": (partd_go.TooLarge,),
    "memory": (partd_go.TooLarge,),
    "schema": (partd_go.SchemaMismatch,),
    "duplicates": (partd_go.Misuse,),
    "rules": (partd_go.Misuse,),
    "invalid": (partd_go.Misuse,),
    "sql": (partd_go.Misuse,),
    "filter": (partd_go.Misuse,),
    "bad_request": (partd_go.Misuse,),
    "unauthenticated": (partd_go.Refused,),
    "permission": (partd_go.Refused,),
    "busy": (partd_go.Busy,),
    "precondition": (partd_go.Error,),
    "in_use": (partd_go.Error,),
    "internal": (partd_go.Error,),
}
# The kinds that only faces over HTTP send.
HTTP = {"line", "no_such_path", "namespace_not_found", "method_not_allowed", "media_type", "unprocessable"}
HTTP |= {"body_too_large"}


class Details(flight.ServerMiddlewareFactory):
    """Makes each call fail with the details that `next` holds."""

    next: dict[str, object] | None = None

    def start_call(self, info, headers):
        return Sent(self.next)


class Sent(flight.ServerMiddleware):
    def __init__(self, details, text=None):
        self.text = text or json.dumps(details)
        self.is_empty = details is None and text is None

    def sending_headers(self):
        return {} if self.is_empty else {"partd-error": self.text}


class Failing(flight.FlightServerBase):
    error: Exception = flight.FlightServerError("x")

    def do_action(self, context, action):
        raise self.error

    def do_get(self, context, ticket):
        raise self.error

    def do_put(self, context, descriptor, reader, writer):
        raise self.error


@pytest.fixture(scope="module")
def failing():
    details = Details()
    with Failing("grpc://localhost:0", middleware={"details": details}) as fake:
        with connect(f"grpc://localhost:{fake.port}") as tables:
            yield fake, details, tables


READS = (lambda tables: tables.get("t"), lambda tables: tables.versions("t"))
CHANGES = (
    lambda tables: tables.put("t", pd.DataFrame({"n": [1]}), "append"),
    lambda tables: tables.action("partd.snapshot", bucket="", name="s"),
)


def caught(call, tables):
    with pytest.raises(partd_go.Error) as caught:
        call(tables)
    return caught.value


def rows_of(page):
    """Returns the words and the cells of the table of kinds."""
    lines = (ROOT / page).read_text().split("\n| word |")[1].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[: lines.index("")]]
    return {row[0].strip("`"): row for row in rows}


def test_words():
    """Python knows each kind in the tables of Go's servers and programs."""
    of_servers = rows_of("docs/dev/tables-wire.md")
    listed = (ROOT / "docs/cli.md").read_text().split("these words do not change:")[1].partition(".\n")[0]
    of_programs = re.findall(r"`(\w+)`", listed)
    assert len(of_servers) > 30 and len(of_programs) > 15
    assert set(FLIGHT) == set(of_servers) - HTTP
    assert {*FLIGHT, *of_programs} - set(KINDS) == {"interrupted"}


@pytest.mark.parametrize("kind", FLIGHT)
def test_kinds(failing, kind):
    """Each kind reaches its class through Flight. More kinds after it, and unknown kinds, change nothing."""
    _, details, tables = failing
    retry = rows_of("docs/dev/tables-wire.md")[kind][3]
    for kinds in ([kind], [kind, "not_found"], ["new_kind", kind]):
        details.next = {"kinds": kinds, "retry": retry, **(TIMES if kind == "moment" else {})}
        for call in READS:
            assert type(caught(call, tables)) is FLIGHT[kind][0]
        for call in CHANGES:
            assert type(caught(call, tables)) is FLIGHT[kind][-1]
    if kind == "moment":
        error = caught(READS[0], tables)
        utc = datetime.timezone.utc
        assert error.before == datetime.datetime(2024, 1, 1, tzinfo=utc)
        assert error.after == datetime.datetime(2024, 1, 3, 0, 0, 0, 500_000, tzinfo=utc)
        details.next = {"kinds": ["moment"], "retry": "no", "time": TIMES["time"]}
        error = caught(READS[0], tables)
        assert error.before is error.after is None


def test_advice(failing):
    _, details, tables = failing
    for kind, call, advice in (
        ("exists", CHANGES[0], 'mode="append"'),
        ("read_only", CHANGES[0], "without read_only"),
        ("disk_full", CHANGES[0], "free space"),
        ("not_found", READS[0], r"list\(\) and buckets\(\)"),
    ):
        details.next = {"kinds": [kind], "retry": "no"}
        assert re.search(f"x: .*{advice}", str(caught(call, tables)))
    details.next = {"kinds": ["timed_out"], "retry": "id"}
    error = caught(lambda tables: tables.get("t", timeout=20), tables)
    assert type(error) is partd_go.TimedOut and "no answer within 20 seconds: pass a longer timeout" in str(error)
    details.next = {"kinds": ["call_limit", "timed_out"], "retry": "id"}
    assert "x: try again later" in str(caught(lambda tables: tables.get("t", timeout=20), tables))


@pytest.mark.parametrize(
    "sent",
    [
        *([1], 1, None, {}, {"kinds": 1}, {"kinds": [{}, [], 1]}, {"kinds": ["moment"], "before": 1, "after": "x"}),
        {"kinds": ["moment"], "before": "0000-01-01T00:00:00Z"},
        "[" * 5000,
    ],
)
def test_invalid_details(failing, sent):
    """Details of another program change nothing, and do not replace the error."""
    _, details, tables = failing
    text = sent if isinstance(sent, str) else json.dumps(sent)
    start = details.start_call
    details.start_call = lambda info, headers: Sent(sent, text)
    try:
        error = caught(READS[0], tables)
    finally:
        details.start_call = start
    assert type(error) is (MomentError if "moment" in text else partd_go.Error)
    assert getattr(error, "before", None) is getattr(error, "after", None) is None


def test_missing_retry():
    """Without retry, a change may have been applied."""
    error = convert_error(flight.FlightUnavailableError("x"), "put", "u", "check", details={"kinds": ["new_kind"]})
    assert type(error) is partd_go.UnknownOutcome


def test_concurrent_calls(failing):
    """Calls in several threads over one connection get their own details."""
    _, details, tables = failing
    details.next = None
    kinds = ["not_found", "busy", "exists", "sql"]
    start = details.start_call
    turn = iter(kinds * 50)
    details.start_call = lambda info, headers: Sent({"kinds": [next(turn)], "retry": "no"})
    found = []
    try:
        threads = [
            threading.Thread(target=lambda: found.extend(type(caught(READS[0], tables)) for _ in range(50)))
            for _ in kinds
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        details.start_call = start
    assert sorted(map(str, found)) == sorted(str(KINDS[kind][0]) for kind in kinds * 50)


# What a server that sends no kinds means by Flight's classes.
CLASSES = {
    flight.FlightUnavailableError: partd_go.ConnectionFailed,
    flight.FlightUnauthenticatedError: partd_go.Refused,
    flight.FlightUnauthorizedError: partd_go.Refused,
    flight.FlightTimedOutError: partd_go.TimedOut,
    flight.FlightCancelledError: partd_go.TimedOut,
    flight.FlightServerError: partd_go.Error,
    pa.ArrowKeyError: NotFound,
    pa.ArrowNotImplementedError: partd_go.Unsupported,
    pa.ArrowInvalid: partd_go.Misuse,
}


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("call", [READS[0], CHANGES[0], CHANGES[1]])
def test_foreign_decoration(failing, kind, call):
    """The message has nothing that gRPC and pyarrow add to the server's text."""
    fake, details, tables = failing
    details.next = None
    fake.error = kind("the text: of the server.")
    try:
        error = caught(call, tables)
    finally:
        fake.error = Failing.error
    assert ". Detail: " in str(error.__cause__)  # otherwise, nothing needs to be removed
    assert type(error) in (CLASSES[kind], partd_go.UnknownOutcome)
    advice = f"(: {re.escape(KINDS[kind_of(kind)][1])}|: {errors.CHECK}.*)?"
    assert re.fullmatch(f"the text: of the server.{advice}", str(error).partition(f"{tables.url}: ")[2])


def kind_of(flight_class):
    return next((kind for known, kind in errors._KIND_OF_CLASS if issubclass(flight_class, known)), "internal")


def test_foreign_text_without_connection(tmp_path):
    """If nobody listens, gRPC says that it failed to connect, so a change was not applied. If a connection breaks, gRPC
    says something else, so the change may have been applied."""
    for url in ("grpc://localhost:1", f"grpc+unix://{tmp_path}/socket"):
        with connect(url) as tables:
            error = caught(CHANGES[0], tables)
            assert type(error) is partd_go.ConnectionFailed and errors._NOT_CONNECTED in str(error.__cause__)
            assert ", with message: " in str(error.__cause__) and ". gRPC client debug context: " in str(
                error.__cause__
            )
            assert not re.search("with message|debug context|Client context", str(error))
    code = """
import os, pyarrow.flight as flight
class Dying(flight.FlightServerBase):
    def do_action(self, context, action):
        os._exit(1)
server = Dying("grpc://localhost:0")
print(server.port, flush=True)
server.serve()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as dying:
        with connect(f"grpc://localhost:{int(dying.stdout.readline())}") as tables:
            error = caught(CHANGES[1], tables)
    assert type(error) is partd_go.UnknownOutcome and errors._NOT_CONNECTED not in str(error.__cause__)


def test_own_texts_are_not_read():
    """Texts that once selected a class no longer do."""
    for text in (
        "no space left on device",
        "x already exists",
        "open only for reading",
        "connect(memory=",
        "canceled in favor",
    ):
        assert type(convert_error(flight.FlightServerError(text), "put", "u")) is partd_go.Error
    for text in ("no space left on device", "in use by another process", "permission denied", "unknown flag: --x"):
        error = start_failure("/d", text)
        assert type(error) is partd_go.NoServer and "in a terminal" in str(error)


def program(tmp_path, kinds, code=1, signal=None):
    script = tmp_path / "program"
    line = json.dumps({"kinds": kinds, "error": "x"})
    script.write_text(
        f"#!/bin/sh\necho a warning >&2\n[ $PARTD_ERRORS = json ] && echo '{line}' >&2\n"
        + (f"kill -{signal} $$\n" if signal else f"exit {code}\n")
    )
    script.chmod(0o755)
    return str(script)


PROGRAMS = {
    "killed": (None, partd_go.Killed),
    "usage": (partd_go.Misuse, partd_go.NoServer),
    "disk_full": (partd_go.NoSpace, partd_go.NoSpace),
    "quota": (partd_go.NoSpace, partd_go.NoSpace),
    "in_use": (partd_go.Error, partd_go.NoServer),
    "file_permission": (partd_go.Error, partd_go.NoServer),
    "read_only_disk": (partd_go.Error, partd_go.NoServer),
    "no_such_file": (NotFound, partd_go.NoServer),
    "dir_not_empty": (Exists, partd_go.NoServer),
    "other_keys": (Exists, partd_go.NoServer),
    "not_per_key": (partd_go.Misuse, partd_go.NoServer),
    "schema": (partd_go.SchemaMismatch, partd_go.NoServer),
    "internal": (partd_go.Error, partd_go.NoServer),
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_programs(tmp_path, kind, monkeypatch):
    """The kinds that a program prints select the class for split() and for a server that does not start."""
    path = program(tmp_path, [kind, "internal"])
    of_split, of_server = PROGRAMS[kind]
    monkeypatch.setattr(bulk, "program", lambda: path)
    if of_split:
        error = caught(lambda _: bulk.split("in.csv", by="a", dir=tmp_path / "d"), None)
        assert type(error) is of_split and str(error).startswith(f"split at {tmp_path}/d: a warning\nx")
    monkeypatch.setattr(server, "program", lambda: path)
    for open_server in (server.serve, server.open_server):
        error = caught(lambda _: open_server(str(tmp_path / "d"), flags=(), start_timeout=30), None)
        assert type(error) is of_server and "a warning\nx" in str(error)


@pytest.mark.parametrize("name", ["KILL", "SEGV"])
def test_killed_programs(tmp_path, monkeypatch, name):
    """If the system kills a program, the error has its own class, which is also NoServer."""
    path = program(tmp_path, ["internal"], signal=name)
    monkeypatch.setattr(bulk, "program", lambda: path)
    monkeypatch.setattr(server, "program", lambda: path)
    error = caught(lambda _: bulk.split("in.csv", by="a", dir=tmp_path / "d"), None)
    assert type(error) is partd_go.Killed and f"exit code -{signal.Signals['SIG' + name].value}" in str(error)
    for open_server in (server.serve, server.open_server):
        error = caught(lambda _: open_server(str(tmp_path / "d"), flags=(), start_timeout=30), None)
        assert type(error) is partd_go.Killed and isinstance(error, partd_go.NoServer) and "memory" in str(error)


def test_interrupted_program(tmp_path, monkeypatch):
    """A program that was interrupted was not killed, although its exit code is also above 128."""
    monkeypatch.setattr(server, "program", lambda: program(tmp_path, ["interrupted"], code=130))
    error = caught(lambda _: server.serve(str(tmp_path / "d"), flags=(), start_timeout=30), None)
    assert type(error) is partd_go.NoServer and "did not start: a warning\nx" in str(error)


def test_errno_of_a_server_that_cannot_start():
    for number, kind, advice in (
        (errno.ENOSPC, partd_go.NoSpace, "free space"),
        (errno.EDQUOT, partd_go.NoSpace, "free space"),
        (errno.EROFS, partd_go.NoServer, "can write"),
        (errno.EACCES, partd_go.NoServer, "can write"),
        (errno.ENOENT, partd_go.NoServer, "check the path"),
        (errno.EIO, partd_go.NoServer, "in a terminal"),
    ):
        error = start_failure("/d", OSError(number, "x"))
        assert type(error) is kind and advice in str(error)


def test_output():
    line = '{"kinds": ["a"], "error": "x", "n": 1}'
    details = {"kinds": ["a"], "error": "x", "n": 1}
    for output, expected in (
        (f"w\n{line}\n", (details, "w\nx")),
        (f"{line}\nlate log\n", (details, "x\nlate log")),
        ('{"level": "WARN"}\n[1]\n1\n', ({"kinds": []}, '{"level": "WARN"}\n[1]\n1')),
        ('{"kinds": 1}\n{"kinds": [[]]}', ({"kinds": []}, '{"kinds": 1}\n{"kinds": [[]]}')),
        ("", ({"kinds": []}, "")),
    ):
        assert parse_output(output) == expected

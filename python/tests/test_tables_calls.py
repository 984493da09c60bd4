"""Tests that calls of tables end at their timeout and at Ctrl-C, and do not wait for a server that fails to start."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import threading
import time

import pytest

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")

import partd_go
from partd_go.server import find
from partd_go.tables import connect, server

ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE (a.range * b.range) % 7 = 3"


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    try:
        server.program()
    except partd_go.NoServer as error:
        pytest.skip(str(error))
    with connect(tmp_path_factory.mktemp("calls"), flags=("--max-queries", "1", "--drain-timeout", "1s")) as tables:
        tables.put("t", pd.DataFrame({"n": range(10)}))
        yield tables


@pytest.fixture(autouse=True)
def restore_interrupts():
    """Makes Ctrl-C raise KeyboardInterrupt, because Python ignores it in a shell's background job."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


CALLS = {
    "sql": lambda tables, **options: tables.sql(ENDLESS, **options),
    "scan": lambda tables, **options: next(iter(tables.scan("t", **options))),
    "get": lambda tables, **options: tables.get("t", **options),
    "put": lambda tables, **options: tables.put("put", pd.DataFrame({"n": range(1_000_000)}), "append", **options),
    "list": lambda tables, **options: tables.list(**options),
    "describe": lambda tables, **options: tables.describe("t", **options),
    "buckets": lambda tables, **options: tables.buckets(**options),
    "delete": lambda tables, **options: tables.delete("none", **options),
    "delete_bucket": lambda tables, **options: tables.delete_bucket("none", **options),
    "combine": lambda tables, **options: tables.combine(["t", "t"], "both", mode="replace", **options),
    "resample": lambda tables, **options: tables.resample(
        "t", "resampled", sql="SELECT n FROM t", mode="replace", **options
    ),
    "resampled": lambda tables, **options: tables.resampled("t", "1us", "n", "size", **options),
    "action": lambda tables, **options: tables.action("partd.buckets", **options),
}
CHANGES = {"put", "delete", "delete_bucket", "combine", "resample"}


def _server_pid(group):
    """Returns the process ID of the server in a process group, whose leader is a shell."""
    return subprocess.run(
        ["pgrep", "-g", str(group), "-x", "partd-tables"], capture_output=True, text=True
    ).stdout.split()[0]


@contextlib.contextmanager
def stopped_server(tables):
    """Suspends the server, so that it does not reply."""
    group = tables._server._process.pid
    os.killpg(group, signal.SIGSTOP)
    try:
        while (
            "T"
            not in subprocess.run(
                ["ps", "-o", "stat=", "-p", _server_pid(group)], capture_output=True, text=True
            ).stdout
        ):
            time.sleep(0.01)
        yield
    finally:
        os.killpg(group, signal.SIGCONT)


@contextlib.contextmanager
def expect_interrupt(after=0.5, within=1.5):
    """Sends Ctrl-C, which must end the block, after the given number of seconds."""
    timer = threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT))
    start = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        yield
    timer.join()
    assert after <= time.monotonic() - start < after + within


@pytest.mark.parametrize("call", CALLS)
def test_interrupt(tables, call):
    with stopped_server(tables), expect_interrupt():
        CALLS[call](tables)
    assert tables.buckets(timeout=10) == []
    if call == "put":  # an interrupted put is not completed later
        time.sleep(1)
        assert "put" not in tables.list(timeout=10)


def test_interrupt_ends_the_query(tables):
    """The server stops an interrupted query. It runs one query at a time, so otherwise the next query would wait."""
    with expect_interrupt():
        tables.sql(ENDLESS)
    start = time.monotonic()
    assert tables.sql("SELECT sum(n) AS n FROM t", as_="arrow", timeout=20).column("n").to_pylist() == [45]
    assert time.monotonic() - start < 5


def test_abandoned_scan_ends(tables):
    """A scan ends when its reader is no longer referenced, so that the next scan can start."""
    tables.put("many", pd.DataFrame({"n": range(3_000_000)}), "replace")
    rows = tables.scan("many")
    next(iter(rows))
    del rows
    assert len(tables.get("t", timeout=20)) == 10


@pytest.mark.parametrize("call", CALLS)
def test_timeout(tables, call):
    start = time.monotonic()
    with (
        stopped_server(tables),
        pytest.raises(partd_go.UnknownOutcome if call in CHANGES else partd_go.TimedOut, match="0.5 seconds"),
    ):
        CALLS[call](tables, timeout=0.5)
    assert time.monotonic() - start < 2


def test_default_timeout(tmp_path):
    with connect(tmp_path, timeout=0.5) as hasty:
        with pytest.raises(partd_go.TimedOut, match="pass a longer timeout"):
            hasty.sql(ENDLESS)
        assert hasty.sql("SELECT 7 AS n", timeout=20)["n"].tolist() == [7]


def test_slow_start(tmp_path, monkeypatch):
    slow = tmp_path / "partd-tables"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(slow.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(server, "program", lambda: str(slow))
    start = time.monotonic()
    with pytest.raises(partd_go.NoServer, match="was not ready within 0.5 seconds.*start_timeout"):
        connect(tmp_path / "d", start_timeout=0.5)
    with expect_interrupt():
        connect(tmp_path / "d")
    assert time.monotonic() - start < 10


def test_start_of_partd_server(tmp_path, monkeypatch):
    try:
        find("partd-server")
    except partd_go.NoServer as error:
        pytest.skip(str(error))
    with pytest.raises(partd_go.NoServer, match="--help"):
        partd_go.serve(flags=("--no-such-flag",))

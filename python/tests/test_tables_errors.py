"""Tests that errors of tables have the right class, name the affected object and a remedy, and contain no internal
terms."""

from __future__ import annotations

import datetime
import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
flight = pytest.importorskip("pyarrow.flight")

import partd_go
from partd_go.errors import seconds, start_failure
from partd_go.tables import connect, connection, server

JARGON = ("rpc error", "code =", "visitor", "gRPC", "grpc", "goroutine", "mend what it says", "nil", "SET memory_limit")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    try:
        server.program()
    except partd_go.NoServer as error:
        pytest.skip(str(error))
    with connect(tmp_path_factory.mktemp("errors")) as tables:
        tables.put("t", pd.DataFrame({"n": [1, 2], "x": ["a", "b"]}))
        yield tables


MISUSES = {
    "mode": lambda tables: tables.put("t", pd.DataFrame({"n": [1]}), "add"),
    "value": lambda tables: tables.put("t", object()),
    "filter": lambda tables: tables.get("t", where=[("n", "~", 1)]),
    "filter's text": lambda tables: tables.get("t", where="n >"),
    "filter's column": lambda tables: tables.get("t", where="m > 1"),
    "columns": lambda tables: tables.get("t", columns=["m"]),
    "as_": lambda tables: tables.get("t", as_="csv"),
    "types": lambda tables: tables.put("t", pd.DataFrame({"n": ["text"]}), "append"),
    "statement": lambda tables: tables.sql("SELEC 1"),
    "statement's column": lambda tables: tables.sql("SELECT m FROM t"),
    "name": lambda tables: tables.put("", pd.DataFrame({"n": [1]})),
    "spans": lambda tables: tables.put("i", pa.table({"i": pa.array([pa.MonthDayNano([1, 2, 3])])})),
    "time": lambda tables: tables.get("t", at="yesterday"),
    "number as time": lambda tables: tables.changes("t", since=1.5),
    "time of SQL": lambda tables: tables.sql("SELECT 1", at="x"),
    "columns of one name": lambda tables: tables.put("d", pd.DataFrame([[1, 2]], columns=["a", "a"])),
    "no parameters": lambda tables: tables.sql("SELECT ?", params=[]),
    "rule": lambda tables: tables.resample("t", "r", "5parsec", "n"),
    "flags": lambda tables: connect(tables.url, memory="1GiB"),
    "scheme": lambda tables: connect("tables://x"),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_misuse(tables, misuse):
    with pytest.raises(partd_go.Misuse) as caught:
        MISUSES[misuse](tables)
    text = str(caught.value).replace(tables.url, "")
    assert isinstance(caught.value, partd_go.Error) and not any(word in text for word in JARGON), text


def test_date_is_midnight(tables):
    """Checks that a date selects the state at its midnight in UTC, which is before the table was created."""
    with pytest.raises(partd_go.Error, match="2020-01-02T00:00:00Z"):
        tables.get("t", at=datetime.date(2020, 1, 2))


def test_wrong_names(tables):
    """Checks that errors about unknown options and methods name the method that was called and the one to call."""
    with pytest.raises(TypeError, match=r"^get\(\) got an unexpected keyword argument 'limt' \(did you mean limit\?\)"):
        tables.get("t", limt=1)
    with pytest.raises(TypeError, match=r"^get\(\) got .* 'first'.*: the options are .*limit"):
        tables["t"].get(first=1)
    for owner in (tables, tables["t"]):
        with pytest.raises(AttributeError, match=r"no attribute 'head': call get\(limit=…\)$"):
            _ = owner.head
        with pytest.raises(AttributeError, match=r"no attribute 'nothing'$"):
            _ = owner.nothing
    assert tables.sql("SELECT 1 AS n", params=[])["n"].tolist() == [1]


def test_silent_server(tmp_path, monkeypatch):
    """Checks that a call fails if the server does not answer pings, and that the error says what to do."""
    faster = [(name, min(value, 1000)) for name, value in connection._KEEP_ALIVE]
    monkeypatch.setattr(connection, "_KEEP_ALIVE", faster)
    with connect(tmp_path) as tables:
        process = tables._server._process.pid
        tables.put("t", pd.DataFrame({"n": [1]}))
        os.killpg(process, signal.SIGSTOP)
        try:
            with pytest.raises(partd_go.ConnectionFailed, match="check that the server is running"):
                tables.get("t", timeout=20)
        finally:
            os.killpg(process, signal.SIGCONT)


def test_one_second():
    assert seconds(1) == "1 second" and seconds(1.5) == "1.5 seconds" and seconds(60.0) == "60 seconds"


def test_misuse_is_one_class():
    assert issubclass(partd_go.SchemaMismatch, partd_go.Misuse)
    assert issubclass(partd_go.Misuse, ValueError) and issubclass(partd_go.Misuse, TypeError)


def test_memory(tables, tmp_path):
    """A statement spills to disk before it fails, and its error says how to give it more memory."""
    with connect(tmp_path, memory="1GiB") as small:  # a statement gets an eighth of this
        join = (
            "SELECT count(*) AS n FROM (SELECT a.range AS k FROM "
            "range(8700000) a JOIN range(8700000) b ON a.range = b.range)"
        )
        assert small.sql(join)["n"].tolist() == [8_700_000]
        with pytest.raises(partd_go.TooLarge, match=r"connect\(memory=") as caught:
            small.sql("SELECT list(a.range) AS all FROM range(40000000) a")
        assert not any(word in str(caught.value).replace(small.url, "") for word in JARGON)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
@pytest.mark.parametrize("explicit", [False, True])
def test_read_only(tables, tmp_path, explicit):
    """A directory without write permission can be read, including rows that are only in the tail."""
    place = tmp_path / "d"
    tables = connect(place)
    tables.put("t", pd.DataFrame({"n": range(10)}))
    tables.put("t", pd.DataFrame({"n": [10]}), "append")
    os.killpg(tables._server._process.pid, 9)
    tables.close()
    code = f"""
import os, partd_go, pandas
from partd_go.tables import connect
with connect({str(place)!r}, read_only={explicit}) as tables:
    assert tables.get("t")["n"].tolist() == list(range(11))
    assert tables.sql("SELECT sum(n) AS n FROM t")["n"].tolist() == [55]
    for change in (lambda: tables.put("t", pandas.DataFrame({{"n": [1]}}), "append"), lambda: tables.delete("t"),
                   lambda: tables.action("partd.snapshot", bucket="", name="s"), lambda: tables.action("partd.fold")):
        try:
            change()
        except partd_go.Refused as error:
            assert "read_only" in str(error) and "token" not in str(error), error
        else:
            raise AssertionError("changed")
"""
    if not explicit:
        for parent, _, files in os.walk(place):
            for name in files:
                os.chmod(os.path.join(parent, name), 0o444)
            os.chmod(parent, 0o555)
    before = sorted((path, os.stat(path).st_mtime_ns) for path in place.rglob("*"))
    # Without these capabilities, file modes also restrict root.
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    subprocess.run(
        [*drop, sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert sorted((path, os.stat(path).st_mtime_ns) for path in place.rglob("*")) == before
    for parent, _, _ in os.walk(place):
        os.chmod(parent, 0o755)


def test_full_disk(tables, tmp_path):
    """A full disk raises NoSpace during a put, a resample, and the start of a server."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", place], capture_output=True).returncode:
        pytest.skip("needs to mount a file system")
    try:
        with connect(place) as tables:
            with pytest.raises(partd_go.NoSpace, match="free space") as caught:
                for n in range(8):
                    tables.put(f"t{n}", pa.table({"b": [os.urandom(2 << 20)]}))
            assert isinstance(caught.value, OSError)
            with pytest.raises(partd_go.NoSpace):
                tables.resample("t0", "copy", sql="SELECT b, b AS c, b AS d, b AS e FROM t0", mode="replace")
        (place / "fill").write_bytes(b"")
        with open(place / "fill", "ab", buffering=0) as fill:
            with pytest.raises(OSError):
                while True:
                    fill.write(bytes(1 << 12))
        with pytest.raises(partd_go.NoSpace):
            connect(place / "new")
    finally:
        deadline = time.monotonic() + 30  # a server that has just been stopped may still have the directory open
        while subprocess.run(["umount", place]).returncode and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not os.path.ismount(place)


def test_full_disk_while_a_file_is_converted(tables, tmp_path, monkeypatch):
    """A program that converts a file for put, and finds a full disk, raises NoSpace."""
    (tmp_path / "in.csv").write_text("a\n1\n")
    (tmp_path / "program").write_text(
        """#!/bin/sh\necho '{"kinds": ["disk_full"], "error": "write /tmp/a: full"}' >&2\nexit 1\n"""
    )
    (tmp_path / "program").chmod(0o755)
    monkeypatch.setattr("partd_go.tables.files.program", lambda: str(tmp_path / "program"))
    with pytest.raises(partd_go.NoSpace, match=r"in\.csv.*free space"):
        tables.put("converted", tmp_path / "in.csv")
    assert "converted" not in tables.list()


def test_newer_client(tables, monkeypatch):
    monkeypatch.setattr(connection, "_PROTOCOL", (b"partd-protocol", b"2"))
    with pytest.raises(
        partd_go.Unsupported,
        match="the client speaks version 2 of the protocol, but the server version 1: upgrade the server",
    ):
        connect(tables.url).list()


def test_not_started(tables, tmp_path):
    """Checks the class and the advice for real causes: used by another process, missing, and wrong flags."""
    with connect(tmp_path / "used") as used:
        used.list()
        for store, flags, kind, advice in (
            (tmp_path / "used", ("--read-only=false",), partd_go.NoServer, "connect to the server that has it"),
            (tmp_path / "missing", ("--read-only",), partd_go.NoServer, "check the path"),
            (tmp_path / "new", ("--no-such-flag",), partd_go.NoServer, "--help"),
        ):
            with pytest.raises(kind, match=f"did not start: .*{advice}"):
                server.serve(store, port=0, flags=flags)
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/d")
    assert "open tables with read_only" in str(start_failure("/d", denied))
    assert str(start_failure("log:/x", denied)).endswith("can write to")


def test_two_earlier_states(tables):
    with pytest.raises(partd_go.Misuse, match="only one of since and since_snapshot"):
        tables.table("t").changes(since=1, since_snapshot="s")

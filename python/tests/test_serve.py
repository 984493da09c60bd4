"""Tests the private servers of a program, and that they leave no files."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import partd_go
import partd_go.server

PROGRAM = """
import os, sys, time, partd_go
server = partd_go.serve(sys.argv[1] or None)
store = partd_go.Client(server.url)
store.append({"x": b"1"})
if sys.argv[2] == "fork" and os.fork() == 0:
    time.sleep(30)
print(server._process.pid, flush=True)
if sys.argv[2] != "end":
    time.sleep(30)
"""


@pytest.fixture
def temp_directory(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "tmp"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    monkeypatch.setenv("TMPDIR", str(path))
    return path


def test_serve(temp_directory, tmp_path):
    store = f"log:{tmp_path}/kept"
    for i in range(2):
        with partd_go.serve(store) as url, partd_go.Client(url) as client:
            (sockets,) = temp_directory.iterdir()
            assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
            client.append({"x": b"%d" % i})
            assert client.get("x") == b"01"[: i + 1]
        assert list(temp_directory.iterdir()) == []


def test_temporary_store(temp_directory, tmp_path):
    (tmp_path / "with a space").mkdir()
    with partd_go.serve(directory=tmp_path / "with a space") as url, partd_go.Client(url) as client:
        client.append({"x": b"1"})
        assert client.stat().keys == 1 and list((tmp_path / "with a space").iterdir())
    assert not list((tmp_path / "with a space").iterdir()) and not list(temp_directory.iterdir())


def test_long_directories(temp_directory, tmp_path, monkeypatch):
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with partd_go.serve() as url, partd_go.Client(url) as client:
        client.append({"x": b"1"})
    assert not list(long.iterdir())


@pytest.mark.parametrize("ending", ["end", "kill", "fork", "term"])
@pytest.mark.parametrize("kept", [False, True])
def test_ends_with_the_process(temp_directory, tmp_path, ending, kept):
    store = f"log:{tmp_path}/kept" if kept else ""
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, store, ending], stdout=subprocess.PIPE, cwd=tmp_path)
    server = int(program.stdout.readline())
    if ending != "end":
        os.kill(program.pid, signal.SIGTERM if ending == "term" else signal.SIGKILL)
    program.wait()
    program.stdout.close()
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{server}") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{server}")
    assert list(temp_directory.iterdir()) == []
    if kept:
        with partd_go.serve(store) as url, partd_go.Client(url) as client:
            assert client.get("x") == b"1"


def test_signal_to_the_session(temp_directory):
    """A signal to the server's whole session, as at logout, leaves no files."""
    server = partd_go.serve()
    os.killpg(server._process.pid, signal.SIGTERM)
    server._process.wait(20)
    assert list(temp_directory.iterdir()) == []
    server.close()


def test_program_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(partd_go.server, "_BIN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(partd_go.NoServer, match="lacks the program: install Go, then partd-go"):
        partd_go.serve()
    with pytest.raises(SystemExit, match="lacks the program"):
        partd_go.server.run_partd()


def test_script_does_not_start_itself(tmp_path, monkeypatch):
    """If the wheel lacks its program, it does not use its own script on the PATH as the program."""
    script = tmp_path / "partd-server"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert partd_go.server.find("partd-server", tmp_path / "none") == str(script)
    with pytest.raises(partd_go.NoServer, match="lacks the program"):
        partd_go.server.find("partd-server", tmp_path / "none", script=str(script))


def test_server_does_not_start(temp_directory, tmp_path):
    (tmp_path / "file").write_text("no store")
    with pytest.raises(partd_go.NoServer, match="did not start: .*file"):
        partd_go.serve(f"log:{tmp_path}/file")
    with pytest.raises(partd_go.NoServer, match="no-such-flag"):
        partd_go.serve(flags=("--no-such-flag",))
    assert list(temp_directory.iterdir()) == []


def test_no_shell_or_directory(temp_directory, tmp_path, monkeypatch):
    with pytest.raises(partd_go.NoServer, match="none"):
        partd_go.serve(directory=tmp_path / "none")
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda args, **options: start([f"{tmp_path}/sh", *args[1:]], **options))
    with pytest.raises(partd_go.NoServer, match="No such file or directory: .*/sh"):
        partd_go.serve()
    assert list(temp_directory.iterdir()) == []


def test_two_servers_of_one_directory(temp_directory, tmp_path):
    with partd_go.serve(f"log:{tmp_path}/kept") as url, partd_go.Client(url) as client:
        with pytest.raises(partd_go.NoServer, match="did not start"):
            partd_go.serve(f"log:{tmp_path}/kept")
        client.append({"x": b"1"})
        assert client.get("x") == b"1"


def test_server_that_does_not_end(temp_directory, monkeypatch):
    server = partd_go.serve()
    os.killpg(server._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(partd_go.server, "_STOP_TIMEOUT", 0.1)
    with pytest.raises(partd_go.NoServer, match="did not stop within"):
        server.close()
    assert list(temp_directory.iterdir()) == []


def test_server_that_is_killed(temp_directory):
    server = partd_go.serve()
    os.killpg(server._process.pid, signal.SIGKILL)
    with pytest.raises(partd_go.NoServer, match="exit code -9"):
        server.close()
    assert list(temp_directory.iterdir()) == []

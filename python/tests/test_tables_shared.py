"""Tests that all clients of a directory share its server, in one process and in several, across kills of clients and
servers."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
import pyarrow as pa

import partd_go
from partd_go.tables import connect
from partd_go.tables.server import Server, SharedServer

ROW = pa.table({"n": [1]})

# Another notebook: it runs the statements that it reads, and answers each with a line.
NOTEBOOK = """
import os, sys
import pyarrow as pa
from partd_go.tables import connect
print("started", flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


class Notebook:
    """A process that runs Python statements."""

    def __init__(self, directory):
        code = NOTEBOOK.replace("for line", f"directory = {str(directory)!r}\nfor line")
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "started\n"

    def send(self, statement):
        self.process.stdin.write(statement + "\n")
        self.process.stdin.flush()

    def run(self, statement):
        self.send(statement)
        return self.receive()

    def receive(self):
        return "".join(iter(self.process.stdout.readline, "done\n"))

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@contextlib.contextmanager
def notebook(directory):
    opened = Notebook(directory)
    try:
        yield opened
    finally:
        opened.kill()


def sockets(tables):
    """Returns the directory of a server's sockets, which is removed when the server has ended."""
    return Path(tables.url.removeprefix("grpc+unix://")).parent


def kill_server(directory, kind=signal.SIGKILL):
    """Kills the server of a directory, or sends it another signal."""
    servers = subprocess.run(
        ["pgrep", "-f", f"^[^ ]*partd-tables serve --dir {directory} "], capture_output=True, text=True
    ).stdout.split()
    for pid in servers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), kind)
    return len(servers)


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_process(tmp_path, monkeypatch):
    """Running a cell again makes another handle. Closing one does not close the others, and the last one stops the
    server."""
    monkeypatch.chdir(tmp_path)
    first = connect("market")
    first.put("q", ROW)
    second, third = connect("market/"), connect(tmp_path / "market", timeout=60)
    assert first.url == second.url == third.url and second._server._process is None
    first.close()
    second.put("q", ROW, "append")
    with pytest.raises(partd_go.Closed):
        first.list()
    third.close()
    assert len(second.get("q")) == 2 and sockets(second).exists()
    second.close()
    wait_until(lambda: not sockets(second).exists())
    assert [
        path.name
        for path in (tmp_path / "market").iterdir()
        if path.stat().st_mode & 0o077 and path.name.startswith(".")
    ] == []
    subprocess.run(
        [first._server._program, "get", "q", "--dir", "market"], check=True, capture_output=True
    )  # the directory is free


def test_concurrent_handles(tmp_path):
    opened, lock = [], threading.Lock()

    def open_one():
        tables = connect(tmp_path)
        with lock:
            opened.append(tables)

    threads = [threading.Thread(target=open_one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 6 and len({tables.url for tables in opened}) == 1
    for tables in opened:
        tables.close()


def test_another_notebook(tmp_path):
    """Another process uses the running server, which stays when the process that started it is killed."""
    with notebook(tmp_path) as starter:
        url = starter.run(
            "tables = connect(directory); tables.put('q', pa.table({'n': [1]})); print(tables.url)"
        ).strip()
        with connect(tmp_path) as tables:
            assert tables.url == url and tables.list() == ["q"]
            tables.put("q", ROW, "append")
            assert starter.run("print(len(tables['q']))") == "2\n"
            starter.kill()
            tables.put("q", ROW, "append")
            assert len(tables["q"]) == 3 and tables.url == url


def test_restarted_at_once(tmp_path):
    """A client that connects while the server of a killed client is ending gets a server with all its rows."""
    with notebook(tmp_path) as helper:
        for count in range(1, 5):
            helper.run("tables = connect(directory); tables.put('q', pa.table({'n': range(1000)}), 'append')")
            if count % 2:
                helper.send("tables.close()")
            else:
                helper.kill()
                helper.__init__(tmp_path)
            with connect(tmp_path) as tables:
                assert len(tables["q"]) == 1000 * count
            if count % 2:
                helper.receive()


def test_killed_server(tmp_path):
    """After the server was killed, the next call of each handle uses a new one."""
    with connect(tmp_path, memory="1GiB") as one, connect(tmp_path) as two, notebook(tmp_path) as other:
        other.run("tables = connect(directory)")
        one.put("q", ROW)
        before = one.url
        assert not one.ended() and kill_server(tmp_path) == 1
        wait_until(one.ended)
        assert (
            two.list() == ["q"] and "1GiB" in two._server._address_file().read_text()
        )  # the new server has the options of the first
        two.put("q", ROW, "append")
        assert len(one["q"]) == 2 and one.url == two.url != before and not one.ended()
        assert other.run("print(len(tables['q']), tables.url)") == f"2 {one.url}\n"
        kill_server(tmp_path)
        two.close()  # raises nothing: the server wrote each row before it answered
        with connect(tmp_path) as three:
            assert len(three["q"]) == len(one["q"]) == 2


def test_stopped_server(tmp_path):
    """After the server stopped because of a signal, the next call of each handle uses a new one."""
    with connect(tmp_path) as one, connect(tmp_path) as two:
        one.put("q", ROW)
        before = one.url
        assert kill_server(tmp_path, signal.SIGTERM) == 1
        wait_until(lambda: one.ended() and two.ended())
        assert len(two["q"]) == len(one["q"]) == 1 and one.url == two.url != before


def test_threads_after_kill(tmp_path):
    with connect(tmp_path) as tables:
        tables.put("q", ROW)
        kill_server(tmp_path)
        wait_until(tables.ended)
        lengths = []
        threads = [threading.Thread(target=lambda: lengths.append(len(tables["q"]))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert lengths == [1] * 6 and kill_server(tmp_path) == 1


def test_lock_after_kill(tmp_path):
    """A lock excludes other clients again soon after its server was killed. If another client is faster, the block says
    so."""
    with connect(tmp_path) as one, connect(tmp_path) as two:
        with one.lock("job"):
            kill_server(tmp_path)
            wait_until(lambda: one.ended() or two.ended())
            wait_until(lambda: not one.ended())  # the lock's thread has started a new server
            time.sleep(0.3)
            with pytest.raises(partd_go.TimedOut), two.lock("job", timeout=0.5):
                pass
        with two.lock("job", timeout=5):
            pass


def test_password_is_hidden(tmp_path, monkeypatch):
    """The file of a shared server contains no password of a catalog. Other handles use the server, but cannot start it
    again."""
    flags = ("--catalog", "postgres://user:s3cret@localhost/db?sslpassword=s3cret&sslmode=disable")
    command = SharedServer._command
    monkeypatch.setattr(
        SharedServer, "_command", lambda self, sockets: [a for a in command(self, sockets) if a not in flags]
    )  # there is no PostgreSQL
    one, same, other = (
        SharedServer(str(tmp_path), flags),
        SharedServer(str(tmp_path), flags),
        SharedServer(str(tmp_path)),
    )
    assert one.url == same.url == other.url and "s3cret" not in one._address_file().read_text()
    with pytest.raises(
        partd_go.Misuse,
        match=r"open with other options \(--catalog postgres://user:\(hidden\)@localhost/db\?sslpassword=\(hidden\)&sslmode=disable\)",
    ):
        SharedServer(str(tmp_path), ("--memory", "1GiB"))
    kill_server(tmp_path)
    wait_until(other.ended)
    with pytest.raises(partd_go.Misuse, match="connect again with the same options"):
        other._connect_or_start()
    one._connect_or_start()
    for handle in (one, same, other):
        handle.close()


def test_password_is_no_argument(tmp_path, monkeypatch):
    """A catalog's URL is not an argument of a server, because every user of the machine can see arguments."""
    url, started = "postgres://user:s3cret@localhost/db", []

    def start(command, env, **_):
        started.append((command, env["PARTD_TABLES_CATALOG"]))
        raise OSError("not started")

    monkeypatch.setattr(partd_go.server.subprocess, "Popen", start)
    for server in Server, SharedServer:
        for flags in ("--catalog", url, "--memory", "1GiB"), (f"--catalog={url}", "--memory", "1GiB"):
            with pytest.raises(partd_go.NoServer):
                server(str(tmp_path), flags=flags)
    for command, catalog in started:
        assert "s3cret" not in str(command) and catalog == url and {"--memory", "1GiB"} <= set(command)
    assert len(started) == 4


def test_failed_restart(tmp_path, monkeypatch):
    """If the server cannot start again, the call says so, and the next call tries again."""
    with connect(tmp_path) as tables:
        tables.put("q", ROW)
        kill_server(tmp_path)
        wait_until(tables.ended)
        monkeypatch.setattr(tables._server, "_flags", ("--no-such-flag",))
        with pytest.raises(partd_go.NoServer, match="no-such-flag"):
            tables.list()
        monkeypatch.undo()
        assert tables.list() == ["q"]


def test_options(tmp_path):
    """A client accepts the options of a running server, unless it asks for other ones."""
    with connect(tmp_path, memory="1GiB") as tables:
        with connect(tmp_path) as same, connect(tmp_path, memory="1GiB") as equal:
            assert same.url == equal.url == tables.url
        with pytest.raises(
            partd_go.Misuse, match=r"is already open with other options \(--memory 1GiB\): close it in all programs"
        ):
            connect(tmp_path, memory="2GiB")
        tables.put("q", ROW)
        with connect(tmp_path, read_only=True) as reader:
            assert type(reader._server) is Server and reader.url != tables.url and reader.list() == ["q"]
    with connect(tmp_path), pytest.raises(partd_go.Misuse, match="already open with the default options"):
        connect(tmp_path, memory="2GiB")
    with connect(tmp_path, memory="2GiB"), connect(tmp_path) as tables:
        assert type(tables._server) is SharedServer and "2GiB" in " ".join(
            tables._server._address_file().read_text().split("\0")[1:]
        )


@pytest.mark.parametrize("held", ["address", "directory"])
def test_slow_end(tmp_path, monkeypatch, held):
    """A client waits for a server that is ending, but not longer than start_timeout."""
    import fcntl

    with connect(tmp_path) as tables:
        address = tables._server._address_file()
    with open(f"{address}.alive") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        if held == "address":
            threading.Timer(0.5, fcntl.flock, (alive, fcntl.LOCK_UN)).start()
            start = time.monotonic()
            with connect(tmp_path):
                assert time.monotonic() - start >= 0.5
        else:
            with pytest.raises(
                partd_go.NoServer, match="has not stopped within 0.2 seconds: pass a longer start_timeout"
            ):
                connect(tmp_path, start_timeout=0.2)


def test_flock_without_effect(tmp_path, monkeypatch):
    """Clients of one directory must not start two servers where flock succeeds but locks nothing."""
    import fcntl

    monkeypatch.setattr(fcntl, "flock", lambda file, operation: None)
    with pytest.raises(partd_go.Unsupported, match="flock excludes no other process on this file system"):
        connect(tmp_path)


# A notebook that puts rows until it is killed. It writes the number of each acknowledged row to a file.
PUTTING = """
import sys
import pyarrow as pa
import partd_go
from partd_go.tables import connect
directory, name, acknowledged = sys.argv[1:]
tables = connect(directory)
with open(acknowledged, "a+b", buffering=0) as file:
    file.seek(0)
    n = file.read().count(b"\\n")
    while True:
        try:
            tables.put("q", pa.table({"who": [name], "n": [n]}), "append", id=f"{name} {n}")
        except (partd_go.ConnectionFailed, partd_go.UnknownOutcome):
            continue
        file.write(b"%d\\n" % n)
        n += 1
"""


def test_kills(tmp_path):
    """Two notebooks put rows, while each of them and the server are killed at any moment. No acknowledged row is lost,
    and none is there twice."""
    chosen, running, directory = random.Random(7), {}, tmp_path / "market"

    def acknowledged(name):
        path = tmp_path / name
        return len(path.read_text().splitlines()) if path.exists() else 0

    def start(name):
        running[name] = subprocess.Popen([sys.executable, "-c", PUTTING, directory, name, tmp_path / name])

    def stop(name):
        running[name].kill()
        running.pop(name).wait()

    for name in "ab":
        start(name)
    for round in range(6):
        if round % 3 == 2:
            before = {name: acknowledged(name) for name in "ab"}
            wait_until(lambda: all(acknowledged(name) > before[name] for name in "ab"))
        time.sleep(chosen.uniform(0, 1))
        victim = "server" if round % 3 == 2 else chosen.choice("ab")
        if victim == "server":
            assert kill_server(directory) == 1
        else:
            stop(victim)
            start(victim)
    before = {name: acknowledged(name) for name in "ab"}
    wait_until(lambda: all(acknowledged(name) > before[name] + 2 for name in "ab"))
    for name in "ab":
        stop(name)
    with connect(directory) as tables:
        rows = tables.get("q", as_="arrow").to_pylist()
    for name in "ab":
        numbers, count = sorted(row["n"] for row in rows if row["who"] == name), acknowledged(name)
        assert numbers in (list(range(count)), list(range(count + 1)))


def test_killed_server_is_not_noticed(tmp_path):
    """While the server of a directory is killed, calls that can be repeated succeed: reads, puts and statements with an
    id, which are applied once, and upserts. The error of any other change says that its outcome is unknown."""
    stop, failed, done = threading.Event(), [], {"get": 0, "put": 0, "sql": 0, "upsert": 0, "list": 0, "plain": 0}
    big = pa.table({"n": range(300_000)})
    with connect(tmp_path) as tables:
        for name in ("put", "sql", "plain"):
            tables.put(name, ROW)
        tables.put("get", big)
        tables.put("upsert", pa.table({"k": range(1000), "n": [0] * 1000}))
        calls = {
            "get": lambda n: len(tables.get("get", as_="arrow")) == len(big) or failed.append("a get lost rows"),
            "put": lambda n: tables.put("put", big.slice(0, 20_000), "append", id=f"put {n}"),
            "sql": lambda n: tables.sql(f"INSERT INTO sql VALUES ({n})", id=f"sql {n}"),
            "upsert": lambda n: tables.put("upsert", pa.table({"k": [n % 1000], "n": [n]}), upsert="k"),
            "list": lambda n: tables.list(),
            "plain": lambda n: tables.put("plain", ROW, "append"),
        }

        def repeat(name):
            while not stop.is_set():
                try:
                    calls[name](done[name])
                except partd_go.UnknownOutcome as error:
                    if (
                        name != "plain"
                        or "check whether the change was applied; with id=, a put can be repeated" not in str(error)
                    ):
                        failed.append(error)
                except Exception as error:
                    failed.append(error)
                done[name] += 1

        threads = [threading.Thread(target=repeat, args=(name,)) for name in calls]
        for thread in threads:
            thread.start()
        for _ in range(4):
            before = dict(done)
            wait_until(lambda: failed or all(done[name] > before[name] for name in calls))
            time.sleep(random.random() / 2)
            kill_server(tmp_path)
        stop.set()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len(tables["put"]) == 1 + 20_000 * done["put"] and len(tables["sql"]) == 1 + done["sql"]
        assert len(tables["upsert"]) == 1000


def test_killed_server_and_rows_that_are_read_once(tmp_path):
    """The rows of a reader cannot be sent again, so the error says what to do."""
    with connect(tmp_path) as tables:
        tables.put("q", ROW)

        def rows():
            yield from ROW.to_batches()
            kill_server(tmp_path)
            for _ in range(500):
                time.sleep(0.01)
                yield from ROW.to_batches()

        for options, advice in (
            ({"id": "once"}, "repeat the call with the same id$"),
            ({}, "check whether the change was applied; with id="),
        ):
            with pytest.raises(partd_go.UnknownOutcome, match=advice):
                tables.put("q", pa.RecordBatchReader.from_batches(ROW.schema, rows()), "append", **options)
        assert len(tables["q"]) == 1
        tables.put("q", ROW, "append", id="once")
        assert len(tables["q"]) == 2
        with pytest.raises(
            partd_go.errors.Misuse, match="an upsert has no mode, id, metadata or settings: leave these out"
        ):
            tables.put("q", ROW, upsert="n", id="x")

"""Tests partd_go.pull with nodes on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
import pytz

pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
import numpy as np
import pandas as pd
import pyarrow as pa

import partd_go
from partd_go.pull import Conflict, NotFound, PullFrame, SyncFailed, pullframe

fcntl = pytest.importorskip("fcntl", reason="a node is shared by Unix sockets")

assert_equal = pd.testing.assert_frame_equal


@pytest.fixture
def name():
    return f"table {uuid.uuid4()}"  # unique, because tests share the machine's registry


@pytest.fixture
def nodes(tmp_path):
    with (
        pullframe((), tmp_path / "one", flags=("--lease=2s",)) as one,
        pullframe((), tmp_path / "two", flags=("--lease=2s",)) as two,
    ):
        yield one, two


def prices(days=4, zone=None, index="when"):
    times = pd.date_range("2024-01-01", periods=days, freq="D", name=index, tz=zone)
    return pd.DataFrame({"sym": ["A", "B"] * (days // 2), "price": np.arange(days) + 0.5}, times)


def socket_of(pf):
    """Returns the path of the Unix socket of a node's program, which removes the socket's directory when it ends."""
    return Path(pf._address_file().read_text())


def wait_until_gone(directory):
    end = time.monotonic() + 30
    while directory.exists():
        assert time.monotonic() < end, f"{directory} still exists after 30 seconds"
        time.sleep(0.01)


def in_new_process(directory, statement, *arguments):
    """Opens a node in another process, which then runs the statement. Returns the process and the node's URL."""
    code = (
        "import sys; from partd_go.pull import pullframe; pf = pullframe((),"
        " sys.argv[1], flags=('--lease=2s',)); print(pf.url, flush=True);"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code + statement, directory, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline().strip()


def test_saved_and_loaded_by_different_nodes(nodes, name):
    one, two = nodes
    with pytest.raises(NotFound):
        two.load(name)
    for zone, index in ((None, "when"), ("Europe/Oslo", "when"), (None, None)):
        frame, table = prices(zone=zone, index=index), f"{name} {zone} {index}"
        one.save(table, frame)
        assert_equal(two.load(table), frame, check_freq=False)
        start, end = frame.index[1].to_pydatetime(), frame.index[2].to_pydatetime()
        assert_equal(two.load(table, start, end), frame[1:3], check_freq=False)
        assert_equal(two.load(table, start), frame[1:], check_freq=False)
        assert_equal(two.load(table, end=end), frame[:3], check_freq=False)


def test_second_load(nodes, name):
    """Until the table changes, a second load fetches no data: it sends only one request, for the holder's newest
    version."""
    one, two = nodes

    def load_stats(*flags):
        command = [two._program, "pull", "get", "--stats", "--format=arrow", *two._flags, *flags, "--", name]
        result = subprocess.run(command, check=True, capture_output=True)
        assert_equal(
            pa.ipc.open_stream(result.stdout).read_all().to_pandas().set_index("when"), one.load(name), check_freq=False
        )
        stats = json.loads(result.stderr)
        return stats["Requests"], stats["Bytes"]

    one.save(name, prices(10_000))
    requests, first = load_stats()
    assert requests > 1 and first > 10_000
    assert_equal(two.load(name), prices(10_000), check_freq=False)
    for flags in ((), ("--from=2024-01-01",)):
        requests, received = load_stats(*flags)
        assert requests == 1 and received < 4096
    one.save(name, prices(2))
    assert load_stats()[0] > 1 and load_stats()[0] == 1


def test_names_from_pullframe(tmp_path, name):
    from partd_go.pull import AllSyncFailed, NoResourceAvailable

    with pullframe(hosts=set(), directory=tmp_path, sync_timeo=30.0) as pf, pytest.raises(NoResourceAvailable):
        assert "--sync-timeout=30.000000s" in pf._flags
        pf.load(name=name, start=None, end=None)
    assert issubclass(SyncFailed, AllSyncFailed)


def test_columns(nodes, name):
    """Columns of a saved frame replace the table's columns; other columns stay, and new columns are null in older
    rows."""
    one, two = nodes
    one.save(name, prices())
    later = pd.DataFrame(
        {"price": [9.0, 10.0], "volume": [1.0, 2.0]}, pd.date_range("2024-01-04", periods=2, name="when")
    )
    two.save(name, later)
    got = one.load(name)
    assert got.price.tolist() == [0.5, 1.5, 2.5, 9.0, 10.0]
    assert got.sym.tolist()[:4] == ["A", "B", "A", "B"] and pd.isna(got.sym.iloc[4])
    assert got.volume.isna().tolist() == [True, True, True, False, False]


def test_invalid_frames(nodes, name):
    one, _ = nodes
    for wrong in (prices().reset_index(), [1]):
        with pytest.raises(TypeError, match="DatetimeIndex"):
            one.save(name, wrong)
    for wrong in (prices().assign(when=1), prices().rename(columns={"price": 0})):
        with pytest.raises(ValueError, match="rename"):
            one.save(name, wrong)
    with pytest.raises(partd_go.Misuse, match="two rows have the time"):
        one.save(name, pd.concat([prices(), prices()]))
    null = prices().set_axis(pd.DatetimeIndex([pd.NaT, *prices().index[1:]], name="when"))
    with pytest.raises(partd_go.Misuse, match="the time column contains a null"):
        one.save(name, null)
    with pytest.raises(partd_go.Misuse, match="the name has 0 bytes"):
        one.save("", prices())
    with pytest.raises(NotFound):
        one.load(name)


def test_refused_by_the_table(nodes, name):
    """Rows that do not fit the table are a Misuse, and change nothing."""
    one, two = nodes
    one.save(name, prices())
    for wrong in (prices().assign(price="text"), prices().rename_axis("day"), prices(zone="Europe/Oslo")):
        with pytest.raises(partd_go.Misuse, match="column"):
            two.save(name, wrong)
    assert_equal(two.load(name), prices(), check_freq=False)


def test_other_node_left(tmp_path, name):
    """After the only node with the newest version left, a node loads its own version if max_staleness allows that."""
    options = {"sync_timeout": 5, "flags": ("--lease=2s",)}
    with (
        pullframe((), tmp_path / "two", max_staleness=3600, **options) as two,
        pullframe((), tmp_path / "strict", **options) as strict,
    ):
        with pullframe((), tmp_path / "one", **options) as one:
            one.save(name, prices())
            for node in (two, strict):
                assert_equal(node.load(name), prices(), check_freq=False)
            one.save(name, prices(6))
        with pytest.raises(SyncFailed):
            strict.load(name)
        assert_equal(two.load(name), prices(), check_freq=False)
        with pytest.raises(NotFound):
            two.load(f"{name} of nobody")
        with pullframe((), tmp_path / "one", **options):
            end = time.monotonic() + 30
            while len(two.load(name)) < 6:  # the others learn of a node shortly after it opened
                assert time.monotonic() < end
                time.sleep(0.05)
            assert_equal(two.load(name), prices(6), check_freq=False)


def test_unnamed_index(nodes, name):
    """An unnamed index is the column index. A frame whose index has that name keeps it."""
    one, two = nodes
    for label in (None, "index"):
        frame = prices().rename_axis(label)
        one.save(f"{name} {label}", frame)
        assert two.load(f"{name} {label}").index.name == label
        command = [two._program, "pull", "get", "--format=csv", *two._flags, "--", f"{name} {label}"]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.startswith("index,")
        one.save(f"{name} {label}", frame[:1])
        assert_equal(two.load(f"{name} {label}"), frame, check_freq=False)
    zoned = prices(zone=pytz.timezone("Europe/Berlin"), index=None)
    one.save(f"{name} zoned", zoned)
    assert_equal(two.load(f"{name} zoned"), zoned, check_freq=False)
    clash = prices().rename(columns={"price": "index"}).rename_axis(None)
    one.save(name, clash)
    assert_equal(two.load(name), clash, check_freq=False)


def test_conflict(nodes, name):
    """Each concurrent save either succeeds or raises a conflict."""
    one, two = nodes
    one.save(name, prices())
    saved, errors = [], []

    def save(i):
        try:
            nodes[i % 2].save(name, pd.DataFrame({f"c{i}": [1.0]}, prices().index[:1]))
            saved.append(f"c{i}")
        except Conflict:
            pass
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert saved and not errors
    assert set(two.load(name).columns) == {"sym", "price", *saved}


def test_node_killed_and_reopened(tmp_path, name):
    frame = prices()
    with pullframe((), tmp_path / "two", flags=("--lease=2s",)) as two:
        one = pullframe((), tmp_path / "one", flags=("--lease=2s",))
        one.save(name, frame)
        os.killpg(one._process.pid, signal.SIGKILL)
        with pytest.raises(SyncFailed):
            two.load(name)
        one.close()
        with pullframe((), tmp_path / "one", flags=("--lease=2s",)) as one:
            assert_equal(one.load(name), frame, check_freq=False)
            assert_equal(two.load(name), frame, check_freq=False)
        assert_equal(two.load(name), frame, check_freq=False)  # from its own files, because no other node is running


def test_closed_node(tmp_path, name):
    pf = pullframe((), tmp_path)
    program = socket_of(pf).parent
    assert program.exists() and not pf.ended()
    pf.close()
    pf.close()
    wait_until_gone(program)
    assert pf.ended()
    with pytest.raises(partd_go.Closed, match="the node is closed: call pullframe"):
        pf.load(name)


def test_no_call_starts_a_program(nodes, name, monkeypatch):
    one, two = nodes

    def refuse(*command, **options):
        raise AssertionError(f"a program was started: {command}")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    for _ in range(2):
        one.save(name, prices())
        assert_equal(two.load(name), prices(), check_freq=False)
        assert name in repr(two)


def test_handles_share_a_program(tmp_path, name):
    """All handles to a directory, in any process, share a program, which ends with the last handle, not with the
    first."""
    first, url = in_new_process(tmp_path, "sys.stdin.read()")
    with pullframe((), tmp_path, flags=("--lease=2s",)) as one, pullframe((), tmp_path, flags=("--lease=2s",)) as two:
        assert one.url == two.url == url and one._process is two._process is None
        with pullframe((), tmp_path, flags=("--lease=3s",)) as other:
            assert other.url != url  # the flags differ
        one.save(name, prices())
        first.kill()
        first.wait()
        first.stdin.close()
        first.stdout.close()
        one.close()
        assert_equal(two.load(name), prices(), check_freq=False)
        program = socket_of(two).parent
        assert program.exists()
    assert not program.exists() or wait_until_gone(program) is None


def test_relative_files_in_flags(tmp_path, monkeypatch):
    """If the flags contain a relative path, programs started in different directories do not share a node."""
    urls = set()
    for directory, token in (("a", "one"), ("b", "another")):
        os.mkdir(tmp_path / directory)
        monkeypatch.chdir(tmp_path / directory)
        Path("token").write_text(f"a secret of {token}, which is long enough")
        with pullframe("localhost:1", tmp_path / "node", flags=("--token-file=token",)) as opened:
            urls.add(opened._key)
            with pullframe("localhost:1", tmp_path / "node", flags=("--token-file=token",)) as same_one:
                assert same_one.url == opened.url
    assert len(urls) == 2


def test_opened_concurrently(tmp_path):
    """If a node is opened several times concurrently, only one call starts its program."""
    opened, lock = [], threading.Lock()

    def open_one():
        pf = pullframe((), tmp_path)
        with lock:
            opened.append(pf)

    threads = [threading.Thread(target=open_one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 6 and len({pf.url for pf in opened}) == 1
    assert sum(pf._process is not None for pf in opened) == 1
    program = socket_of(opened[0]).parent
    for pf in opened:
        pf.close()
    wait_until_gone(program)


def test_killed_and_restarted(tmp_path, name):
    """The next call restarts a killed program with its data, and other handles then use the new program."""
    with pullframe((), tmp_path, flags=("--lease=2s",)) as one, pullframe((), tmp_path, flags=("--lease=2s",)) as two:
        one.save(name, prices())
        before = one.url
        os.killpg(one._process.pid, signal.SIGKILL)
        assert_equal(two.load(name), prices(), check_freq=False)
        assert_equal(one.load(name), prices(), check_freq=False)
        assert one.url == two.url != before
        program = socket_of(one).parent
    wait_until_gone(program)


def test_killed_during_save(tmp_path, name):
    """If the node is killed during a call, a save raises UnknownOutcome, and a load tries again."""
    with pullframe((), tmp_path, flags=("--lease=2s",)) as one:
        one.save(name, prices())
        ask, killed = one._ask, []

        def killing(op, call):
            connect = one._connect

            def connected():
                connection = connect()
                if not killed:
                    os.killpg(one._process.pid, signal.SIGKILL)
                    killed.append(op)
                return connection

            one._connect = connected
            try:
                return ask(op, call)
            finally:
                one._connect = connect

        one._ask = killing
        with pytest.raises(partd_go.UnknownOutcome, match="killed"):
            one.save(name, prices())
        killed.clear()
        one._ask = ask
        one.load(name)  # restarts the node
        one._ask = killing
        assert_equal(one.load(name), prices(), check_freq=False)
        assert killed == [f"get {name!r}"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked(tmp_path, name):
    """A forked process cannot use its parent's node, and does not keep that node running."""
    pf = pullframe((), tmp_path)
    program = socket_of(pf).parent
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            pf.load(name)
        except partd_go.Closed:
            os.write(write, b"closed")
        time.sleep(60)
        os._exit(0)
    try:
        assert os.read(read, 10) == b"closed"
        pf.close()
        wait_until_gone(program)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)


def test_address_of_another_user(tmp_path, monkeypatch):
    """A node does not use an address file that another user created."""
    with pullframe((), tmp_path) as one:
        fstat, theirs = os.fstat, one._address_file().stat()

        def fake_stat(file):
            found = fstat(file)
            is_theirs = os.path.samestat(found, theirs)
            return os.stat_result([*found[:4], found.st_uid + 1, *found[5:10]]) if is_theirs else found

        monkeypatch.setattr(os, "fstat", fake_stat)
        with pullframe((), tmp_path) as two:
            assert two.url != one.url


@pytest.mark.parametrize(
    "revealed_by",
    [
        "directory",
        pytest.param("process", marks=pytest.mark.skipif(sys.platform != "linux", reason="needs SO_PEERCRED")),
    ],
)
def test_address_taken_over(tmp_path, name, monkeypatch, revealed_by):
    """A node sends nothing to a socket that another user created in place of a dead node's socket."""
    with pullframe((), tmp_path) as one, socket.socket(socket.AF_UNIX) as listener:
        socket_path = socket_of(one)
        os.killpg(one._process.pid, signal.SIGKILL)
        shutil.rmtree(socket_path.parent, ignore_errors=True)
        socket_path.parent.mkdir()
        listener.bind(str(socket_path))
        listener.listen()
        received = []

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as theirs, theirs.makefile("rwb") as both:
                        with contextlib.suppress(OSError):
                            both.write(b"http://theirs\n")
                            both.flush()
                            received.append(both.readline())
                            both.write(b'""\n')

        threading.Thread(target=answer, daemon=True).start()
        lstat, option = os.lstat, socket.socket.getsockopt

        def fake_stat(path, **options):
            found = lstat(path, **options)
            return (
                os.stat_result([*found[:4], found.st_uid + 1, *found[5:10]])
                if os.fspath(path) == os.fsencode(socket_path.parent)
                else found
            )

        def fake_getsockopt(connection, *which):
            return (
                struct.pack("3i", 1, os.getuid() + 1, 1)
                if connection.getpeername() == str(socket_path)
                else option(connection, *which)
            )

        if revealed_by == "directory":
            monkeypatch.setattr(os, "lstat", fake_stat)
        else:
            monkeypatch.setattr(socket.socket, "getsockopt", fake_getsockopt)
        one.save(name, prices())
        assert not any(received)
        assert_equal(one.load(name), prices(), check_freq=False)
        monkeypatch.undo()
        listener.shutdown(socket.SHUT_RDWR)
        shutil.rmtree(socket_path.parent)


def test_address_damaged(tmp_path):
    """The node restarts if its address is invalid or a link."""
    with pullframe("localhost:1", tmp_path) as one:
        address, urls = one._address_file(), {one.url}
        linked = address.rename(tmp_path / "linked")
        address.symlink_to(linked)
        for damaged in (None, b"\xff\n", b"/\0", b""):
            if damaged is not None:
                address.write_bytes(damaged)
            with pullframe("localhost:1", tmp_path) as another:
                urls.add(another.url)
                assert not address.is_symlink()
    assert len(urls) == 5


def test_directory_of_two_machines(tmp_path, monkeypatch):
    """Machines that share a directory have separate nodes, because they cannot use each other's sockets."""
    with pullframe((), tmp_path) as one:
        own = os.uname()
        monkeypatch.setattr(os, "uname", lambda: os.uname_result([own.sysname, "another", *own[2:]]))
        with pullframe((), tmp_path) as two:
            assert two.url != one.url and socket_of(two) != socket_of(one)


def test_killed_after_restart(tmp_path, monkeypatch):
    """If a restarted node dies again, the call raises NoServer."""
    with pullframe((), tmp_path) as one:

        def refuse():
            raise ConnectionRefusedError("refused")

        monkeypatch.setattr(one, "_connect_or_start", lambda: None)
        monkeypatch.setattr(one, "_connect", refuse)
        with pytest.raises(partd_go.errors.NoServer, match="refused"):
            one.load("x")


def test_link_or_lock_of_another_user(tmp_path, monkeypatch):
    """A node neither writes to a link that another user places in its directory, nor waits for another user's lock."""
    with pullframe((), tmp_path) as one:
        new, lock = (Path(f"{one._address_file()}.{kind}") for kind in ("new", "lock"))
    precious = tmp_path / "precious"
    precious.write_text("precious")
    new.symlink_to(precious)
    with pullframe((), tmp_path):
        assert precious.read_text() == "precious"
    lock.unlink()
    lock.symlink_to(precious)
    with pytest.raises(partd_go.errors.NoServer):
        pullframe((), tmp_path)
    assert precious.read_text() == "precious"
    lock.unlink()
    lock.touch()
    fstat, theirs = os.fstat, lock.stat()

    def fake_stat(file):
        found = fstat(file)
        return (
            os.stat_result([*found[:4], found.st_uid + 1, *found[5:10]]) if os.path.samestat(found, theirs) else found
        )

    monkeypatch.setattr(os, "fstat", fake_stat)
    with pytest.raises(partd_go.errors.NoServer, match="another user"):
        pullframe((), tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_while_opening(tmp_path, monkeypatch):
    """A process that is forked while a node is being opened does not keep the node's lock."""
    connect, children = PullFrame._connect, []

    def forking(pf):
        if not children:
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            children.append(child)
        return connect(pf)

    monkeypatch.setattr(PullFrame, "_connect", forking)
    try:
        with pullframe((), tmp_path) as pf, open(tmp_path / f".{pf._key}.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_names_that_are_not_text(nodes, name):
    """Names of columns and of the index must be text. The error lists the names that are not."""
    one, _ = nodes
    times = prices().index
    for frame, message in (
        (pd.DataFrame({0: [1.0] * 4}, times), "0 of a column has type int"),
        (pd.DataFrame({("a", "b"): [1.0] * 4}, times), "('a', 'b') of a column has type tuple"),
        (pd.DataFrame({"a": [1.0] * 4}, times.rename(7)), "7 of the index has type int"),
    ):
        with pytest.raises(ValueError) as failed:
            one.save(name, frame)
        assert message in str(failed.value) and "rename" in str(failed.value)
    with pytest.raises(NotFound):
        one.load(name)


def test_failed_restart(tmp_path, name, monkeypatch):
    """If a restart fails, a later call tries again."""
    with pullframe((), tmp_path) as one:
        one.save(name, prices())
        program = socket_of(one).parent
        os.killpg(one._process.pid, signal.SIGKILL)
        command = one._serve_command
        one._serve_command = [one._program, "pull", "serve", "--no-such-flag"]
        with pytest.raises(partd_go.errors.NoServer, match="no-such-flag"):
            one.load(name)
        one._serve_command = command
        assert_equal(one.load(name), prices(), check_freq=False)
        assert socket_of(one).parent != program


def test_statements_about_pullframe(nodes, name):
    """Checks the statements of testdata/pullframe.md, which docs/pull.md sums up, that no other test covers."""
    one, two = nodes
    frame = pd.DataFrame(
        {"m": [1.0, 2.0], "z": ["a", None]}, pd.DatetimeIndex(["2024-01-01", "2024-01-02 00:00:00.123456789"])
    )
    one.save(name, frame)
    assert_equal(two.load(name, None, None), frame)
    two.save(name, pd.DataFrame({"a": [3.0], "m": [np.nan]}, frame.index[1:]))
    assert_equal(one.load(name), frame.assign(m=[1.0, np.nan], a=[np.nan, 3.0]))  # a missing value replaces the old one
    assert (
        len(one.load(name, frame.index[1] + pd.Timedelta(1)))
        == len(one.load(name, end=frame.index[0] - pd.Timedelta(1)))
        == 0
    )
    with pytest.raises(TypeError, match="kafka_hosts"):
        pullframe(kafka_hosts=set(), directory=one.directory)
    with pytest.raises(NotFound) as failed:
        two.load(f"{name} of nobody")
    assert not hasattr(failed.value, "demand") and f"{name} of nobody" in str(failed.value)
    assert_equal(two.load(name), one.load(name))
    for file in Path(one.directory, "files").iterdir():
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    run = subprocess.run([one._program, "pull", "verify", *one._flags], stdout=subprocess.PIPE)
    found = [
        finding for finding in map(json.loads, run.stdout.splitlines()) if finding["table"] == name
    ]  # other nodes may have died
    assert found and all(finding["repaired"] for finding in found)

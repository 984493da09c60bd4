"""Tests shuffles whose rows are in files, on one machine."""

from __future__ import annotations

import errno
import functools
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed")
pytest.importorskip("xxhash")

import dask.dataframe as dd
import pandas as pd
import psutil
from test_dask import KILLS, check_all, expected, wait_until_empty  # noqa: F401

import partd_go.dask
import partd_go.server as server_module
from partd_go.dask import attempts, files, shuffle
from partd_go.errors import NO_SPACE, UNKNOWN, parse_error

# dask and pandas emit warnings about each other.
pytestmark = pytest.mark.filterwarnings("ignore")


def observe(df: pd.DataFrame, store: shuffle.Store) -> pd.DataFrame:
    """Returns a frame with the numbers of rows, files and stored bytes that a task sees."""
    (directory,) = os.scandir(store.directory)
    stored = store.client.get(list(store.client.keys()))
    return pd.DataFrame({"rows": [len(df)], "files": [len(os.listdir(directory))], "stored": [sum(map(len, stored))]})


def test_rows_in_files(expected: dict[str, pd.DataFrame], tmp_path: Path) -> None:  # noqa: F811
    with partd_go.dask.use(directory=tmp_path) as used:
        check_all(expected, "threads")
        check_all(expected, "processes")
        wait_until_empty(used.store)
        df = dd.from_pandas(pd.DataFrame({"x": range(100_000)}), npartitions=4).shuffle("x")
        seen = df.map_partitions(observe, used.store, meta={"rows": "i8", "files": "i8", "stored": "i8"}).compute(
            scheduler="threads"
        )
        assert seen["rows"].sum() == 100_000
        assert list(seen["files"]) == 4 * [4]  # one file per writing task
        assert seen["stored"].max() < 10_000  # the store has only the positions of the pieces
        wait_until_empty(used.store)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("max_write", [1 << 30, 20_000])
def test_file_of_an_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_write: int) -> None:
    writev = os.writev
    monkeypatch.setattr(os, "writev", lambda file, views: writev(file, [memoryview(b"".join(views))[:max_write]]))
    path = str(tmp_path / "shuffle" / "attempt")
    large = [os.urandom(9_000) for _ in range(files._VECTOR)]
    with files.attempt_file(path) as file:
        file.append([(0, 1, [b"a", b"", memoryview(b"b")]), (2, 1, large)])
        file.append([(2, 1, [b"c"]), (3, 0, [b""])])
    assert sorted(file.positions) == [0, 2, 3]
    assert list(map(bytes, files.pieces(path, file.positions[0]))) == [b"ab"]
    assert list(map(bytes, files.pieces(path, file.positions[2]))) == [b"".join(large), b"c"]
    assert list(map(bytes, files.pieces(path, file.positions[3]))) == [b""]
    with open(path, "r+b") as damaged:
        damaged.seek(1)
        damaged.write(b"x")
        with pytest.raises(OSError, match="attempt is damaged at byte 0"):
            damaged.flush()
            files.pieces(path, file.positions[0])
        damaged.truncate(4_000_000)
        with pytest.raises(OSError, match="attempt ends before byte [0-9]+: it was truncated"):
            files.pieces(path, file.positions[2])
    with pytest.raises(ZeroDivisionError), files.attempt_file(path + "2") as file:
        file.append([(0, 1, [b"a"])])
        assert os.path.getsize(path + "2") == 1
        1 / 0  # noqa: B018
    assert os.listdir(tmp_path / "shuffle") == ["attempt"]


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task waits until a full disk has space again, but not forever, and not after other errors."""
    monkeypatch.setattr(attempts, "_SPACE_WAIT", 0.5)
    failures: list[Exception] = []
    appended: list[bytes] = []

    class Store:
        def append(self, entries: Mapping[str, bytes]) -> None:
            if failures:
                raise failures.pop()
            appended.append(b"".join(entries.values()))

    def writev(file: int, views: list[memoryview]) -> int:
        if failures:
            raise failures.pop()
        return os.write(file, views[0])

    def refused(*codes_and_text: Any) -> partd_go.Error:
        *codes, text = codes_and_text
        fields = struct.pack(f"<B{len(codes)}H", len(codes), *codes) + bytes(13)
        return parse_error(fields + struct.pack("<I", len(text)) + text.encode(), "append", "tcp://server")

    monkeypatch.setattr(os, "writev", writev)
    attempt = attempts.Attempt(Store(), "commits", "task")
    with files.attempt_file(str(tmp_path / "shuffle" / "attempt")) as file:
        for write, kind in (
            (lambda: file.append([(0, 1, [b"abc"]), (1, 1, [b"d"])]), functools.partial(OSError, errno.ENOSPC)),
            (lambda: attempt.append([("k", b"abc")]), functools.partial(refused, NO_SPACE)),
            (attempt.commit, functools.partial(refused, UNKNOWN, NO_SPACE)),  # another server had space
        ):
            failures[:] = [kind("full") for _ in range(3)]
            write()
            failures[:] = [kind("full") for _ in range(99)]
            with pytest.raises((OSError, partd_go.UnknownOutcome), match="full"):
                write()
            failures[:] = [OSError(errno.EIO, "broken")]
            with pytest.raises(OSError, match="broken"):
                write()
            assert not failures
    assert (tmp_path / "shuffle" / "attempt").read_bytes() == b"abcd"
    assert len(appended) == 2


def test_failed_attempt_leaves_no_file(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that fails before its commit leaves no file, wherever it fails."""
    df = pd.DataFrame({"v": range(90), "_partitions": 0})
    with partd_go.Client(url) as client:
        s = shuffle.Shuffle(shuffle.Store("unneeded", client, None, str(tmp_path)), "x", 1)
        for owner, name in ((os, "writev"), (shuffle, "_append"), (shuffle.pickle, "dumps")):
            with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
                patch.setattr(owner, name, lambda *args: 1 / 0)
                shuffle.write(df, s, 0, "_partitions", None)
            assert os.listdir(tmp_path / "x") == []
        with (
            monkeypatch.context() as patch,
            pytest.raises(ZeroDivisionError),
        ):  # the error is not hidden by the missing file
            patch.setattr(os, "writev", lambda *args: (shutil.rmtree(tmp_path / "x"), 1 / 0))
            shuffle.write(df, s, 0, "_partitions", None)
        client.drop()


def test_graph_that_outlives_use(tmp_path: Path) -> None:
    with partd_go.dask.use(directory=tmp_path) as used:
        s = shuffle.Shuffle(used.store, "x", 1)
    s.delete()


def test_process_with_another_disk(url: str, tmp_path: Path) -> None:
    with partd_go.Client(url) as client, pytest.raises(FileNotFoundError, match="elsewhere"):
        shuffle.Store("x", client, None, str(tmp_path / "elsewhere")).reach()


def test_attempts_have_files(url: str, tmp_path: Path) -> None:
    """Readers need only the file of the attempt that committed first, and fail if it is missing."""
    with partd_go.Client(url) as client:
        s = shuffle.Shuffle(shuffle.Store("files", client, None, str(tmp_path)), "x", 3)
        df = pd.DataFrame({"v": range(90), "_partitions": [i % 3 for i in range(90)]})
        threads = [threading.Thread(target=shuffle.write, args=(df, s, 0, "_partitions", None)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        plan = shuffle.barrier(s, 1)
        assert [list(shuffle.read(plan, p)["v"]) for p in range(3)] == [list(range(p, 90, 3)) for p in range(3)]
        for name in os.listdir(tmp_path / "x"):
            if name != plan.winners["0"].attempt:
                os.unlink(tmp_path / "x" / name)
        assert len(shuffle.read(plan, 0)) == 30
        os.unlink(tmp_path / "x" / plan.winners["0"].attempt)
        with pytest.raises(RuntimeError, match="No such file .*The shuffle's rows were deleted"):
            shuffle.read(plan, 0)
        client.drop()


def test_unknown_commit_keeps_the_rows(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the outcome of a commit is unknown, the file stays, because the commit may have been applied."""
    commit = attempts.Attempt.commit

    def unknown(attempt: attempts.Attempt) -> None:
        commit(attempt)
        raise partd_go.UnknownOutcome("no answer")

    monkeypatch.setattr(attempts.Attempt, "commit", unknown)
    with partd_go.Client(url) as client:
        s = shuffle.Shuffle(shuffle.Store("unknown", client, None, str(tmp_path)), "x", 1)
        df = pd.DataFrame({"v": range(9), "_partitions": 0})
        with pytest.raises(partd_go.UnknownOutcome):
            shuffle.write(df, s, 0, "_partitions", None)
        shuffle.write(df, s, 0, "_partitions", None)  # the second attempt finds the commit
        assert len(shuffle.read(shuffle.barrier(s, 1), 0)) == 9
        client.drop()


def test_full_disk_is_an_error(tmp_path: Path) -> None:
    program = (
        "import resource, partd_go.dask, dask.dataframe as dd, pandas as pd, sys\n"
        "with partd_go.dask.use(directory=sys.argv[1]):\n"
        "    df = dd.from_pandas(pd.DataFrame({'x': range(100_000)}), npartitions=4).shuffle('x')\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n"
        "    try:\n"
        "        print(len(df.compute(scheduler='threads')))\n"
        "    except OSError as err:\n"
        "        print(err.strerror)\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    out = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert out.stdout == "File too large\n", out.stderr


def test_server_that_is_killed(tmp_path: Path) -> None:
    """If the server is killed, the computation fails, and the directory can be used again."""
    df = dd.from_pandas(pd.DataFrame({"x": range(10_000)}), npartitions=4)

    def kill(part: pd.DataFrame) -> pd.DataFrame:
        servers = [s for s in server_module._servers if s.directory.startswith(str(tmp_path)) and not s.ended()]
        for server in servers:
            for process in psutil.Process(server._process.pid).children():
                process.kill()
        return part

    for kill_before_shuffle in (True, False):
        source = df.map_partitions(kill, meta=df._meta) if kill_before_shuffle else df
        out = source.shuffle("x", npartitions=3)
        out = out if kill_before_shuffle else out.map_partitions(kill, meta=df._meta).shuffle("x", npartitions=2)
        with (
            pytest.raises(partd_go.NoServer),
            partd_go.dask.use(directory=tmp_path),
        ):  # use() ends with an error, because its server was killed
            with pytest.raises((partd_go.Error, OSError, RuntimeError)):
                out.compute(scheduler="threads")
        assert not list(tmp_path.iterdir())
    with partd_go.dask.use(directory=tmp_path):
        assert len(df.shuffle("x").compute(scheduler="threads")) == 10_000


@pytest.mark.parametrize("kill", KILLS)
def test_program_that_is_killed(tmp_path: Path, kill: int) -> None:
    """After a program is killed, its files are removed, even if its workers are still writing."""
    program = (
        "import os, sys, threading, dask.dataframe as dd, pandas as pd, partd_go.dask\n"
        "from distributed import Client, LocalCluster\n"
        "if __name__ == '__main__':\n"
        "    with LocalCluster(n_workers=2, dashboard_address=None) as cluster, Client(cluster):\n"
        "        partd_go.dask.use(directory=sys.argv[1])\n"
        "        df = dd.from_pandas(pd.DataFrame({'x': range(1_000_000)}), npartitions=200).shuffle('x')\n"
        "        print('begun', flush=True)\n"
        "        df.compute()\n"
    )
    (tmp_path / "program.py").write_text(program)
    (tmp_path / "rows").mkdir()
    run = [sys.executable, "program.py", str(tmp_path / "rows")]
    with subprocess.Popen(run, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout and process.stdout.readline() == b"begun\n"
        while not list(tmp_path.glob("rows/*/rows/*/*")):
            time.sleep(0.01)
        time.sleep(random.Random(kill).random() * 0.5)
        process.kill()
    deadline = time.monotonic() + 60
    while remaining := list((tmp_path / "rows").rglob("*")):
        assert time.monotonic() < deadline, remaining[:5]
        time.sleep(0.1)

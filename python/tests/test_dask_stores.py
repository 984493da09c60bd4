"""Tests that dask's shuffles through several servers or a bucket give the same results as pandas, even if processes are
killed. PARTD_KILLS is the number of kills of each kind, and PARTD_KILLS_FROM the number of the first kill."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pages
import pytest

pytest.importorskip("distributed")
pytest.importorskip("xxhash")

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import psutil
from distributed import Client, LocalCluster
from test_dask import check_some, computations, expected, kill_one, part  # noqa: F401

import partd_go
import partd_go.dask
from partd_go.dask import attempts, private, shuffle
from partd_go.server import find

KILLS = range(int(os.environ.get("PARTD_KILLS_FROM", "0")), int(os.environ.get("PARTD_KILLS", "1")))
GATEWAY = os.environ.get("PARTD_VERSITYGW") or shutil.which("versitygw")
CLOUD = shutil.which("partd-cloud")

# dask and pandas emit warnings about each other, and Python warns about private servers that still run at the end.
pytestmark = pytest.mark.filterwarnings("ignore")


class Program:
    """A server on its own port that can be killed and restarted."""

    def __init__(self, *command: str) -> None:
        self.port = pages.free_port()
        self.command = [word.replace("PORT", str(self.port)) for word in command]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)
        raise AssertionError(f"{self.command} does not listen")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Place:
    """A store whose servers can be killed. stored_names returns the names of the stored objects."""

    def __init__(self, url: str, programs: list[Program], stored_names: Callable[[], list[str]]) -> None:
        self.url, self.programs, self.stored_names = url, programs, stored_names

    def kill(self, rng: random.Random) -> None:
        """Kills a server, and restarts it up to half a second later."""
        program = rng.choice(self.programs)
        program.kill()
        time.sleep(rng.random() * 0.5)
        program.start()

    def sweep(self) -> None:
        """Deletes data, as a bucket's lifecycle rule or a namespace's time to live does."""
        if self.url.startswith("s3"):
            private.Bucket(self.url.replace("/jobs", "")).remove("jobs")
        else:
            private.Private(self.url).work("", lambda client: client.delete(list(client.keys())))

    def wait_until_empty(self) -> None:
        deadline = time.monotonic() + 30
        while self.stored_names():
            assert time.monotonic() < deadline, f"still stored: {self.stored_names()[:5]}"
            time.sleep(0.05)


def shards(directory: Path) -> Place:
    servers = [
        Program(
            find("partd-server"),
            "--store",
            f"log:{directory}/{i}",
            "--listen",
            "tcp://127.0.0.1:PORT",
            "--memory=128MiB",
        )
        for i in range(3)
    ]

    def stored_names() -> list[str]:
        found: list[str] = []
        for server in servers:
            with partd_go.Client(f"tcp://127.0.0.1:{server.port}") as client:
                found += [key for key in client.keys() if key != "partd-shards"]
        return found

    return Place("tcp://" + ",".join(f"127.0.0.1:{s.port}" for s in servers), servers, stored_names)


def bucket(directory: Path) -> Place:
    (directory / "bucket").mkdir()
    gateway = Program(
        GATEWAY or "",
        "--port",
        "127.0.0.1:PORT",
        "--access",
        "user",
        "--secret",
        "secretsecret",
        "--quiet",
        "--keep-alive",
        "posix",
        str(directory),
    )

    def stored_names() -> list[str]:
        return [os.path.join(parent, name) for parent, _, names in os.walk(directory / "bucket") for name in names]

    return Place(f"s3://bucket/jobs?endpoint=http://127.0.0.1:{gateway.port}", [gateway], stored_names)


@pytest.fixture(scope="module", params=["shards", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if request.param == "bucket" and not (GATEWAY and CLOUD):
        missing = "versitygw and partd-cloud are not on the PATH"
        pytest.fail(missing) if os.environ.get("PARTD_REQUIRE_ALL") else pytest.skip(missing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "user")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secretsecret")
        place_ = {"shards": shards, "bucket": bucket}[request.param](tmp_path_factory.mktemp(request.param))
        yield place_
        for program in place_.programs:
            program.kill()


@pytest.fixture(scope="module")
def workers(place: Place) -> Iterator[LocalCluster]:
    """Yields a cluster whose processes have the bucket's credentials."""
    settings = {
        "scheduler.allowed-failures": 100,
        "comm.retry.count": 3,
        "comm.timeouts.connect": "3s",
    }  # for dead workers
    with dask.config.set({f"distributed.{name}": value for name, value in settings.items()}):
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster:
            yield cluster


def test_same_as_dask(place: Place, workers: LocalCluster, expected: dict[str, pd.DataFrame]) -> None:  # noqa: F811
    with Client(workers), partd_go.dask.use(place.url, compression="lz4"):
        check_some(expected)
    place.wait_until_empty()


def test_threads_and_processes(place: Place, expected: dict[str, pd.DataFrame]) -> None:  # noqa: F811
    with partd_go.dask.use(place.url):
        for scheduler in ("threads", "processes"):
            name, df, _ = next(computations("partd"))
            pd.testing.assert_frame_equal(df.compute(scheduler=scheduler), expected[name])
    place.wait_until_empty()


PARTS, PARTS_OUT, ROWS = 12, 7, 2000


def report_step(log: Path) -> None:
    """Records in a file that the job has reached another step."""
    with log.open("ab") as file:
        file.write(b".")
    time.sleep(0.1)


def make_part(i: int, log: Path) -> pd.DataFrame:
    report_step(log)
    return part(i, ROWS)


def pass_part(df: pd.DataFrame, log: Path) -> pd.DataFrame:
    report_step(log)
    return df


def job(log: Path) -> dd.DataFrame:
    df = dd.from_map(make_part, range(PARTS), log=log).shuffle("id", npartitions=PARTS_OUT)
    return df.map_partitions(pass_part, log=log, meta=part(0, 1))


def wait_for_middle(log: Path, rng: random.Random) -> None:
    """Waits for a random time in the middle of a job."""
    wanted = rng.randrange(PARTS + PARTS_OUT)
    deadline = time.monotonic() + 60
    while not log.exists() or log.stat().st_size <= wanted:
        assert time.monotonic() < deadline, f"the job did not reach step {wanted} within 60 s"
        time.sleep(0.002)
    time.sleep(rng.random() * 0.08)


def check_result(got: pd.DataFrame) -> None:
    want = pd.concat([part(i, ROWS) for i in range(PARTS)]).sort_values("id", ignore_index=True)
    # dask reads the texts as another type.
    pd.testing.assert_frame_equal(got.sort_values("id", ignore_index=True), want.astype({"name": got["name"].dtype}))


def kill_private(client: Client, rng: random.Random) -> None:
    """Kills a worker's private servers, but not the worker."""
    worker = rng.choice([w["pid"] for w in client.run(lambda: {"pid": os.getpid()}).values()])
    for child in psutil.Process(worker).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.name().startswith("partd-"):
                child.kill()


def test_private_server_dies_in_an_attempt(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the private server dies during an attempt, the attempt starts again, because acknowledged data may be lost."""
    append, deaths = attempts.Attempt.append, []

    def deadly(self: attempts.Attempt, pieces: list[tuple[str, memoryview]]) -> None:
        append(self, pieces)
        if len(deaths) < 2:
            for server in list(private._running.values()):
                deaths.extend(psutil.Process(server._process.pid).children())
            for process in deaths:
                with contextlib.suppress(psutil.Error):
                    process.kill()

    monkeypatch.setattr(attempts.Attempt, "append", deadly)
    df = pd.DataFrame({"v": range(90), "_partitions": np.arange(90) % 3})
    with partd_go.dask.use(place.url) as used:
        s = shuffle.Shuffle(used.store, "x", 3)
        shuffle.write(df, s, 0, "_partitions", None)
        assert len(deaths) >= 2
        plan = shuffle.barrier(s, 1)
        for p in range(3):
            assert list(shuffle.read(plan, p)["v"]) == list(range(p, 90, 3))
    place.wait_until_empty()


@pytest.mark.parametrize("target", ["worker", "server", "private"])
def test_killed(place: Place, workers: LocalCluster, target: str, tmp_path: Path) -> None:
    early = 0
    for kill in KILLS:
        rng = random.Random(kill)
        with partd_go.dask.use(place.url), Client(workers) as client:
            try:
                client.wait_for_workers(2, timeout=30)
            except TimeoutError:  # dask may not restart a worker that is killed while it starts
                workers.scale(0)
                workers.scale(2)
                client.wait_for_workers(2, timeout=60)
            future = client.compute(job(tmp_path / str(kill)))
            wait_for_middle(tmp_path / str(kill), rng)
            early += not future.done()
            if target == "worker":
                kill_one(client, rng)
            elif target == "server":
                place.kill(rng)
            else:
                kill_private(client, rng)
            check_result(future.result(timeout=120))
            del future
        place.wait_until_empty()
    assert early >= len(KILLS) * 0.5, f"only {early} of {len(KILLS)} kills came before the end of the computation"


def test_client_killed(place: Place, workers: LocalCluster, tmp_path: Path) -> None:
    """A program that runs again after it was killed gets all rows, whatever the first run left."""
    program = (
        "from test_dask_stores import *\n"
        "with Client(sys.argv[1]), partd_go.dask.use(sys.argv[2]):\n"
        "    check_result(job(Path(sys.argv[3])).compute())\n"
        "    print('right')\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(partd_go.__file__).parent.parent)])
    for kill in KILLS:
        log = tmp_path / str(kill)
        command = [sys.executable, "-W", "ignore", "-c", program, workers.scheduler_address, place.url, str(log)]
        env = {**os.environ, "PYTHONPATH": paths}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, cwd=tmp_path
        ) as running:
            wait_for_middle(log, random.Random(kill))
            running.kill()
        again = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env, cwd=tmp_path, timeout=120)
        assert again.stdout == "right\n"
    place.sweep()  # a task of the killed program may have committed after its rows were deleted
    place.wait_until_empty()


def test_go_client_finds_keys(place: Place) -> None:
    """The Go client finds each key, because it maps keys to servers in the same way."""
    if place.url.startswith("s3"):
        pytest.skip("a bucket has no shards")
    with partd_go.dask.use(place.url) as used:
        s = shuffle.Shuffle(used.store, "x", 50)
        values = {s.key(i): str(i).encode() * (i + 1) for i in range(50)}
        s.work(lambda client: client.append(values))
        got = [
            subprocess.run([find("partd"), "get", "--store", place.url, key], check=True, capture_output=True).stdout
            for key in values
        ]
        assert got == list(values.values())
        assert len(place.stored_names()) == 50
    other = place.url.rpartition(",")[0]  # a different list of servers
    with pytest.raises(partd_go.Error, match="belongs to another shard list"):
        partd_go.dask.use(other)
    place.wait_until_empty()


def test_other_users_cannot_connect(place: Place) -> None:
    with partd_go.dask.use(place.url):
        running = [server for server in private._running.values() if not server.ended()]
        assert running
        for server in running:
            path = Path(server.url.removeprefix("ipc://"))
            assert path.parent.stat().st_mode & 0o77 == 0 and path.stat().st_mode & 0o77 == 0


@pytest.mark.parametrize("store", ["alive", "dead"])
def test_private_server_ends_with_its_process(place: Place, store: str, tmp_path: Path) -> None:
    program = (
        "import sys, time, partd_go.dask, psutil\n"
        "used = partd_go.dask.use(sys.argv[1])\n"
        "if sys.argv[1].startswith('s3'):\n"
        "    used.store.work('x', lambda client: client.append({'k': b'not committed'}))\n"
        "print([c.pid for c in psutil.Process().children(recursive=True)], flush=True)\n"
        "time.sleep(100)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, place.url], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as running:
        assert running.stdout
        children = eval(running.stdout.readline())
        assert children
        for server in place.programs if store == "dead" else ():
            server.kill()
        running.send_signal(signal.SIGKILL)
    try:
        deadline = time.monotonic() + 20
        while any(map(psutil.pid_exists, children)):
            assert time.monotonic() < deadline, "a private server still runs 20 s after its process was killed"
            time.sleep(0.05)
    finally:
        for server in place.programs if store == "dead" else ():
            server.start()
    place.sweep()


def test_idle_private_servers_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle private servers stop, even if their process keeps running."""
    monkeypatch.setattr(private, "_IDLE", 0.5)
    private._recent.clear()  # discards the servers of another test, whose thread still sleeps
    with partd_go.dask.use(place.url) as used:
        s = shuffle.Shuffle(used.store, "x", 1)
        for value in (b"1", b"2"):
            s.work(lambda client, value=value: (client.append({s.key(0): value}), client.sync()))
            servers = [psutil.Process(server._process.pid) for server in private._running.values()]
            assert servers
            gone, alive = psutil.wait_procs(servers, timeout=20)
            assert not alive
        assert s.work(lambda client: client.get([s.key(0)])) == [b"12"]
    place.wait_until_empty()


def test_private_server_is_killed_as_it_starts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    first_line, starts = private._Served._first_line, []

    def deadly(self: private._Served, latest: float) -> tuple[bytes, bool]:
        starts.append(self)
        while len(starts) < 3 and not psutil.Process(self._process.pid).children():
            time.sleep(0.001)
        for process in psutil.Process(self._process.pid).children() if len(starts) < 3 else ():
            process.kill()
        return first_line(self, latest)

    monkeypatch.setattr(private._Served, "_first_line", deadly)
    private._recent.clear()  # discards the servers of another test
    private._running.clear()
    with partd_go.dask.use(place.url):
        assert len(starts) == 3
    place.wait_until_empty()


def test_remove_leaves_other_prefixes(place: Place) -> None:
    if not place.url.startswith("s3"):
        pytest.skip("servers have no prefixes")
    with partd_go.dask.use(place.url) as used:
        path, _, query = place.url.partition("?")
        for refused, why in (
            (f"s3://bucket?{query}", "a whole bucket"),
            (f"s3://bucket//?{query}", "a whole bucket"),
            (f"{path}?{query}&memory=1GiB", "option"),
        ):
            run = subprocess.run([CLOUD, "remove", "--store", refused], capture_output=True, text=True)
            assert run.returncode and why in run.stderr
        used.store.client.remove(used.store.name[:-1])  # a prefix of the text, but not of the path
        assert place.stored_names()
    place.wait_until_empty()


def test_remove_with_number_sign_in_prefix(place: Place) -> None:
    """Remove treats a number sign as part of the prefix, and leaves data below the text before it."""
    if not place.url.startswith("s3"):
        pytest.skip("servers have no prefixes")
    path, _, query = place.url.partition("?")
    used = subprocess.run([CLOUD, "append", "--store", place.url, "k"], input=b"v", capture_output=True)
    kept = sorted(place.stored_names())
    assert not used.returncode and kept
    try:
        with partd_go.dask.use(f"{path}#2?{query}"):
            name, df, _ = next(computations("partd"))
            df.compute(scheduler="sync")
            assert any("jobs#2" in path for path in place.stored_names())
        assert sorted(place.stored_names()) == kept
        run = subprocess.run([CLOUD, "remove", "--store", f"{path}#2?{query}"], capture_output=True, text=True)
        assert run.returncode and "%23" in run.stderr and sorted(place.stored_names()) == kept
    finally:
        place.sweep()
    place.wait_until_empty()


def test_program_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        partd_go.NoServer, match="run partd-cloud.*go install ./cmd/partd-cloud.*on the PATH of each worker"
    ):
        partd_go.dask.use("s3://bucket/jobs")
    assert partd_go.dask.method._active is None

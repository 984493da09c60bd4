"""Tests that dask's shuffles through partd give the same results as dask's own."""

from __future__ import annotations

import functools
import gc
import logging
import os
import pickle
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("distributed")
pytest.importorskip("xxhash")

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.dataframe.dask_expr import _merge, _shuffle
from distributed import Client, LocalCluster, wait

import partd_go
import partd_go.dask
from partd_go.dask import attempts, blocks, method, shuffle

ROWS = int(os.environ.get("PARTD_DASK_ROWS", "60000"))
KILLS = range(int(os.environ.get("PARTD_KILLS_FROM", "0")), int(os.environ.get("PARTD_KILLS", "2")))

# dask and pandas emit warnings about each other.
pytestmark = pytest.mark.filterwarnings("ignore")


def part(i: int, rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(i)
    ids = 64 * rng.permutation(rows) + i  # partitions are not ordered
    return pd.DataFrame(
        {
            "id": ids,
            "name": [f"name {n % 997}" for n in ids],
            "value": rng.random(rows),
            "when": pd.Timestamp("2026-01-01", tz="Asia/Tokyo") + pd.to_timedelta(ids, unit="s"),
            "kind": pd.Categorical(ids % 3, categories=[0, 1, 2]),
            "maybe": pd.array(np.where(ids % 5, ids, None), dtype="Int64"),
        }
    )


def frame(parts: int = 8) -> dd.DataFrame:
    return dd.from_map(part, range(parts), rows=ROWS // parts)


def tail(df: pd.DataFrame) -> pd.DataFrame:
    return df.sort_values("id").tail(1)


def computations(shuffle_method: str | None) -> Iterator[tuple[str, dd.DataFrame, list[str]]]:
    """Yields the name of each computation, its collection, and the columns by which to sort the rows before
    comparing."""
    df, names = frame(), pd.DataFrame({"name": [f"name {n}" for n in range(0, 2000, 2)], "n": range(1000)})
    with dask.config.set({"dataframe.shuffle.method": shuffle_method}):
        yield "shuffle", df.shuffle("name"), []
        yield "shuffle to fewer partitions", df.shuffle("id", npartitions=3), []
        yield "shuffle to more partitions", df.shuffle(["name", "kind"], npartitions=13), []
        yield "shuffle of a series", df["name"].shuffle(df["name"]), []
        yield "some partitions of a shuffle", df.shuffle("id").partitions[[5, 2]], []
        yield "set_index", df.set_index("id"), []
        yield "set_index, times", df.set_index("when", npartitions=5), []
        yield "sort_values", df.sort_values("value"), []
        yield "groupby", df.groupby("name")[["id", "kind"]].apply(tail, meta=part(0, 9)[["id", "kind"]]), ["id"]
        yield "nunique", df.groupby("kind", observed=True)["name"].nunique(split_out=3).reset_index(), ["kind"]
        yield (
            "merge",
            df.merge(dd.from_pandas(names, npartitions=4), on="name", how="outer", broadcast=False),
            ["id", "n"],
        )


def assert_same(got: pd.DataFrame, want: pd.DataFrame, by: list[str]) -> None:
    if by:
        got, want = (df.sort_values(by).reset_index(drop=True) for df in (got, want))
    (pd.testing.assert_series_equal if got.ndim == 1 else pd.testing.assert_frame_equal)(got, want)


@functools.cache
def expected_frames() -> dict[str, pd.DataFrame]:
    # dask's own "tasks" preserves the order of rows, as partd does.
    return {name: df.compute(scheduler="threads") for name, df, _ in computations("tasks")}


@pytest.fixture
def expected() -> dict[str, pd.DataFrame]:
    return expected_frames()


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    settings = {
        "scheduler.allowed-failures": 100,
        "comm.retry.count": 3,
        "comm.timeouts.connect": "3s",
    }  # for dead workers
    with dask.config.set({f"distributed.{name}": value for name, value in settings.items()}):
        with LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
        ) as cluster:
            yield cluster


def check_all(expected: dict[str, pd.DataFrame], scheduler: str | None = None) -> None:
    check(
        expected, [*expected] if scheduler != "processes" else ["merge"], scheduler
    )  # starting processes takes seconds


def check_some(expected: dict[str, pd.DataFrame]) -> None:
    """Is like check_all if PARTD_KILLS is set. Otherwise, it compares only a few computations."""
    check(
        expected, [*expected] if "PARTD_KILLS" in os.environ else ["shuffle to fewer partitions", "set_index", "merge"]
    )


def check(expected: dict[str, pd.DataFrame], names: list[str], scheduler: str | None = None) -> None:
    for name, df, by in computations("partd"):
        if name not in names:
            continue
        assert "partd-write" in str(list(df.optimize().dask)), f"{name} does not shuffle through partd"
        assert_same(df.compute(scheduler=scheduler), expected[name], by)


def test_writing_tasks_add_partitions(url: str) -> None:
    """No separate task adds the column with each row's partition: the writing tasks do."""
    with partd_go.dask.use(url):
        df = dd.from_pandas(pd.DataFrame({"x": range(9)}), npartitions=3).shuffle("x")
        assert not [name for name in df.optimize().dask if "operation" in str(name)]


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_same_as_dask(scheduler: str, expected: dict[str, pd.DataFrame], url: str) -> None:
    with partd_go.dask.use(url) as used:
        check_all(expected, scheduler)
        wait_until_empty(used.store)


@pytest.fixture(params=["server", "files"])
def server_url(request: pytest.FixtureRequest, url: str) -> str | None:
    """Returns a server's URL, or None, which makes tasks write rows to files."""
    return url if request.param == "server" else None


def test_same_as_dask_distributed(
    expected: dict[str, pd.DataFrame], cluster: LocalCluster, server_url: str | None
) -> None:
    with Client(cluster), partd_go.dask.use(server_url, compression="zstd") as used:
        (check_all if server_url else check_some)(expected)
        wait_until_empty(used.store)


def wait_until_empty(store: shuffle.Store) -> None:
    deadline = time.monotonic() + 20
    remaining: list[str] = []
    while time.monotonic() < deadline:
        gc.collect()
        remaining = list(store.client.keys()) + (os.listdir(store.directory) if store.directory else [])
        if not remaining:
            return
        time.sleep(0.01)
    raise AssertionError(f"still stored: {remaining[:5]}")


def test_kept_while_persisted(cluster: LocalCluster, server_url: str | None) -> None:
    """Stored rows stay until the collection is released, so that tasks that run again can read them."""
    with partd_go.dask.use(server_url) as used, Client(cluster) as client:
        store = used.store.client
        want = frame().compute().sort_values("id", ignore_index=True)
        df = frame().shuffle("id").persist()
        wait(df)
        kept = len(list(store.keys()))
        assert kept == 8 + 2
        kill_one(client, random.Random(0))  # the tasks of this worker run again
        got = df.compute().sort_values("id", ignore_index=True)
        pd.testing.assert_frame_equal(got, want)
        assert len(list(store.keys())) == kept
        del df
        wait_until_empty(used.store)


def test_workers_killed(cluster: LocalCluster, server_url: str | None) -> None:
    """Tasks run again if a worker is killed at any time."""
    parts, rows = 12, 2000
    want = dd.from_map(part, range(parts), rows=rows).compute(scheduler="sync").sort_values("id", ignore_index=True)
    early = 0
    for kill in KILLS:
        rng = random.Random(kill)
        with partd_go.dask.use(server_url) as used, Client(cluster) as client:
            store = used.store.client
            try:
                client.wait_for_workers(2, timeout=30)
            except TimeoutError:  # dask may not restart a worker that is killed while it starts
                cluster.scale(0)
                cluster.scale(2)
                client.wait_for_workers(2, timeout=60)
            df = dd.from_map(slow, range(parts), rows=rows, salt=kill).shuffle("id", npartitions=7)
            future = client.compute(df.map_partitions(slowly, meta=part(0, 1)))
            while not list(store.keys()):
                time.sleep(0.005)
            time.sleep(rng.random() * 1.2)
            early += not future.done()
            kill_one(client, rng)
            got = future.result(timeout=120).sort_values("id", ignore_index=True)
            pd.testing.assert_frame_equal(got, want)
            del future
    assert early >= len(KILLS) * 0.5, f"only {early} of {len(KILLS)} kills came before the end of the computation"


def kill_one(client: Client, rng: random.Random) -> None:
    client.wait_for_workers(1, timeout=60)  # a worker killed earlier may not be back yet
    client.run(os._exit, 9, workers=[rng.choice(list(client.scheduler_info()["workers"]))], on_error="ignore")


def slow(i: int, rows: int, salt: int) -> pd.DataFrame:
    time.sleep(0.1)
    return part(i, rows)


def slowly(df: pd.DataFrame) -> pd.DataFrame:
    time.sleep(0.1)
    return df


def test_set_index_of_many_small_partitions(cluster: LocalCluster, url: str) -> None:
    """No row is lost. With several workers, dask's own shuffle on disk lost most rows of this workload."""
    ids = [str(uuid.UUID(int=random.Random(i).getrandbits(128))) for i in range(10_000)]
    with partd_go.dask.use(url), Client(cluster):
        df = dd.from_pandas(pd.DataFrame({"uuid": ids}), chunksize=100).set_index("uuid")
        assert len(df) == 10_000
        assert list(df.compute().index) == sorted(ids)


def test_first_commit_counts(url: str) -> None:
    with partd_go.Client(url) as client:
        winner, loser, dead = (attempts.Attempt(client, "partd-commits", "task") for _ in range(3))
        dead.append([("k", b"dead")])
        loser.append([("k", b"loser 1"), ("l", b"loser 2")])
        winner.append([("k", b"winner 1")])
        loser.append([("k", b"loser 3")])
        winner.append([("k", b"winner 2"), ("l", b"")])
        winner.commit()
        loser.commit()
        commits = attempts.commits(client, "partd-commits")
        assert commits["task"].attempt == winner.attempt
        found = {key: attempts.pieces(key, client.get(key), commits)["task"] for key in "kl"}
        assert found == {"k": [b"winner 1", b"winner 2"], "l": [b""]}
        client.drop()


def test_task_that_runs_twice(url: str) -> None:
    """Only the attempt that commits first counts, and an attempt without a commit does not count."""
    with partd_go.Client(url) as client:
        s = shuffle.Shuffle(shuffle.Store("twice", client, None), "x", 3)
        df = pd.DataFrame({"v": range(90), "_partitions": np.arange(90) % 3})
        writers = [threading.Thread(target=shuffle.write, args=(df, s, 0, "_partitions", None)) for _ in range(4)]
        for writer in writers:
            writer.start()
        lost = attempts.Attempt(client, s.key("commits"), "1")
        layout = blocks.layout_of(df[["v"]])
        (block,) = blocks.split(df[["v"]], layout, df["_partitions"].to_numpy(), None)
        lost.append([(s.key(p), b"".join(piece)) for p, _, piece in block])
        for writer in writers:
            writer.join()
        shuffle.write(df + 0, s, 1, "_partitions", None)
        plan = shuffle.barrier(s, 2)
        for p in range(3):
            got = shuffle.read(plan, p)
            assert list(got["v"]) == 2 * list(range(p, 90, 3))
        # Append the same batch again, as a client may do after a broken connection.
        stored = client.get(s.key(0))
        client.append({s.key(0): stored})
        assert len(shuffle.read(plan, 0)) == 60
        client.delete(s.key(0))
        with pytest.raises(RuntimeError, match="partition 0 has 0 rows, but 60 were committed"):
            shuffle.read(plan, 0)
        client.append({s.key(0): stored[:-1]})
        with pytest.raises(attempts.Damaged, match="at byte [0-9]+: a truncated frame"):
            shuffle.read(plan, 0)
        with pytest.raises(RuntimeError, match="the commit of task 2 of 3 is missing"):
            shuffle.barrier(s, 3)
        with pytest.raises(ValueError, match="rows have partitions from 0 to 2: number them from 0 to 1"):
            shuffle.write(df, shuffle.Shuffle(s.store, "y", 2), 0, "_partitions", None)
        client.drop()


def test_layouts_that_differ(url: str) -> None:
    """Partitions with different categories or types give the same result as dask's own shuffle."""

    def varying_part(i: int) -> pd.DataFrame:
        kinds = pd.Categorical([f"k{i}", "k"])
        return pd.DataFrame({"id": [i, i + 1], "kind": kinds, "n": np.array([i, 2], "i8" if i % 3 else "f8")})

    df = dd.from_map(varying_part, range(10), meta=varying_part(0))
    want = df.shuffle("id", npartitions=4, shuffle_method="tasks").compute(scheduler="sync")
    with partd_go.dask.use(url):
        assert_same(df.shuffle("id", npartitions=4).compute(scheduler="sync"), want, [])


def test_use_and_close(tmp_path: Path) -> None:
    lower, broadcast = _shuffle.Shuffle._lower, _merge.Merge.__dict__["is_broadcast_join"]
    with dask.config.set({"temporary-directory": str(tmp_path / "tmp")}):
        with partd_go.dask.use() as used:
            assert list((tmp_path / "tmp").iterdir())
            with pytest.raises(RuntimeError, match="already active"):
                partd_go.dask.use()
            assert len(frame().shuffle("id").compute(scheduler="threads")) == ROWS // 8 * 8
            # A merge broadcasts its small side, as with dask's own methods.
            small = dd.from_pandas(pd.DataFrame({"id": range(9)}), npartitions=2)
            merged = dd.from_map(part, range(40), rows=10).merge(small, on="id")
            assert "BroadcastJoin" in str(type(merged.expr.lower_completely()).__name__) or list(
                merged.expr.lower_completely().find_operations(_merge.BroadcastJoin)
            )
        used.close()
    assert not list((tmp_path / "tmp").iterdir())
    assert _shuffle.Shuffle._lower is lower
    assert _merge.Merge.__dict__["is_broadcast_join"] is broadcast
    with pytest.raises(ValueError, match="partd not supported"):
        frame().shuffle("id", shuffle_method="partd").optimize()


def test_invalid_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not both"):
        partd_go.dask.use("tcp://127.0.0.1:1", tmp_path)
    with pytest.raises(ValueError, match="lz4"):
        partd_go.dask.use(compression="gzip")
    with pytest.raises(partd_go.ConnectionFailed):
        partd_go.dask.use(partd_go.Client("tcp://127.0.0.1:1", retry_for=0.1))
    with monkeypatch.context() as patch:
        patch.setattr(dask, "__version__", "2031.1.0")
        with pytest.raises(
            RuntimeError, match="version 2031.1.0 is installed: install a supported one, for example with pip install"
        ):
            partd_go.dask.use()
    with monkeypatch.context() as patch:
        patch.setattr(method.use, "_patch", lambda self: None)
        with pytest.raises((RuntimeError, ValueError), match="partd not supported|another method"):
            partd_go.dask.use()
    assert method._active is None


def test_worker_that_cannot_reach_the_server(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(cluster), monkeypatch.context() as patch:
        from partd_go.dask import cluster as ours

        patch.setattr(ours, "reach", refuse)
        with pytest.raises(
            RuntimeError, match="cannot shuffle through .*: no way. The scheduler and every worker need"
        ):
            partd_go.dask.use()
    assert method._active is None


def test_tokens_and_tls(cluster: LocalCluster, secure: tuple[dict[str, str], str, str, str]) -> None:
    """Workers use the address, token and certificates of the client."""
    urls, directory, alice, bob = secure
    want = frame().shuffle("id", shuffle_method="tasks").compute(scheduler="threads")
    with Client(cluster):
        with partd_go.Client(urls["tls"], alice, f"{directory}/ca.pem") as store, partd_go.dask.use(store) as used:
            assert_same(frame().shuffle("id").compute(), want, [])
            wait_until_empty(used.store)
        with partd_go.Client(urls["tls"], bob, f"{directory}/ca.pem") as reader, partd_go.dask.use(reader):
            with pytest.raises(partd_go.Refused, match="check the token, and its user.s rights") as caught:
                frame().shuffle("id").compute()
            assert bob not in str(caught.value)
            assert not list(reader.keys())
        with pytest.raises(partd_go.Refused):
            partd_go.dask.use(partd_go.Client(urls["tls"], "s3cret", f"{directory}/ca.pem"))


def refuse(store: object) -> None:
    raise OSError("no way")


def test_lease_is_not_pickled(url: str) -> None:
    with partd_go.Client(url) as client:
        s = shuffle.Shuffle(shuffle.Store("lease", client, None), "x", 1)
        client.append({s.key(0): b"x"})
        lease = shuffle.Lease(s)
        copy = pickle.loads(pickle.dumps(lease))
        assert isinstance(copy, shuffle.Shuffle) and copy.key(0) == s.key(0)
        del copy
        gc.collect()
        time.sleep(0.1)
        assert client.get(s.key(0)) == b"x"
        del lease
        wait_until_empty(s.store)


def test_program_without_close(tmp_path: Path) -> None:
    """A program that closes nothing ends normally, and leaves no files."""
    program = (
        "import partd_go.dask, dask.dataframe as dd, pandas as pd\n"
        f"partd_go.dask.use(directory={str(tmp_path)!r})\n"
        "df = dd.from_pandas(pd.DataFrame({'x': range(100)}), npartitions=4)\n"
        "print(len(df.shuffle('x').compute()))\n"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (out.stdout, out.returncode) == ("100\n", 0), out.stderr
    assert not list(tmp_path.iterdir())

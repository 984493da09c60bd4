"""Counts the rows that shuffles lose or double if workers or servers are killed, or if the disk is full.

    python bench/kills.py --bytes 1e9 --methods dask-p2p,plain-server --faults none,worker

Methods: dask-p2p; dask-disk; dask-files (partd without a URL); ray-own (Ray's objects); and dask-, ray- or plain- with
server, shards (three servers) or bucket. ray- and plain- run examples/tasks. A job has four workers. Faults: worker
(one is killed every --every seconds, at most three for each task), server (killed twice and restarted), disk (full for
--full seconds; needs root), and none. A job may take --timeout seconds. dask repeats a failed task --retries times; Ray
repeats its own tasks if --retries is not 0. The exit code is 1 if a job with partd fails or returns wrong rows.

The workers generate the rows. For each of 1,024 groups, each output partition reports its number of rows and two sums
of hashes, computed with numpy. The totals must equal those of the generated rows. partd-server, tasks, partd-cloud and
versitygw must be on the PATH; docs/cluster.md says how to build tasks for a bucket. dask and Ray run in the
environments of .ci/peers.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import json
import multiprocessing
import os
import pickle
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

with contextlib.suppress(ImportError):  # only the parent needs it, and Ray's environment does not have it
    import psutil

Array = np.ndarray[Any, Any]
Job = dict[str, Any]
PEERS = Path(
    os.environ.get("PARTD_PEERS", Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "partd-peers"))
)
METHODS = (
    "dask-p2p,dask-disk,dask-files,dask-server,dask-shards,dask-bucket,"
    "ray-own,ray-server,plain-server,plain-shards,plain-bucket"
)
WORKERS, TRIES = 4, 100
WORDS, GROUPS = 32, 1024
NAMES = np.sort(np.frombuffer(b"".join(b"%04x    " % i for i in range(GROUPS)), np.uint64))
FACTORS = np.random.default_rng(2**40).integers(0, 2**64 - 1, WORDS, np.uint64) | np.uint64(1)


def make_rows(task: int, count: int) -> Array:
    """Returns the rows of a task. Each row is 32 words of 8 bytes and also a line of text. Its first word names its
    group."""
    words = np.random.default_rng(task).integers(0, 2**64 - 1, (count, WORDS), np.uint64)
    groups = words[:, 0] % np.uint64(GROUPS)
    words &= np.uint64(0x3F3F3F3F3F3F3F3F)
    words += np.uint64(0x3030303030303030)  # every byte is a letter, a digit or a similar character
    words[:, 0] = NAMES[groups]
    words.view(np.uint8)[:, -1] = ord("\n")
    return words


def count_rows(words: Array) -> Array:
    """Returns a row for each group: its index, its number of rows, and two sums of their hashes."""
    groups = np.minimum(np.searchsorted(NAMES, words[:, 0]), GROUPS - 1)
    if (NAMES[groups] != words[:, 0]).any():
        raise ValueError("a row has no group: it is damaged")
    hashes = words @ FACTORS
    for shift in (31, 29):
        hashes = (hashes ^ (hashes >> np.uint64(shift))) * FACTORS[0]
    # A float sums up to 2^27 of these 26-bit numbers exactly.
    halves = [(hashes >> np.uint64(shift)) & np.uint64(2**26 - 1) for shift in (0, 38)]
    sums = [np.bincount(groups, weights, GROUPS).astype(np.int64) for weights in (None, *halves)]
    table = np.stack([np.arange(GROUPS), *sums], 1)
    return table[table[:, 1] > 0]


def count_task(task: int, count: int) -> Array:
    return count_rows(make_rows(task, count))


def totals(tables: list[Array]) -> Array:
    sums = np.zeros((GROUPS, 3), np.int64)
    for table in tables:
        sums[table[:, 0]] += table[:, 1:]
    return sums


# The jobs. Each function returns the results of count_rows for all output partitions.


def run_dask(job: Job, backend: str) -> list[Array]:
    import dask
    import dask.dataframe as dd
    import pandas as pd
    from distributed import Client, LocalCluster

    def make(task: int, rows: int = job["rows"]) -> pd.DataFrame:
        return pd.DataFrame(make_rows(task, rows), columns=[f"c{i}" for i in range(WORDS)])

    def count(df: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(count_rows(df.to_numpy(np.uint64)), columns=["group", "rows", "low", "high"])

    # Make dask retry soon after a worker dies.
    settings = {"scheduler.allowed-failures": TRIES, "comm.retry.count": 3, "comm.timeouts.connect": "3s"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            dask.config.set({f"distributed.{k}": v for k, v in settings.items()}, temporary_directory=job["directory"])
        )
        cluster = LocalCluster(WORKERS, threads_per_worker=1, dashboard_address=None, local_directory=job["directory"])
        stack.enter_context(Client(stack.enter_context(cluster)))
        if backend not in ("p2p", "disk"):
            import partd_go.dask

            stack.enter_context(partd_go.dask.use(job["url"]))
            backend = "partd"
        Path(job["out"], "begun").touch()
        shuffled = dd.from_map(make, range(job["tasks"]), meta=make(0, 1)).shuffle(
            "c0", npartitions=job["tasks"], shuffle_method=backend
        )
        return [shuffled.map_partitions(count, meta=count(make(0, 1))).compute(retries=job["retries"]).to_numpy()]


def run_ray(job: Job, backend: str) -> list[Array]:
    import ray

    ray.init(
        num_cpus=WORKERS,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=job["scratch"] + "/r",
        object_spilling_directory=job["directory"],
        object_store_memory=int(min(max(80e6, job["bytes"] / 4), 4e9)),
    )
    Path(job["out"], "begun").touch()
    remote = functools.partial(ray.remote, max_retries=TRIES, retry_exceptions=bool(job["retries"]) or backend != "own")

    def split(task: int) -> list[Array]:
        rows = make_rows(task, job["rows"])
        parts = np.searchsorted(NAMES, rows[:, 0]) % job["tasks"]
        return np.split(
            rows[np.argsort(parts, kind="stable")], np.cumsum(np.bincount(parts, minlength=job["tasks"]))[:-1]
        )

    if backend == "own":
        pieces = [remote(num_returns=job["tasks"])(split).remote(task) for task in range(job["tasks"])]
        merge = remote()(lambda *pieces: count_rows(np.concatenate(pieces)))
        return ray.get([merge.remote(*column) for column in zip(*pieces, strict=True)])
    ray.get([remote()(put).remote(job, task) for task in range(job["tasks"])])
    return verify(job, ray.get([remote()(take).remote(job, part) for part in range(job["tasks"])]))


def run_plain(job: Job, _: str) -> list[Array]:
    def run_until_success(kind: str, i: int) -> None:
        for _ in range(TRIES):
            code = subprocess.run([sys.executable, __file__, "--task", kind, str(i)]).returncode
            if code == 0:
                return
            time.sleep(code > 0)  # wait a second if it failed and was not killed
        raise RuntimeError(f"{kind} {i} failed {TRIES} times")

    Path(job["out"], "begun").touch()
    with ThreadPoolExecutor(WORKERS) as pool:
        for kind in ("put", "take"):
            list(pool.map(functools.partial(run_until_success, kind), range(job["tasks"])))
    return verify(job, [pickle.loads(Path(job["out"], f"part-{i}").read_bytes()) for i in range(job["tasks"])])


def run_task(job: Job, kind: str, i: int) -> None:
    temporary = Path(job["out"], f"{os.getpid()}.part")
    temporary.write_bytes(pickle.dumps({"put": put, "take": take}[kind](job, i)))
    temporary.rename(Path(job["out"], f"part-{i}"))  # the result of "take" replaces that of "put"


def put(job: Job, task: int) -> None:
    """Writes the rows of a task to a file in memory and puts them into the store."""
    with tempfile.TemporaryDirectory(dir=job["scratch"]) as directory:
        make_rows(task, job["rows"]).tofile(f"{directory}/{task}")
        subprocess.run(
            ["tasks", "map", "--server", job["url"], "--job", "shuffle", str(task)], cwd=directory, check=True
        )


def take(job: Job, part: int) -> tuple[Array, str]:
    """Counts the rows that "tasks reduce" prints. Returns the counts, and the checksum for "tasks verify"."""
    with tempfile.TemporaryDirectory(dir=job["scratch"]) as directory:
        command = ["tasks", "reduce", "--server", job["url"], "--job", "shuffle", "--tasks", str(job["tasks"])]
        command += ["--part", f"{part}/{job['tasks']}", "--share", f"{directory}/share"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
            blocks = iter(functools.partial(program.stdout.read, 8 * WORDS << 16), b"")  # type: ignore[union-attr]
            sums = totals([count_rows(np.frombuffer(block, np.uint64).reshape(-1, WORDS)) for block in blocks])
        if program.returncode:
            raise RuntimeError(f"tasks reduce: exit code {program.returncode}")
        return np.column_stack([np.arange(GROUPS), sums])[sums[:, 0] > 0], Path(directory, "share").read_text()


def verify(job: Job, results: list[tuple[Array, str]]) -> list[Array]:
    shares = [Path(job["out"], f"share-{i}") for i in range(len(results))]
    for file, (_, share) in zip(shares, results, strict=True):
        file.write_text(share)
    subprocess.run(["tasks", "verify", "--server", job["url"], "--tasks", str(job["tasks"]), *shares], check=True)
    return [table for table, _ in results]


# The parent process starts servers and a job, causes the faults, measures the job and compares its results.


class Program:
    """A server that can be killed and restarted at the same address."""

    def __init__(self, *command: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.address = f"127.0.0.1:{s.getsockname()[1]}"
        self.command = [word.replace("ADDRESS", self.address) for word in command]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(self.address.split(":")):  # type: ignore[arg-type]
                return
            time.sleep(0.1)
        raise RuntimeError(f"{self.command} does not listen at {self.address} after 60 seconds")

    def restart(self) -> None:
        self.process.kill()
        self.process.wait()
        time.sleep(1)
        self.start()


def start_servers(backend: str, directory: str) -> tuple[str | None, list[Program]]:
    if backend == "bucket":
        os.mkdir(f"{directory}/bucket")
        os.environ |= {"AWS_ACCESS_KEY_ID": "user", "AWS_SECRET_ACCESS_KEY": "secretsecret"}
        command = "versitygw --port ADDRESS --access user --secret secretsecret --quiet --keep-alive posix"
        server = Program(*command.split(), directory)
        return f"s3://bucket/jobs?endpoint=http://{server.address}", [server]
    flags = ("--listen", "tcp://ADDRESS", "--memory=256MiB")
    servers = [
        Program("partd-server", "--store", f"log:{directory}/{i}", *flags)
        for i in range({"server": 1, "shards": 3}.get(backend, 0))
    ]
    return "tcp://" + ",".join(server.address for server in servers) if servers else None, servers


def descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def memory(process: psutil.Process) -> int:
    """Returns a process's memory, with its proportional share of shared memory."""
    with contextlib.suppress(psutil.Error):
        return process.memory_full_info().pss
    return 0


def is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        line = " ".join(process.cmdline())  # Ray's agents and spilling workers are not workers for tasks
        return bool(re.match(r"tasks |ray::(?!IDLE|\w*Agent|\w*_Worker)|.*spawn_main|.* --task ", line))
    return False


def disk_bytes(directory: str) -> int:
    du = subprocess.run(["du", "-s", "-B1", directory], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return int(du.stdout.split()[0])


def fill(path: Path) -> None:
    with open(path, "wb") as file:
        for size in (1 << 24, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)


def fault_injector(
    fault: str, flags: argparse.Namespace, filler: Path, servers: list[Program]
) -> Callable[[float, int], int]:
    """Returns a function that takes the shuffle's seconds and bytes on disk, causes faults, and returns their
    number."""
    choose, count, last_fault = random.Random(flags.seed).choice, 0, 0.0

    def step(now: float, used: int) -> int:
        nonlocal count, last_fault
        # On a slow machine, a task can take longer than flags.every. The limit lets such a job finish too.
        if (
            fault == "worker"
            and count < 3 * flags.tasks
            and now - last_fault >= flags.every
            and (workers := list(filter(is_worker, descendants())))
        ):
            choose(workers).kill()
        elif fault == "server" and count < 2 and used > flags.bytes * (0.3, 0.8)[count]:
            choose(servers).restart()
        elif fault == "disk" and not count and used > flags.bytes * 0.3:
            fill(filler)
        else:
            if now - last_fault >= flags.full:
                filler.unlink(missing_ok=True)
            return count
        count, last_fault = count + 1, now
        return count

    return step


def measure(method: str, fault: str, flags: argparse.Namespace, expected: Array, base: str) -> Job:
    runner, backend = method.split("-")
    disk, out, scratch = (
        tempfile.mkdtemp(dir=base),
        tempfile.mkdtemp(dir=base),
        tempfile.mkdtemp(prefix="k", dir="/dev/shm"),
    )
    directory = os.path.join(disk, "data")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        if fault == "disk":
            subprocess.run(["truncate", f"--size={3 * flags.bytes + (400 << 20)}", f"{base}/image"], check=True)
            subprocess.run(["mkfs.ext4", "-q", f"{base}/image"], check=True)
            subprocess.run(["mount", "-o", "loop", f"{base}/image", disk], check=True)
            stack.callback(subprocess.run, ["umount", "--lazy", disk], check=True)
        stack.callback(end_all)
        os.mkdir(directory)
        url, servers = start_servers(backend, directory)
        job = vars(flags) | {"directory": directory, "scratch": scratch, "out": out, "url": url}
        python = sys.executable if runner == "plain" else str(PEERS / runner / "bin" / "python")
        with open(f"{out}/log", "wb") as log:
            command = [python, __file__, "--one", method]
            child = subprocess.Popen(command, env=os.environ | {"KILLS": json.dumps(job)}, stdout=log, stderr=log)
        step, start, begin_time = fault_injector(fault, flags, Path(disk, "filler"), servers), time.monotonic(), 0.0
        peak = peak_disk = faults = 0
        while child.poll() is None and time.monotonic() < start + flags.timeout:
            time.sleep(0.2)
            used = disk_bytes(directory)
            peak, peak_disk = max(peak, sum(map(memory, descendants()))), max(peak_disk, used)
            begin_time = begin_time or os.path.exists(f"{out}/begun") and time.monotonic()
            faults = step(time.monotonic() - begin_time, used) if begin_time else 0
        seconds, code = round(time.monotonic() - (begin_time or start), 1), child.poll()
    result = {
        "bench": "kills",
        "method": method,
        "fault": fault,
        "bytes": flags.bytes,
        "retries": flags.retries,
        "faults": faults,
    }
    result |= {"finished": code == 0, "seconds": seconds, "peak_bytes": peak, "disk_bytes": peak_disk}
    if code == 0:
        return result | compare(pickle.loads(Path(out, "result").read_bytes()), expected)
    text = Path(out, "log").read_text(errors="replace").strip()
    print(text[-20_000:], file=sys.stderr)
    return result | {"error": text.rpartition("\n")[2][:300] if code else f"did not finish in {flags.timeout} s"}


def compare(tables: list[Array], expected: Array) -> dict[str, int]:
    difference, groups = totals(tables) - expected, np.concatenate(tables)[:, 0]
    rows = difference[:, 0]
    result = {"lost": int(-rows[rows < 0].sum()), "doubled": int(rows[rows > 0].sum())}
    # Also count groups with the right number of rows but wrong hashes, and groups in several output partitions.
    return result | {
        "changed": int((difference[rows == 0] != 0).any(1).sum()),
        "split": len(groups) - len(np.unique(groups)),
    }


def end_all() -> None:
    """Kills the descendants of this process, which also adopts descendants whose parents have ended."""
    for _ in range(1000):
        for process in (processes := descendants()):
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not processes:
            return
        time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    defaults: Job = {
        "bytes": 3e8,
        "task-bytes": 64e6,
        "methods": METHODS,
        "faults": "none,worker,server,disk",
        "every": 10.0,
        "full": 5.0,
    }
    defaults |= {"timeout": 600.0, "retries": 0, "seed": 1, "directory": tempfile.gettempdir()}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--task", nargs=2, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    job = json.loads(os.environ.get("KILLS", "{}"))
    if flags.task:
        run_task(job, flags.task[0], int(flags.task[1]))
        return
    if flags.one:
        runner, backend = flags.one.split("-")
        Path(job["out"], "result").write_bytes(pickle.dumps(globals()[f"run_{runner}"](job, backend)))
        return
    flags.bytes = int(flags.bytes)
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER, for end_all
    flags.tasks = min(256, max(WORKERS, round(flags.bytes / flags.task_bytes)))  # examples/tasks has 256 partitions
    flags.rows = flags.bytes // (flags.tasks * 8 * WORDS)
    with multiprocessing.Pool(2) as pool:
        expected = totals(pool.starmap(count_task, [(task, flags.rows) for task in range(flags.tasks)], 1))
    # The pool must not have this handler: a worker that was just forked drops its exception, and never ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    is_bad = False
    for method in flags.methods.split(","):
        for fault in flags.faults.split(","):
            if fault == "server" and method.split("-")[1] not in ("server", "shards", "bucket"):
                continue
            with tempfile.TemporaryDirectory(prefix="kills-", dir=flags.directory, ignore_cleanup_errors=True) as base:
                result = measure(method, fault, flags, expected, base)
            print(json.dumps(result), flush=True)
            is_right = result["finished"] and not any(result[k] for k in ("lost", "doubled", "changed", "split"))
            is_bad |= not is_right and method not in ("dask-p2p", "dask-disk", "ray-own")
    sys.exit(is_bad)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

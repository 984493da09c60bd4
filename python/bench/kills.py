"""Shuffles rows with four workers while workers or servers are killed or the disk is full, and counts lost and doubled rows.

    python bench/kills.py --bytes 1e9 --methods dask-p2p,plain-server --faults none,worker

Methods: dask-p2p, dask-disk, dask-files (partd without a URL), ray-own (Ray's tasks and objects), and dask-, ray- or plain- with
server (one partd-server), shards (three) or bucket; plain means processes that run examples/tasks. Faults: worker (one is killed
every --every seconds), server (killed twice and restarted), disk (full for --full seconds; needs root), and none.

Workers generate the rows. The counter uses only numpy: each output partition reports the number of rows and a sum of hashes for
each of 1,024 groups, and all of them are compared with the generator's. The environments are those of .ci/peers dask and ray.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import ctypes
import functools
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(os.environ.get("PARTD_PEERS", Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "partd-peers")))
WORKERS, TRIES = 4, 100
# A row is 32 words of 8 bytes. It is also a line of text, whose first word is the name of its group.
WORDS, GROUPS = 32, 1024
NAMES = np.sort(np.frombuffer(b"".join(b"%04x    " % i for i in range(GROUPS)), np.uint64))
FACTORS = np.random.default_rng(2**40).integers(0, 2**64 - 1, WORDS, np.uint64) | np.uint64(1)


def make_rows(task: int, count: int) -> Array:
    words = np.random.default_rng(task).integers(0, 2**64 - 1, (count, WORDS), np.uint64)
    groups = words[:, 0] % np.uint64(GROUPS)
    words &= np.uint64(0x3F3F3F3F3F3F3F3F)
    words += np.uint64(0x3030303030303030)  # every byte is a letter, a digit or a similar character
    words[:, 0] = NAMES[groups]
    words.view(np.uint8)[:, -1] = ord("\n")
    return words


def count_rows(words: Array) -> Array:
    """Returns a line for each group: its index, its number of rows, and two sums of their hashes."""
    groups = np.minimum(np.searchsorted(NAMES, words[:, 0]), GROUPS - 1)
    if (NAMES[groups] != words[:, 0]).any():
        raise ValueError("a row has no group: it is damaged")
    hashes = words @ FACTORS
    for shift in (31, 29):
        hashes = (hashes ^ (hashes >> np.uint64(shift))) * FACTORS[0]
    halves = [(hashes >> np.uint64(shift)) & np.uint64(2**26 - 1) for shift in (0, 38)]  # a sum of up to 2^27 is exact as a float
    sums = [np.bincount(groups, weights, GROUPS).astype(np.int64) for weights in (None, *halves)]
    table = np.stack([np.arange(GROUPS), *sums], 1)
    return table[table[:, 1] > 0]


def count_task(task: int, count: int) -> Array:
    return count_rows(make_rows(task, count))


def totals(lines: list[Array]) -> Array:
    table = np.zeros((GROUPS, 3), np.int64)
    for part in lines:
        table[part[:, 0]] += part[:, 1:]
    return table


# The jobs. Each returns the lines of count_rows for every output partition.


def run_dask(job: dict[str, Any], method: str) -> list[Array]:
    import dask
    import dask.dataframe as dd
    import pandas as pd
    from distributed import Client, LocalCluster

    columns = [f"c{i}" for i in range(WORDS)]

    def make(task: int, rows: int = job["rows"]) -> pd.DataFrame:
        return pd.DataFrame(make_rows(task, rows), columns=columns)

    def count(df: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(count_rows(df.to_numpy(np.uint64)), columns=["group", "rows", "low", "high"])

    settings = {"scheduler.allowed-failures": TRIES, "comm.retry.count": 3, "comm.timeouts.connect": "3s"}  # for dead workers
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set({f"distributed.{k}": v for k, v in settings.items()}, temporary_directory=job["directory"]))
        cluster = LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, memory_limit="auto", dashboard_address=None, local_directory=job["directory"]
        )
        stack.enter_context(stack.enter_context(Client(stack.enter_context(cluster))).as_current())
        if method not in ("p2p", "disk"):
            import partd_go.dask

            stack.enter_context(partd_go.dask.use(job["url"]))
            method = "partd"
        frame = dd.from_map(make, range(job["tasks"]), meta=make(0, 1))
        begin(job)
        shuffled = frame.shuffle("c0", npartitions=job["parts"], shuffle_method=method)
        return [shuffled.map_partitions(count, meta=count(make(0, 1))).compute(retries=job["retries"]).to_numpy()]


def run_ray(job: dict[str, Any], method: str) -> list[Array]:
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, _temp_dir=job["scratch"] + "/r",
             object_spilling_directory=job["directory"], object_store_memory=int(min(max(80e6, job["bytes"] / 4), 4e9)))  # fmt: skip
    begin(job)
    retried = functools.partial(ray.remote, max_retries=TRIES, retry_exceptions=bool(job["retries"]) or method != "own")

    def split(task: int) -> list[Array]:
        rows = make_rows(task, job["rows"])
        parts = np.searchsorted(NAMES, rows[:, 0]) % job["parts"]
        rows = rows[np.argsort(parts, kind="stable")]
        return np.split(rows, np.cumsum(np.bincount(parts, minlength=job["parts"]))[:-1])

    if method == "own":
        pieces = [retried(num_returns=job["parts"])(split).remote(task) for task in range(job["tasks"])]
        merge = retried()(lambda *pieces: count_rows(np.concatenate(pieces)))
        return ray.get([merge.remote(*column) for column in zip(*pieces, strict=True)])
    ray.get([retried()(put).remote(job, task) for task in range(job["tasks"])])
    return verified(job, ray.get([retried()(take).remote(job, part) for part in range(job["parts"])]))


def run_plain(job: dict[str, Any], method: str) -> list[Array]:
    def again(kind: str, i: int) -> None:
        for _ in range(TRIES):
            code = subprocess.run([sys.executable, __file__, "--task", kind, str(i)]).returncode
            if code == 0:
                return
            if code > 0:
                time.sleep(1)  # it failed, and was not killed: try later
        raise RuntimeError(f"{kind} {i} failed {TRIES} times")

    begin(job)
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(functools.partial(again, "put"), range(job["tasks"])))
        list(pool.map(functools.partial(again, "take"), range(job["parts"])))
    return verified(job, [pickle.loads(Path(job["out"], f"part-{i}").read_bytes()) for i in range(job["parts"])])


def begin(job: dict[str, Any]) -> None:
    """Marks the start of the shuffle, when the framework's processes are ready."""
    Path(job["out"], "begun").touch()


def run_task(job: dict[str, Any], kind: str, i: int) -> None:
    if kind == "put":
        put(job, i)
        return
    temporary = Path(job["out"], f"{os.getpid()}.part")
    temporary.write_bytes(pickle.dumps(take(job, i)))
    temporary.rename(Path(job["out"], f"part-{i}"))


def tasks(job: dict[str, Any], *args: object, cwd: str | None = None) -> None:
    run = subprocess.run(["tasks", args[0], "--server", job["url"], *map(str, args[1:])], cwd=cwd, stderr=subprocess.PIPE, text=True)
    if run.returncode:
        raise RuntimeError(f"tasks {args[0]}: exit code {run.returncode}: {run.stderr}")


def put(job: dict[str, Any], task: int) -> None:
    """Writes the rows of a task to a file in memory, and runs "tasks map" with it."""
    with tempfile.TemporaryDirectory(dir=job["scratch"]) as directory:
        make_rows(task, job["rows"]).tofile(f"{directory}/task-{task}")
        tasks(job, "map", "--job", "shuffle", f"task-{task}", cwd=directory)


def take(job: dict[str, Any], part: int) -> tuple[Array, str]:
    """Counts the rows that "tasks reduce" prints. Also returns the checksum for "tasks verify"."""
    with tempfile.TemporaryDirectory(dir=job["scratch"]) as directory:
        command = ["tasks", "reduce", "--server", job["url"], "--job", "shuffle", "--tasks", str(job["tasks"])]
        command += ["--part", f"{part}/{job['parts']}", "--share", f"{directory}/share"]
        lines = []
        with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
            assert program.stdout
            while data := program.stdout.read(8 * WORDS << 16):
                lines.append(count_rows(np.frombuffer(data, np.uint64).reshape(-1, WORDS)))
        if program.returncode:
            raise RuntimeError(f"tasks reduce: exit code {program.returncode}")
        table = np.column_stack([np.arange(GROUPS), totals(lines)])
        return table[table[:, 1] > 0], Path(directory, "share").read_text()


def verified(job: dict[str, Any], results: list[tuple[Array, str]]) -> list[Array]:
    shares = [Path(job["out"], f"share-{i}") for i in range(len(results))]
    for file, (_, share) in zip(shares, results, strict=True):
        file.write_text(share)
    tasks(job, "verify", "--tasks", job["tasks"], *shares)
    return [lines for lines, _ in results]


# The parent starts servers and a job, causes the faults, measures, and compares.


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
        raise RuntimeError(f"{self.command} does not listen")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def start_servers(place: str, directory: str) -> tuple[str | None, list[Program]]:
    if place == "bucket":
        os.mkdir(f"{directory}/bucket")
        os.environ.update(AWS_ACCESS_KEY_ID="user", AWS_SECRET_ACCESS_KEY="secretsecret")
        gateway = os.environ.get("PARTD_VERSITYGW", "versitygw")
        server = Program(gateway, "--port", "ADDRESS", "--access", "user", "--secret", "secretsecret", "--quiet", "--keep-alive", "posix", directory)
        return f"s3://bucket/jobs?endpoint=http://{server.address}", [server]
    servers = [
        Program("partd-server", "--store", f"log:{directory}/{i}", "--listen", "tcp://ADDRESS", "--memory=256MiB")
        for i in range({"server": 1, "shards": 3}.get(place, 0))
    ]
    return "tcp://" + ",".join(server.address for server in servers) if servers else None, servers


def descendants(root: int) -> list[int]:
    parents = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            parents[int(pid)] = int(Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[1])
    found = [root]
    for parent in found:
        found += [pid for pid, its_parent in parents.items() if its_parent == parent]
    return found[1:]


def memory(pids: list[int]) -> int:
    """Sums the memory of processes. It divides shared memory among the processes that use it."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, StopIteration):
            total += int(next(line for line in open(f"/proc/{pid}/smaps_rollup") if line.startswith("Pss:")).split()[1]) << 10
    return total


def is_worker(pid: int) -> bool:
    try:
        name = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return name.startswith(b"tasks\0") or b"spawn_main" in name or b"--task\0" in name or name.startswith(b"ray::") and b"IDLE" not in name


def disk_bytes(directory: str) -> int:
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return total


@contextlib.contextmanager
def own_disk(path: str, size: int) -> Iterator[None]:
    with open(path + ".image", "wb") as image:
        image.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0", path + ".image"], check=True)
    subprocess.run(["mount", "-o", "loop", path + ".image", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def inject(fault: str, flags: argparse.Namespace, disk: str, servers: list[Program]) -> Callable[[float, int], int]:
    """Returns a function that causes faults, and returns their number. Its arguments are the seconds since the start, and the
    bytes on disk."""
    random_, count, since = random.Random(flags.seed), 0, 0.0
    filler = Path(disk, "filler")

    def step(now: float, used: int) -> int:
        nonlocal count, since
        if fault == "worker" and now - since >= flags.every:
            if workers := list(filter(is_worker, descendants(os.getpid()))):
                os.kill(random_.choice(workers), signal.SIGKILL)
                count, since = count + 1, now
        elif fault == "server" and count < 2 and used > flags.bytes * (0.3, 0.8)[count]:
            server = random_.choice(servers)
            server.kill()
            time.sleep(1)
            server.start()
            count += 1
        elif fault == "disk" and not count and used > flags.bytes * 0.3:
            with open(filler, "wb") as file, contextlib.suppress(OSError):
                for size in (1 << 24, 1 << 12):
                    with contextlib.suppress(OSError):
                        while True:
                            os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
            count, since = 1, now
        elif fault == "disk" and count and now - since >= flags.full:
            filler.unlink(missing_ok=True)
        return count

    return step


def measure(method: str, fault: str, flags: argparse.Namespace, expected: Array, base: str) -> dict[str, Any]:
    runner, place = method.split("-")
    disk, scratch = tempfile.mkdtemp(dir=base), tempfile.mkdtemp(prefix="k", dir="/dev/shm")
    result: dict[str, Any] = {"bench": "kills", "method": method, "fault": fault, "bytes": flags.bytes}
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, disk, ignore_errors=True)
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        if fault == "disk":
            stack.enter_context(own_disk(disk, 3 * flags.bytes + (400 << 20)))
        stack.callback(end_all)
        directory, out = os.path.join(disk, "data"), tempfile.mkdtemp(dir=base)
        os.mkdir(directory)
        url, servers = start_servers(place, directory)
        job = {k: getattr(flags, k) for k in ("bytes", "tasks", "parts", "rows", "retries")}
        job |= {"directory": directory, "scratch": scratch, "out": out, "url": url}
        python = PEERS / runner / "bin" / "python"
        command = [str(python if runner != "plain" else sys.executable), __file__, "--one", method]
        log = open(f"{out}/log", "wb")
        start, begun = time.monotonic(), 0.0
        child = subprocess.Popen(command, env={**os.environ, "KILLS": json.dumps(job)}, stdout=log, stderr=log)
        step = inject(fault, flags, disk, servers)
        peak = peak_disk = faults = 0
        while child.poll() is None and time.monotonic() < start + flags.timeout:
            time.sleep(0.2)
            used = disk_bytes(directory)
            peak, peak_disk = max(peak, memory(descendants(os.getpid()))), max(peak_disk, used)
            begun = begun or os.path.exists(f"{out}/begun") and time.monotonic()
            faults = step(time.monotonic() - begun, used) if begun else 0
        result |= {"seconds": round(time.monotonic() - (begun or start), 1), "finished": child.poll() == 0, "faults": faults}
        result |= {"peak_bytes": peak, "disk_bytes": peak_disk}
        if not result["finished"]:
            lines = [line for line in Path(out, "log").read_text(errors="replace").splitlines() if line.strip()] or ["no output"]
            result["error"] = lines[-1][:300] if child.poll() is not None else f"did not finish in {flags.timeout} s"
            if flags.logs:
                shutil.copy(f"{out}/log", f"{flags.logs}/{method}-{fault}.log")
            return result
        lines = pickle.loads(Path(out, "result").read_bytes())
        difference, groups = totals(lines) - expected, np.concatenate(lines)[:, 0]
        rows = difference[:, 0]
        result |= {"lost": int(-rows[rows < 0].sum()), "doubled": int(rows[rows > 0].sum())}
        result |= {"changed": int((difference[rows == 0] != 0).any(1).sum()), "split": len(groups) - len(np.unique(groups))}
    return result


def end_all() -> None:
    """Kills the descendants of this process, also those whose parents have ended, because this process adopts them."""
    while pids := descendants(os.getpid()):
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    flags.add_argument("--bytes", type=lambda text: int(float(text)), default=300_000_000, help="size of all rows")
    flags.add_argument("--methods", default="dask-p2p,dask-disk,dask-files,dask-server,dask-shards,dask-bucket,ray-own,ray-server,plain-server,plain-shards,plain-bucket")
    flags.add_argument("--faults", default="none,worker,server,disk")
    flags.add_argument("--task-bytes", type=float, default=64e6)
    flags.add_argument("--every", type=float, default=10, help="seconds between kills of workers")
    flags.add_argument("--full", type=float, default=5, help="seconds for which the disk is full")
    flags.add_argument("--timeout", type=float, default=600, help="seconds for each run")
    flags.add_argument("--retries", type=int, default=0, help="how often dask repeats a task after an error; Ray does so if it is not 0")
    flags.add_argument("--seed", type=int, default=1)
    flags.add_argument("--directory", default=tempfile.gettempdir())
    flags.add_argument("--figures", help="append the results to this file")
    flags.add_argument("--logs", help="copy the output of failed jobs to this directory")
    flags.add_argument("--one", help=argparse.SUPPRESS)
    flags.add_argument("--task", nargs=2, help=argparse.SUPPRESS)
    args = flags.parse_args()
    if args.task:
        run_task(json.loads(os.environ["KILLS"]), args.task[0], int(args.task[1]))
        return
    if args.one:
        job, (runner, place) = json.loads(os.environ["KILLS"]), args.one.split("-")
        lines = {"dask": run_dask, "ray": run_ray, "plain": run_plain}[runner](job, place)
        Path(job["out"], "result").write_bytes(pickle.dumps(lines))
        return
    args.tasks = args.parts = min(256, max(2 * WORKERS, round(args.bytes / args.task_bytes)))  # examples/tasks has 256 partitions
    args.rows = args.bytes // (args.tasks * 8 * WORDS)
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER, for end_all
    with multiprocessing.Pool(2) as pool:
        expected = totals(pool.starmap(count_task, [(task, args.rows) for task in range(args.tasks)], 1))
    wrong = False
    for method in args.methods.split(","):
        for fault in args.faults.split(","):
            if fault == "server" and method.split("-")[1] not in ("server", "shards", "bucket"):
                continue
            with tempfile.TemporaryDirectory(prefix="kills-", dir=args.directory, ignore_cleanup_errors=True) as base:
                result = measure(method, fault, args, expected, base)
            print(json.dumps(result), flush=True)
            if args.figures:
                with open(args.figures, "a") as file:
                    print(json.dumps(result), file=file)
            wrong = wrong or any(result.get(k, 0) for k in ("lost", "doubled", "changed", "split"))
    sys.exit(wrong)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

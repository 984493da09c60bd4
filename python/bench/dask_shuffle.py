"""Compares dask's shuffle methods: on a cluster of two workers, p2p and partd (with one server, three servers, and a
bucket); on two threads, disk and partd. The methods take turns, and each run is a new process. $PARTD_VERSITYGW must be
the path of the program versitygw, which serves the bucket.

    python bench/dask_shuffle.py --rows 10_000_000 --rounds 3

All servers run on this machine, and the figures include them. Times are the wall-clock time and the processor time of
the shuffle. Memory is the peak of all processes during the shuffle minus their memory before it, without shared memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import psutil


def make_part(i: int, rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(i)
    ids = rng.integers(0, rows, rows)
    words = pd.array(["Oslo", "Lima", "Rome", "Kyiv", None], dtype="str")
    return pd.DataFrame(
        {
            "id": ids,
            "x": rng.random(rows),
            "y": rng.random(rows),
            "n": ids.astype(np.int32),
            "city": words.take(ids % 5),
        }
    )


def check(df: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"rows": [len(df)], "sum": [int(df["id"].sum())]})


class Watch:
    """Samples the memory of this process and its descendants. Sums their processor time."""

    def __init__(self) -> None:
        self.process, self.stopped = psutil.Process(), threading.Event()
        self.peak, self.start, self.cpu = 0, self.memory(), self.seconds()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def total(self, value: str) -> float:
        total = 0.0
        for p in [self.process, *self.process.children(recursive=True)]:
            try:
                total += p.memory_full_info().uss if value == "uss" else sum(p.cpu_times()[:2])
            except psutil.Error:
                pass
        return total

    def memory(self) -> float:
        return self.total("uss")

    def seconds(self) -> float:
        return self.total("cpu")

    def run(self) -> None:
        while not self.stopped.wait(0.2):
            self.peak = max(self.peak, self.memory())

    def stop(self) -> tuple[float, float]:
        self.stopped.set()
        self.thread.join()
        return self.seconds() - self.cpu, self.peak - self.start


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return int(s.getsockname()[1])


@contextlib.contextmanager
def servers(directory: str) -> Iterator[str]:
    """Starts three servers that form one store."""
    from partd_go import serve

    with contextlib.ExitStack() as stack:
        addresses = [f"127.0.0.1:{free_port()}" for _ in range(3)]
        for address in addresses:
            stack.enter_context(serve(directory=directory, flags=("--memory=256MiB", "--listen", f"tcp://{address}")))
        yield "tcp://" + ",".join(addresses)


@contextlib.contextmanager
def bucket(directory: str) -> Iterator[str]:
    """Serves a bucket whose objects are files, and yields the URL of a prefix."""
    os.makedirs(f"{directory}/bucket")
    os.environ |= {"AWS_ACCESS_KEY_ID": "user", "AWS_SECRET_ACCESS_KEY": "secretsecret"}
    address = f"127.0.0.1:{free_port()}"
    command = [
        os.environ["PARTD_VERSITYGW"],
        "--port",
        address,
        "--access",
        "user",
        "--secret",
        "secretsecret",
        "--quiet",
        "--keep-alive",
        "posix",
        directory,
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as gateway:
        try:
            yield f"s3://bucket/jobs?endpoint=http://{address}"
        finally:
            gateway.kill()


def measure(method: str, rows: int, parts: int, compression: str | None) -> dict[str, float]:
    import partd_go.dask

    name, scheduler = method.split("-")
    with tempfile.TemporaryDirectory() as directory, dask.config.set({"temporary-directory": directory}):
        with contextlib.ExitStack() as stack:
            url = None
            if name in ("shards", "bucket"):
                url = stack.enter_context((servers if name == "shards" else bucket)(directory))
                name = "partd"
            if scheduler == "workers":
                from distributed import Client, LocalCluster

                cluster = LocalCluster(
                    n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0, local_directory=directory
                )
                stack.enter_context(cluster)
                stack.enter_context(Client(cluster))
            else:
                stack.enter_context(dask.config.set(scheduler="threads", num_workers=2))
            if name == "partd":
                stack.enter_context(partd_go.dask.use(url, compression=compression))
            df = dd.from_map(make_part, range(parts), rows=rows // parts).persist()
            expected = df.map_partitions(check, meta=check(make_part(0, 9))).compute().sum()
            result = df.shuffle("id", shuffle_method=name).map_partitions(check, meta=check(make_part(0, 9)))
            watch, start_time = Watch(), time.monotonic()
            actual = result.compute().sum()
            seconds = time.monotonic() - start_time
            cpu, memory = watch.stop()
            assert (actual == expected).all(), f"{method}: got {dict(actual)}, want {dict(expected)}"
    return {"seconds": seconds, "cpu": cpu, "MB": memory / 1e6}


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    flags.add_argument("--rows", type=int, default=10_000_000)
    flags.add_argument("--partitions", type=int, default=40)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--compression")
    flags.add_argument(
        "--methods", default="partd-workers,shards-workers,bucket-workers,p2p-workers,partd-threads,disk-threads"
    )
    flags.add_argument("--figures", help="append the medians to this file, in the format of docs/plots/draw")
    flags.add_argument("--one", help=argparse.SUPPRESS)
    args = flags.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.rows, args.partitions, args.compression)))
        return
    methods = args.methods.split(",")
    results: dict[str, list[dict[str, float]]] = {m: [] for m in methods}
    for _ in range(args.rounds):
        for method in methods:
            command = [sys.executable, __file__, *sys.argv[1:], "--one", method]
            output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
            results[method].append(json.loads(output.splitlines()[-1]))
            print(method, {k: round(v, 1) for k, v in results[method][-1].items()}, flush=True)
    if args.figures:
        with open(args.figures, "a") as file:
            for method, runs in results.items():
                seconds, peak = [run["seconds"] for run in runs], max(run["MB"] for run in runs) * 1e6
                line = {
                    "bench": "dask",
                    "job": f"shuffle {args.rows} rows",
                    "who": method,
                    "value": statistics.median(seconds),
                }
                line |= {
                    "least": min(seconds),
                    "most": max(seconds),
                    "unit": "s",
                    "runs": len(runs),
                    "peak_bytes": round(peak),
                }
                print(json.dumps(line), file=file)
    peers = {"partd-workers": "p2p-workers", "shards-workers": "p2p-workers", "bucket-workers": "p2p-workers"}
    for method_name, peer in (peers | {"partd-threads": "disk-threads"}).items():
        if method_name in results and peer in results:
            ratios = {
                k: statistics.median(o[k] / m[k] for m, o in zip(results[method_name], results[peer], strict=True))
                for k in ("seconds", "cpu", "MB")
            }
            print(f"{peer} / {method_name}:", ", ".join(f"{k} {v:.2f}" for k, v in ratios.items()))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

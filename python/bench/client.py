"""Compares partd_go's client with the client of the Python package partd, on the same server.

    python bench/client.py [--seconds 1] [--rounds 5]

The clients take turns; each figure is the median of the rounds. partd's client reads the reply
to an append only in its next call, so each of its turns ends with a get.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
from collections.abc import Callable

import partd

import partd_go

BATCH = {f"key {i}": os.urandom(100) for i in range(1000)}
BATCH_BYTES = sum(map(len, BATCH.values()))
LARGE = os.urandom(1 << 20)


def rate(seconds: float, call: Callable[[], object], wait_for_replies: Callable[[], object]) -> float:
    """Returns the number of calls per second. wait_for_replies waits for outstanding replies."""
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        call()
        calls += 1
    wait_for_replies()
    return calls / (time.perf_counter() - start)


def rate_of_threads(seconds: float, clients: list[partd_go.Client]) -> float:
    rates: list[float] = []

    def work(client: partd_go.Client) -> None:
        rates.append(rate(seconds, lambda: client.append(BATCH), lambda: None))

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with partd_go.serve(flags=("--memory=2GiB",)) as url:
        partd_client, ours = partd.Client(url), partd_go.Client(url)
        clients = [ours] + [partd_go.Client(url) for _ in range(3)]
        calls: dict[str, Callable[[], float]] = {
            "partd append of 1,000 x 100 B": lambda: rate(
                args.seconds, lambda: partd_client.append(BATCH), lambda: partd_client.get("none")
            ),
            "ours append of 1,000 x 100 B": lambda: rate(args.seconds, lambda: ours.append(BATCH), lambda: None),
            "ours with 4 threads and one client": lambda: rate_of_threads(args.seconds, [ours] * 4),
            "ours with 4 threads and 4 clients": lambda: rate_of_threads(args.seconds, clients),
            "partd append of 1 MiB": lambda: rate(
                args.seconds, lambda: partd_client.append({"large": LARGE}), lambda: partd_client.get("none")
            ),
            "ours append of 1 MiB": lambda: rate(args.seconds, lambda: ours.append({"large": LARGE}), lambda: None),
            "partd get of 1 MiB": lambda: rate(args.seconds, lambda: partd_client.get("one"), lambda: None),
            "ours get of 1 MiB": lambda: rate(args.seconds, lambda: ours.get("one"), lambda: None),
        }
        results: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(args.rounds):
            for name, step in calls.items():
                ours.drop()
                ours.append({"one": LARGE})
                results[name].append(step())
        partd_client.close()
        medians = {name: statistics.median(rates) for name, rates in results.items()}
        base = medians["partd append of 1,000 x 100 B"]
        for name, median in medians.items():
            size = 1 << 20 if "MiB" in name else BATCH_BYTES
            if name.startswith("partd"):
                base = median
            print(f"{name:34}{median:9.0f} /s {median * size / 1e6:8.0f} MB/s   x {median / base:.2f}")
        for client in clients:
            client.close()


if __name__ == "__main__":
    main()

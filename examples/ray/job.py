"""Counts words, or sorts or joins lines of files, with Ray: see README.md.

python job.py count OUT FILE...
python job.py sort OUT FILE...
python job.py join OUT LEFT... --right RIGHT...
"""

import argparse
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import ray


class Killed(Exception):
    """The program "tasks" was killed. This exception makes Ray run the task again, as if the worker had been killed."""


def tasks(command, server, *args, stdout=None):
    """Runs a command of the program examples/tasks."""
    args = ["tasks", command, "--server", server, *map(str, args)]
    process = subprocess.run(args, stdout=stdout, stderr=subprocess.PIPE, text=True)
    if process.returncode:
        kind = Killed if process.returncode < 0 else RuntimeError
        raise kind(f"{shlex.join(args)}: exit code {process.returncode}: {process.stderr}")


# Retries are limited because a task that needs too much memory is killed each time.
retried = ray.remote(max_retries=10, retry_exceptions=[Killed])


@retried
def put(server, job, side, file):
    """Puts the lines of a file into the store. If Ray runs this task again, only one of the runs counts."""
    tasks("map", server, "--job", job, "--side", side, file)


@retried
def reduce(server, job, count, part, parts, out):
    """Writes a part of the result atomically. Returns the checksum of the lines that the task read, for "tasks
    verify"."""
    attempt = Path(tempfile.mkdtemp(dir=out / "attempts"))
    with open(attempt / "lines", "wb") as lines:
        tasks(
            "reduce",
            server,
            "--job",
            job,
            "--tasks",
            count,
            "--part",
            f"{part}/{parts}",
            "--share",
            attempt / "share",
            stdout=lines,
        )
    os.replace(attempt / "lines", out / f"part-{part:03}")
    return (attempt / "share").read_text()


def run(server, job, out, left, right=(), parts=8):
    """Runs a job. The parts of the result are files in the directory out, which all machines must share."""
    out = Path(out).absolute()
    out.mkdir(parents=True)  # must be new, so that parts of an older result do not mix with the new ones
    (out / "attempts").mkdir()
    files = [("left", os.path.abspath(f)) for f in left] + [("right", os.path.abspath(f)) for f in right]
    ray.get([put.remote(server, job, side, file) for side, file in files])
    shares = ray.get([reduce.remote(server, job, len(files), part, parts, out) for part in range(parts)])
    with tempfile.TemporaryDirectory() as directory:
        names = [Path(directory, str(part)) for part in range(parts)]
        for name, share in zip(names, shares, strict=True):
            name.write_text(share)
        tasks("verify", server, "--tasks", len(files), *names)
    shutil.rmtree(out / "attempts", ignore_errors=True)  # a killed worker's program may still write there


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("job", choices=["count", "sort", "join"])
    parser.add_argument("out", help="new directory for the result")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--right", nargs="*", default=[], help="join: files of the right side")
    parser.add_argument("--server", default="tcp://127.0.0.1:7077", help="URL of the store, for all workers")
    parser.add_argument("--parts", type=int, default=8)
    args = parser.parse_args()
    ray.init()
    run(args.server, args.job, args.out, args.files, args.right, args.parts)


if __name__ == "__main__":
    main()

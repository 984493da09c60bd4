"""Counts words, sorts or joins lines of files by Ray: see README.md.

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
    """The program was killed: Ray starts the task again, as it does where the worker was."""


def tasks(command, server, *args, stdout=None):
    """Runs examples/tasks, which does the work of a task, and commits what it has put into the store."""
    args = ["tasks", command, "--server", server, *map(str, args)]
    ended = subprocess.run(args, stdout=stdout, stderr=subprocess.PIPE, text=True)
    if ended.returncode:
        kind = Killed if ended.returncode < 0 else RuntimeError
        raise kind(f"{shlex.join(args)}: exit code {ended.returncode}: {ended.stderr}")


again = ray.remote(max_retries=10, retry_exceptions=[Killed])  # of a task that takes too much memory each end is a kill


@again
def put(server, job, side, file):
    """Puts the lines of a file into the store. Each start is an attempt of its own, of which one counts."""
    tasks("map", server, "--job", job, "--side", side, file)


@again
def reduce(server, job, count, part, parts, out):
    """Writes a part of the result, whole or not at all, and returns the account of what it has read."""
    attempt = Path(tempfile.mkdtemp(dir=out / "attempts"))
    with open(attempt / "lines", "wb") as lines:
        tasks("reduce", server, "--job", job, "--tasks", count, "--part", f"{part}/{parts}", "--share", attempt / "share", stdout=lines)
    os.replace(attempt / "lines", out / f"part-{part:03}")
    return (attempt / "share").read_text()


def run(server, job, out, left, right=(), parts=8):
    """Does a job: the parts of the result are files in the directory out, which all machines see."""
    out = Path(out).absolute()
    out.mkdir(parents=True)  # an old one may have more parts, which would be taken for this result's
    (out / "attempts").mkdir()
    files = [("left", os.path.abspath(f)) for f in left] + [("right", os.path.abspath(f)) for f in right]
    ray.get([put.remote(server, job, side, file) for side, file in files])
    shares = ray.get([reduce.remote(server, job, len(files), part, parts, out) for part in range(parts)])
    with tempfile.TemporaryDirectory() as made:
        names = [Path(made, str(part)) for part in range(parts)]
        for name, share in zip(names, shares, strict=True):
            name.write_text(share)
        tasks("verify", server, "--tasks", len(files), *names)
    shutil.rmtree(out / "attempts", ignore_errors=True)  # a killed worker's program may still write there


def main():
    words = argparse.ArgumentParser(usage=__doc__)
    words.add_argument("job", choices=["count", "sort", "join"])
    words.add_argument("out", help="directory for the result, new")
    words.add_argument("files", nargs="+")
    words.add_argument("--right", nargs="*", default=[], help="join: the files of the right side")
    words.add_argument("--server", default="tcp://127.0.0.1:7077", help="URL of the store, for all workers")
    words.add_argument("--parts", type=int, default=8)
    given = words.parse_args()
    ray.init()
    run(given.server, given.job, given.out, given.files, given.right, given.parts)


if __name__ == "__main__":
    main()

"""The jobs of job.py beside plain Python's, while workers, their programs and servers are killed."""

import collections
import importlib.util
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
if not importlib.util.find_spec("ray"):
    if os.environ.get("PARTD_REQUIRE_ALL"):
        raise ImportError("PARTD_REQUIRE_ALL is set, and ray is missing: .ci/peers ray, and its bin/pytest")
    pytest.skip("needs ray: .ci/peers ray, and its bin/pytest", allow_module_level=True)

FILES, PARTS = 6, 4

# The first attempt at each task is killed in the midst of it: in turns the program alone, its
# worker, $PPID, with it, and the worker alone, whose program then goes on beside the next attempt.
KILLER = """#!/bin/sh
[ "$1" = verify ] && exec {real} "$@"
case "$*" in *always*) kill -9 $$ ;; esac
mkdir "$MARKS/$(echo "$@" | sed 's/--share.*//' | cksum)" 2>/dev/null || exec {real} "$@"
{real} "$@" &
n=$(ls "$MARKS" | wc -l)
sleep 0.0$((n % 10))
case $((n % 3)) in
0) kill -9 $! $$ ;;
1) kill -9 $! $PPID ;;
2) kill -9 $PPID ;;
esac
wait
"""


class Server:
    """A partd-server, which comes back at its address."""

    def __init__(self, program, directory):
        self.command = [program, "--store", f"log:{directory}/data", "--listen"]
        self.address = "127.0.0.1:0"
        self.start()

    def start(self):
        self.process = subprocess.Popen([*self.command, f"tcp://{self.address}"], stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().split("://")[1].strip()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.fixture(scope="module")
def ray_job(tmp_path_factory):
    """The module job, in a Ray whose workers run the killer as tasks, and the directory of programs."""
    made = tmp_path_factory.mktemp("programs")
    root = HERE.parent.parent
    subprocess.run(["go", "build", "-o", f"{made}/", "./examples/tasks", "./cmd/partd-server"], cwd=root, check=True)
    killer, marks = made / "killer" / "tasks", made / "marks"
    killer.parent.mkdir()
    marks.mkdir()
    killer.write_text(KILLER.format(real=made / "tasks"))
    killer.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{killer.parent}:{os.environ['PATH']}")
        patch.setenv("PYTHONPATH", str(HERE))  # as workers import what the test has
        patch.setenv("MARKS", str(marks))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.syspath_prepend(str(HERE))
        import ray

        with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as temp:  # sockets have short names
            ray.init(num_cpus=2, object_store_memory=100 << 20, include_dashboard=False, log_to_driver=False, _temp_dir=temp)
            import job

            yield job, made
            ray.shutdown()


@pytest.fixture
def store(ray_job, request, tmp_path):
    """The URL of so many servers, of which one after the other is killed once there are so many marks."""
    _, programs = ray_job
    servers = []
    for i in range(request.param):
        (tmp_path / f"server{i}").mkdir()
        servers.append(Server(programs / "partd-server", tmp_path / f"server{i}"))
    before, over, killed = len(os.listdir(programs / "marks")), threading.Event(), []

    def kill():
        for i, n in enumerate((2, FILES + 2)):
            while len(os.listdir(programs / "marks")) < before + n:
                if over.wait(0.01):
                    return
            servers[i % len(servers)].kill()
            time.sleep(0.2)
            servers[i % len(servers)].start()
            killed.append(n)

    killer = threading.Thread(target=kill)
    killer.start()
    yield "tcp://" + ",".join(server.address for server in servers)
    over.set()
    killer.join()
    for server in servers:
        server.kill()
    assert len(killed) == 2
    assert len(os.listdir(programs / "marks")) == before + FILES + PARTS  # each task's first worker


def lines_of(file):
    return file.read_bytes().splitlines()


@pytest.fixture
def files(tmp_path):
    made = []
    for i in range(FILES):
        rnd = random.Random(i)
        made.append(tmp_path / f"{i}.txt")
        made[i].write_text("".join(f"{rnd.choice('5Ew€')}{rnd.randrange(5_000)} of{rnd.randrange(100)} {rnd.randbytes(25).hex()}\n" for _ in range(30_000)))
    return made


def result(out):
    parts = sorted(out.iterdir())
    assert [part.name for part in parts] == [f"part-{i:03}" for i in range(PARTS)]
    return [line for part in parts for line in lines_of(part)]


@pytest.mark.parametrize("store", [1], indirect=True)
def test_count(ray_job, store, files, tmp_path):
    ray_job[0].run(store, "count", tmp_path / "out", files, parts=PARTS)
    want = collections.Counter(word for file in files for word in file.read_bytes().split())
    got = [line.split() for line in result(tmp_path / "out")]
    assert len(got) == len(want) and {word: int(n) for n, word in got} == want


@pytest.mark.parametrize("store", [3], indirect=True)
def test_sort(ray_job, store, files, tmp_path):
    ray_job[0].run(store, "sort", tmp_path / "out", files, parts=PARTS)
    assert result(tmp_path / "out") == sorted(line for file in files for line in lines_of(file))


@pytest.mark.parametrize("store", [3], indirect=True)
def test_join(ray_job, store, files, tmp_path):
    ray_job[0].run(store, "join", tmp_path / "out", files[:3], files[3:], parts=PARTS)
    right = collections.defaultdict(list)
    for key, rest in (line.split(b" ", 1) for file in files[3:] for line in lines_of(file)):
        right[key].append(rest)
    want = sorted(line + b" " + rest for file in files[:3] for line in lines_of(file) for rest in right[line.split(b" ", 1)[0]])
    assert sorted(result(tmp_path / "out")) == want


def test_what_fails(ray_job, tmp_path):
    """What no other attempt would do better is an error that says what it was."""
    job, programs = ray_job
    server = Server(programs / "partd-server", tmp_path)
    with pytest.raises(RuntimeError, match="nobody.txt: no such file"):
        job.run(f"tcp://{server.address}", "count", tmp_path / "out", [tmp_path / "nobody.txt"])
    (tmp_path / "old").mkdir()
    with pytest.raises(FileExistsError):
        job.run(f"tcp://{server.address}", "count", tmp_path / "old", [])
    with pytest.raises(job.Killed, match="always.txt: exit code -9"):  # as by the system for its memory
        job.run(f"tcp://{server.address}", "count", tmp_path / "again", [tmp_path / "always.txt"])
    server.kill()

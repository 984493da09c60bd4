"""Compares the results of job.py with plain Python, while workers, their programs and servers are killed."""

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

# Kills the first attempt of each task while it runs. It alternates between killing only the program, the program
# and its worker ($PPID), and only the worker, whose program then continues concurrently with the new attempt.
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
    """A partd-server that is restarted at the same address."""

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
    """Yields the job module, and the directory of the programs. Ray's workers run KILLER instead of the tasks
    program."""
    programs = tmp_path_factory.mktemp("programs")
    root = HERE.parent.parent
    subprocess.run(
        ["go", "build", "-o", f"{programs}/", "./examples/tasks", "./cmd/partd-server"], cwd=root, check=True
    )
    killer, marks = programs / "killer" / "tasks", programs / "marks"
    killer.parent.mkdir()
    marks.mkdir()
    killer.write_text(KILLER.format(real=programs / "tasks"))
    killer.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{killer.parent}:{os.environ['PATH']}")
        patch.setenv("PYTHONPATH", str(HERE))  # so that workers can import the test's modules
        patch.setenv("MARKS", str(marks))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.syspath_prepend(str(HERE))
        import ray

        with tempfile.TemporaryDirectory(
            prefix="ray-", dir="/tmp", ignore_cleanup_errors=True
        ) as temp:  # the length of a Unix socket's path is limited
            ray.init(
                num_cpus=2, object_store_memory=100 << 20, include_dashboard=False, log_to_driver=False, _temp_dir=temp
            )
            import job

            yield job, programs
            ray.shutdown()


@pytest.fixture
def store(ray_job, request, tmp_path):
    """Starts request.param servers, and yields their URL. Kills and restarts a server twice: the first one after 2
    tasks have begun, and the next one after FILES + 2 tasks. A single server is killed and restarted both times."""
    _, programs = ray_job
    servers = []
    for i in range(request.param):
        (tmp_path / f"server{i}").mkdir()
        servers.append(Server(programs / "partd-server", tmp_path / f"server{i}"))
    marks_before, stopped, kills = len(os.listdir(programs / "marks")), threading.Event(), []

    def kill():
        for i, n in enumerate((2, FILES + 2)):
            while len(os.listdir(programs / "marks")) < marks_before + n:
                if stopped.wait(0.01):
                    return
            servers[i % len(servers)].kill()
            time.sleep(0.2)
            servers[i % len(servers)].start()
            kills.append(n)

    killer = threading.Thread(target=kill)
    killer.start()
    yield "tcp://" + ",".join(server.address for server in servers)
    stopped.set()
    killer.join()
    for server in servers:
        server.kill()
    assert len(kills) == 2
    assert len(os.listdir(programs / "marks")) == marks_before + FILES + PARTS  # one for each task's first attempt


def lines_of(file):
    return file.read_bytes().splitlines()


@pytest.fixture
def files(tmp_path):
    paths = []
    for i in range(FILES):
        rnd = random.Random(i)
        paths.append(tmp_path / f"{i}.txt")
        paths[i].write_text(
            "".join(
                f"{rnd.choice('5Ew€')}{rnd.randrange(5_000)} of{rnd.randrange(100)} {rnd.randbytes(25).hex()}\n"
                for _ in range(30_000)
            )
        )
    return paths


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
    want = sorted(
        line + b" " + rest for file in files[:3] for line in lines_of(file) for rest in right[line.split(b" ", 1)[0]]
    )
    assert sorted(result(tmp_path / "out")) == want


def test_errors(ray_job, tmp_path):
    """If another attempt would not help, the job fails and its error gives the reason."""
    job, programs = ray_job
    server = Server(programs / "partd-server", tmp_path)
    with pytest.raises(RuntimeError, match="nobody.txt: no such file"):
        job.run(f"tcp://{server.address}", "count", tmp_path / "out", [tmp_path / "nobody.txt"])
    (tmp_path / "old").mkdir()
    with pytest.raises(FileExistsError):
        job.run(f"tcp://{server.address}", "count", tmp_path / "old", [])
    with pytest.raises(
        job.Killed, match="always.txt: exit code -9"
    ):  # as if the system had killed it for using too much memory
        job.run(f"tcp://{server.address}", "count", tmp_path / "again", [tmp_path / "always.txt"])
    server.kill()

"""Threads shuffle through files of their process, without a server."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("distributed")
pytest.importorskip("xxhash")

import pandas as pd
from test_dask import check_all, expected, gone  # noqa: F401

import partd_go.dask
from partd_go.dask import attempts, files

# dask and pandas warn of each other.
pytestmark = pytest.mark.filterwarnings("ignore")



def test_threads_need_no_server(expected: dict[str, pd.DataFrame], tmp_path: Path) -> None:  # noqa: F811
    with partd_go.dask.use(directory=tmp_path) as used:
        assert isinstance(used.store.client, files.Files)
        check_all(expected, "threads")
        assert not list(used.store.client.server.keys())
        check_all(expected, "processes")  # they have the server
        gone(used.store.client.server)
        assert not used.store.client._files
    assert not list(tmp_path.iterdir())


def test_files_of_many_threads(tmp_path: Path) -> None:
    made = files.Files(None, tmp_path)
    want = [b"%d" % i * 1000 for i in range(40)]

    def write(i: int) -> None:
        entries = attempts.Entries()
        for _ in range(700):  # more pieces than the system takes at once
            entries.add(f"s/x/{i % 4}", b"<", want[i], b">")
        entries.add("s/x/none", b"")
        made.append(entries)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key, value in enumerate(made.get([f"s/x/{key}" for key in range(4)])):
        mine = [want[i] for i in range(key, 40, 4)]
        assert sorted(bytes(value)[1:-1].split(b"><")) == sorted(mine * 700)
        at = [bytes(value).index(b"<" + one) for one in mine]
        assert all(bytes(value)[a:].startswith((b"<" + one + b">") * 700) for a, one in zip(at, mine, strict=True))
    assert made.get(["s/x/none", "s/y/0"]) == [b"", b""]
    if os.fork() == 0:
        made.append({"s/x/0": b"another process's"})
        os._exit(made.get(["s/x/0"]) != [b"another process's"])
    assert os.wait()[1] == 0
    assert b"another" not in made.get(["s/x/0"])[0]
    made.delete(["s/x/0", "s/x/1"])
    assert made.get(["s/x/2"]) == [b""] and not list(tmp_path.iterdir())


def test_full_disk_is_an_error(tmp_path: Path) -> None:
    program = (
        "import resource, partd_go.dask, dask.dataframe as dd, pandas as pd, sys\n"
        "with partd_go.dask.use(directory=sys.argv[1]):\n"
        "    df = dd.from_pandas(pd.DataFrame({'x': range(100_000)}), npartitions=4).shuffle('x')\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n"
        "    try:\n"
        "        print(len(df.compute(scheduler='threads')))\n"
        "    except OSError as err:\n"
        "        print(err.strerror)\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    out = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert out.stdout == "File too large\n", out.stderr

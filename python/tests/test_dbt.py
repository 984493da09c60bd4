"""Tests the page and the example of dbt, whose runs are killed and repeated."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pages
import pytest

pytest.importorskip("dbt.adapters.duckdb", reason="needs dbt: .ci/peers dbt, and its bin/pytest")
pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
import pyarrow as pa

import partd_go.tables

EXAMPLE = Path(__file__).parents[2] / "tables" / "examples" / "dbt"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Yields a client of a server, and a copy of the example with the profile of the page."""
    root = tmp_path_factory.mktemp("dbt")
    shutil.copytree(EXAMPLE, root / "project")
    for file in pages.duckdb_extensions().values():
        kept = root / "extensions" / file.parent.name / "linux_amd64"
        kept.mkdir(parents=True, exist_ok=True)
        (kept / file.name).symlink_to(file)
    page = (pages.TABLES_DOCS / "dbt.md").read_text()
    assert (EXAMPLE / "models" / "seen.sql").read_text() in page
    rest, profile = f"127.0.0.1:{pages.free_port()}", page.partition("```yaml\n")[2].partition("```")[0]
    assert "localhost:8181" in profile
    options = f"      config_options: {{extension_directory: {root}/extensions}}\n"
    (root / "project" / "profiles.yml").write_text(profile.replace("localhost:8181", rest) + options)
    with partd_go.tables.serve(root / "data", port=0, flags=("--rest", rest)) as server:
        with partd_go.tables.connect(server.url) as tables:
            yield tables, root / "project"


def start(project: Path, *args: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("dbt")), "--no-use-colors", *args]
    env = {**os.environ, "DBT_PROFILES_DIR": str(project), "DO_NOT_TRACK": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=project, env=env, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def build(project: Path, *args: str) -> str:
    with start(project, "build", *args) as run:
        out, _ = run.communicate()
    assert run.returncode == 0, out
    return out


def check(tables, trades):
    """Checks that the models have the rows of the trades, each once."""
    want = {}
    for row in trades:
        want[row["sym"]] = max(want.get(row["sym"], 0), row["price"])
    best = tables.get("best", "nyse", as_="arrow").to_pylist()
    assert sorted((row["sym"], row["best"]) for row in best) == sorted(want.items())
    seen = tables.get("seen", "nyse", as_="arrow").to_pylist()
    assert sorted(seen, key=lambda row: row["n"]) == trades


def test_killed_runs(project):
    """A run adds the new rows once, also if runs before it were killed at any moment, and if it is repeated."""
    tables, directory = project
    trades = []

    def trade(count):
        new = [{"n": len(trades) + i, "sym": "ABC"[i % 3], "price": float(len(trades) + i)} for i in range(count)]
        trades.extend(new)
        tables.put("trades", pa.Table.from_pylist(new), "append", "nyse", missing="error")

    trade(1000)
    killed = 0
    for model, delay in itertools.product(["nyse.best", "nyse.seen"], [0, 0.2]):
        with start(directory, "build") as run:
            for line in run.stdout:
                if "START sql" in line and f"model {model} " in line:
                    time.sleep(delay)
                    run.send_signal(signal.SIGKILL)
                    break
            run.stdout.close()
        killed += run.returncode == -signal.SIGKILL
        if delay:
            assert "PASS=6" in build(directory)
            check(tables, trades)
        trade(1000)
    assert killed == 4
    for _ in range(2):
        build(directory)
        check(tables, trades)

"""Runs the benchmarks with little data."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from partd_go.server import find

BENCH = Path(__file__).parent.parent / "bench"


def test_analyse():
    """The benchmark fails if its three engines compute different results from the same CSV."""
    for module in ("partd_go_tables", "duckdb", "polars", "psutil"):
        pytest.importorskip(module)
    out = subprocess.run(
        [sys.executable, str(BENCH / "analyse.py"), "--megabytes", "1", "--rounds", "1"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert re.findall(
        r"^(\w+) +partd_go +[\d.]+ s +\d+ MB   duckdb +[\d.]+ s +\d+ MB   polars +[\d.]+ s +\d+ MB$", out, re.M
    ) == ["put", "aggregate", "resample", "join"]


def test_kills(tmp_path):
    """A shuffle by plain processes, some of which are killed, neither loses nor doubles a row."""
    pytest.importorskip("psutil")
    subprocess.run(["go", "build", "-o", tmp_path, "./examples/tasks"], cwd=BENCH.parent.parent, check=True)
    env = os.environ | {"PATH": f"{tmp_path}:{os.path.dirname(find('partd-server'))}:{os.environ['PATH']}"}
    command = [
        sys.executable,
        str(BENCH / "kills.py"),
        "--bytes=2e7",
        "--methods=plain-server",
        "--faults=worker",
        "--every=0.3",
    ]
    out = subprocess.run([*command, f"--directory={tmp_path}"], check=True, stdout=subprocess.PIPE, env=env).stdout
    result = json.loads(out)
    assert result["finished"] and result["faults"], result
    assert not any(result[k] for k in ("lost", "doubled", "changed", "split")), result


def test_counter_of_kills():
    """The counter notices a lost, doubled, changed or misplaced row."""
    np = pytest.importorskip("numpy")
    pytest.importorskip("psutil")
    spec = importlib.util.spec_from_file_location("kills", BENCH / "kills.py")
    kills = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kills)
    rows = kills.make_rows(0, 5000)
    changed, expected = rows.copy(), kills.totals([kills.count_rows(rows)])
    changed[7, 5] += np.uint64(1)

    def compare(*parts):
        return list(kills.compare([kills.count_rows(part) for part in parts], expected).values())

    assert compare(rows[::-1]) == [0, 0, 0, 0]
    assert compare(rows[1:]) == [1, 0, 0, 0]
    assert compare(np.concatenate([rows, rows[:1]])) == [0, 1, 0, 0]
    assert compare(changed) == [0, 0, 1, 0]
    group = rows[:, 0] == rows[0, 0]
    assert group.sum() > 1
    assert compare(rows[:1], rows[1:]) == [0, 0, 0, 1]

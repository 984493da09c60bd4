"""Checks testdata/lwdp.md, which compares lwdp with partd_go, and which docs/stage.md sums up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
HERE = Path(__file__).parent
CACHE = os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")
LWDP = Path(
    os.environ.get("PARTD_PEERS", Path(CACHE, "partd-peers")), "lwdp", "bin", "python"
)  # .ci/peers creates this environment
ROWS = [
    row.strip("|").split(" | ")
    for row in (HERE / "testdata" / "lwdp.md").read_text().partition("| lwdp's README says")[2].splitlines()[2:]
]


def run_claims(python, module):
    path = {**os.environ, "PYTHONPATH": "" if module == "lwdp" else str(HERE.parent)}
    program = [str(python), "-W", "ignore", str(HERE / "lwdp_claims.py"), module]
    done = subprocess.run(program, env=path, capture_output=True, text=True, timeout=300)
    answers = [line.rpartition(": ")[2] for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(answers) == len(ROWS) > 20, done.stderr
    return answers


def test_lwdp():
    if not LWDP.exists():
        pytest.skip("needs lwdp in the environment that .ci/peers creates")
    assert run_claims(LWDP, "lwdp") == [re.match(r"\w+", row[1].strip())[0] for row in ROWS]


def test_partd_go():
    prefixes = {"yes": ("works",), "no": ("differs:", "not implemented:")}
    for row, answer in zip(ROWS, run_claims(sys.executable, "partd_go"), strict=True):
        assert row[2].strip().startswith(prefixes[answer]), row

"""mypy --strict and pyright take a user's program, and refuse what is wrong in one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

TYPES = os.environ.get("PARTD_TYPES")
PROGRAM = Path(__file__).parent / "typed.py"
CHECKERS = {"mypy": ["mypy", "--strict", "--no-incremental", "--cache-dir", os.devnull], "pyright": ["pyright", "--pythonpath", f"{TYPES}/bin/python"]}


@pytest.mark.skipif(not TYPES, reason="needs PARTD_TYPES, an environment with mypy, pyright, stubs, and partd-go")
@pytest.mark.parametrize("checker", CHECKERS)
def test_checker(checker, tmp_path):
    program, *flags = CHECKERS[checker]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(text):
        (tmp_path / "user.py").write_text(text)
        return subprocess.run([f"{TYPES}/bin/{program}", *flags, "user.py"], cwd=tmp_path, env=env, capture_output=True, text=True)

    right = run(PROGRAM.read_text())
    assert right.returncode == 0, right.stdout + right.stderr
    wrong = ('opened.get("t", as_="numpy")', 'opened.get("t", colums=["a"])', 'opened.get("t", as_="polars").iloc', 'opened.put("t", 7)')
    told = run(PROGRAM.read_text() + "".join(f"    {line}\n" for line in wrong)).stdout
    first = len(PROGRAM.read_text().splitlines()) + 1
    assert all(f"user.py:{first + at}:" in told for at in range(len(wrong))), told

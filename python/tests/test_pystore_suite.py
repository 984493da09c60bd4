"""Runs pystore's own tests, from its source, after changing their imports to partd_go.pystore."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pd = pytest.importorskip("pandas")

TESTS = os.environ.get("PYSTORE_TESTS")  # the tests in pystore's source, unpacked by .ci/peers


@pytest.mark.skipif(not TESTS, reason="needs PYSTORE_TESTS, the directory of pystore's own tests")
def test_suite(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    for file in Path(TESTS).glob("test_*.py"):
        text = re.sub(r"^( *)import pystore$", r"\1import partd_go.pystore as pystore", file.read_text(), flags=re.M)
        (tmp_path / file.name).write_text(re.sub(r"^( *from )pystore\b", r"\1partd_go.pystore", text, flags=re.M))
    assert "import partd_go.pystore as pystore" in (tmp_path / "test_append.py").read_text()
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rx",
            "-p",
            "pystore_suite",
            "-c",
            os.devnull,
            "-p",
            "no:cacheprovider",
            "-W",
            "ignore",
            str(tmp_path),
        ],
        env={
            **os.environ,
            "HOME": str(home),
            "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed and int(passed[1]) >= (118 if pd.__version__ >= "3" else 119) and "skipped" not in run.stdout, (
        run.stdout
    )
    shutil.rmtree(home)

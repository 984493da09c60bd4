"""Helpers of the tests of stages: an empty directory, modules with stages, and the record of the stages that ran."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

import partd_go

CHILD_PATH = str(Path(partd_go.__file__).parent.parent)


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return tmp_path


def load(text, name="pipe"):
    """Imports a module with new source."""
    for n in (name, "helpers"):
        sys.modules.pop(n, None)
    Path(f"{name}.py").write_text(
        "import pandas, random, time\nfrom pathlib import Path\nfrom partd_go.stage import stage\n" + text
    )
    importlib.invalidate_caches()
    return importlib.import_module(name)


def record_run(name):
    return f"    with open('ran', 'a') as f:\n        f.write('{name} ')\n"


def pop_runs():
    path = Path("ran")
    names = sorted(path.read_text().split()) if path.exists() else []
    path.unlink(missing_ok=True)
    return " ".join(names)


def child_env():
    """Returns the environment of a child process that imports the module."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), CHILD_PATH])}

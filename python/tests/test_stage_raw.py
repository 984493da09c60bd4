"""Tests that a stage keeps no result if a raw file changes while the stage runs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pipelines import directory, load  # noqa: F401

from partd_go.stage import raw

READ = """
@stage(file="raw", cache=True)
def read(file):
    if Path("change").exists():
        Path("change").unlink()
        Path("raw").write_text("new")
    return Path(file).read_text()
"""


@pytest.mark.parametrize("ahead", [0, 100])
def test_coarse_times(monkeypatch, ahead):
    """A stage notices that a raw file has changed, even if the file's times and size are the same as before. The clock
    of a file server may be ahead."""
    times = time.time_ns() + ahead * 10**9
    monkeypatch.setattr(raw, "_state", lambda path: (times, times, 3))
    Path("raw").write_text("old")
    Path("change").touch()
    pipe = load(READ)
    with pytest.raises(RuntimeError, match="a raw file changed"):
        pipe.read()
    Path("raw").write_text("old")
    assert pipe.read() == "old"


def test_old_file_is_hashed_once(monkeypatch):
    hashed, content_hash = [], raw.content_hash
    old = time.time_ns() - 10**10
    monkeypatch.setattr(raw, "_state", lambda path: (old, old, 3))
    monkeypatch.setattr(raw, "content_hash", lambda path: hashed.append(path) or content_hash(path))
    Path("raw").write_text("old")
    assert load(READ).read() == "old" and hashed == ["raw"]


@pytest.mark.parametrize("called", ["default=inner", "default=frozenset({inner})"])
def test_raw_file_of_called_stage(called):
    """A stage notices changes of a raw file of another stage, which its function calls."""
    text = "@stage(file='raw')\ndef inner(file): return Path(file).read_text()\n@stage(cache=True)\ndef outer(%s):\n"
    text += "    Path('raw').write_text('longer')\n    return inner()\n"
    Path("raw").write_text("old")
    with pytest.raises(RuntimeError, match="outer: a raw file changed"):
        load(text % called).outer()


def test_removed_raw_file():
    """A stage notices that its raw file is gone."""
    Path("raw").write_text("old")
    with pytest.raises(RuntimeError, match="read: a raw file changed"):
        load("@stage(file='raw', cache=True)\ndef read(file):\n    Path(file).unlink()\n    return 1\n").read()


def test_changed_directory():
    """A stage may change the working directory, although its raw file has a relative path."""
    Path("raw").write_text("old")
    Path("elsewhere").mkdir()
    text = "import os\n@stage(file='raw', cache=True)\ndef read(file):\n    text = Path(file).read_text()\n"
    assert load(text + "    os.chdir('elsewhere')\n    return text\n").read() == "old"

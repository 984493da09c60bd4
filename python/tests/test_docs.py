"""Runs the code on the pages and the examples, and compares the output with the pages."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path

import pages
import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(page, url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    if "partd_go.dask" in text:
        pytest.importorskip("dask")
        warnings.simplefilter("ignore")  # dask and pandas emit warnings about each other
    if "partd_go.tables" in text or "partd_go.pystore" in text or "partd_go.pull" in text:
        pytest.importorskip("partd_go_tables")
    if "partd_go.pystore" in text:
        pytest.importorskip("dask")
    pages.run(page, {"url": url})
    if "partd_go.stage" in text:
        import partd_go.stage

        partd_go.stage.set_directory(None)
    if "Arrow" in text or "Client(url)" in text:
        import partd_go

        with partd_go.Client(url) as store:
            store.drop()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page):
    for link in re.findall(r"\]\(([^):#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "tour.md"], ids=lambda page: page.name)
def test_one_line_installs_all(page):
    """pip builds what a line names, even if an earlier line has built it."""
    for commands in re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        assert commands.count("pip install") <= 1, commands


def test_every_page_is_named():
    assert {page.name for page in PAGES[1:]} == set(re.findall(r"\(docs/([^)#]+\.md)", PAGES[0].read_text()))


def run(name: str, *args: str) -> str:
    program = [sys.executable, str(ROOT / "examples" / name), *args]
    return subprocess.run(program, check=True, capture_output=True, text=True).stdout


def test_word_count(tmp_path):
    for i in range(4):
        (tmp_path / f"{i}").write_text("the cat saw the\n" * 100 + "the cat\n")
    assert run("word_count.py", *(str(tmp_path / f"{i}") for i in range(4))) == "the 804\ncat 404\nsaw 400\n"


def test_split_table():
    birds = str(ROOT.parent / "testdata" / "birdstrikes.csv")
    lines = run("split_table.py", birds, "Origin State").splitlines()
    assert "Arizona 111" in lines and "California 890" in lines
    assert sum(int(line.split()[-1]) for line in lines) == 10_000


def test_dask_sort(tmp_path):
    pytest.importorskip("dask")
    for i in range(3):
        (tmp_path / f"{i}").write_text("".join(f"{n}\n" for n in range(i, 3000, 3)))
    lines = run("dask_sort.py", *(str(tmp_path / f"{i}") for i in range(3))).splitlines()
    assert lines == sorted(map(str, range(3000)))

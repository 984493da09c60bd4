"""Tests the wheels: in an environment without other packages, and how pip and packaging/wheels build them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

WHEEL = os.environ.get("PARTD_WHEEL", "")
ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(not WHEEL, reason="needs PARTD_WHEEL, the built wheel")
def test_fresh_environment(tmp_path):
    venv.create(tmp_path / "env")
    bin = tmp_path / "env" / "bin"
    pip("--python", str(tmp_path / "env"), "install", "--no-index", WHEEL, cwd=tmp_path)
    code, want = re.findall(r"^```(?:python|text)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)[:2]
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PATH")}
    result = subprocess.run(
        [bin / "python", "-c", code], check=True, capture_output=True, text=True, env=env, cwd=tmp_path
    )
    assert result.stdout == want
    for program in ("partd", "partd-server"):
        version_text = subprocess.run(
            [bin / program, "--version"], check=True, capture_output=True, text=True, env=env
        ).stdout
        assert version_text.startswith(f"{program} ")


@pytest.mark.skipif(not WHEEL, reason="needs PARTD_WHEEL, the built wheel")
def test_platform_tag():
    tags = re.search(r"-py3-none-(.*)\.whl$", WHEEL)
    assert tags and (sys.platform != "linux" or tags[1].startswith("manylinux_2_17_"))
    with zipfile.ZipFile(WHEEL) as wheel:
        for program in ("partd", "partd-server"):
            assert b"/ld-linux" not in wheel.read(f"partd_go/_bin/{program}")  # the program needs no system library
        assert "partd_go/py.typed" in wheel.namelist()


@pytest.mark.skipif(not WHEEL, reason="needs PARTD_WHEEL, the built wheel")
def test_source_distribution(tmp_path):
    """The source distribution contains all files that are needed to build the programs."""
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    code = "import sys; from hatchling.build import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=ROOT, env=env, capture_output=True)
    (packed,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path, filter="data")
    (root,) = tmp_path.glob("partd_go-*/")
    template = "{{.ImportPath}} {{.GoFiles}} {{.EmbedFiles}} {{.SFiles}}"
    for system in ("linux", "darwin", "windows"):
        go_env = {**env, "GOWORK": "off", "CGO_ENABLED": "0", "GOOS": system}
        command = ["go", "list", "-deps", "-f", template, "./cmd/partd", "./cmd/partd-server"]
        packed, ours = (
            subprocess.run(command, check=True, cwd=cwd, env=go_env, capture_output=True).stdout
            for cwd in (root / "go", ROOT.parent)
        )
        assert packed == ours and b"cmd/partd-server [" in ours, system


FAKE_GO = """#!/bin/sh
echo "$1 ${GOARCH:-own} ${CC:-cc} $CGO_ENABLED" >>"$0.log"
[ "$1" = build ] || exit 1
shift
while [ "$1" != -o ]; do shift; done
for program in partd partd-server partd-tables; do case "$*" in *cmd/$program*) echo >"$2$program"; esac; done
"""


@pytest.fixture
def fake_compilers(tmp_path, monkeypatch):
    """Replaces Go and the compilers with programs that only record their calls. Returns a copy of the repository, and
    the log."""
    bin = tmp_path / "bin"
    bin.mkdir()
    for name in ("go", "x86_64-linux-gnu-g++", "aarch64-linux-gnu-g++"):
        (bin / name).write_text(FAKE_GO)
        (bin / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # "0" means no isolation, despite the name
    monkeypatch.setenv("PYTHON", sys.executable)
    copy = tmp_path / "clone"
    shutil.copytree(
        ROOT, copy / "python", ignore=shutil.ignore_patterns("dist", "build", "__pycache__", ".*cache", "tests")
    )
    (copy / "tables").mkdir()
    shutil.copytree(ROOT.parent / "packaging", copy / "packaging")
    return copy, bin / "go.log"


def pip(*args, cwd):
    subprocess.run([sys.executable, "-m", "pip", *args], check=True, cwd=cwd, capture_output=True)


@pytest.mark.parametrize("package", ["./python", "./python/tables"])
def test_built_once(fake_compilers, tmp_path, package):
    """An install builds the programs only once, because asking for the metadata does not build."""
    clone, log = fake_compilers
    pip("install", "--no-deps", "--target", str(tmp_path / "to"), package, cwd=clone)
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["build"]


@pytest.mark.skipif(sys.platform != "linux", reason="packaging/wheels runs only on Linux")
def test_wheels_of_both_processors(fake_compilers, tmp_path):
    clone, log = fake_compilers
    subprocess.run([clone / "packaging" / "wheels", tmp_path / "out"], check=True, capture_output=True)
    assert sorted(re.sub(r"-\d[^-]*-", "-", path.name) for path in (tmp_path / "out").iterdir()) == [
        f"{name}-py3-none-{tags}.whl"
        for name, kind in (
            ("partd_go", "manylinux_2_17_{0}.musllinux_1_1_{0}"),
            ("partd_go_tables", "manylinux_2_36_{0}"),
        )
        for tags in (kind.format("aarch64"), kind.format("x86_64"))
    ]
    assert log.read_text().splitlines() == [
        f"build {arch} {triple}-gcc {cgo}"
        for arch, triple in (("amd64", "x86_64-linux-gnu"), ("arm64", "aarch64-linux-gnu"))
        for cgo in (0, 1)
    ]


def test_build_prints_progress(fake_compilers, tmp_path):
    """Without a terminal, a build prints its progress to standard output, which pip -v shows."""
    clone, _ = fake_compilers
    code = "import sys; sys.path.insert(0, '.'); from hatch_build import build_wheel; build_wheel(sys.argv[1])"
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=clone / "python" / "tables",
        check=True,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert re.search(
        r"building partd-tables with Go, which can take minutes\n.*built in \d+ seconds, \d+ MB", result.stdout
    )

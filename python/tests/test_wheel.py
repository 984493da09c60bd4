"""The wheel by itself, in an environment where nothing else is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

WHEEL = os.environ.get("PARTD_WHEEL", "")
ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(not WHEEL, reason="needs PARTD_WHEEL, the wheel that was built")
def test_fresh_environment(tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    bin = tmp_path / "env" / "bin"
    subprocess.run([bin / "pip", "install", "--quiet", "--no-index", WHEEL], check=True)
    code, want = re.findall(r"^```(?:python|text)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)[:2]
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PATH")}
    ran = subprocess.run([bin / "python", "-c", code], check=True, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert ran.stdout == want
    for program in ("partd", "partd-server"):
        told = subprocess.run([bin / program, "--version"], check=True, capture_output=True, text=True, env=env).stdout
        assert told.startswith(f"{program} ")


@pytest.mark.skipif(not WHEEL, reason="needs PARTD_WHEEL, the wheel that was built")
def test_platform():
    tags = re.search(r"-py3-none-(.*)\.whl$", WHEEL)
    assert tags and (sys.platform != "linux" or tags[1].startswith("manylinux_2_17_"))
    with zipfile.ZipFile(WHEEL) as wheel:
        for program in ("partd", "partd-server"):
            assert b"/ld-linux" not in wheel.read(f"partd_go/_bin/{program}")  # it needs no library of the system
        assert "partd_go/py.typed" in wheel.namelist()


@pytest.mark.skipif(not WHEEL, reason="needs PARTD_WHEEL, the wheel that was built")
def test_source_distribution(tmp_path):
    """It has all that the programs are built of."""
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    code = "import sys; from hatchling.build import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=ROOT, env=env, capture_output=True)
    (packed,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path, filter="data")
    (root,) = tmp_path.glob("partd_go-*/")
    go_env = {**env, "GOWORK": "off", "CGO_ENABLED": "0"}
    for system in ("linux", "darwin", "windows"):
        subprocess.run(["go", "vet", "./cmd/partd-server"], check=True, cwd=root / "go", env={**go_env, "GOOS": system})

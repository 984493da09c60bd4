"""Runs the benchmarks with little data."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


def test_analyse():
    """The benchmark fails if its three engines compute different results from the same CSV."""
    for module in ("partd_go_tables", "duckdb", "polars", "psutil"):
        pytest.importorskip(module)
    program = Path(__file__).parent.parent / "bench" / "analyse.py"
    out = subprocess.run([sys.executable, str(program), "--megabytes", "1", "--rounds", "1"], check=True, capture_output=True, text=True).stdout
    assert re.findall(r"^(\w+) +partd_go +[\d.]+ s +\d+ MB   duckdb +[\d.]+ s +\d+ MB   polars +[\d.]+ s +\d+ MB$", out, re.M) == ["put", "aggregate", "resample", "join"]

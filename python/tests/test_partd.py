"""Runs partd's own tests with this client, and tests partd's layers on top of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import partd
import pytest

TESTS = os.environ.get("PARTD_TESTS")  # the tests in partd's source, unpacked by .ci/peers


@pytest.mark.skipif(not TESTS, reason="needs PARTD_TESTS, the directory of partd's own tests")
def test_suite(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "partd_suite", "-c", os.devnull, "-p", "no:cacheprovider", TESTS],
        env={**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed and int(passed[1]) >= 45 and "skipped" not in run.stdout, run.stdout


@pytest.mark.parametrize("name", ["Pickle", "Python", "Snappy", "ZLib", "BZ2", "Blosc"])
def test_layers(store, name):
    layer = getattr(partd, name)(store)
    values = [[1, "two"], [3.0]] if name in ("Pickle", "Python") else [b"one", b"two"]
    for value in values:
        layer.append({("k", 1): value, "other": value}, lock=True)
    assert layer.get([("k", 1), ["other"]]) == [values[0] + values[1], [values[0] + values[1]]]
    layer.delete("other")
    assert layer.get("other") in ([], b"")
    layer.drop()
    assert list(store.keys()) == []


def test_layers_of_tables(store):
    array = np.arange(5)
    layer = partd.Numpy(store)
    layer.append({"x": array})
    layer.append({"x": array})
    assert list(layer.get("x")) == [*array, *array]
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}, index=pd.Index([3, 4], name="i")).astype({"b": object})
    for kind in (partd.PandasBlocks, partd.PandasColumns):
        store.drop()
        layer = kind(store)
        layer.append({"x": frame})
        layer.append({"x": frame})
        pd.testing.assert_frame_equal(layer.get("x"), pd.concat([frame, frame]), check_dtype=False)


def test_buffer(store):
    with partd.Buffer(partd.Dict(), store, available_memory=100) as buffer:
        for i in range(50):
            buffer.append({"x": b"%d," % i})
        buffer.flush()
        assert store.get("x") == b"".join(b"%d," % i for i in range(50))

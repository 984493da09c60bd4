"""Tests that calls in a forked process raise an error, and that the process ends. gRPC alone would make it hang."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
pytest.importorskip("dask", reason="needs dask")

PROGRAM = """
import functools, os, sys
import pandas
import partd_go, partd_go.tables, partd_go.pystore as pystore

pystore.set_path(sys.argv[1])
collection = pystore.store("s").collection("c")
collection.write("x", pandas.DataFrame({"a": [1, 2]}))
item = collection.item("x")
tables = partd_go.tables.connect(sys.argv[1] + "/tables")
tables.put("y", pandas.DataFrame({"a": [1]}))
if not (child := os.fork()):
    connect_other = functools.partial(partd_go.tables.connect, sys.argv[1] + "/other")
    for call in (tables.list, item.to_pandas, collection.list_items, connect_other):
        try:
            call()
            sys.exit("a call in the forked process did not raise Closed")
        except partd_go.Closed as error:
            assert "spawn" in str(error), error
    sys.exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert tables.list() == ["y"] and len(item.to_pandas()) == 2
sys.exit(code)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.communicate(timeout=120)[1] == "" and process.returncode == 0
    finally:
        if process.returncode is None:
            os.killpg(process.pid, 9)
            process.communicate()

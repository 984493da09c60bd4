"""A pytest plugin that runs pandas' own Parquet tests with tables. Each frame is put into a table and read back, and
partd-tables writes it to the Parquet file, and reads this file again.

    pytest -p pandas_suite --pyargs pandas.tests.io.test_parquet
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas.io.parquet as pandas_parquet
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

import partd_go.tables
from partd_go.server import find

_stack = contextlib.ExitStack()
_tables: partd_go.tables.Tables
_calls = 0


def convert(source: str, target: str) -> None:
    global _calls
    _calls += 1
    run = subprocess.run([find("partd-tables"), "convert", "-o", target, "--", source], capture_output=True, text=True)
    if run.returncode:
        raise OSError(run.stderr)


def write_table(
    table: pa.Table, where: Any, compression: str | None = "snappy", filesystem: Any = None, **options: Any
) -> None:
    options.pop("version", None)  # partd-tables writes the newest version
    if filesystem or options:
        raise NotImplementedError(f"partd-tables writes a local file, without the options {[*options]}")
    _tables.put("t", table, mode="replace")
    metadata = table.schema.metadata
    table = _tables.scan("t", index=True).read_all()
    with tempfile.TemporaryDirectory() as directory:
        source, target = os.path.join(directory, "rows.arrow"), os.path.join(directory, "rows.parquet")
        with ipc.new_file(source, table.schema.with_metadata(metadata)) as writer:
            writer.write_table(table.replace_schema_metadata(metadata))
        convert(source, target)
        data = Path(target).read_bytes()
        if isinstance(where, str):
            Path(where).write_bytes(data)
        else:
            where.write(data)


def read_table(source: Any, columns: Any = None, filesystem: Any = None, **options: Any) -> pa.Table:
    if filesystem or isinstance(source, str) and os.path.isdir(source):
        return parquet.read_table(source, columns=columns, filesystem=filesystem, **options)
    with tempfile.TemporaryDirectory() as directory:
        file, target, again = (
            os.path.join(directory, name) for name in ("rows.parquet", "rows.arrow", "again.parquet")
        )
        if not isinstance(source, str):
            source.seek(0)
        Path(file).write_bytes(Path(source).read_bytes() if isinstance(source, str) else source.read())
        convert(file, target)
        with ipc.open_file(target) as reader:
            table = reader.read_all()
        parquet.write_table(
            table.replace_schema_metadata(parquet.read_schema(file).metadata), again
        )  # pandas' columns and filters are pyarrow's
        return parquet.read_table(again, columns=columns, **options)


def pytest_configure() -> None:
    global _tables
    directory = _stack.enter_context(tempfile.TemporaryDirectory())
    _tables = _stack.enter_context(partd_go.tables.connect(directory))
    init = pandas_parquet.PyArrowImpl.__init__

    def init_with_tables(self: Any) -> None:
        init(self)
        functions = {**vars(parquet), "write_table": write_table, "read_table": read_table}
        self.api = SimpleNamespace(**{**vars(pa), "parquet": SimpleNamespace(**functions)})

    pandas_parquet.PyArrowImpl.__init__ = init_with_tables
    _stack.callback(setattr, pandas_parquet.PyArrowImpl, "__init__", init)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    global _calls
    report = (yield).get_result()
    if call.when == "setup":
        _calls = 0
    if call.when == "call" and report.passed and not _calls:
        report.outcome, report.longrepr = "skipped", (str(item.path), 0, "it writes and reads no file")


def pytest_unconfigure() -> None:
    _stack.close()

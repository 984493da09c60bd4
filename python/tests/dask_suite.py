"""A pytest plugin that runs dask's own tests with partd as the method of every shuffle.

    pytest -p dask_suite --pyargs dask.dataframe.tests.test_shuffle

A test that passes without a shuffle says nothing about partd, so it is reported as skipped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from dask.dataframe.dask_expr import _shuffle

import partd_go.dask
from partd_go.dask.expression import METHOD

_stack = contextlib.ExitStack()
_shuffles = 0


def pytest_configure() -> None:
    _stack.enter_context(partd_go.dask.use())
    lower = _shuffle.Shuffle._lower

    def lower_and_count(shuffle: Any) -> Any:
        global _shuffles
        _shuffles += 1
        return lower(shuffle)

    _shuffle.Shuffle._lower = lower_and_count
    _shuffle.Shuffle.method = property(lambda shuffle: METHOD)
    _stack.callback(delattr, _shuffle.Shuffle, "method")
    _stack.callback(setattr, _shuffle.Shuffle, "_lower", lower)


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: Any) -> None:
    if "shuffle_method" in metafunc.fixturenames:
        parametrized = any(
            "shuffle_method" in str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize")
        )
        if not parametrized:
            metafunc.definition.add_marker(pytest.mark.parametrize("shuffle_method", [METHOD], indirect=True))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    global _shuffles
    report = (yield).get_result()
    if call.when == "setup":
        _shuffles = 0
    if call.when == "call" and report.passed and not _shuffles:
        report.outcome, report.longrepr = "skipped", (str(item.path), 0, "it shuffles nothing")


def pytest_unconfigure() -> None:
    _stack.close()

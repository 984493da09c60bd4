"""A plugin that runs partd's own tests with this client in the place of partd's stores.

    pytest -p partd_suite DIRECTORY OF PARTD'S TESTS

What the tests look for in the files of partd.File is answered from the server's keys.
"""

from __future__ import annotations

import itertools
import os
from typing import Any

import pandas as pd
import partd
import partd.zmq
import pytest

import partd_go

PREFIX = "/partd-go-store-"
_server: partd_go.Server | None = None
_stores: dict[str, StandIn] = {}
_numbers = itertools.count()
_exists = os.path.exists

# These are of how partd.File names and removes its directories.
OF_DIRECTORIES = {"test_del", "test_specify_dirname", "test_filenames"}

# What cannot hold with pandas 3, and why.
CANNOT = dict.fromkeys(
    ["test_PandasColumns", "test_column_selection"], "partd 1.4.2's PandasColumns fails on the str that pandas 3 makes of texts"
)


class StandIn(partd_go.Client):
    """Takes the place of partd.File, partd.Dict and partd.Client, in a namespace of its own."""

    def __init__(self, path: Any = None, **_: Any) -> None:
        assert _server
        self.path = path if str(path).startswith(PREFIX) else f"{PREFIX}{next(_numbers)}"
        super().__init__(_server.url, namespace=self.path[len(PREFIX) :])
        self._iset_seen: set[Any] = set()
        self.data = {}
        _stores[self.path] = self

    def iset(self, key: Any, value: Any, **options: Any) -> None:
        self._iset_seen.add(key)
        super().iset(key, value, **options)

    def filename(self, key: Any) -> str:
        return f"{self.path}/{partd.core.token(key).replace('/', '-|-')}"

    def __reduce__(self) -> Any:
        return StandIn, (self.path,)

    def __exit__(self, *exception: object) -> None:
        self.drop()
        _stores.pop(self.path, None)
        super().__exit__(*exception)


class Server(StandIn):
    """Takes the place of partd's server: what it is given is in a store of ours."""

    @property
    def address(self) -> str:
        return self.path

    def start(self) -> None:
        pass


def exists(path: Any) -> bool:
    if not str(path).startswith(PREFIX):
        return _exists(path)
    store, _, key = str(path)[1:].partition("/")
    key = key.replace("/", "-|-")
    found = _stores.get("/" + store)
    return found is not None and (not key or any(f"{name}-|-".startswith(f"{key}-|-") for name in found.keys()))


def pytest_configure(config: pytest.Config) -> None:
    global _server
    _server = partd_go.serve(flags=("--namespaces=1000",))
    os.path.exists = exists
    for module in (partd, partd.file, partd.dict, partd.encode, partd.numpy, partd.zmq, partd.buffer, partd.core):
        for name, kind in (("File", StandIn), ("Dict", StandIn), ("Client", StandIn), ("Server", Server)):
            if hasattr(module, name):
                setattr(module, name, kind)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if item.name not in OF_DIRECTORIES]
    if pd.__version__ >= "3":
        left = set(CANNOT)
        for item in items:
            if item.name in CANNOT:
                item.add_marker(pytest.mark.xfail(strict=True, raises=AttributeError, reason=CANNOT[item.name]))
                left.discard(item.name)
        assert not left, f"there are no such tests: {left}"


def pytest_unconfigure() -> None:
    os.path.exists = _exists
    if _server:
        _server.close()

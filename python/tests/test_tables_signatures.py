"""Tests that the methods of Tables, AsyncTables and Table have the same signatures and docstrings at run time."""

from __future__ import annotations

import inspect

import pytest

pytest.importorskip("pyarrow")

from partd_go.tables import AsyncTables, Table, Tables, client, results

NOT_ASYNC = "dataset ended follow get_many lock scan_dask scan_polars table".split()
STATE = {*results.State.__annotations__}


def methods(kind):
    return {name: method for name, method in inspect.getmembers(kind, inspect.isfunction) if name[0] != "_"}


def parameters(method, without=()):
    return [p for name, p in inspect.signature(method).parameters.items() if name not in without]


def test_async_methods():
    shared = methods(Tables).keys() - NOT_ASYNC - {"close"}
    assert methods(AsyncTables).keys() == shared | {"close"} and len(shared) > 30
    for name in shared:
        method, derived = getattr(Tables, name), getattr(AsyncTables, name)
        assert inspect.signature(derived) == inspect.signature(method) and derived.__doc__ == method.__doc__, name
        assert derived.__name__ == name
        assert inspect.isasyncgenfunction(derived) if name == "scan" else inspect.iscoroutinefunction(derived)


def test_methods_of_a_table():
    assert len(methods(Table)) > 10
    for name, derived in methods(Table).items():
        method = getattr(Tables, name)
        assert parameters(derived) == parameters(method, ("name", "bucket")), name
        assert derived.__doc__ == method.__doc__ and derived.__name__ == name


@pytest.mark.parametrize(
    "protocol, name",
    [(client._Put, "put"), (client._Sink, "sink_polars"), (client._Range, "replace_range")],
)
def test_first_parameters_for_type_checkers(protocol, name):
    """The first parameters that type checkers see are those of the method."""
    first = parameters(protocol.__call__, ("self", "args", "options"))
    assert first == parameters(getattr(Table, name), ("self",))[: len(first)]


@pytest.mark.parametrize(
    "known, method, others",
    [
        (results.Read, "scan", {"name", "bucket", "index"}),
        (results.Query, "sql", {"statement", "bucket", "as_", "id"}),
        (results.Resampled, "resampled", {"source", "rule", "time_col", "how", "as_"}),
    ],
)
def test_typed_options(known, method, others):
    """The options for type checkers are the parameters of the method that takes them."""
    own = {p.name: p.annotation for p in parameters(getattr(Tables, method), {"self", *others})}
    typed = {name: annotation.__forward_arg__ for name, annotation in known.__annotations__.items()}
    assert own.keys() == typed.keys()
    for name, annotation in typed.items():
        assert name == "where" or annotation == own[name]


def test_options_show_by_name():
    """help() and completion show all options by name, with their defaults."""
    for name, method in methods(Tables).items():
        if name != "action":
            assert not [p for p in parameters(method) if p.kind is p.VAR_KEYWORD], name
    scan, get = inspect.signature(Tables.scan).parameters, inspect.signature(Tables.get).parameters
    assert get["limit"] == scan["limit"] and get["as_"].default == "pandas" and "index" not in get
    assert get.keys() - {"as_"} == scan.keys() - {"index"}
    assert {p.name for p in parameters(Tables.scan_polars)} == {"self", "name", "bucket", "where", *STATE}
    put = inspect.signature(Tables.put).parameters
    assert inspect.signature(Tables.put_many).parameters.keys() - put.keys() == {"tables"}
    assert inspect.signature(Table.sink_polars).parameters["upsert"] == put["upsert"]

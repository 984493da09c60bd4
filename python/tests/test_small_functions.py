"""Tests functions without a server: filters, smaller types, schemas, layouts, chunks, duplicates, batches and
attempts."""

from __future__ import annotations

import io
import os
import socket
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

pa = pytest.importorskip("pyarrow")
pytest.importorskip("xxhash")
pytest.importorskip("dask")
import partd_go
from partd_go import pull
from partd_go.dask import attempts, blocks, files
from partd_go.shared import SharedProcess
from partd_go.pystore import collection, memory, schema_evolution, transactions
from partd_go.tables import filters


def test_filter_texts():
    assert filters.text([('a"b', "=", 1)]) == '"a""b" = 1'
    assert filters.text([("a", "not in", [1])]) == '("a" not in (1) or "a" is null)'
    assert filters.text([("a", "not in", [1, None])]) == '("a" not in (1))'
    assert filters.text([("a", "in", [None])]) == '("a" is null)'
    assert filters.text([("a", "=", True)]) == '"a" = true'
    assert filters.text([("index", "=", "it's")], ["t"]) == "\"t\" = 'it''s'"


def test_smaller_types_are_exact():
    df = pd.DataFrame({"exact": [0.5, np.nan], "fine": [0.1, 1e-300], "n": [1, 300]})
    smaller = memory.optimize_dataframe_memory(df)
    assert smaller.dtypes.astype(str).to_dict() == {"exact": "float32", "fine": "float64", "n": "int16"}
    pd.testing.assert_frame_equal(smaller.astype(df.dtypes), df, check_exact=True)


@pytest.mark.parametrize(
    "labels",
    [[0, "0", 1], ["a", "a", "b"], pd.MultiIndex.from_tuples([("x", 1), ("x", 2), ("y", 1)], names=["p", "q"])],
)
def test_smaller_types_with_any_labels(labels):
    df = pd.DataFrame([[1, 2, 0.5], [3, 4, 0.25]], index=["r", "r"], columns=labels)
    smaller = memory.optimize_dataframe_memory(df)
    assert [str(t) for t in smaller.dtypes] == ["int8", "int8", "float32"] and [str(t) for t in df.dtypes] == [
        "int64",
        "int64",
        "float64",
    ]
    pd.testing.assert_frame_equal(smaller, df, check_dtype=False, check_exact=True)


def test_added_column_is_not_reordered():
    old, new = pd.DataFrame({"a": [1], "b": [2]}), pd.DataFrame({"a": [1], "x": [0], "b": [2]})
    add_only = schema_evolution.SchemaEvolution(schema_evolution.EvolutionStrategy.ADD_ONLY)
    assert [change.change_type for change in add_only.detect_schema_changes(old, new)] == ["column_added"]
    kinds = [change.change_type for change in add_only.detect_schema_changes(old, old[["b", "a"]])]
    assert kinds == ["columns_reordered"]


def test_order_of_categories_is_part_of_the_layout():
    layouts = [
        blocks.layout_of(pd.DataFrame({"c": pd.Categorical(["x"], ["x", "y"], ordered=ordered)}))
        for ordered in (True, False, True)
    ]
    assert layouts[0].is_compatible(layouts[2]) and not layouts[0].is_compatible(layouts[1])


def test_interrupted_attempt_leaves_no_file(tmp_path):
    path = str(tmp_path / "attempts" / "one")
    with pytest.raises(KeyboardInterrupt), files.attempt_file(path):
        raise KeyboardInterrupt
    assert not os.path.exists(path)


def test_chunks_contain_all_rows():
    rows = pa.table({"n": range(10)}).to_reader(max_chunksize=4)
    item = SimpleNamespace(_scan=lambda columns: rows)
    chunks = memory.read_in_chunks(SimpleNamespace(item=lambda name: item), "i", chunk_size=3)
    assert [list(chunk["n"]) for chunk in chunks] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


@pytest.mark.parametrize(("handling", "want"), [("keep_first", {1: 1, 3: 4}), ("keep_last", {1: 2, 2: 3, 3: 4})])
def test_duplicates_within_appended_rows(monkeypatch, handling, want):
    stored = SimpleNamespace(item="i", _index=["t"], _value_columns=["v"], _schema=None)
    put = {}
    c = collection.Collection("c", None)
    monkeypatch.setattr(c, "item", lambda name: stored)
    monkeypatch.setattr(c, "_between", lambda item, data: pd.DataFrame(index=pd.Index([2], name="t")))

    def keep(item, data, mode, to, keep=None, upsert=None, null_keys=False):
        put.update((data if keep is None else data[keep])["v"].to_dict())
        assert data.index.is_unique or keep is not None

    monkeypatch.setattr(c, "_put", keep)
    c._append(
        "i", pd.DataFrame({"v": [1, 2, 3, 4]}, index=pd.Index([1, 1, 2, 3], name="t")), duplicate_handling=handling
    )
    assert put == want


def test_appends_of_several_types_are_not_joined(monkeypatch):
    applied = []
    monkeypatch.setattr(transactions.Transaction, "commit", lambda self: applied.extend(self.operations))
    txn = transactions.BatchTransaction(None)
    frames = [pd.DataFrame({"v": values}) for values in ([1], [2], [0.5], ["x"])]
    for frame in frames:
        txn.append("i", frame)
    txn.delete("i")
    txn.commit()
    assert [kind for kind, *_ in applied] == ["_delete", "_append", "_append", "_append"]
    assert [list(data["v"]) for _, _, (data,), _ in applied[1:]] == [[1, 2], [0.5], ["x"]]
    assert [data["v"].dtype for _, _, (data,), _ in applied[1:]] == [frames[n]["v"].dtype for n in (0, 2, 3)]


class Dict:
    """A store in memory."""

    def __init__(self):
        self.values = {}

    def append(self, data):
        for key, piece in zip(data, data.values(), strict=True):
            self.values[key] = self.values.get(key, b"") + bytes(piece)

    def get(self, keys):
        return [self.values.get(key, b"") for key in keys]


def test_first_commit_and_first_copy_of_a_batch_count():
    store = Dict()
    winner, loser = (attempts.Attempt(store, "commits", "task") for _ in range(2))
    winner.append([("k", b"first")])
    store.values["k"] *= 2  # the client repeats the batch after a broken connection
    loser.append([("k", b"other")])
    winner.append([("k", b"second")])
    winner.commit()
    loser.commit()
    winner.append([("k", b"too late")])
    commits = attempts.commits(store, "commits")
    assert commits == {"task": attempts.Commit("task", winner.attempt, 2)}
    assert attempts.pieces("k", store.values["k"], commits) == {"task": [b"first", b"second"]}


def test_pull_loads_the_end_too(monkeypatch):
    sink, calls = io.BytesIO(), []
    times = pd.DatetimeIndex(["2026-01-01"], tz="UTC")
    table = pa.table({"index": times, "v": [1]})
    table = table.cast(table.schema.set(0, table.schema.field(0).with_metadata({pull.NOTE: b'{"unnamed": true}'})))
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    node = pull.PullFrame.__new__(pull.PullFrame)
    monkeypatch.setattr(
        node, "_run", lambda command, arguments, name: calls.append(arguments) or io.BytesIO(sink.getvalue())
    )
    frame = node.load("x", start=pd.Timestamp("2026-01-01"), end=pd.Timestamp("2026-01-02 01:00", tz="Europe/Berlin"))
    assert calls == [
        ["--format=arrow", "--from=2026-01-01T00:00:00+00:00", "--to=2026-01-02T00:00:00.000000001+00:00", "--", "x"]
    ]
    assert frame.index.name is None and list(frame["v"]) == [1]


def test_failure_of_a_server_that_stops(tmp_path):
    """close() reports that the server could not stop properly, unless its directory was deleted."""
    for directory, message, error in (
        (tmp_path, b"failed: disk full\n", True),
        (tmp_path, b"stopped\n", False),
        (tmp_path / "deleted", b"failed: x\n", False),
    ):
        handle = SharedProcess(directory, "server")
        handle._connection, server = socket.socketpair()
        with server:
            server.sendall(message)
            server.shutdown(socket.SHUT_WR)
            if error:
                with pytest.raises(partd_go.NoServer, match="the server failed: disk full.*partd verify"):
                    handle.close()
            handle.close()

"""Tests functions that need no server: the text of filters, smaller types, differences of schemas, and compatible layouts."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("xxhash")
pytest.importorskip("dask")
from partd_go.dask import blocks, files
from partd_go.pystore import memory, schema_evolution
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


def test_added_column_is_not_reordered():
    old, new = pd.DataFrame({"a": [1], "b": [2]}), pd.DataFrame({"a": [1], "x": [0], "b": [2]})
    add_only = schema_evolution.SchemaEvolution(schema_evolution.EvolutionStrategy.ADD_ONLY)
    assert [change.change_type for change in add_only.detect_schema_changes(old, new)] == ["column_added"]
    kinds = [change.change_type for change in add_only.detect_schema_changes(old, old[["b", "a"]])]
    assert kinds == ["columns_reordered"]


def test_order_of_categories_is_part_of_the_layout():
    layouts = [blocks.layout_of(pd.DataFrame({"c": pd.Categorical(["x"], ["x", "y"], ordered=ordered)})) for ordered in (True, False, True)]
    assert layouts[0].is_compatible(layouts[2]) and not layouts[0].is_compatible(layouts[1])


def test_interrupted_attempt_leaves_no_file(tmp_path):
    path = str(tmp_path / "attempts" / "one")
    with pytest.raises(KeyboardInterrupt), files.created(path):
        raise KeyboardInterrupt
    assert not os.path.exists(path)

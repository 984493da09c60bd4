"""Tests that each value comes back equal, in this process and in a new one, or that the write is refused with an error
that names the column and its type.

docs/values.md shows the results. With PARTD_UPDATE=1, the tests rewrite it.
"""

from __future__ import annotations

import contextlib
import numbers
import os
import re
from pathlib import Path

import pytest

pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
pytest.importorskip("dask", reason="needs dask")
import numpy as np
import pandas as pd
import value_stores
from dtypes import BIG, HARD, OSLO, VALUES

import partd_go
import partd_go.tables

pytestmark = pytest.mark.filterwarnings("ignore:::dask", "ignore:::distributed", "ignore:assert_index_equal will check")
TYPES = {**VALUES, **HARD}
PAGE = Path(__file__).parent.parent / "docs" / "values.md"
TIMES = pd.date_range("2024-01-01", periods=6, freq="D", name="when")
MODULES_WITH_APPEND = ("tables", "pystore", "pull", "Arrow")


def frame_of(values, index):
    return pd.DataFrame({"n": range(len(index)), "v": pd.Series(values).set_axis(index)}, index)


def nulls(values):
    """Returns two nulls in the type of values, or in a similar type that supports nulls."""
    kind = pd.Series(values).dtype
    if isinstance(kind, pd.SparseDtype):
        kind = kind.subtype
    if isinstance(kind, np.dtype) and kind.kind in "iub":
        kind = "boolean" if kind.kind == "b" else str(kind).replace("int", "Int").replace("uI", "UI")
        return pd.array([None, None], kind)
    return (
        pd.Series(values)[:0].reindex([0, 1])
        if kind != object and not str(kind).startswith("interval[int")
        else pd.Series([None, None], dtype=object)
    )


def values_equal(a, b):
    if isinstance(a, (list, tuple, np.ndarray)):
        return type(a) is type(b) and len(a) == len(b) and all(map(values_equal, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(values_equal(a[key], b[key]) for key in a)
    if a is None or a is pd.NA or a is pd.NaT or a != a:
        return b is None or b is pd.NA or b is pd.NaT or b != b
    a, b = (v.item() if isinstance(v, np.generic) else v for v in (a, b))
    same_integral, same_bool = (isinstance(b, kind) == isinstance(a, kind) for kind in (numbers.Integral, bool))
    return same_integral and same_bool and a == b and getattr(a, "utcoffset", str)() == getattr(b, "utcoffset", str)()


def check(got, want, exact):
    """Fails unless got starts with the rows of want. If exact, the frames must be identical; otherwise, values and
    nulls must be equal, and any further rows must have nulls in column v."""
    if exact:
        pd.testing.assert_frame_equal(got, want, check_freq=False, check_exact=True)
    assert list(got.columns) == list(want.columns) and got.index[: len(want)].equals(want.index)
    for i in range(want.shape[1]):
        old, new = list(want.iloc[:, i]), list(got.iloc[:, i])
        assert all(map(values_equal, old, new)), f"{old} became {new}"
        assert (
            exact or i == 0 or all(pd.isna(value) for value in new[len(old) :] if not isinstance(value, (list, dict)))
        ), new


def cases(module):
    """Yields the name of each case, and the frames to write one after another."""
    index = TIMES if module in ("pystore", "pull") else pd.RangeIndex(6, name="when")
    for name, values in TYPES.items():
        first = frame_of(values, index[:4])
        yield f"{name}, written", [first]
        if module in MODULES_WITH_APPEND:
            rest = pd.DataFrame({"n": [4, 5]}, index[4:])
            yield f"{name}, append without the column", [first, rest]
            two_nulls = pd.Series(nulls(values))
            yield f"{name}, append nulls", [first, rest.assign(v=two_nulls.set_axis(index[4:]))]


@pytest.mark.parametrize("module", value_stores.MODULES)
def test_values(module, url, tmp_path):
    if module == "dask":
        pytest.importorskip("xxhash")
    outcomes, frames = {}, dict(cases(module))
    with contextlib.closing(value_stores.MODULES[module](tmp_path, url)) as store:
        for name, parts in frames.items():
            try:
                store.write(name, parts[0])
            except Exception as error:
                assert re.search(r"column '?\"?v", str(error)) and str(parts[0].v.dtype) in str(error), (
                    f"{name}: {error}"
                )
                outcomes[name] = "refused"
                continue
            for part in parts[1:]:
                try:
                    store.append(name, part)
                except Exception as error:
                    assert re.search(r"column '?\"?v", str(error)), f"{name}: {error}"
                    outcomes[name] = "refused"
        read_here = value_stores.read_all(store, [name for name in frames if name not in outcomes])
    wrong = []
    for reader, got in (
        ("this process", read_here),
        ("a new process", value_stores.read_in_new_process(module, tmp_path, url, [*read_here])),
    ):
        for name, frame in got.items():
            try:
                assert isinstance(frame, pd.DataFrame), frame
                check(frame, frames[name][0], len(frames[name]) == 1)
                outcomes[name] = "equal"
            except AssertionError as error:
                wrong.append(f"{name}, read in {reader}: {str(error)[:300]}")
    assert not wrong, "\n".join(wrong)
    compare(module, outcomes)


def compare(module, outcomes):
    """Compares the outcomes with the page: with its list of types that always come back equal, and with the module's
    column in the table of all others, or updates the table."""
    steps = ("written", "append without the column", "append nulls") if module in MODULES_WITH_APPEND else ("written",)
    cells = {
        name: " ".join({"equal": "=", "refused": "×"}[outcomes[f"{name}, {step}"]] for step in steps) for name in TYPES
    }
    cells = {name: "×" if cell[0] == "×" else cell for name, cell in cells.items()}
    page = PAGE.read_text()
    head, *rows = re.findall(r"^\|.*\|$", page, re.M)
    names = list(value_stores.MODULES)
    known = {row[0]: row[1:] for row in ([cell.strip() for cell in row.strip("|").split("|")] for row in rows[1:])}
    if os.environ.get("PARTD_UPDATE"):
        for name, cell in cells.items():
            if name in known or "×" in cell:
                known.setdefault(name, ["= = =" if m in MODULES_WITH_APPEND else "=" for m in names])[
                    names.index(module)
                ] = cell
        known = {name: known[name] for name in TYPES if "×" in "".join(known.get(name, []))}
        table = [["values", *names], ["---"] * (len(names) + 1), *([name, *row] for name, row in known.items())]
        text = "\n".join("| " + " | ".join(row) + " |" for row in table)
        PAGE.write_text(re.sub(r"(?:^\|.*\|\n)+", lambda _: text + "\n", page, count=1, flags=re.M))
    assert {name: known[name][names.index(module)] for name in known} == {name: cells[name] for name in known}, head
    listed = [
        re.sub(r"\s+", " ", name)
        for name in re.findall("`([^`]+)`", page.partition("always come back equal:")[2].partition("\nOther types")[0])
    ]
    assert {*known, *(name for name in listed if name in TYPES)} == {*TYPES}, (
        f"{PAGE.name} must list the types that always come back equal"
    )
    assert not [name for name in listed if "×" in cells.get(name, "")], f"{PAGE.name} lists types that {module} refuses"


LABELS = {
    "booleans": [True, False],
    "numbers and texts": [1, "a"],
    "floats": [1.5, 2.0],
    "times in a zone": OSLO[:2],
    "periods": pd.period_range("2024-01", periods=2, freq="M"),
    "intervals": pd.interval_range(0, 2),
    "categories": pd.CategoricalIndex(["a", "b"], ["b", "a", "c"], name="c"),
    "pairs": pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None]),
    "a name that is a number": pd.Index(["a", "b"], name=7),
}
INDEXES = (
    "large integers",
    "Int64, large",
    "period with a null",
    "interval of times in a zone",
    "result of pandas.cut",
    "category of times in a zone",
    "objects: integers",
)


@pytest.mark.parametrize("module", ["tables", "pystore", "Arrow", "stage"])
def test_labels_and_indexes(module, url, tmp_path):
    """Column names and an index of any type come back equal in a new process."""
    frames = {name: pd.DataFrame([[1, 2], [3, 4]], columns=labels) for name, labels in LABELS.items()}
    frames |= {f"index of {name}": pd.DataFrame({"n": range(4)}, pd.Index(TYPES[name], name="i")) for name in INDEXES}
    three_levels = pd.MultiIndex.from_arrays(
        [TYPES["period"], TYPES["result of pandas.cut"], [BIG, 1, 2, 3]], names=["p", 3, None]
    )
    frames["index of several"] = pd.DataFrame({"n": range(4)}, three_levels)
    with contextlib.closing(value_stores.MODULES[module](tmp_path, url)) as store:
        for name, frame in frames.items():
            store.write(name, frame)
    for name, got in value_stores.read_in_new_process(module, tmp_path, url, [*frames]).items():
        assert isinstance(got, pd.DataFrame), f"{name}: {got}"
        pd.testing.assert_frame_equal(got, frames[name], obj=name)


def test_append_without_columns(tmp_path):
    """Rows that lack integer and boolean columns get nulls, and large integers stay exact (from a user's bug
    report)."""
    with partd_go.tables.connect(tmp_path) as tables:
        tables.put("t", pd.DataFrame({"id": [BIG, 2], "b": [True, False], "n": [1, 2]}))
        with pytest.warns(partd_go.tables.MissingColumns, match=r"\['id', 'b'\]"):
            tables.put("t", pd.DataFrame({"n": [3]}), "append")
        with pytest.raises(partd_go.Misuse, match="id"):
            tables.put("t", pd.DataFrame({"n": [3]}), "append", missing="error")
        got = tables.get("t")
        assert (
            len(got) == 3
            and got.id.tolist()[:2] == [BIG, 2]
            and str(got.id.dtype) == "Int64"
            and str(got.b.dtype) == "boolean"
        )


def test_kinds_of_numbers(tmp_path, url):
    """Values of different kinds, such as periods of days and of months, are not mixed, although Arrow stores both as
    integers."""
    days, months = (pd.DataFrame({"v": pd.period_range("2024-01", periods=2, freq=freq)}) for freq in "DM")
    arrow = partd_go.Arrow(partd_go.Client(url))
    with partd_go.tables.connect(tmp_path) as tables:
        for i, (first, second) in enumerate(
            [(days, months), (days, pd.DataFrame({"v": [1, 2]})), (pd.DataFrame({"v": [1, 2]}), days)]
        ):
            tables.put(f"t{i}", first)
            with pytest.raises(partd_go.Error, match="v"):
                tables.put(f"t{i}", second, "append")
            pd.testing.assert_frame_equal(tables.get(f"t{i}"), first)
            arrow.append({f"t{i}": first})
            arrow.append({f"t{i}": second})
            with pytest.raises(partd_go.SchemaMismatch, match="'v' is"):
                arrow.get(f"t{i}")
    arrow.drop()
    arrow.close()

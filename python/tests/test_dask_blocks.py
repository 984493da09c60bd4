"""Tests that frames come back unchanged after they are split into blocks and joined."""

from __future__ import annotations

import datetime
import decimal
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("dask")
pytest.importorskip("xxhash")

import numpy as np
import pandas as pd
import pyarrow as pa

from partd_go.dask import blocks

N = 1000


def columns() -> dict[str, object]:
    rng = np.random.default_rng(7)
    words = [f"word {i % 37} é" for i in range(N)]
    gaps = rng.random(N) < 0.2
    text = np.array(words, dtype=object)
    text[gaps] = None
    mixed = [None, 1, "a", float("nan"), (1, 2), b"\xff", {"a": [1]}, "\ud800"]
    intervals = pd.arrays.IntervalArray.from_breaks(np.arange(N + 1))
    return {
        "int8": rng.integers(-100, 100, N).astype(np.int8),
        "uint64": rng.integers(0, 1 << 63, N).astype(np.uint64) * 2 + 1,
        "float": np.where(gaps, np.nan, rng.random(N)),
        "float16": rng.random(N).astype(np.float16),
        "complex": rng.random(N) + 1j,
        "bool": gaps,
        "datetime ns": pd.Series(pd.date_range("2020", periods=N, freq="s", unit="ns")).where(~gaps),
        "datetime s": pd.Series(pd.date_range("2020", periods=N, freq="s", unit="s")).where(~gaps),
        "timedelta": pd.Series(pd.to_timedelta(np.arange(N), unit="s")).where(~gaps),
        "zone": pd.Series(pd.date_range("2020-03-01", periods=N, freq="h", tz="Europe/Oslo", unit="us")).where(~gaps),
        "period": pd.Series(pd.period_range("2020", periods=N, freq="D")).where(~gaps),
        "category": pd.Categorical(np.where(gaps, None, words)),
        "ordered": pd.Categorical(words, categories=sorted(set(words), reverse=True), ordered=True),
        "Int64": pd.array(np.where(gaps, None, np.arange(N) + (1 << 60)), dtype="Int64"),
        "boolean": pd.array(np.where(gaps, None, gaps), dtype="boolean"),
        "str": pd.array(text, dtype="str"),
        "string": pd.array(text, dtype="string[python]"),
        "string pyarrow": pd.array(text, dtype="string[pyarrow]"),
        "arrow decimal": pd.array([decimal.Decimal(i) for i in range(N)], dtype=pd.ArrowDtype(pa.decimal128(20, 2))),
        "arrow dictionary": pd.array(words, dtype=pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))),
        "arrow list": pd.array([[i, i] for i in range(N)], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
        "interval": intervals,
        "sparse": pd.arrays.SparseArray(np.where(gaps, 1.0, 0.0), fill_value=0.0),
        "text": pd.Series(text, dtype=object),
        "words": pd.Series(words, dtype=object),
        "surrogates": pd.Series(["word", "\ud800", None, "é"] * (N // 4), dtype=object),
        "mixed": pd.Series([mixed[i % len(mixed)] for i in range(N)], dtype=object),
        "dates": pd.Series([datetime.date(2020, 1, 1 + i % 28) for i in range(N)], dtype=object),
    }


def split_and_join(df: pd.DataFrame, ids: np.ndarray, compression: str | None = None) -> dict[int, pd.DataFrame]:
    layout = pickle.loads(pickle.dumps(blocks.layout_of(df)))
    found: dict[int, list[memoryview]] = {}
    for block in blocks.split(df, layout, ids, compression):
        for partition, _, piece in block:
            found.setdefault(partition, []).append(memoryview(b"".join(piece)))
    return {p: blocks.join(layout, pieces, compression) for p, pieces in found.items()}


def check(df: pd.DataFrame, compression: str | None = None) -> None:
    ids = np.random.default_rng(1).integers(-1, 7, len(df))
    out = split_and_join(df, ids, compression)
    assert sorted(out) == list(range(7))
    for p, got in out.items():
        want = df.iloc[np.flatnonzero(ids == p)]
        pd.testing.assert_frame_equal(got, want, check_freq=False, check_index_type="equiv")
        assert [type(a) for a in got.dtypes] == [type(a) for a in want.dtypes]
        assert got.attrs == want.attrs


@pytest.mark.parametrize("name", columns())
def test_types(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    df = pd.DataFrame({name: columns()[name]})
    check(df)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 3000)  # several blocks
    check(df, "zstd")
    if name not in ("float16", "sparse", "mixed"):
        check(df.set_index(name))


def test_labels() -> None:
    df = pd.DataFrame(columns())
    df.attrs["source"] = "here"
    check(df, "lz4")
    df.columns = pd.MultiIndex.from_arrays([range(df.shape[1]), ["same"] * df.shape[1]], names=["a", None])
    check(df.iloc[:, 1:5])
    twice = pd.DataFrame(np.arange(2 * N).reshape(N, 2), columns=["a", "a"], index=pd.Index(range(N), name="a"))
    check(twice)
    check(pd.DataFrame(index=pd.date_range("2020", periods=N, freq="min", name="when")))
    check(twice.set_index([pd.Index(range(N), name="x"), pd.Index(["é"] * N)]))


@pytest.mark.parametrize(
    "level", [[1, 2], [True, False], [1.5, 2.5], pd.array([1, 2], dtype="Int8"), pd.interval_range(0, 2)]
)
def test_levels_with_gaps(level: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A level of a MultiIndex with missing values (gaps) has the same type in all blocks, although pandas would use
    another type in blocks that contain a gap."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 3000)  # so that some blocks have no gap
    codes = np.where(np.arange(N) < 700, np.arange(N) % 2, -1)
    df = pd.DataFrame({"v": range(N)}, index=pd.MultiIndex(levels=[level, range(N)], codes=[codes, range(N)]))
    for got in split_and_join(df, np.arange(N) % 7).values():
        want = df.index.get_level_values(0)[got["v"]]
        levels = got.index.get_level_values(0)
        assert levels.dtype == df.index.get_level_values(0).dtype
        pd.testing.assert_index_equal(levels, want, exact="equiv")


def test_big_endian_columns() -> None:
    df = pd.DataFrame({"i": np.arange(N, dtype=">i4"), "f": np.arange(N, dtype=">f8")})
    for p, got in split_and_join(df, np.arange(N) % 7).items():
        assert got["i"].tolist() == got["f"].tolist() == list(range(p, N, 7))


def test_column_memory_order() -> None:
    values = np.random.default_rng(3).random((3 * N, 5))
    for array in (values[:N], np.asfortranarray(values[:N]), values[::-3]):
        check(pd.DataFrame(array))
    values.flags.writeable = False
    check(pd.DataFrame(values[:N], copy=False))


def test_large_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_CACHED", 1000)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 30_000)
    check(pd.DataFrame(columns()).drop(columns="mixed"))


def test_piece_has_three_buffers() -> None:
    """A piece consists of three buffers, whatever its number of columns, because each buffer costs time in a system
    call."""
    df = pd.DataFrame(np.arange(100 * N).reshape(N, 100)).assign(text="word", more="words")
    (block,) = blocks.split(df, blocks.layout_of(df), np.arange(N) % 500, None)
    assert len(block) == 500 and all(len(piece) == 3 for _, _, piece in block)


def test_frame_does_not_reference_pieces() -> None:
    """A joined frame does not keep the pieces in memory, although Arrow's arrays use a message's memory without a
    copy."""
    df = pd.DataFrame(np.random.default_rng(3).random((N, 50))).assign(text=pd.array(["word"] * N, dtype="str"))
    layout = blocks.layout_of(df)
    (block,) = blocks.split(df, layout, np.zeros(N, dtype=np.int64), None)
    piece = np.frombuffer(b"".join(block[0][2]), np.uint8).copy()
    weak_piece = weakref.ref(piece)
    got = blocks.join(layout, [piece.data], None)
    del piece
    assert weak_piece() is None, "the frame keeps the piece in memory"
    pd.testing.assert_frame_equal(got, df)


def test_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are too large for the memory are not called damaged."""

    def check(tables: list[pa.Table]) -> None:
        raise pa.ArrowMemoryError("malloc failed")

    monkeypatch.setattr(blocks, "check", check)
    with pytest.raises(MemoryError):
        split_and_join(pd.DataFrame({"x": [1]}), np.array([0]))


def test_threads_share_a_layout() -> None:
    df = pd.DataFrame({"c": pd.Categorical.from_codes(range(200_000), np.arange(200_000) * 7)})
    for _ in range(3):
        layout = pickle.loads(pickle.dumps(blocks.layout_of(df)))
        (block,) = blocks.split(df, layout, np.zeros(len(df), np.int64), None)
        piece = memoryview(b"".join(block[0][2]))
        ready = threading.Barrier(4)

        def join() -> pd.DataFrame:
            ready.wait()
            return blocks.join(layout, [piece], None)

        with ThreadPoolExecutor(4) as pool:
            for got in [pool.submit(join) for _ in range(4)]:
                assert (got.result()["c"].cat.codes.to_numpy() == np.arange(200_000)).all()


def test_layouts_that_differ() -> None:
    a = blocks.layout_of(pd.DataFrame({"x": pd.Categorical(["a", "b"], categories=["a", "b"])}))
    b = blocks.layout_of(pd.DataFrame({"x": pd.Categorical(["a", "b"], categories=["b", "a"])}))
    assert a.is_compatible(pickle.loads(pickle.dumps(a)))
    assert not a.is_compatible(b)
    assert not a.is_compatible(blocks.layout_of(pd.DataFrame({"x": ["a"]})))
    assert not a.is_compatible(blocks.layout_of(a.empty.rename(columns={"x": "y"})))
    assert not a.is_compatible(blocks.layout_of(a.empty.rename_axis("name")))


def test_values_that_cannot_be_stored() -> None:
    df = pd.DataFrame({"x": [1, 2], "f": [lambda: 1, lambda: 2]})
    with pytest.raises(TypeError, match="column 'f' of type object: neither Arrow nor pickle can store a value"):
        split_and_join(df, np.array([0, 1]))

    class Frame(pd.DataFrame):
        pass

    with pytest.raises(TypeError, match='one is a .*Frame: use another method, such as shuffle_method="tasks"'):
        blocks.layout_of(Frame(df))

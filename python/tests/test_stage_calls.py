"""Tests how stages are called: with keywords and defaults, and which functions and results are refused."""

from __future__ import annotations

import functools
import threading
from pathlib import Path

import pytest
from pipelines import directory  # noqa: F401

from partd_go import Misuse
from partd_go.stage import set_directory, stage

pd = pytest.importorskip("pandas")


@stage
def rows():
    return [1, 2, 3]


@stage(rows=rows, cache=True)
def scaled(rows, factor, /, plus=0, *, minus=0):
    record_run()
    return [row * factor + plus - minus for row in rows]


@stage(rows=rows, cache=True)
def with_defaults(rows, factor=2):
    record_run()
    return [row * factor for row in rows]


@stage(values=with_defaults)
def user(values):
    return sum(values)


@stage(rows=rows)
def variadic(first=0, *others, **named):
    return first, others, named


def with_keywords(function):
    @functools.wraps(function)
    def call(**inputs):
        return function(2, **inputs)

    return call


@stage(rows=rows)
@with_keywords
def decorated(factor, rows):
    return [row * factor for row in rows]


@stage(named=rows)
def named_like_keywords(**named):
    return named


def record_run():
    with open("ran", "a") as file:
        file.write("x")


def run_count():
    path = Path("ran")
    count = len(path.read_text()) if path.exists() else 0
    path.unlink(missing_ok=True)
    return count


def test_keywords_and_defaults():
    """However a call writes its arguments, it has the same key, which is also that of the stage as an ancestor."""
    for _ in range(2):
        assert scaled(2) == scaled(2, 0) == scaled(2, plus=0, minus=0) == [2, 4, 6]
    assert run_count() == 1
    assert scaled(2, 1) == scaled(2, plus=1) == [3, 5, 7] and scaled(2, minus=1) == [1, 3, 5] and run_count() == 2
    assert scaled.key(2, plus=1) == scaled.key(2, 1) != scaled.key(2)
    assert (
        with_defaults() == with_defaults(2) == with_defaults(factor=2) == [2, 4, 6]
        and user() == 12
        and run_count() == 1
    )
    assert with_defaults(3) == [3, 6, 9] and run_count() == 1
    assert variadic() == (0, (), {"rows": [1, 2, 3]})
    assert decorated() == [2, 4, 6] and named_like_keywords(x=1) == {"x": 1, "named": [1, 2, 3]}
    assert variadic(1, 2, 3, x=4) == (1, (2, 3), {"x": 4, "rows": [1, 2, 3]})


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: scaled(),
            (
                r"scaled\(factor, /, plus=0, \*, minus=0\): missing a "
                r"required argument: 'factor' .the stage itself passes rows"
            ),
        ),
        (lambda: scaled(1, 2, 3), "scaled.*too many positional arguments"),
        (lambda: scaled(1, rows=[1]), "scaled.*unexpected keyword argument 'rows' .the stage itself passes rows"),
        (lambda: rows(1), r"rows\(\): too many positional arguments$"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(Misuse, match=message):
        call()
    assert run_count() == 0


class Model:
    def fit(self, rows):
        return rows

    @staticmethod
    def count(rows):
        return len(rows)


def generator():
    yield 1


async def coroutine():
    return 1


def test_refused_functions():
    for function, message in (
        (functools.partial(generator), "define one with def, and pass its arguments when you call the stage"),
        (Model().fit, "Model.fit is a method.*outside the class"),
        (Model.fit, "Model.fit is a method"),
    ):
        with pytest.raises(Misuse, match=message):
            stage(function)
    with pytest.raises(Misuse, match="rows has no parameter other"):
        stage(other=rows)(rows.function)
    assert stage(rows=rows)(Model.count)() == 3


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize("cache", [False, True])
def test_refused_results(directory, cache):
    for function, message in (
        (generator, "generator returned a generator, which can be read only once"),
        (coroutine, "coroutine returned a coroutine"),
    ):
        with pytest.raises(Misuse, match=message):
            stage(cache=cache)(function)()

    def lock():
        return threading.Lock()

    def unnamed():
        return lambda: 1

    if cache:
        for function, kind in ((lock, "lock"), (unnamed, "function")):
            with pytest.raises(
                Misuse, match=f"{function.__name__} returned a {kind}, which cannot be pickled .*leave out cache=True"
            ):
                stage(cache=True)(function)()
        assert not [path for path in Path(".partd_stages").rglob("*") if path.is_file()]
    else:
        single = stage(lock)
        with pytest.raises(Misuse, match="lock returned a lock to several stages, which cannot be copied"):
            stage(a=single, b=stage(x=single)(lambda x: 1))(lambda a, b: 1)()


def test_repr(directory):
    cached = stage(raw="in.csv", rows=rows, cache=True)(scaled_copy)
    assert (
        repr(cached).splitlines()[0]
        == f"<Stage {__name__}.scaled_copy(factor=2), kept as parquet or pickle in {directory}/.partd_stages>"
    )
    assert [line.split() for line in repr(cached).splitlines()[2:]] == [
        ["raw", "file", "in.csv"],
        ["rows", "stage", f"{__name__}.rows"],
    ]
    assert repr(rows) == f"<Stage {__name__}.rows(), not kept>"
    assert f"kept as csv in {directory}/here" in repr(stage(cache=True, format="csv", cache_dir="~/here")(generator))
    try:
        set_directory("~/there")
        assert f"parquet or pickle in {directory}/there" in repr(stage(cache=True)(generator))
    finally:
        set_directory(None)


def scaled_copy(raw, rows, factor=2) -> "list[int]":
    return [row * factor for row in rows]

"""Tests when results of stages expire, and which results gc() removes."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pipelines import child_env, directory, load, pop_runs, record_run  # noqa: F401

import partd_go.stage
from partd_go.stage import gc

pd = pytest.importorskip("pandas")


@pytest.fixture
def clock(monkeypatch):
    """Replaces time.time. Returns a function that moves the clock forward."""
    real, ahead = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])
    return lambda seconds: ahead.__setitem__(0, ahead[0] + seconds)


def pipe(ttl="", two="", cache="cache=True", body="rows"):
    return load(
        f"@stage(cache=True{ttl})\ndef one():\n{record_run('one')}    return pandas.DataFrame({{'a': [1]}})\n"
        f"@stage(rows=one, {cache}{two})\ndef two(rows):\n{record_run('two')}    return {body}\n"
        f"@stage(rows=two, cache=True)\ndef three(rows):\n{record_run('three')}    return rows\n"
    )


PICKLE = ", format='pickle'"  # results of later stages expire with a pickle


def files():
    return sorted(p.parent.name[5:] for p in Path(".partd_stages").rglob("*") if p.is_file())


def reasons(removed):
    return sorted((r.stage[5:], r.why) for r in removed)


def test_ttl(clock):
    for ttl in (", ttl=100", ", ttl=100.0"):
        pipe(ttl).one()
        clock(60)
    assert pop_runs() == "one"
    pipe(", ttl=100").one()
    assert pop_runs() == "one" and files() == ["one"]  # the old result was removed
    clock(60)
    pipe(", ttl=100").one()
    assert pop_runs() == ""


@pytest.mark.parametrize("cache", ["cache=True", "cache=False"])
def test_dependent_results_expire(clock, cache):
    """Results that depend on a pickle expire with it, even if a stage between them keeps nothing."""
    for after, runs in ((0, "one three two"), (60, ""), (60, "one three two")):
        clock(after)
        pipe(", ttl=100" + PICKLE, ", ttl=1000" + PICKLE, cache).three()
        assert pop_runs() == runs


def test_ttl_changes(clock):
    pipe(PICKLE, PICKLE).three()
    clock(60)
    pipe(PICKLE + ", ttl=100", PICKLE).three()
    assert pop_runs() == "one three two"
    clock(60)
    pipe(PICKLE + ", ttl=100", PICKLE).three()  # a shorter ttl also applies to results that were kept forever
    assert pop_runs() == "one three two"
    clock(120)
    pipe(PICKLE, PICKLE).three()  # results that were kept with a ttl expire even for stages without one
    assert pop_runs() == "one three two"
    clock(1e8)
    pipe(PICKLE + ", ttl=0", PICKLE).three()
    assert pop_runs() == ""


def test_ttl_is_not_in_the_key():
    keys = {pipe(ttl).three.key() for ttl in ("", ", ttl=1", ", ttl=2")}
    assert len(keys) == 1


@pytest.mark.parametrize(
    "ttl, error", [("x", TypeError), (-1, ValueError), (float("nan"), ValueError), (datetime.timedelta(-1), ValueError)]
)
def test_invalid_ttl(ttl, error):
    with pytest.raises(error, match="ttl (is|has type)"):
        partd_go.stage.stage(cache=True, ttl=ttl)(len)


@pytest.mark.parametrize("ttl", [1e300, 1e11, float("inf")])
def test_ttl_for_ever(ttl):
    one = load(
        (
            f"@stage(cache=True, ttl=float('{ttl}'))\ndef one():\n"
            f"{record_run('one')}    return pandas.DataFrame({{'a': [1]}})\n"
        )
    ).one
    assert one().equals(one()) and pop_runs() == "one"


def test_gc_removes_expired_results(clock):
    pipe_ = pipe(", ttl=100", ", ttl=50, format='pickle'")
    pipe_.three()
    assert gc() == [] and files() == ["one", "three", "two"]
    clock(60)
    removed = gc()
    assert reasons(removed) == [("three", "expired"), ("two", "expired")] and files() == ["one"]
    assert all(r.bytes > 100 and r.key in (pipe_.two.key(), pipe_.three.key()) for r in removed)
    clock(60)
    assert reasons(gc()) == [("one", "expired")] and files() == []


def test_gc_removes_superseded_results():
    pipe().three()
    other = load("@stage(cache=True)\ndef one(x):\n    return pandas.DataFrame({'a': [x]})\n", "other")
    for x in (1, 2):
        other.one(x)  # gc keeps the results for both arguments
    loops = load(
        (
            "def made(n, raw):\n    @stage(raw=raw, cache=True)\n    def one(raw):\n"
            "        return pandas.DataFrame({'a': [n]})\n    return one\n"
        ),
        "loops",
    )
    for n in (1, 2):
        Path(f"{n}.csv").write_text("a")
        for file in (1, 2):  # gc keeps the results for both files and for both values in the closure
            loops.made(n, f"{min(n, file)}.csv")()
    assert gc() == []
    changed = pipe(body="rows * 2")
    changed.three()
    assert reasons(gc()) == [("three", "superseded"), ("two", "superseded")]
    pop_runs()
    changed.three()
    assert pop_runs() == ""
    Path("1.csv").write_text("b")
    loops.made(1, "1.csv")()
    assert [r.why for r in gc()] == ["superseded"]


def test_gc_by_size():
    pipe_ = pipe()
    pipe_.one()
    os.utime(next(Path(".partd_stages/pipe.one").iterdir()), (0, time.time() - 100))
    pipe_.three()
    one = next(Path(".partd_stages/pipe.one").iterdir()).stat().st_size
    assert gc(max_bytes=3 * one) == []
    assert reasons(gc(max_bytes=3 * one - 1)) == [("one", "over max_bytes")]
    assert reasons(gc(max_bytes=0)) == [("three", "over max_bytes"), ("two", "over max_bytes")]


def test_gc_removes_leftovers_of_killed_processes(directory):
    one = load("import os, signal\n@stage(cache=True)\ndef one():\n    return pandas.DataFrame({'a': [1]})\n").one
    program = (
        "import os, partd_go.stage.run as s, pipe\ns.write = lambda name, result, path,"
        " format: (path.write_bytes(b'half'), os.kill(os.getpid(), 9))\npipe.one()"
    )
    assert subprocess.run([sys.executable, "-c", program], env=child_env()).returncode == -9
    kept = directory / ".partd_stages" / "pipe.one"
    others = [kept / "mine.parquet", kept / ".mine", directory / ".partd_stages" / "file"]
    for other in others:
        other.touch()
    assert len([p for p in kept.iterdir() if one.key() in p.name]) == 2
    assert [(r.stage, r.key, r.why, r.bytes) for r in gc()] == [
        ("pipe.one", one.key(), "left by a process that was killed", 4)
    ]
    assert sorted(p.name for p in kept.iterdir()) == [".mine", "mine.parquet"] and others[2].exists()
    assert gc("nothing-is-here") == []


def test_gc_leaves_locked_results(clock):
    """gc() does not wait for locks, and keeps results that are locked."""
    pipe_ = load(
        "from partd_go.stage import gc\n"
        f"@stage(cache=True, ttl=100)\ndef one():\n{record_run('one')}"
        "    __import__('builtins').gc_results.append(gc(max_bytes=0))\n    return pandas.DataFrame({'a': [1]})\n"
    )
    import builtins

    builtins.gc_results = gc_results = []
    try:
        pipe_.one()
        clock(200)
        pipe_.one()  # gc keeps the old result while the stage computes a new one
    finally:
        del builtins.gc_results
    assert gc_results == [[], []] and pop_runs() == "one one" and gc() == []


def test_gc_while_stages_run():
    """Processes get the right results while gc() keeps removing them. PARTD_GC_ROUNDS is the number of rounds."""
    rounds = int(os.environ.get("PARTD_GC_ROUNDS", "25"))
    load(
        "def made(n):\n    @stage(cache=True, ttl=0.05)\n"
        "    def one():\n        return pandas.DataFrame({'a': range(n)})\n"
        "    @stage(rows=one, cache=True)\n    def two(rows):\n        return rows\n    return two\n"
    )
    program = f"import pipe\nfor i in range({rounds}):\n    n = 1000 + i % 3\n    assert len(pipe.made(n)()) == n\n"
    running = [subprocess.Popen([sys.executable, "-c", program], env=child_env()) for _ in range(2)]
    removed = []
    while any(process.poll() is None for process in running):
        removed += gc(max_bytes=0)
    assert [process.returncode for process in running] == [0, 0] and removed
    gc(max_bytes=0)
    assert not [p for p in Path(".partd_stages").rglob("*") if p.is_file() and p.suffix != ".removed"]


@pytest.mark.parametrize(
    "rows",
    [
        "{'a': [None, float('nan'), 'a']}",
        "{'a': [1, 2]}, index=pandas.Index([None, float('nan')], dtype=object)",
        "{'a': [1]}, index=[None]",
    ],
)
def test_nulls_stay_distinct(rows):
    """A stage keeps None and NaN distinct, although pandas treats them as equal."""
    text = f"@stage(cache=True%s)\ndef one():\n    return pandas.DataFrame({rows}, dtype=object)\n"
    want = eval(f"pandas.DataFrame({rows}, dtype=object)", {"pandas": pd})

    def kinds(frame):
        return [type(v) for v in [*frame.a, *frame.index]]

    for _ in range(2):
        assert kinds(load(text % "").one()) == kinds(want)
    if "nan" in rows:
        with pytest.raises(ValueError, match="None and NaN"):
            load(text % ", format='parquet'").one()

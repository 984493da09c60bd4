"""Tests early cutoff: a stage runs again only if the results of its ancestors differ, even if their code has
changed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pipelines import child_env, directory, load, pop_runs  # noqa: F401

import partd_go.stage
from partd_go.stage import gc, stage

pd = pytest.importorskip("pandas")


def define(name, body, inputs="", options="cache=True"):
    parameters = ", ".join(name.partition("=")[0] for name in inputs.split(", ") if name)
    return (
        f"@stage({', '.join(filter(None, [inputs, options]))})\ndef {name}({parameters}):\n"
        f"    with open('ran', 'a') as f: f.write('{name} ')\n    {body}\n"
    )


FRAME = "return pandas.DataFrame({'a': %s})"
FIRST = "%s = [1, 2]; return pandas.DataFrame({'a': %s})"


def chain(first, options="cache=True"):
    """Returns a pipeline of ten stages, whose last one is s9."""
    stages = [define(f"s{n}", f"rows['b{n}'] = {n}; return rows", f"rows=s{n - 1}", options) for n in range(1, 10)]
    return load(define("s0", first, "", options) + "".join(stages)).s9


def in_new_process():
    program = "import pipe; print(len(pipe.s9()))"
    done = subprocess.run([sys.executable, "-c", program], env=child_env(), check=True, capture_output=True)
    return int(done.stdout)


@pytest.mark.parametrize("format", ["", ", format='parquet'", ", format='csv'"])
def test_rename_in_first_of_ten(format):
    options = "cache=True" + format
    chain(FIRST % ("x", "x"), options)()
    assert pop_runs() == " ".join(f"s{n}" for n in range(10))
    last = chain(FIRST % ("y", "y"), options)
    steps = [("pipe.s0", "runs", "its code changed")] + [
        (f"pipe.s{n}", "may run", f"if the result of pipe.s{n - 1} differs") for n in range(1, 10)
    ]
    assert last.explain() == steps and pop_runs() == ""
    last()
    assert pop_runs() == "s0"
    assert {step[1:] for step in last.explain()} == {("kept", "its inputs have not changed")}
    assert [kept.why for kept in gc()] == ["superseded"]
    assert in_new_process() == 2 and pop_runs() == ""
    os.utime(last_file := next(Path(".partd_stages/pipe.s9").iterdir()))
    gc(max_bytes=last_file.stat().st_size)  # only the last result remains
    assert in_new_process() == 2 and pop_runs() == ""
    assert [step.action for step in last.explain()] == ["skipped"] * 9 + ["kept"]
    chain(FIRST % ("z", "z"), options)
    assert in_new_process() == 2 and pop_runs() == "s0"
    chain(FRAME % "[2, 3, 4]", options)()
    assert pop_runs() == " ".join(f"s{n}" for n in range(10))


def test_removed_results_run_when_needed():
    """Only stages whose values a running stage needs run again, and explain says so."""
    one, two = define("one", FRAME % "[1]"), define("two", "return rows", "rows=one")
    load(one + two + define("three", "return rows", "rows=two")).three()
    gc(max_bytes=0)
    pop_runs()
    last = load(one + two + define("three", "return rows * 2", "rows=two")).three
    assert [step[1:] for step in last.explain()] == [("runs", "its result was removed")] * 2 + [
        ("runs", "its code changed")
    ]
    last()
    assert pop_runs() == "one three two"
    last = load(one + two + define("three", "return rows * 3", "rows=two")).three
    assert [step.action for step in last.explain()] == ["kept", "kept", "runs"]
    last()
    assert pop_runs() == "three"


def test_explain_names_the_change():
    Path("in.csv").write_text("a\n1\n")
    read = define("read", "return pandas.read_csv(raw)", "raw='in.csv'", "cache=True, ttl=%s")
    size = define("size", "return len(rows)", "rows=read", "")
    last = define("last", "return pandas.DataFrame({'a': [size]})", "size=size")
    pipe = load(read % 1000 + size + last)
    assert [step[1:] for step in pipe.last.explain()] == [("runs", "it never ran")] + [
        ("may run", f"if the result of {name} differs") for name in ("pipe.read", "pipe.size")
    ]
    pipe.last()
    with_constant = load(
        read % 1000 + define("size", "return 1", "", "") + define("last", "return 0", "rows=read, size=size")
    )
    Path("in.csv").write_text("a\n3\n")
    assert [step.action for step in with_constant.last.explain()] == ["runs", "may run", "may run"]
    Path("in.csv").write_text("a\n1\n")
    pipe = load(read % 1000 + size + last)
    assert pipe.last.explain()[1] == ("pipe.size", "skipped", "no stage that runs needs its result")
    Path("in.csv").write_text("a\n1\n2\n")
    assert pipe.read.explain() == [("pipe.read", "runs", "a raw file changed")]
    pipe.read()
    assert [step[1:] for step in pipe.last.explain()] == [
        ("kept", "its inputs have not changed"),
        ("runs", "its result is not kept"),
        ("runs", "an ancestor's result changed"),
    ]
    assert load(read % 1e-9 + size + last).read.explain() == [("pipe.read", "runs", "its result expired")]


def test_pickles_do_not_cut_off():
    """Equal pickles may be different values, because a pickle names classes but does not contain their code."""
    text = (
        "class A:\n    def m(self): return %d\n"
        + define("one", "return A()")
        + define("two", FRAME % "[x.m()]", "x=one")
    )
    assert [load(text % n).two().a[0] for n in (1, 1, 2)] == [1, 1, 2]
    assert pop_runs() == "one one two two"
    gc(max_bytes=0)
    pipe = load(text % 2)
    pipe.two()
    assert pop_runs() == "one two"  # the value of one is needed
    next(Path(".partd_stages/pipe.one").glob("*.pickle")).unlink()
    load(text % 2).two()  # the pickle was removed without gc, which keeps hashes
    assert pop_runs() == "one"


def test_removed_pickle_is_not_needed():
    pipe = load(define("one", "return {1}") + define("two", FRAME % "[1]", "x=one"))
    pipe.two()
    os.utime(next(Path(".partd_stages/pipe.one").iterdir()), (0, time.time() - 100))
    assert [kept.stage for kept in gc(max_bytes=next(Path(".partd_stages/pipe.two").iterdir()).stat().st_size)] == [
        "pipe.one"
    ]
    pop_runs()
    pipe.two()
    assert pop_runs() == ""


RANDOM = (
    define("one", FRAME % "[random.random()]", "", "cache=True%s")
    + define("left", "return rows", "rows=one")
    + define("right", "return rows", "rows=one")
)
RANDOM += define("last", FRAME % "[*left.a, *right.a]", "left=left, right=right")


def test_result_that_differs_when_computed_again():
    """If a removed result is computed again during a run and differs, the run uses only results that depend on the new
    one."""
    pipe = load(RANDOM % "")
    first = pipe.last()
    one = next(Path(".partd_stages/pipe.one").iterdir())
    gc(max_bytes=0)
    pipe.right.function.__globals__["random"].seed(1)
    pop_runs()
    assert len(set(pipe.right().a)) == 1 and pop_runs() == "one right"
    gc(max_bytes=0)
    last = pipe.last()
    assert len({*last.a}) == 1 and last.a[0] != first.a[0] and not one.exists()
    assert pop_runs().count("one") == 1
    assert pipe.last().equals(last) and pop_runs() == ""


def test_result_that_always_differs(monkeypatch):
    """If every attempt finds another result, the call fails instead of mixing results."""
    pipe = load(RANDOM % "")
    pipe.last()
    read = partd_go.stage.files.Directory.read

    def remove_before_read(self, kept, format):
        if kept.stage == "pipe.one":
            self.remove(kept, keep_hash=True)
        return read(self, kept, format)

    monkeypatch.setattr(partd_go.stage.files.Directory, "read", remove_before_read)
    changed = load((RANDOM % "").replace("[*left.a", "[2, *left.a").replace("return rows", "return rows * 2"))
    with pytest.raises(RuntimeError, match="a result of its ancestors changed in each of 10 attempts"):
        changed.last()


def test_ttl():
    """When a result expires, later stages run again only if the new result differs."""
    pipe = load(
        define("one", "return pandas.read_csv('in.csv')", "", "cache=True, ttl=0.01")
        + define("two", "return rows", "rows=one")
    )
    for text, runs in (("a\n1\n", "one two"), ("a\n1\n", "one"), ("a\n2\n", "one two")):
        Path("in.csv").write_text(text)
        assert list(pipe.two().a) == [int(text[2])] and pop_runs() == runs
        time.sleep(0.02)


@pytest.mark.parametrize("moment", ["os.utime", "os.replace", "os.unlink"])
def test_killed_while_removing(moment):
    """A process that is killed while it removes a result leaves the result, its hash, or both."""
    pipe = load(define("one", FRAME % "[1]") + define("two", "return rows", "rows=one"))
    pipe.two()
    pop_runs()
    program = (
        f"import os\nfrom partd_go.stage import gc\n{moment} = lambda *_: os.kill(os.getpid(), 9)\ngc(max_bytes=0)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], env=child_env()).returncode == -9
    assert list(pipe.two().a) == [1] and pop_runs() == ""
    assert sorted(kept.why for kept in gc(max_bytes=0) if "killed" not in kept.why) == ["over max_bytes"] * 2
    assert [path.suffix for path in Path(".partd_stages").rglob("*") if path.is_file()] == [".removed"] * 2
    assert list(pipe.two().a) == [1] and pop_runs() == "one two"


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_files_are_deterministic(directory, format):
    """Each process writes the same bytes for the same result."""
    body = "return pandas.DataFrame({'b': [0.1, None, 2], 's': ['x', 'NA', 'ä']%s})"
    body %= (
        ""
        if format == "csv"
        else ", 'a': pandas.Categorical([*'xyx']), 't': pandas.date_range('2024', periods=3, tz='Europe/Oslo')"
    )
    load(define("s9", body, "", f"cache=True, format='{format}'"))
    hashes = set()
    for seed in "12":
        os.environ["PYTHONHASHSEED"] = seed
        in_new_process()
        hashes |= {path.name.split(".")[2] for path in Path(".partd_stages/pipe.s9").iterdir()}
        gc(max_bytes=0)
        [path.unlink() for path in Path(".partd_stages/pipe.s9").iterdir()]
    del os.environ["PYTHONHASHSEED"]
    assert len(hashes) == 1 and len(hashes.pop()) == 64 and pop_runs() == "s9 s9"


def test_hash_depends_on_format():
    """The same bytes in another format are another result."""
    text = (
        "class A: pass\n"
        + define("one", FRAME % "[1]", "", "cache=True, format='%s'")
        + define("two", "return rows", "rows=one")
    )
    for format in ("csv", "parquet"):
        assert list(load(text % format).two().a) == [1] and pop_runs() == "one two"
    assert stage(lambda: 1).explain()[0].action == "runs"

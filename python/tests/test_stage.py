"""Tests which stages run, which results are kept, and the effects of changes, failures and kills."""

from __future__ import annotations

import datetime
import errno
import importlib
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from pipelines import child_env, directory, load, pop_runs, record_run  # noqa: F401

import partd_go.stage

pd, np = pytest.importorskip("pandas"), pytest.importorskip("numpy")
CASES = Path(__file__).parent.parent.parent / "tables" / "stage" / "testdata" / "cases.py"


PIPE = (
    "@stage(raw='in.csv', cache=True, format='parquet')\ndef one(raw):\n"
    + record_run("one")
    + "    return pandas.read_csv(raw)\n"
    "@stage(rows=one)\ndef two(rows):\n" + record_run("two") + "    rows['b'] = rows.a * 2\n    return rows\n"
    "@stage(rows=one, cache=True)\ndef three(rows):\n" + record_run("three") + "    return rows\n"
    "@stage\ndef four():\n" + record_run("four") + "    return 4\n"
    "@stage(x=two, y=three, z=four)\ndef last(**all):\n"
    + record_run("last")
    + "    return list(all['x'].columns), list(all['y'].columns), all['z']\n"
)


def test_pipeline(directory):
    Path("in.csv").write_text("a\n1\n")
    pipe = load(PIPE)
    assert pipe.last() == (["a", "b"], ["a"], 4)  # the stage three does not see the column that the stage two adds
    assert pop_runs() == "four last one three two"
    assert pipe.last() == (["a", "b"], ["a"], 4)
    assert pop_runs() == "four last two"
    assert sorted(p.name for p in (directory / ".partd_stages").iterdir()) == ["pipe.one", "pipe.three"]
    Path("in.csv").write_text("a\n2\n")
    pipe.three()
    assert pop_runs() == "one three"
    assert pipe.one.__name__ == "one" and len(pipe.one.key()) == 64 and pipe.one.key() != pipe.three.key()


def test_cache_directories(directory, monkeypatch):
    text = "@stage(cache=True%s)\ndef one():\n    return pandas.DataFrame({'a': [1]})\n"
    load(text % ", cache_dir='own'").one()
    monkeypatch.setenv("PARTD_STAGES", "env")
    load(text % "").one()
    partd_go.stage.set_directory("set")
    try:
        load(text % ", cache_format='pickle'").one()
    finally:
        partd_go.stage.set_directory(None)
    assert {str(p.parent) for p in directory.rglob("pipe.one/*.*") for p in [p.relative_to(directory)]} == {
        "own/pipe.one",
        "env/pipe.one",
        "set/pipe.one",
    }
    assert [p.suffix for p in Path("set/pipe.one").iterdir()] == [".pickle"]


@pytest.mark.parametrize("format", ["csv", "parquet", "pickle", "json", "feather", "orc"])
def test_formats(format):
    pipe = load(
        (
            f"@stage(cache=True, format='{format}')\ndef one():\n"
            f"{record_run('one')}    return pandas.DataFrame({{'a': [1, 2]}})\n"
        )
    )
    for _ in range(2):
        assert list(pipe.one().a) == [1, 2]
    assert pop_runs() == "one"


DAY = datetime.date(2024, 1, 1)
COLUMNS = {
    "codes": ["NA", "GB"],
    "digits": ["00501", "1"],
    "dates": [DAY, DAY],
    "times": pd.to_datetime(["2024-01-01", "2024-01-02"]),
    "int8": pd.array([1, 2], "int8"),
    "Int64": pd.array([1, None], "Int64"),
    "large": [2**53 + 1, 1],
    "floats": [0.1 + 0.2, 1e-320],
    "bools": pd.Series([True, None], dtype=object),
    "mixed": pd.Series([1, True], dtype=object),
    "empty": ["", "x"],
    "lists": [[0.1 + 0.2], [1 / 3]],
    "category": pd.Categorical(["b", "a"], ["b", "a"]),
    "numpy": pd.Series([np.int64(1), np.str_("x")], dtype=object),
}
FRAMES = {name: pd.DataFrame({"v": values}) for name, values in COLUMNS.items()}
FRAMES |= {
    "index": FRAMES["codes"].set_axis(["x", "y"]),
    "labels": FRAMES["large"].set_axis([7], axis=1),
    "index_of_times": FRAMES["large"].set_axis(COLUMNS["times"]),
}
for name, attrs in (("attrs", {"unit": "m"}), ("tuple in attrs", {"size": (1, 2)})):
    FRAMES[name] = FRAMES["large"].copy()
    FRAMES[name].attrs = attrs
EXACT = {
    "csv": "codes large floats index",
    "json": "codes large empty index labels index_of_times",
    "parquet": FRAMES.keys() - {"mixed", "numpy", "tuple in attrs"},
    "pickle": FRAMES,
    None: FRAMES,
}


def take(name):
    return FRAMES[name]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "format", [None, "csv", "json", "feather", "orc", "excel", "xml", "stata", "hdf", "parquet", "pickle"]
)
def test_formats_keep_or_refuse(directory, format):
    """A result comes back with its values and types, or is refused with the stage's name."""

    def signature(rows):
        columns = [rows.v if "v" in rows else rows[7], rows.index, rows.columns]
        return [
            (str(column.dtype), [*map(repr, column.tolist())], [*map(type, column.tolist())]) for column in columns
        ], rows.attrs

    cached, kept = partd_go.stage.stage(cache=True, format=format)(take), []
    for name, rows in FRAMES.items():
        try:
            assert [signature(cached(name)) for _ in range(2)] == [signature(rows)] * 2, name
            kept.append(name)
        except ImportError as error:
            pytest.skip(str(error))
        except partd_go.Misuse as error:
            assert "test_stage.take: its result cannot be kept as" in str(error)
    expected = EXACT.get(format, kept)
    assert {*kept} == {*(expected.split() if isinstance(expected, str) else expected)} and kept


@pytest.mark.parametrize(
    "rows",
    [
        "pl.DataFrame({'a': [1]}, {'a': pl.Int8})",
        "pl.DataFrame({'a': [{1}]}, {'a': pl.Object})",
        "pa.table({'a': [b'x']}, metadata={'k': 'v'})",
        "{'a': {1: (2.0, None)}}",
    ],
)
def test_other_libraries(rows):
    """Tables that are not of pandas come back equal as a pickle, and are refused in every other format."""
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    want = eval(rows, {"pl": pl, "pa": pa})
    text = f"import polars as pl, pyarrow as pa\n@stage(cache=True%s)\ndef one(): return {rows}\n"
    for format in ("csv", "parquet", "feather"):
        with pytest.raises(TypeError, match=f"one returned a {type(want).__name__}: return a pandas DataFrame"):
            load(text % f", format='{format}'").one()
    if "Object" in rows:
        with pytest.raises(partd_go.Misuse, match="one returned a DataFrame, which cannot be pickled"):
            load(text % "").one()
        return
    for _ in range(2):
        got = load(text % "").one()
        assert got == want if isinstance(want, dict) else got.equals(want) and got.schema == want.schema
    if isinstance(want, pa.Table):
        assert got.schema.metadata == want.schema.metadata


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"garbage" * 50),
    "one bit": lambda path: path.write_bytes(
        bytes(b ^ (i == path.stat().st_size // 2) for i, b in enumerate(path.read_bytes()))
    ),
    "swapped": lambda path: path.write_bytes(next(path.parent.parent.glob("pipe.other/*.*")).read_bytes()),
    "renamed": lambda path: next(path.parent.parent.glob("pipe.other/*.*")).rename(path),
    "deleted": lambda path: path.unlink(),
}


@pytest.mark.parametrize("format", ["parquet", "pickle", "csv", "json", "feather"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_result(directory, format, damage):
    """A damaged result is computed again, with one warning that names the stage and the file."""
    body = "@stage(cache=True, format='%s')\ndef %s():\n%s    return pandas.DataFrame({'a': range(%d)})\n"
    pipe = load("".join(body % (format, name, record_run(name), rows) for name, rows in (("one", 100), ("other", 101))))
    assert (pipe.one().a.sum(), pipe.other().a.sum()) == (4950, 5050) and pop_runs() == "one other"
    (path,) = directory.rglob("pipe.one/*.*")
    DAMAGES[damage](path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [pipe.one().a.sum() for _ in range(3)] == [4950] * 3 and pop_runs() == "one"
    assert [str(path) in str(w.message) and "pipe.one" in str(w.message) for w in caught] == [True] * (
        damage != "deleted"
    )


def test_damage_as_error(directory):
    """A warning about a damaged result that is an error does not come again."""
    pipe = load("@stage(cache=True)\ndef one(): return pandas.DataFrame({'a': range(100)})\n")
    pipe.one()
    (path,) = directory.rglob("pipe.one/*.*")
    path.write_bytes(b"garbage")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="damaged"):
            pipe.one()
        assert pipe.one().a.sum() == 4950


@pytest.mark.parametrize("code, survives", [("EMFILE", True), ("EACCES", True), ("ESTALE", True), ("EIO", False)])
def test_unreadable_result(directory, monkeypatch, code, survives):
    """Only an error of the disk is damage: other errors of the system leave the result."""
    pipe = load("@stage(cache=True)\ndef one(): return pandas.DataFrame({'a': range(100)})\n")
    pipe.one()
    (path,) = directory.rglob("pipe.one/*.*")

    def fail(*_):
        raise OSError(getattr(errno, code), code)

    with monkeypatch.context() as patch:
        patch.setattr("partd_go.stage.files.open", fail, raising=False)
        with pytest.raises(OSError, match=code) if survives else pytest.raises(RuntimeWarning, match="damaged"):
            pipe.one()
    assert path.exists() == survives
    assert pipe.one().a.sum() == 4950


@pytest.mark.parametrize(
    "body, suffix",
    [
        (
            (
                "pandas.DataFrame({'a': ['007', 'NA', None], 'b': "
                "pandas.to_datetime(['2024-01-01'] * 3)}, index=[2, 0, 1])"
            ),
            "parquet",
        ),
        ("pandas.Series(['007', 'NA'], name='s')", "parquet"),
        ("pandas.DataFrame({'a': [1j]})", "pickle"),
        ("pandas.DataFrame({'a': [{1}, [2]]})", "pickle"),
        ("{'a': 1}", "pickle"),
    ],
)
def test_default_keeps_values(directory, body, suffix):
    pipe = load(f"@stage(cache=True)\ndef one():\n{record_run('one')}    return {body}\n")
    want = eval(body, {"pandas": pd})
    for _ in range(2):
        got = pipe.one()
        assert type(got) is type(want) and (
            got.equals(want) if suffix == "parquet" or isinstance(want, pd.DataFrame) else got == want
        )
    assert pop_runs() == "one"
    assert [p.suffix for p in (directory / ".partd_stages" / "pipe.one").iterdir()] == ["." + suffix]


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can give files to other users")
def test_pickle_of_another_user(directory):
    pipe = load("@stage(cache=True)\ndef one():\n    return {1}\n")
    assert pipe.one() == {1}
    (kept,) = (directory / ".partd_stages" / "pipe.one").iterdir()
    os.chown(kept, 12345, -1)
    with pytest.raises(PermissionError, match="format='pickle'"):
        pipe.one()


def test_pickle_replaced_after_check(directory, monkeypatch):
    """A stage reads the pickle that it has checked, even if another user replaces it in the meantime."""
    pipe = load("@stage(cache=True)\ndef one():\n    return {1}\n")
    pipe.one()
    (kept,) = (directory / ".partd_stages" / "pipe.one").iterdir()
    checksum = partd_go.stage.files._checksum

    def replace(file, key):
        pd.to_pickle({2}, directory / "other.pickle")
        os.replace(directory / "other.pickle", kept)
        return checksum(file, key)

    monkeypatch.setattr(partd_go.stage.files, "_checksum", replace)
    assert pipe.one() == {1}


@pytest.mark.parametrize(
    "options, body, error, message",
    [
        ("x=3", "0", TypeError, "x has type int"),
        ("cache=True, format='no'", "0", ValueError, "to_no"),
        ("cache=True, format='csv'", "pandas.Series([1])", TypeError, "returned a Series"),
        ("cache=True, format='parquet'", "3", TypeError, "returned a int"),
        ("cache=True, format='parquet'", "pandas.DataFrame({'a': [1j]})", TypeError, "column a of type complex128"),
        ("cache=True, format='html'", "pandas.DataFrame({'a': [1]})", (ValueError, ImportError), ""),
        ("cache=True, format='json'", "pandas.DataFrame({'a': [1], 2: [3]})", ValueError, "read back differs"),
        (
            "cache=True, format='clipboard'",
            "pandas.DataFrame({'a': [1]})",
            ValueError,
            "for files: pass format='csv', 'parquet' or 'pickle'",
        ),
        ("raw='none.csv'", "0", FileNotFoundError, "none.csv"),
        ("raw=Path('none.csv')", "0", FileNotFoundError, "none.csv"),
        ("cache=True", "1 / 0", ZeroDivisionError, ""),
        ("cache=True", "lock", TypeError, "lock is a lock, which cannot be hashed"),
        ("cache=True, cache_dir='s3://bucket/stages'", "0", ValueError, "a directory on this machine"),
        ("cache=True, cache_dir=Path('s3://bucket/stages')", "0", ValueError, "a directory on this machine"),
        ("raw='in.csv', cache=True", "Path('in.csv').write_text('longer')", RuntimeError, "the result is not kept"),
    ],
)
def test_errors(directory, options, body, error, message):
    Path("in.csv").write_text("a")
    with pytest.raises(error, match=message or None):
        load(f"import threading\nlock = threading.Lock()\n@stage({options})\ndef one(**_):\n    return {body}\n").one()
    assert not [p for p in directory.rglob(".partd_stages/*/*")] and not Path("s3:").exists()


HELPED = """{decorated}
def helper(x):
    {doc}return inner(x)
factor = {factor}
table = {{'b': {{1, 2}}, 'a': [3.5, {item}]}}
class Adds:
    {classdoc}
    more = {more}
    def add(self, x):
        return x + self.more + table['a'][1]
def inner(x):
    return Adds().add(x) * factor + helpers.away(x)
def made(n):
    @stage(cache=True)
    def one(x={default}):
        '''{doc2}'''
        with open('ran', 'a') as f:
            f.write('one ')
        g = lambda: {body}
        return pandas.DataFrame({{'a': [helper(x) + n + g()]}})
    return one
one = made({closure})
"""
DEFAULTS = dict(
    decorated="", doc="", factor=2, item=1, classdoc="'''Adds.'''", more=1, default=1, doc2="One.", body="1", closure=1
)


@pytest.mark.parametrize(
    "change, reruns",
    [
        ({}, False),
        ({"doc": "'''Helps.'''\n    # so\n    "}, False),
        ({"classdoc": "'''Other.'''"}, False),
        ({"doc2": "Two."}, False),
        ({"decorated": "\n\n# far below\n\n"}, False),
        ({"factor": 3}, True),
        ({"factor": True}, True),
        ({"item": 2}, True),
        ({"more": 2}, True),
        ({"default": 2}, True),
        ({"body": "2"}, True),
        ({"closure": 2}, True),
        ({"away": "x + 1"}, True),
        ({"far": 2}, True),
        ({"unused": 2}, False),
    ],
)
def test_code_changes(change, reruns):
    counts = []
    for values in ({}, change):
        values = {"away": "x", "far": 1, "unused": 1, **DEFAULTS, **values}
        Path("helpers.py").write_text(
            "far = {far}\nunused = {unused}\ndef away(x): return far * ({away})\n".format(**values)
        )
        load("import helpers\n" + HELPED.format(**values)).one()
        counts.append(pop_runs())
    assert counts == ["one", "one" if reruns else ""]


def test_recursive_and_methods():
    text = (
        "class A:\n    @staticmethod\n    def s(): return b()\n    @property\n"
        "    def p(self): return %d\n    @classmethod\n    def c(cls): return cls.s()\n"
    )
    text += "def b(n=0): return b(n + 1) if n < 2 else A().p\n@stage\ndef one(): return A.c()\n"
    one, same, other = (load(text % n).one for n in (1, 1, 2))
    assert (one(), other()) == (1, 2)
    assert one.key() == same.key() != other.key()


def test_decorated():
    """The hash of a decorated function includes the wrapped function."""
    text = (
        "import functools\ndef adds(n):\n    def wrap(f):\n"
        "        return functools.wraps(f)(lambda: f() + n)\n    return wrap\n"
    )
    text += (
        "@adds(%d)\ndef a(): return %d\n@functools.lru_cache\ndef b(): return %d\n@stage\ndef one(): return a() + b()\n"
    )
    text += "@stage\ndef two(): return one()\n"
    pipes = [load(text % n) for n in ((1, 1, 1), (1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2))]
    assert [p.two() for p in pipes] == [3, 3, 4, 4, 4]
    for name in ("one", "two"):
        keys = [getattr(p, name).key() for p in pipes]
        assert keys[0] == keys[1] and len(set(keys)) == 4


def test_without_source():
    """Functions that exec creates have no source, so their keys depend on the bytecode."""
    keys = []
    for body in (
        "'''One.'''\n    return 1",
        "'''Two.'''\n    return 1",
        "'''Two.'''\n\n    # so\n    return 1",
        "'''Two.'''\n    return 2",
    ):
        names = {"__name__": "made"}
        exec("from partd_go.stage import stage\n@stage\ndef one():\n    " + body, names)
        keys.append(names["one"].key())
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_source_changed_after_load():
    """The key depends on the loaded code, even if the file has changed since."""
    one = load("@stage\ndef one(): return 1\n").one
    Path("pipe.py").write_text(Path("pipe.py").read_text().replace("1", "2"))
    assert one() == 1
    assert one.key() != load("@stage\ndef one(): return 2\n").one.key()
    assert one.key() == load("@stage\ndef one(): return 1\n").one.key()


SLOW = (
    "import time\n@stage(cache=True, format='%s')\ndef one():\n"
    + record_run("one")
    + "    while Path('hold').exists():\n        time.sleep(0.01)\n    return pandas.DataFrame({'a': range(10000)})\n"
)


def start():
    program = "import pipe; print(len(pipe.one()))"
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=child_env())


@pytest.mark.parametrize("killed", [False, True])
def test_processes(directory, killed):
    load(SLOW % "csv")
    Path("hold").touch()
    first = start()
    deadline = time.monotonic() + 120
    while not (Path("ran").exists() and Path("ran").read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
    others = [start(), start()]
    if killed:
        first.kill()
    Path("hold").unlink()
    for process in others:
        assert process.communicate(timeout=120)[0] == "10000\n"
    first.communicate(timeout=120)
    assert pop_runs() == ("one one" if killed else "one")
    assert [p.suffix for p in (directory / ".partd_stages" / "pipe.one").iterdir()] == [".csv"]


def test_kills(directory):
    """A process that is killed at any moment leaves no partial result. PARTD_KILLS is the number of kills."""
    for i in range(int(os.environ.get("PARTD_KILLS", "3"))):
        load(f"#{i}\n" + SLOW.replace("range(", f"range({i}, {i} + ") % ("csv", "parquet", "pickle")[i % 3])
        process = start()
        while process.poll() is None and not Path("ran").exists():
            time.sleep(0.001)
        time.sleep(i % 20 / 1000)
        process.kill()
        process.communicate(timeout=120)
        assert len(importlib.import_module("pipe").one()) == 10000
        pop_runs()
    assert not [p for p in (directory / ".partd_stages").rglob(".*")]


def test_cases():
    """partd_go.stage passes the cases that lwdp fails. The tests of the tables module run the same cases with lwdp."""
    path = {**os.environ, "PYTHONPATH": str(Path(partd_go.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(CASES), "partd_go.stage"],
        env=path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert len(done.stdout.splitlines()) > 10 and all(line.endswith(": right") for line in done.stdout.splitlines()), (
        done
    )


def test_flock_without_effect(directory, monkeypatch):
    """A stage fails if flock succeeds but locks nothing."""
    import fcntl

    monkeypatch.setattr(fcntl, "flock", lambda file, operation: None)
    pipe = load("@stage(cache=True)\ndef one():\n    return pandas.DataFrame({'a': [1]})\n")
    with pytest.raises(partd_go.Unsupported, match=r"\.lock: flock excludes no other process on this file system"):
        pipe.one()

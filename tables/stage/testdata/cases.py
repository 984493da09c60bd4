"""Tests how changes affect a pipeline, with the decorator "stage" of the named module. It prints "right" or "wrong" for each case."""

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas

name = sys.argv[1]
top = Path(tempfile.mkdtemp())
sys.path.insert(0, str(top))
os.environ["PYTHONPATH"] = os.pathsep.join([str(top), os.environ.get("PYTHONPATH", "")])
sys.dont_write_bytecode = True
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def write(path, text, time=1_000_000_000):
    path.write_text(text)
    os.utime(path, (time, time))


def load(module, text):
    """Imports a module with new source."""
    sys.modules.pop(module, None)
    (top / f"{module}.py").write_text(f"import os, signal, pandas\nfrom {name} import stage\n" + text)
    importlib.invalidate_caches()
    return importlib.import_module(module)


def runs(home):
    return (home / "ran").read_text() if (home / "ran").exists() else ""


NOTE = 'with open(os.environ["HOME"] + "/ran", "a") as f: f.write("%s")'
RAW = '@stage(raw="raw.csv", cache=True)\ndef one(raw):\n    ' + NOTE % "1" + "\n"
ONE = "@stage(cache=True)\ndef one(%s):\n    " + NOTE % "1" + "\n"
FRAME = "    return pandas.DataFrame({'a': [%s]})\n"


def value(frame):
    return list(frame["a"])


def first_use(home):
    (home / ".lwdp_cache").rmdir()
    return value(load("m", ONE % "" + FRAME % "1").one()) == [1]


def both(before, after, same=False):
    """Returns a case that runs the code before, and then the code after. It succeeds if the result is that of after, and if the
    stage ran again only if the code changed."""

    def case(home):
        load("m", ONE % "" + before).one()
        again = value(load("m", ONE % "" + after).one())
        sys.modules.pop("m")
        globals_ = {"pandas": pandas}
        exec("def one():\n" + after.partition("HELPER")[0].replace("twice(", "(lambda x: 3 * x)("), globals_)
        return again == value(globals_["one"]()) and runs(home) == ("1" if same else "11")

    return case


def helper(home):
    for factor in (2, 3):
        got = value(load("m", f"def twice(x):\n    return x * {factor}\n" + ONE % "" + FRAME % "twice(1)").one())
    return got == [3]


def constant(home):
    for factor in (2, 3):
        got = value(load("m", f"factor = {factor}\n" + ONE % "" + FRAME % "factor").one())
    return got == [3]


def argument(home):
    m = load("m", ONE % "x" + FRAME % "x")
    return [value(m.one(x)) for x in (1, 2)] == [[1], [2]]


def raw(text, time, same):
    def case(home):
        write(Path("raw.csv"), "a\n1\n")
        m = load("m", RAW + "    return pandas.read_csv(raw)\n")
        m.one()
        write(Path("raw.csv"), text, time)
        return value(m.one()) == [int(text.split()[1])] and runs(home) == ("1" if same else "11")

    return case


def as_computed(home):
    m = load("m", ONE % "" + FRAME % "1, 2")
    return m.one().equals(m.one())


def shared(home):
    one, above = ONE % "" + FRAME % "1", ["@stage(x=one)\ndef %s(x):\n    return x\n" % n for n in "bc"]
    load("m", one.replace("cache=True", "") + "".join(above) + "@stage(b=b, c=c)\ndef last(b, c):\n    return b\n").last()
    return runs(home) == "1"


def killed(home):
    rows = "'a': range(200_000)"
    text = ONE % "" + "    frame = pandas.DataFrame({%s, 'b': [Last()] * 200_000})\n    return frame\n" % rows
    # Writing the middle row kills the process.
    text = "class Last:\n    n = 0\n    def __str__(self):\n        Last.n += 1\n        if Last.n == 150_000 and os.environ.get('KILL'):\n            os.kill(os.getpid(), 9)\n        return 'b'\n" + text
    m = load("m", text)
    subprocess.run([sys.executable, "-c", "import m; m.one()"], env={**os.environ, "KILL": "1"}, capture_output=True)
    return len(m.one()) == 200_000


CASES = {
    "nothing": both(FRAME % "1", FRAME % "1", same=True),
    "a number in the code": both(FRAME % "1", FRAME % "2"),
    "nothing: this is the first run": first_use,
    "the indentation of a line": both(
        "    n = 0\n    for i in range(2):\n        n += 1\n        n += 1\n" + FRAME % "n",
        "    n = 0\n    for i in range(2):\n        n += 1\n    n += 1\n" + FRAME % "n",
    ),
    "a space in a string": both(FRAME % "'a b'", FRAME % "'ab'"),
    "code between docstrings": both(
        '    """One."""\n    n = 1\n    def two():\n        """Two."""\n' + FRAME % "n",
        '    """One."""\n    n = 2\n    def two():\n        """Two."""\n' + FRAME % "n",
    ),
    "a function that the stage calls": helper,
    "a global variable that the stage uses": constant,
    "an argument of the call": argument,
    "a comment": both(FRAME % "1", "    # one\n" + FRAME % "1", same=True),
    "only the modification time of a raw file": raw("a\n1\n", 1_000_000_001, same=True),
    "a byte of a raw file, but not its modification time": raw("a\n2\n", 1_000_000_000, same=False),
    "nothing: the stored result is read": as_computed,
    "nothing: two stages share an ancestor": shared,
    "nothing: the process was killed while it stored the result": killed,
}

for case, right in CASES.items():
    home = Path(tempfile.mkdtemp(dir=top))
    os.chdir(home)
    os.environ["HOME"] = str(home)
    (home / ".lwdp_cache").mkdir()
    try:
        ok = right(home)
    except Exception as error:
        print(f"{case}: {error!r}", file=sys.stderr)
        ok = False
    print(f"{case}: {'right' if ok else 'wrong'}", flush=True)

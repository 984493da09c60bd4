"""Tests that the key of a stage includes all code that it reaches through objects, modules and other stages."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from pipelines import child_env, directory  # noqa: F401

REACHED = {
    "a partial": "g = functools.partial(f, 1)\nuse = lambda: g()",
    "an attribute of an object": "held = types.SimpleNamespace(g=f)\nuse = lambda: held.g(1)",
    "a function in a mapping": "held = types.MappingProxyType({'g': f})\nuse = lambda: held['g'](1)",
    "the factory of a defaultdict": "held = collections.defaultdict(functools.partial(f, 1))\nuse = lambda: held[1]",
    "an argument of a partial": "held = functools.partial(map, f)\nuse = lambda: list(held([1]))[0]",
    "a method of a subclass of dict": (
        "class A(dict):\n    def m(self): return f(1)\nheld = A(a=1)\nuse = lambda: held.m()"
    ),
    "a method of a subclass of str": (
        "class A(str):\n    def m(self): return f(1)\nheld = A('a')\nuse = lambda: held.m()"
    ),
    "a method of an enum": (
        "class A(enum.IntEnum):\n    X = 1\n    def m(self): return f(1)\nheld = A.X\nuse = lambda: held.m()"
    ),
    "a method of a tuple": (
        "class A(typing.NamedTuple):\n    a: int = 1\n    def m(self): return f(1)\nheld = A()\nuse = lambda: held.m()"
    ),
    "a method of a dataclass": (
        "@dataclasses.dataclass\nclass A:\n    a: int = 1\n    def m(self): return f(1)\nuse = lambda: A().m()"
    ),
    "a default of a dataclass": "@dataclasses.dataclass\nclass A:\n    a: int = f(1)\nuse = lambda: A().a",
    "a cached property": "class A:\n    @functools.cached_property\n    def p(self): return f(1)\nuse = lambda: A().p",
    "a metaclass": "class M(type):\n    def m(cls): return f(1)\nclass A(metaclass=M): pass\nuse = lambda: A.m()",
    "an implementation of a singledispatch function": (
        "@functools.singledispatch\ndef g(x): return 0\ng.register(int, lambda x: f(x))\nuse = lambda: g(1)"
    ),
    "another stage's file": (
        "Path('in.csv').write_text(str(f(1)))\n@stage(raw='in.csv')\n"
        "def g(raw): return int(Path(raw).read_text())\nuse = lambda: g()"
    ),
    "another stage's ancestor": "above = stage(lambda: f(1))\n@stage(x=above)\ndef g(x): return x\nuse = lambda: g()",
    "a function in a set that it uses": "held = set()\ndef use(): return len(held) and f(1)\nheld.add(use)",
    "a function in a set": "held = {functools.partial(f, 1)}\ndef use(): return [g() for g in held][0]",
    "an import after many names": "def use():\n    if 0: "
    + "; ".join(f"name{n}" for n in range(300))
    + "\n    import helpers as h\n    return h.away(1)",
    "an import inside a function": "def use():\n    import helpers\n    return helpers.away(1)",
    "an import of a name inside a nested function": (
        "def use():\n    def g():\n        from helpers import away as a\n        return a(1)\n    return g()"
    ),
    "a module in a list": "import helpers\nheld = [helpers]\ndef use(): return held[0].away(1)",
    "attributes of a function": "def g(): return g.k\ng.k = f(1)\nuse = lambda: g()",
    "a function that wraps a library's function": (
        "import json\n@functools.wraps(json.dumps)\ndef g(x): return f(x)\nuse = lambda: g(1)"
    ),
    "a decorator that is a class": (
        "class D:\n    def __init__(self, g): functools.update_wrapper(self, g)\n"
        "    def __call__(self, x): return f(x)\n"
        "@D\ndef g(x): return 0\nuse = lambda: g(1)"
    ),
    "an attribute of a decorator that is a class": (
        "class D:\n    def __init__(self, g): functools.update_wrapper(self, g); self.k = f(1)\n"
        "    def __call__(self): return self.k\n@D\ndef g(): return 0\nuse = lambda: g()"
    ),
    "a module as a class attribute": "import helpers\nclass A:\n    h = helpers\ndef use(): return A.h.away(1)",
}
MODULE = (
    "import collections, dataclasses, enum, functools, types, typing\nfrom pathlib import Path\nfrom partd_go.stage "
    "import stage\n"
    "def f(x): return x + {n}\n{text}\n@stage\ndef one(): return use()\n"
)


def load(text, n):
    for name in ("pipe", "helpers"):
        sys.modules.pop(name, None)
    Path("helpers.py").write_text(f"def away(x): return x + {n}\n")
    Path("pipe.py").write_text(MODULE.format(n=0 if "helpers" in text else n, text=text))
    importlib.invalidate_caches()
    return importlib.import_module("pipe").one


@pytest.mark.parametrize("name", REACHED)
def test_key_depends_on_reachable_code(name):
    keys = []
    for n in (1, 1, 2):
        one = load(REACHED[name], n)
        keys.append(one.key())
        assert one() == 1 + n
    assert keys[0] == keys[1] != keys[2]


def test_global_named_like_an_attribute():
    """A key does not depend on a global variable with the name of an attribute, which need not be picklable."""
    text = "import threading\nheld = types.SimpleNamespace(total=1)\nuse = lambda: held.total\ntotal = {}"
    keys = [load(text.format(value), 1).key() for value in ("1", "2", "threading.Lock()")]
    assert keys == keys[:1] * 3


def test_order_of_sets():
    """A key is the same in each process, although each iterates sets in a different order."""
    load(
        (
            "class A: pass\nheld = A()\nheld.names = {*'abcdef'}\n"
            'exec(\'def g(x): return x in {*()} or x in {"a", "b", "c"}\')\ndef use(): return g(held)'
        ),
        1,
    )
    run = [sys.executable, "-c", "import pipe; print(pipe.one.key())"]
    keys = [
        subprocess.run(run, env={**child_env(), "PYTHONHASHSEED": s}, check=True, capture_output=True).stdout
        for s in "1234"
    ]
    assert len(set(keys)) == 1


def test_modules_that_import_each_other():
    """For each function, a module is hashed only once, however many import paths lead to it."""
    names = [f"m{n}" for n in range(12)]
    for name in names:
        Path(f"{name}.py").write_text("\n".join(f"import {other}" for other in names) + f"\ndef f_{name}(): return 1\n")
    text = f"import {', '.join(names)}\ndef use(): return {' + '.join(f'{n}.f_{n}()' for n in names)}"
    assert len(load(text, 1).key()) == 64
    for name in names:
        del sys.modules[name]


def test_packages_of_system_and_users(monkeypatch):
    """Installed packages are hashed only by name and version, wherever they are installed."""
    directory = Path("lib", "dist-packages")
    directory.mkdir(parents=True)
    (directory / "away_package.py").write_text(
        "import threading\n__version__ = '1'\nlock = threading.Lock()\ndef use():\n    with lock: return 1\n"
    )
    monkeypatch.syspath_prepend(str(directory.absolute()))
    monkeypatch.delitem(sys.modules, "away_package", raising=False)
    assert load("from away_package import use", 1)() == 1


@pytest.mark.parametrize(
    "text",
    [
        "import bare.mod as m\nuse = lambda: m.away(1)",
        "import bare.mod\nuse = lambda: bare.mod.away(1)",
        "from bare import mod as m\nuse = lambda: m.away(1)",
        "def use():\n    from bare import mod\n    return mod.away(1)",
    ],
)
def test_package_without_init(text):
    Path("bare").mkdir()
    keys = []
    for n in (1, 1, 2):
        for name in ("bare", "bare.mod"):
            sys.modules.pop(name, None)
        Path("bare", "mod.py").write_text(f"def away(x): return x + {n}\n")
        one = load(text, 0)
        keys.append(one.key())
        assert one() == 1 + n
    assert keys[0] == keys[1] != keys[2]


def test_without_a_name():
    with pytest.raises(TypeError, match="a named function"):
        load("one_ = stage(functools.partial(f, 1))", 1)

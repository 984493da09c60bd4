"""Tests that the key of a stage depends on the user's modules, however the code passes them around."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from pipelines import directory  # noqa: F401

pytest.importorskip("pandas")

FAR = {
    "__init__.py": "unused = %(unused)s\n",
    "mod.py": "C = %(C)s\nunused = %(unused)s\ndef f():\n    '''%(C)s'''\n    return C\n",
    "lazy.py": "from . import mod\ndef __getattr__(name): return mod.C\n",
    "own.py": "import sys, types\nfrom . import mod\nclass Own(types.ModuleType):\n"
    "    any = property(lambda self: self.held.C)\nheld = mod\nsys.modules[__name__].__class__ = Own\n",
    "locked.py": "import threading\nC = 1\nlock = threading.Lock()\n",
}
IMPORT_FAR = "import far.mod as h\n"
USE = "def use(m): return m.C\n"
ONE = "@stage(cache=True)\ndef one():\n"
VARS = ONE + "    return vars(%s)['C']\n"


def run_one(directory, text, **values):
    """Returns the result of the stage one, and whether it was read from a cached file."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("far", "pipe")]:
        del sys.modules[name]
    (directory / "far").mkdir(exist_ok=True)
    for name, content in FAR.items():
        (directory / "far" / name).write_text(content % {"C": 1, "unused": 1, **values})
    (directory / "pipe.py").write_text("from partd_go.stage import stage\n" + text)
    importlib.invalidate_caches()

    def cached_files():
        return set(Path.home().glob(".partd_stages/*/[!.]*"))

    before = cached_files()
    return importlib.import_module("pipe").one(), cached_files() == before


@pytest.mark.parametrize(
    "text",
    [
        "import far.mod\n" + USE + ONE + "    return use(far.mod)\n",
        IMPORT_FAR + USE + ONE + "    m = h\n    return use(m)\n",
        IMPORT_FAR + VARS % "h",
        IMPORT_FAR + ONE + "    return h.__dict__['C']\n",
        IMPORT_FAR + ONE + "    return getattr(h, 'C')\n",
        IMPORT_FAR + "import operator\n" + ONE + "    return operator.attrgetter('C')(h)\n",
        IMPORT_FAR + "import functools\ng = functools.partial(getattr, h)\n" + ONE + "    return g('C')\n",
        IMPORT_FAR + "held = {'h': [h]}\n" + VARS % "held['h'][0]",
        IMPORT_FAR + "class K:\n    m = h\n" + ONE + "    return getattr(K.m, 'C')\n",
        IMPORT_FAR
        + "class K:\n    def __getattr__(self, name): return getattr(h, name)\n"
        + ONE
        + "    return K().C\n",
        IMPORT_FAR + "def use(m=h): return vars(m)['C']\n" + ONE + "    return use()\n",
        IMPORT_FAR
        + "def make(m):\n    @stage(cache=True)\n    def one(): return vars(m)['C']\n    return one\none = make(h)\n",
        "import far\nfrom far import mod\n" + VARS % "vars(far)['mod']",
        ONE + "    import far.mod as h\n    return vars(h)['C']\n",
        ONE + "    import far.mod\n    return vars(far.mod)['C']\n",
        ONE + "    from far import mod as h\n    return vars(h)['C']\n",
        "import importlib\n" + ONE + "    return importlib.import_module('far.mod').C\n",
        "from importlib import import_module\n"
        + ONE
        + "    name = 'C'\n    return getattr(import_module('far.mod'), name)\n",
        ONE + "    return __import__('far.mod').mod.C\n",
        "import sys, far.mod\n" + ONE + "    return sys.modules['far.mod'].C\n",
        "from far.mod import C\n" + ONE + "    return globals()['C']\n",
        "import sys\nfrom far.mod import C\n" + ONE + "    return getattr(sys.modules[__name__], 'C')\n",
        IMPORT_FAR + USE + ONE + "    return eval('use(h)')\n",
        IMPORT_FAR + USE + "exec('def g(): return use(h)')\n" + ONE + "    return g()\n",
        IMPORT_FAR + ONE + "    return (lambda m: vars(m)['C'])(h), (lambda m: m)(1)\n",
        "import far.lazy as h\n" + ONE + "    return h.any\n",
        "import far.own as h\n" + ONE + "    return h.any\n",
        IMPORT_FAR + ONE + "    return int(h.f.__doc__)\n",
    ],
)
def test_key_depends_on_module(directory, text):
    first, repeated = run_one(directory, text), run_one(directory, text)
    changed = run_one(directory, text, C=2)
    assert (first[1], repeated) == (False, (first[0], True))
    assert not changed[1] and changed[0] != first[0]


@pytest.mark.parametrize(
    "text",
    [
        "import far.mod\n" + ONE + "    return far.mod.f()\n",
        IMPORT_FAR + "def g(f): return f()\n" + ONE + "    return g(h.f)\n",
        ONE + "    import far.mod\n    return far.mod.f()\n",
        ONE + "    from far.mod import f as g\n    return [g() for _ in '1']\n",
        ONE + "    from far import mod\n    return (lambda: mod.f())()\n",
    ],
)
def test_module_used_by_attributes(directory, text):
    """If the code uses only some attributes of a module, the other attributes do not affect the key."""
    assert not run_one(directory, text)[1]
    assert run_one(directory, text, unused=2)[1]


def test_unhashable_module_value(directory):
    """If a module that is passed on has values that cannot be hashed, the stage fails instead of keeping a result."""
    assert run_one(directory, "import far.locked\n" + ONE + "    return far.locked.C\n") == (1, False)
    with pytest.raises(
        TypeError, match=r"far\.locked\.lock is a lock, which cannot be hashed: create it inside the function"
    ):
        run_one(directory, "import far.locked\n" + USE + ONE + "    return use(far.locked)\n")


@pytest.mark.parametrize("name", ["", ".", "..", "a..b"])
def test_names_that_are_not_modules(directory, name):
    """Reading an attribute called modules, like sys.modules, with a key that is not a module's name imports nothing."""
    assert run_one(
        directory, f"class K:\n    modules = {{{name!r}: 1}}\n" + ONE + f"    return K.modules[{name!r}]\n"
    ) == (1, False)

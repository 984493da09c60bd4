"""Tests each claim of lwdp's README with the named module, lwdp or partd_go, and prints yes or no for each."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pandas

module_name = sys.argv[1]
warnings.simplefilter("ignore")
temp_root = Path(tempfile.mkdtemp())
sys.path.insert(0, str(temp_root))
os.environ["PYTHONPATH"] = os.pathsep.join([str(temp_root), os.environ.get("PYTHONPATH", "")])
sys.dont_write_bytecode = True
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
stage_module = importlib.import_module(f"{module_name}.stage")
stage = stage_module.stage
RECORD_RUN = "    with open(os.environ['HOME'] + '/ran', 'a') as f: f.write('%s')\n"


def load(text):
    """Writes the stages in text to a module named pipe, and imports it afresh."""
    sys.modules.pop("pipe", None)
    (temp_root / "pipe.py").write_text(
        f"import os, time, pandas as pd\nfrom pathlib import Path\nfrom {module_name}.stage import stage\n" + text
    )
    importlib.invalidate_caches()
    return importlib.import_module("pipe")


def pop_runs():
    """Returns the numbers of the stages that ran since the last call, and resets the record."""
    path = Path(os.environ["HOME"], "ran")
    text = "".join(sorted(path.read_text())) if path.exists() else ""
    path.unlink(missing_ok=True)
    return text


README = """
@stage(some_raw="input.csv", cache=True)
def stg_read_format_raw(**kwargs):
    pdf = pd.read_csv(kwargs.get('some_raw'))
    return pdf
@stage(basic_raw=stg_read_format_raw, cache=True, cache_format='parquet')
def stg_format_more(**kwargs):
    raw = kwargs.get('basic_raw')
    raw['new_analysis_column'] = 3
    return raw
@stage(formatted_src=stg_format_more)
def stg_final_process(**kwargs):
    result = kwargs.get("formatted_src")
    result['wizard'] = 5
    return result
"""


def decorator_import():
    exec(f"from {module_name} import stage\n@stage\ndef one(): return 1\none()", {})
    return True


def without_cache_directory():
    Path(".lwdp_cache").rmdir()
    return readme_example()


def readme_example():
    Path("input.csv").write_text("a\n1\n")
    columns = [list(load(README).stg_final_process()) for _ in range(2)]
    Path("input.csv").write_text("a\n1\n2\n")
    return [*columns, list(load(README).stg_final_process())] == [["a", "new_analysis_column", "wizard"]] * 3


def file_types():
    paths = ["in.csv", "in.xlsx", "in.parquet"]
    for path in paths:
        Path(path).write_bytes(b"x")
    return [stage(raw=path)(lambda raw: raw)() for path in paths] == paths


BRANCHES = "".join(
    f"@stage(raw='{n}.csv', cache=True)\ndef r{n}(raw):\n{RECORD_RUN % n}    return pd.DataFrame({{'a': [{n}]}})\n"
    for n in (1, 2)
)
BRANCHES += "@stage(a=r1, b=r2)\ndef last(a, b):\n    return len(a) + len(b)\n"


def reruns_only_changed_branch():
    for n in (1, 2):
        Path(f"{n}.csv").write_text("a")
    first = load(BRANCHES).last(), pop_runs()
    Path("2.csv").write_text("other")
    return (first, load(BRANCHES).last(), pop_runs()) == ((2, "12"), 2, "2")


def last_stage_runs_all():
    for n in (1, 2):
        Path(f"{n}.csv").write_text("a")
    return load(BRANCHES).last() == 2 and pop_runs() == "12"


def key(s):
    return s.hash.hexdigest() if module_name == "lwdp" else s.key()


CHAIN = (
    "@stage\ndef one():\n    %s\n@stage(x=one)\ndef two(x):\n    return x\n@stage(x=two)\ndef three(x):\n    return x\n"
)


def hash_ignores_formatting():
    return key(load(CHAIN % "return 1").three) == key(load(CHAIN % '"""One."""\n\n    return  1').three)


def change_reaches_dependent_stages():
    return key(load(CHAIN % "return 1").three) != key(load(CHAIN % "return 2").three)


ONE = "@stage(%s)\ndef one(*_):\n" + RECORD_RUN % 1 + "    return %s\n"
FRAME = "pd.DataFrame({'a': [1, 2]})"


def caching_is_optional():
    return [load(ONE % ("cache=False", FRAME)).one().shape for _ in range(2)] == [(2, 1)] * 2 and pop_runs() == "11"


def cache_formats():
    for form in ("parquet", "pickle", "json", "feather", "orc"):
        for _ in range(2):
            if list(load(ONE % (f"cache=True, cache_format='{form}'", FRAME)).one().a) != [1, 2]:
                return False
    return pop_runs() == "11111"


def second_run_reads_cache():
    return [len(load(ONE % ("cache=True", FRAME)).one()) for _ in range(2)] == [2, 2] and pop_runs() == "1"


def cache_in_other_stores():
    if module_name == "lwdp":
        return bool(importlib.import_module("lwdp.cache").Cache("s3").output_path)
    return {"tables", "store"} <= {*inspect.signature(stage_module.set_directory).parameters}


def raw_file_in_s3():
    return stage(raw="s3://bucket/in.csv")(lambda raw: raw)() == "s3://bucket/in.csv"


def ttl():
    for _ in range(2):
        load(ONE % ("cache=True, ttl=0.05", FRAME)).one()
        time.sleep(0.1)
    return pop_runs() == "11"


def call_with_arguments():
    return stage(lambda x: x + 1)(2) == 3


def has_hash_path():
    return bool(stage(file_types).hash_path.name)


def lists_ancestors():
    Path("in.csv").write_text("a")
    one = stage(lambda: 1)
    two = stage(raw="in.csv", x=one)(lambda raw, x: x)
    return two.raw_ancestors == {"raw": "in.csv"} and two.stage_ancestors == {"x": one}


def cache_class():
    cache = importlib.import_module(f"{module_name}.cache").Cache(format="parquet", subdir="mine")
    cache.write(pandas.DataFrame({"a": [1]}), Path("x"))
    return len(cache.read(Path("x"))) == 1


def stages_run_concurrently():
    """Each of four stages waits until all four have started."""
    timeout = 60 if module_name == "lwdp" else 0.2
    wait = f"    Path(os.environ['HOME'], '%d').touch()\n    deadline = time.monotonic() + {timeout}\n"
    wait += (
        "    while len([*Path(os.environ['HOME']).glob('[0-3]')]) < 4 "
        "and time.monotonic() < deadline:\n        time.sleep(0.01)\n"
    )
    wait += "    return len([*Path(os.environ['HOME']).glob('[0-3]')])\n"
    pipe = load(
        "".join(f"@stage\ndef r{n}():\n{wait % n}" for n in range(4))
        + "@stage(a=r0, b=r1, c=r2, d=r3)\ndef last(**all):\n    return all\n"
    )
    return [*pipe.last().values()] == [4] * 4


def logs_messages():
    messages = []
    logging.getLogger().addFilter(messages.append)
    handler = logging.Handler()
    handler.emit = messages.append
    logging.getLogger().addHandler(handler)
    stage(file_types.__class__(file_types.__code__, globals()))()
    logging.getLogger().removeHandler(handler)
    return bool(messages)


def missing_file():
    return stage(raw="none.csv")(lambda raw: raw)() == "none.csv"


def path_objects():
    Path("in.csv").write_text("a")
    return stage(raw=Path("in.csv"))(lambda **inputs: len(inputs))() == 1


def constant_inputs():
    return stage(x=3)(lambda **inputs: len(inputs))() == 0


def non_frame_results():
    return [load(ONE % ("cache=True", "7")).one() for _ in range(2)] == [7, 7] and pop_runs() == "1"


def inputs_named_like_options():
    for path in ("a.csv", "b.csv"):
        Path(path).write_text("a")
    return stage(format="a.csv", cache_dir="b.csv")(lambda **inputs: len(inputs))() == 2


def default_cache_path():
    load(ONE % ("cache=True", FRAME)).one()
    return [path.suffix for path in Path(os.environ["HOME"], ".lwdp_cache", "pipe.one").iterdir()] == [".csv"]


for case in (
    decorator_import,
    without_cache_directory,
    readme_example,
    file_types,
    reruns_only_changed_branch,
    last_stage_runs_all,
    hash_ignores_formatting,
    change_reaches_dependent_stages,
    caching_is_optional,
    cache_formats,
    second_run_reads_cache,
    cache_in_other_stores,
    raw_file_in_s3,
    ttl,
    call_with_arguments,
    has_hash_path,
    lists_ancestors,
    cache_class,
    stages_run_concurrently,
    logs_messages,
    missing_file,
    path_objects,
    constant_inputs,
    non_frame_results,
    inputs_named_like_options,
    default_cache_path,
):
    if child := os.fork():  # each case has a process with its own workers
        print(f"{case.__name__}: {'no' if os.waitpid(child, 0)[1] else 'yes'}", flush=True)
        continue
    home = Path(tempfile.mkdtemp(dir=temp_root))
    os.chdir(home)
    os.environ["HOME"] = str(home)
    (home / ".lwdp_cache").mkdir()
    try:
        ok = case()
    except Exception as error:
        print(f"{case.__name__}: {error!r}", file=sys.stderr)
        ok = False
    if module_name == "lwdp":
        importlib.import_module("joblib.externals.loky").get_reusable_executor().shutdown()
    sys.stderr.flush()
    os._exit(not ok)

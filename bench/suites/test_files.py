"""Gives our programs the files of csv-spectrum, JSONTestSuite and parquet-go. bench/suites/run downloads these
files."""

import json
import os
import pathlib
import subprocess

import pytest
from pyarrow import ipc, parquet

NODE = pathlib.Path(os.environ["SUITES_NODE"])
PARQUET = pathlib.Path(os.environ["SUITES_PARQUET"])
CSVS = sorted((NODE / "csv-spectrum" / "csvs").glob("*.csv"))
JSONS = json.loads((NODE / "json-test-suite" / "data" / "parsing.js").read_text().partition("export default")[2])
FILES = sorted(PARQUET.rglob("*.parquet"))


def run(*command):
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode in (0, 1), done.stderr  # 1 is the code of a refused file; a crash has another
    return done


def rows(*command):
    done = run(*command)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("file", CSVS, ids=lambda file: file.name)
@pytest.mark.parametrize("program", ["partd", "partd-tables"])
def test_csv(program, file):
    want = json.loads((NODE / "csv-spectrum" / "json" / file.with_suffix(".json").name).read_text())
    want = [want] if isinstance(want, dict) else want
    if program == "partd":
        got = rows("partd", "sort", "--by", "1", "--to-format", "jsonl", file)
        want.sort(key=lambda row: next(iter(row.values())))
    else:  # it infers types, and an empty field is a null
        got = [
            {name: "" if value is None else str(value) for name, value in row.items()}
            for row in rows("partd-tables", "convert", "--to-format", "jsonl", file)
        ]
    assert got == want


@pytest.mark.parametrize("case", JSONS, ids=lambda case: case["name"])
@pytest.mark.parametrize("program", ["partd", "partd-tables"])
def test_json(program, case, tmp_path):
    if "�" in case["input"]:
        pytest.skip("the package has a replacement character instead of the suite's invalid bytes")
    file = tmp_path / "rows.jsonl"
    file.write_text('{"key":1,"a":' + case["input"] + "}\n", newline="")
    if program == "partd":
        done = run("partd", "sort", "--by", "key", file)
    else:
        done = run("partd-tables", "convert", "--to-format", "jsonl", file)
    if case["name"][0] != "i":  # a parser may accept or refuse the cases i_
        assert (done.returncode == 0) == (case["name"][0] == "y"), (case, done.stderr)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PARQUET)))
def test_parquet(file, tmp_path):
    done = run("partd-tables", "convert", "-o", tmp_path / "rows.arrow", file)
    try:
        want = parquet.ParquetFile(file).read()
    except (OSError, ValueError, NotImplementedError):
        return  # pyarrow does not read the file, so ours may refuse it too
    assert done.returncode == 0, done.stderr
    with ipc.open_file(tmp_path / "rows.arrow") as reader:
        got = reader.read_all()
    assert got.equals(want) or repr(got.to_pylist()) == repr(want.to_pylist())

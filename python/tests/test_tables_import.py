"""Compares the import of random CSV and JSON lines with Python's parsers and DuckDB's. PARTD_IMPORT_SECONDS (default:
5) is the duration, PARTD_IMPORT_SEED the first seed."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
import os
import random
import time

import pytest

pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
import pyarrow as pa

import partd_go
from partd_go import tables
from partd_go.tables import files

INTEGERS = [
    "0",
    "-0",
    "7",
    "-1",
    "9007199254740992",
    "9007199254740993",
    "-9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "123456789012345680000",
    "9" * 38,
    "1" + "0" * 38,
]
FLOATS = ["1.5", "-0.0", "1e3", "2E-3", "0.1", "1e22", "9007199254740993.0", "1e300"]
TEXTS = [
    "x",
    "",
    "007",
    "+5",
    "1_0",
    "0x10",
    "é",
    'q"q',
    "a,b",
    "line\nbreak",
    " 5",
    "5 ",
    "NaN",
    "2026-01-31",
    "2026-02-30",
    "true",
    "null",
    "1e400",
    "tab\tb",
]


def same(ours: object, source: object) -> bool:
    """Reports whether a value that was imported equals the value that Python's parser returns."""
    if isinstance(source, list):
        return isinstance(ours, list) and len(ours) == len(source) and all(map(same, ours, source))
    if isinstance(source, dict):
        return isinstance(ours, dict) and all(
            same(ours.get(name), source.get(name)) for name in ours.keys() | source.keys()
        )
    if isinstance(source, bool) or source is None or isinstance(ours, bool):
        return ours is source
    if isinstance(source, decimal.Decimal):  # a number with a fraction or an exponent, which becomes the nearest float
        return isinstance(ours, float) and ours == float(source)
    if isinstance(source, int):
        return ours == source  # exact, also for floats and decimals
    if isinstance(ours, float):
        return str(ours).lower() == source.lower()  # NaN
    return (ours if isinstance(ours, str) else str(ours)) == source


def json_value(r: random.Random, kind: int, depth: int = 0) -> str:
    if r.random() < 0.1:
        return "null"
    match kind % 6:
        case 0:
            return r.choice(INTEGERS)
        case 1:
            return r.choice(INTEGERS[:3] + FLOATS)
        case 2:
            return json.dumps(r.choice(TEXTS), ensure_ascii=r.random() < 0.5)
        case 3:
            return r.choice(["true", "false"])
        case 4 if depth < 3:
            return "[" + ",".join(json_value(r, kind // 6, depth + 1) for _ in range(r.randrange(3))) + "]"
        case 5 if depth < 3:
            return (
                "{"
                + ",".join(f'"{name}":{json_value(r, kind // 6, depth + 1)}' for name in "xy" if r.random() < 0.8)
                + "}"
            )
    return r.choice(INTEGERS + FLOATS)


def compare_json(r: random.Random, path: str) -> bool:
    kinds = [r.randrange(1000) for _ in range(1 + r.randrange(4))]
    lines = [
        "{" + ", ".join(f'"c{i}": {json_value(r, kind)}' for i, kind in enumerate(kinds) if r.random() < 0.9) + "}"
        for _ in range(r.choice([1, 3, 20]))
    ]
    text = r.choice(["", "\ufeff"]) + ("[" + ",\n".join(lines) + "]" if r.random() < 0.3 else "\n".join(lines) + "\n")
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(text)
    source = [json.loads(line, parse_float=decimal.Decimal) for line in lines]
    try:
        rows = files.reader(path).read_all().to_pylist()
    except (partd_go.Misuse, pa.ArrowInvalid) as error:
        assert any(
            words in str(error) for words in ("without losing digits", "several types", "no object with a column")
        ), (text, error)
        if "without losing digits" in str(error):
            assert any(len(number) > 15 for number in INTEGERS if number in text), (text, error)
        return False
    assert same(rows, [{name: line.get(name) for name in rows[0]} for line in source]), (text, rows)
    return True


def csv_same(ours: object, text: str) -> bool:
    if ours is None:
        return text == ""
    if isinstance(ours, bool):
        return str(ours).lower() == text.lower()
    if isinstance(ours, int):
        return str(ours) == text
    if isinstance(ours, float):
        if text.lstrip("-").isdigit():
            return ours == int(text)
        return str(ours) == str(float(text))
    return str(ours) == text


def compare_csv(r: random.Random, path: str, duckdb) -> bool:
    separated = path.endswith(".tsv")
    pools = [
        r.choice(
            [
                INTEGERS[:3],
                INTEGERS,
                INTEGERS[:3] + FLOATS,
                INTEGERS + FLOATS,
                TEXTS,
                TEXTS + INTEGERS,
                ["true", "FALSE"],
                ["2026-01-31", ""],
            ]
        )
        for _ in range(1 + r.randrange(4))
    ]
    rows = [[r.choice(pool) for pool in pools] for _ in range(r.choice([1, 3, 20]))]
    names = [f"c{i}" for i in range(len(pools))]
    if separated:
        rows = [[value.replace("\t", " ").replace("\n", " ") for value in row] for row in rows]
        text = "".join("\t".join(row) + "\n" for row in [names, *rows])
    else:
        out = io.StringIO()
        csv.writer(
            out, quoting=r.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), lineterminator=r.choice(["\n", "\r\n"])
        ).writerows([names, *rows])
        text = out.getvalue()
        rows = list(csv.reader(io.StringIO(text, newline="")))[1:]
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(r.choice(["", "\ufeff"]) + text)
    ours = [list(row.values()) for row in files.reader(path).read_all().to_pylist()]
    assert len(ours) == len(rows) and all(csv_same(a, b) for x, y in zip(ours, rows) for a, b in zip(x, y)), (
        text,
        ours,
    )
    if duckdb and not separated and len(pools) > 1:
        theirs = duckdb.read_csv(path, all_varchar=True, header=True, sep=",", quotechar='"', escapechar='"').fetchall()
        assert all(csv_same(a, b or "") for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y)), (
            text,
            theirs,
        )
    return True


def test_import_differential(tmp_path) -> None:
    try:
        import duckdb
    except ImportError:
        duckdb = None
    seed, end, compared, refused = (
        int(os.environ.get("PARTD_IMPORT_SEED", "1")),
        time.monotonic() + float(os.environ.get("PARTD_IMPORT_SECONDS", "2")),
        0,
        0,
    )
    while compared == 0 or time.monotonic() < end:
        r = random.Random(seed)
        name = str(tmp_path / r.choice(["x.jsonl", "x.json", "x.csv", "x.tsv"]))
        try:
            done = compare_json(r, name) if "json" in name else compare_csv(r, name, duckdb)
        except Exception:
            pytest.fail(f"seed {seed}")
        seed, compared, refused = seed + 1, compared + 1, refused + (not done)
    print(f"compared {compared} files, of which {refused} were refused for a reason")


def test_int96(tmp_path) -> None:
    """Times in INT96 are read as microseconds, also in lists, or as the column of an existing table says. Others are
    refused."""
    parquet = pytest.importorskip("pyarrow.parquet")
    times, path = (
        [datetime.datetime(9999, 12, 31, 23, 59, 59), datetime.datetime(1, 1, 1), None],
        str(tmp_path / "x.parquet"),
    )

    def write(unit: str, values: list) -> None:
        column = pa.array(values, pa.timestamp(unit))
        rows = pa.table(
            {
                "t": column,
                "l": pa.ListArray.from_arrays(
                    pa.array(range(len(column) + 1), pa.int32()), pa.StructArray.from_arrays([column], ["x"])
                ),
            }
        )
        parquet.write_table(rows, path, use_deprecated_int96_timestamps=True)

    write("us", times)
    with tables.connect(tmp_path / "tables") as store:
        store.put("new", path)
        store.put("new", path, "append")
        store.put("new", path, upsert=["t"], null_keys=True)
        rows = store.get("new", as_="arrow").to_pydict()
        assert rows == {"t": times, "l": [[{"x": time}] for time in times]}
        write("ns", [1001])
        for put in (lambda: store.put("exact", path), lambda: store.put("new", path, "append")):
            with pytest.raises(
                partd_go.Misuse,
                match=r'row 1: column "t": the INT96 time 1970-01-01 00:00:00.000001001 has digits that are too small',
            ):
                put()
        store.put(
            "nanoseconds",
            pa.table(
                {
                    "t": pa.array([None], pa.timestamp("ns")),
                    "l": pa.array([None], pa.list_(pa.struct([("x", pa.timestamp("ns"))]))),
                }
            ),
        )
        store.put("nanoseconds", path, "append")
        last = store.get("nanoseconds", as_="arrow").slice(1)
        assert last["t"].cast(pa.int64()).to_pylist() == [1001] and last["l"][0].values.field("x").cast(
            pa.int64()
        ).to_pylist() == [1001]

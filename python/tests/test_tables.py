"""Tests partd_go.tables in a directory and at a server, by comparing it with pyarrow and pandas."""

from __future__ import annotations

import contextlib
import datetime
import enum
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
import numpy as np
import pandas as pd
import polars
import pyarrow as pa

import partd_go
import partd_go.tables
from partd_go.tables import Exists, NotFound, filters

STOP_TIMEOUT = 120  # seconds until a killed client's server must have stopped


@pytest.fixture(scope="module")
def shared_tables(tmp_path_factory):
    with partd_go.tables.connect(tmp_path_factory.mktemp("tables")) as tables:
        yield tables


@pytest.fixture
def tables(shared_tables):
    yield shared_tables
    for bucket in shared_tables.buckets():
        shared_tables.delete_bucket(bucket, tables=True)
    if names := shared_tables.list():
        shared_tables.delete(*names)


def quotes(days=4):
    times = pd.date_range("2024-01-01", periods=days, freq="D", name="when")
    return pd.DataFrame({"sym": ["A", "B"] * (days // 2), "price": np.arange(days) + 0.5}, times)


def test_kinds(tables):
    frame = quotes()
    for bucket, data in (
        ("pandas", frame),
        ("polars", polars.from_pandas(frame.reset_index())),
        ("arrow", pa.Table.from_pandas(frame)),
        ("batch", pa.Table.from_pandas(frame).to_batches()[0]),
    ):
        tables.put("q", data, bucket=bucket)
        assert tables.get("q", bucket, as_="arrow").select(["sym", "price"]).to_pydict() == frame.to_dict("list")
        assert tables.get("q", bucket, as_="polars")["price"].to_list() == [0.5, 1.5, 2.5, 3.5]
        assert list(tables.get("q", bucket)["sym"]) == ["A", "B", "A", "B"]
    assert tables.buckets() == ["arrow", "batch", "pandas", "polars"]
    with pytest.raises(TypeError, match="pass a pandas, polars or pyarrow table"):
        tables.put("q", {"a": [1]})
    with pytest.raises(ValueError, match="pass 'pandas'"):
        tables.get("q", "arrow", as_="numpy")


def test_filters_and_limits(tables):
    frame = quotes(40)
    tables.put("q", frame, settings={"time": "when"})
    equal = pd.testing.assert_frame_equal
    equal(tables.get("q", columns=["price"]), frame[["price"]])
    equal(
        tables.get("q", where="price > 30 and sym = 'A'"),
        frame[(frame.price > 30) & (frame.sym == "A")],
        check_freq=False,
    )
    day = pd.Timestamp("2024-01-20")
    for conditions, selected in (
        ([("when", ">=", day), ("sym", "in", ["A"])], (frame.index >= day) & (frame.sym == "A")),
        (
            [[("price", "<", 3)], [("price", ">=", np.float64(30)), ("index", "!=", day)]],
            (frame.price < 3) | (frame.price >= 30),
        ),
        ([("sym", "not in", ["A", "it's"])], frame.sym == "B"),
        ([("sym", "=", np.str_("B"))], frame.sym == "B"),
    ):
        equal(tables.get("q", where=conditions), frame[selected], check_freq=False)
    equal(tables.get("q", limit=3), frame[:3])
    equal(tables.get("q", last=3), frame[-3:])
    for wrong in ([("price", "~", 1)], [], [("price",)]):
        with pytest.raises(ValueError, match="pass"):
            tables.get("q", where=wrong)
    equal(
        tables.sql("SELECT sym, sum(price) AS total FROM q GROUP BY sym ORDER BY sym"),
        frame.groupby("sym").agg(total=("price", "sum")).reset_index(),
    )
    long_statement = "SELECT count(*) AS n FROM q WHERE sym <> '" + "x" * 20_000 + "'"
    assert tables.sql(long_statement, as_="arrow").to_pydict() == {"n": [40]}


@pytest.mark.parametrize("unit", ["us", "ns"])
def test_filters_by_time_zone(tables, unit):
    """As in pandas, a time without an offset is in the column's zone."""
    when = pd.date_range("2026-03-07", periods=96, freq="h", tz="America/New_York").as_unit(unit)
    frame = pd.DataFrame({"when": when, "plain": when.tz_localize(None), "v": range(96)})
    tables.put("q", frame)
    opening, utc = "2026-03-09 09:30", np.datetime64("2026-03-09T13:30")
    after = frame[frame.when >= opening].v.tolist()
    assert tables.get("q", where=f"when >= '{opening}'").v.tolist() == after
    zoned = pd.Timestamp(opening, tz="America/New_York")
    for value in (
        opening,
        pd.Timestamp(opening),
        datetime.datetime(2026, 3, 9, 9, 30),
        zoned,
        zoned.tz_convert("UTC"),
        utc,
    ):
        assert tables.get("q", where=[("when", ">=", value)]).v.tolist() == after, value
    assert tables.scan_polars("q").filter(polars.col("when") >= zoned.to_pydatetime()).collect()["v"].to_list() == after
    for value in (opening, pd.Timestamp(opening), np.datetime64(opening)):
        assert tables.get("q", where=[("plain", ">=", value)]).v.tolist() == frame[frame.plain >= opening].v.tolist()
    with pytest.raises(partd_go.Error, match="occurs 0 times in the column's time zone America/New_York"):
        tables.get("q", where=[("when", ">=", "2026-03-08 02:30")])


def test_filters_by_members_of_enums():
    class Sym(str, enum.Enum):
        A = "it's"

    class Side(enum.IntEnum):
        BUY = 1

    class Day(enum.Enum):
        FIRST = datetime.date(2024, 1, 1)

    got = filters.text(
        [("sym", "in", [Sym.A, "B"]), ("sym", "=", Sym.A), ("side", "=", Side.BUY), ("day", "<", Day.FIRST)]
    )
    assert got == """("sym" in ('it''s', 'B')) and "sym" = 'it''s' and "side" = 1 and "day" < '2024-01-01'"""


def test_parts(tables):
    """Together, the parts of a table have all its rows, whether or not the table is ordered by time."""
    frame = quotes(400)
    tables.put("ordered", frame, settings={"time": "when", "partition": "month"})
    for at in range(3):
        tables.put("plain", frame[at * 100 :][:100], "append", bucket="b")
        tables.action("partd.fold")
    for name, bucket, parts, rows in (("ordered", "", 14, frame), ("plain", "b", 3, frame[:300])):
        found = tables.describe(name, bucket)
        assert found["parts"] == parts and found["Rows"] == len(rows)
        got = [tables.get(name, bucket, part=at, version=found["Version"]) for at in range(1, parts + 1)]
        assert all(map(len, got))
        pd.testing.assert_frame_equal(pd.concat(got), rows, check_freq=False)
        filtered = [
            tables.get(name, bucket, part=at, where="price > 250", columns=["price"]) for at in range(1, parts + 1)
        ]
        pd.testing.assert_frame_equal(pd.concat(filtered), rows[rows.price > 250][["price"]], check_freq=False)
        with pytest.raises(partd_go.Error, match="parts 1 to"):
            tables.get(name, bucket, part=parts + 1)


def test_put(tables):
    frame = quotes()
    tables.put("q", frame, id="once", settings={"time": "when"}, metadata={"source": "feed"})
    tables.put("q", frame, "append", id="once")
    assert len(tables.get("q")) == 4
    with pytest.raises(Exists):
        tables.put("q", frame)
    later = frame.assign(price=9.0)[2:]
    tables.put("q", later, upsert=["when"])
    assert list(tables.get("q").price) == [0.5, 1.5, 9.0, 9.0]
    tables.put("q", frame[:1], "replace")
    assert len(tables.get("q")) == 1
    with pytest.raises(ValueError, match="mode"):
        tables.put("q", frame, "insert")
    with pytest.raises(partd_go.Misuse, match="zz"):
        tables.put("q", frame.assign(zz=1), "append")
    tables.put("r", frame, metadata={"source": "feed", "lots": 1})
    assert tables.list(metadata={"lots": 1}) == ["r"] and tables.list(pattern="[a-q]") == ["q"]
    assert tables.describe("r")["Metadata"]["source"] == "feed"
    tables.delete("q", "r")
    with pytest.raises(NotFound):
        tables.get("q")
    for call in (
        lambda: tables.delete("q"),
        lambda: tables.sql("SELECT * FROM q"),
        lambda: tables.get("q", snapshot="none"),
    ):
        with pytest.raises(NotFound):
            call()
    with pytest.raises(partd_go.Misuse, match="line 1"):
        tables.sql("SELEC 1")


def test_put_refuses(tables):
    frame = quotes()
    with pytest.raises(partd_go.Misuse, match='unknown setting "tiem" \\(did you mean "time"\\?\\)'):
        tables.put("q", frame, settings={"tiem": "when"})
    tables.put("q", frame, settings={"time": "when"})
    with pytest.raises(partd_go.Misuse, match='"partiton" \\(did you mean "partition"'):
        tables.action("partd.set_settings", name="q", settings={"partiton": "day"})
    for options in ({"mode": "replace"}, {"id": "x"}, {"metadata": {}}, {"settings": {}}):
        with pytest.raises(partd_go.Misuse, match="leave these out"):
            tables.put("q", frame, upsert=["when"], **options)
    assert len(tables.get("q")) == 4


def test_no_rows(tables):
    frame = quotes()
    tables.put("q", frame)
    for got in (tables.get("q", limit=0), tables.get("q", last=0), tables.get("q", limit=0, where="price > 99")):
        pd.testing.assert_frame_equal(got, frame[:0], check_freq=False)
    with pytest.raises(partd_go.Error, match="negative"):
        tables.get("q", limit=-1)


def test_missing_columns(tables):
    frame = quotes()
    tables.put("q", frame)
    with pytest.warns(partd_go.tables.MissingColumns, match="\\['price'\\]"):
        tables.put("q", frame[["sym"]], "append")
    tables.put("q", frame[["sym"]], "append", missing="ignore")
    with pytest.raises(partd_go.Misuse, match='"price"'):
        tables.put("q", frame[["sym"]], "append", missing="error")
    tables.put("q", frame.assign(price=None), "append", missing="error")
    assert len(tables.get("q")) == 16
    tables.put("u", frame)
    with pytest.raises(partd_go.Misuse, match='"price"'):
        tables.put("u", frame[["sym"]], upsert=["sym"], missing="error")
    with pytest.warns(partd_go.tables.MissingColumns, match="\\['price'\\]"):
        tables.put("u", frame[["sym"]].drop_duplicates(), upsert=["sym"])


def test_streamed(tables):
    """put sends a reader's batches one by one. A failed or interrupted put leaves no table."""
    batch = pa.record_batch({"n": np.arange(1 << 17)})  # 1 MiB
    max_allocated = 0

    def batches(error=None):
        nonlocal max_allocated
        for at in range(64):
            max_allocated = max(max_allocated, pa.total_allocated_bytes())
            if error and at == 32:
                raise error
            yield pa.record_batch({"n": pa.array(np.arange(1 << 17) + at).take(pa.array(np.arange(1 << 17)))})

    before = pa.total_allocated_bytes()
    tables.put("q", pa.RecordBatchReader.from_batches(batch.schema, batches()))
    assert tables.describe("q")["Rows"] == 64 << 17 and max_allocated - before < 24 << 20
    for error in (ZeroDivisionError("mine"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            tables.put("r", pa.RecordBatchReader.from_batches(batch.schema, batches(error)))
        assert tables.list() == ["q"]
    tables.put("s", polars.DataFrame({"n": [1]}))
    assert tables.list() == ["q", "s"]


def test_resample_and_combine(tables):
    frame = quotes(40)
    tables.put("q", frame)
    assert tables.resample("q", "weeks", "W", "when", ["min", "max"], columns=["price"]) == (40, 6)
    want = frame[["price"]].resample("W").agg(["min", "max"])
    assert list(tables.get("weeks").price_max) == list(want[("price", "max")])
    pd.testing.assert_frame_equal(
        tables.resampled("q", "W", "when", ["min", "max"], columns=["price"]), tables.get("weeks")
    )
    assert tables.resampled("q", "W", "when", "max", columns=["price"], as_="polars")["price"].to_list() == list(
        want[("price", "max")]
    )
    with pytest.raises(NotFound):
        tables.resampled("q", "W", "when", bucket="none")
    assert tables.resample("q", "some", sql="SELECT * FROM q WHERE price > 35", target_bucket="b") == (0, 5)
    assert tables.combine(["q", ("b", "some")], "both") == (45, 45)
    assert tables.combine(["q", ("b", "some")], "joined", "join", ["when", "sym", "price"], mode="append") == (45, 5)


def test_large_rows(tables):
    """A row larger than a message can be put, and a table of such rows needs many messages."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"a": rng.random(2_000_000), "b": rng.integers(0, 9, 2_000_000)})
    tables.put("large", frame)
    pd.testing.assert_frame_equal(tables.get("large"), frame)
    tables.put("long", pd.DataFrame({"t": ["x" * (8 << 20), "y"]}))
    assert [len(text) for text in tables.get("long").t] == [8 << 20, 1]


def test_closed(tmp_path):
    tables = partd_go.tables.connect(tmp_path / "t")
    tables.put("q", quotes())
    tables.close()
    tables.close()
    with pytest.raises(partd_go.Closed):
        tables.list()
    with partd_go.tables.connect(tmp_path / "t") as again:
        assert again.list() == ["q"]
    with pytest.raises(partd_go.ConnectionFailed):
        partd_go.tables.connect("grpc://localhost:1").list()


def test_program_not_found(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(partd_go.NoServer, match="partd-go-tables with pip"):
        partd_go.tables.connect(tmp_path)


def test_killed_client(tmp_path):
    """The server of a killed client ends, and acknowledged rows survive."""
    code = (
        "import sys, time, pyarrow, partd_go.tables\n"
        "tables = partd_go.tables.connect(sys.argv[1])\n"
        "tables.put('t', pyarrow.table({'a': [1]}), 'append')\n"
        "print(tables.url, flush=True)\n"
        "time.sleep(600)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "t")], stdout=subprocess.PIPE, text=True)
    socket = Path(child.stdout.readline().strip().removeprefix("grpc+unix://"))
    assert socket.exists() and socket.parent.stat().st_mode & 0o77 == 0 and socket.stat().st_mode & 0o77 == 0
    child.send_signal(signal.SIGKILL)
    child.communicate()
    deadline = time.monotonic() + STOP_TIMEOUT
    while socket.parent.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not socket.parent.exists()
    with partd_go.tables.connect(tmp_path / "t") as tables:
        assert tables.get("t", as_="arrow").to_pydict() == {"a": [1]}


def test_serve(tmp_path):
    with partd_go.tables.serve(tmp_path, port=0) as server:
        with partd_go.tables.connect(server.url) as tables:
            tables.put("q", quotes())
        with pytest.raises(partd_go.NoServer, match="no secret"):
            server.token()
        shoots = pytest.importorskip("shoots")
        client = shoots.ShootsClient("localhost", int(server.url.rpartition(":")[2]))
        client.put("s", quotes().reset_index(), mode=shoots.PutMode.APPEND, bucket="b")
        got = client.get("s", bucket="b", sql="SELECT * FROM s WHERE price > 2")
        assert list(got.price) == [2.5, 3.5] and client.buckets() == ["b"]
        assert client.resample(
            "s", "days", source_bucket="b", target_bucket="b", sql="SELECT sym, sum(price) FROM s GROUP BY sym"
        )
        client.delete("s", bucket="b")
        assert "b" in client.buckets()
        server.shutdown()
        assert not os.path.exists(server._directories[0])


def certificate(directory):
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-days",
        "2",
        "-keyout",
        f"{directory}/key",
        "-out",
        f"{directory}/cert",
    ]
    subprocess.run(command, check=True, capture_output=True)
    return f"{directory}/cert", f"{directory}/key"


def test_secured(tmp_path):
    cert, key = certificate(tmp_path)
    with partd_go.tables.serve(
        tmp_path / "t", port=0, cert=cert, key=key, secret="a secret of thirty-two bytes or so"
    ) as server:
        assert server.url.startswith("grpc+tls://localhost:")
        with partd_go.tables.connect(server.url, server.token(), cert) as tables:
            tables.put("q", quotes())
        with partd_go.tables.connect(server.url, server.token(read=True, ttl="1h"), Path(cert).read_text()) as tables:
            assert len(tables.get("q")) == 4
            for change in (lambda: tables.put("q", quotes(), "append"), lambda: tables.delete("q")):
                with pytest.raises(partd_go.Refused):
                    change()
        for token in (None, "x", server.token()[:-2] + "AA"):
            with partd_go.tables.connect(server.url, token, cert) as tables, pytest.raises(partd_go.Refused):
                tables.list()
        with partd_go.tables.connect(server.url, server.token()) as tables, pytest.raises(partd_go.ConnectionFailed):
            tables.list()  # no authority that the system trusts signed the certificate
    with pytest.raises(partd_go.NoServer, match="without TLS"):
        partd_go.tables.serve(tmp_path / "t", port=0, secret="a secret of thirty-two bytes or so")
    with pytest.raises(partd_go.Refused, match="pass a grpc\\+tls"):
        partd_go.tables.connect("grpc://tables.example.org:8081", "token")


@pytest.mark.parametrize("read", [Path.read_text, Path.read_bytes, Path])
def test_secured_by_text(tmp_path, read):
    """serve accepts the text of the certificate and key instead of files, as shoots' server does."""
    cert, key = [read(Path(file)) for file in certificate(tmp_path)]
    with partd_go.tables.serve(tmp_path / "t", port=0, cert=cert, key=key) as server:
        with partd_go.tables.connect(server.url, tls_ca=(tmp_path / "cert").read_text()) as tables:
            tables.put("q", quotes())
        if sys.platform == "linux":  # where other users can read a process's command line
            command = Path(f"/proc/{server._process.pid}/cmdline").read_text().split("\0")
            files = [Path(file) for flag, file in zip(command, command[1:]) if flag.startswith("--tls-")]
            assert len(files) == 2 and all(file.stat().st_mode & 0o77 == 0 for file in files if read is not Path)
            if read is not Path:
                server.shutdown()
                assert not any(file.exists() for file in files)
    with pytest.raises(partd_go.NoServer):
        partd_go.tables.serve(tmp_path / "t", port=0, cert="-----BEGIN nothing", key=key)


def test_wheels(tmp_path):
    """In a new environment with only both wheels, pandas and pyarrow, the page's first example runs."""
    wheels = os.environ.get("PARTD_WHEELS")
    if not wheels:
        pytest.skip("needs PARTD_WHEELS, the directory with the built wheels")
    import re
    import venv

    venv.create(tmp_path / "env")
    bin = tmp_path / "env" / "bin"
    (packages,) = (tmp_path / "env").glob("lib/*/site-packages")
    for name in ("pandas", "numpy", "numpy.libs", "pyarrow", "dateutil", "six.py", "pytz", "tzdata"):
        for directory in {Path(module.__file__).parent.parent for module in (pd, pa)}:
            if (directory / name).exists():
                (packages / name).symlink_to(directory / name)  # much faster than installing them
    files = sorted(map(str, Path(wheels).glob("*.whl")))
    assert any("manylinux_2_36_" in file for file in files) or sys.platform != "linux"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", tmp_path / "env", "install", "--quiet", "--no-index", *files],
        check=True,
    )
    page = (Path(__file__).parent.parent / "docs" / "tables.md").read_text()
    code, want = re.findall(r"^```(?:python|text)\n(.*?)^```$", page, re.M | re.S)[:2]
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PATH")}
    result = subprocess.run(
        [bin / "python", "-c", code], check=True, capture_output=True, text=True, env=env, cwd=tmp_path
    )
    assert result.stdout == want
    with contextlib.suppress(KeyError):
        env["PATH"] = os.environ["PATH"]
    version_text = subprocess.run(
        [bin / "partd-tables", "--version"], check=True, capture_output=True, text=True, env=env
    ).stdout
    assert version_text.startswith("partd-tables ")
    (program,) = (tmp_path / "env").glob("lib/*/site-packages/partd_go_tables/_bin/partd-tables")
    # .ci/run compiles the program with other flags than the wheel, which make it 26 MB larger.
    assert program.stat().st_size <= int(os.environ.get("PARTD_WHEEL_SIZE", 147_000_000))

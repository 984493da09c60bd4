"""partd_go.pull: two nodes of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import uuid

import pytest

pytest.importorskip("partd_go_tables", reason="needs the wheel partd-go-tables")
import numpy as np
import pandas as pd
import pyarrow as pa

import partd_go
from partd_go.pull import Conflict, NotFound, SyncFailed, pullframe

same = pd.testing.assert_frame_equal


@pytest.fixture
def name():
    return f"table {uuid.uuid4()}"  # the machine's registry may know those of others


@pytest.fixture
def nodes(tmp_path):
    with pullframe((), tmp_path / "one", flags=("--lease=2s",)) as one, pullframe((), tmp_path / "two", flags=("--lease=2s",)) as two:
        yield one, two


def prices(days=4, zone=None, index="when"):
    times = pd.date_range("2024-01-01", periods=days, freq="D", name=index, tz=zone)
    return pd.DataFrame({"sym": ["A", "B"] * (days // 2), "price": np.arange(days) + 0.5}, times)


def test_saved_here_loaded_there(nodes, name):
    one, two = nodes
    with pytest.raises(NotFound):
        two.load(name)
    for zone, index in ((None, "when"), ("Europe/Oslo", "when"), (None, None)):
        frame, of = prices(zone=zone, index=index), f"{name} {zone} {index}"
        one.save(of, frame)
        same(two.load(of), frame, check_freq=False)
        start, end = frame.index[1].to_pydatetime(), frame.index[2].to_pydatetime()
        same(two.load(of, start, end), frame[1:3], check_freq=False)
        same(two.load(of, start), frame[1:], check_freq=False)
        same(two.load(of, end=end), frame[:3], check_freq=False)


def test_second_load(nodes, name):
    """What is here is not fetched again: the holder is asked for its newest version alone, until that is another."""
    one, two = nodes

    def asked(*flags):
        command = [two._program, "pull", "get", "--stats", "--format=arrow", *two._flags, *flags, "--", name]
        ran = subprocess.run(command, check=True, capture_output=True)
        same(pa.ipc.open_stream(ran.stdout).read_all().to_pandas().set_index("when"), one.load(name), check_freq=False)
        stats = json.loads(ran.stderr)
        return stats["Requests"], stats["Bytes"]

    one.save(name, prices(10_000))
    requests, first = asked()
    assert requests > 1 and first > 50_000
    same(two.load(name), prices(10_000), check_freq=False)
    for flags in ((), ("--from=2024-01-01",)):
        requests, came = asked(*flags)
        assert requests == 1 and came < 4096
    one.save(name, prices(2))
    assert asked()[0] > 1 and asked()[0] == 1


def test_names_of_pullframe(tmp_path, name):
    from partd_go.pull import AllSyncFailed, NoResourceAvailable

    with pullframe(hosts=set(), directory=tmp_path, sync_timeo=30.0) as pf, pytest.raises(NoResourceAvailable):
        assert "--sync-timeout=30.000000s" in pf._flags
        pf.load(name=name, start=None, end=None)
    assert issubclass(SyncFailed, AllSyncFailed)


def test_columns(nodes, name):
    """Columns of a new frame take the place of the table's; others stay, and new ones are null before."""
    one, two = nodes
    one.save(name, prices())
    later = pd.DataFrame({"price": [9.0, 10.0], "volume": [1.0, 2.0]}, pd.date_range("2024-01-04", periods=2, name="when"))
    two.save(name, later)
    got = one.load(name)
    assert got.price.tolist() == [0.5, 1.5, 2.5, 9.0, 10.0]
    assert got.sym.tolist()[:4] == ["A", "B", "A", "B"] and pd.isna(got.sym.iloc[4])
    assert got.volume.isna().tolist() == [True, True, True, False, False]


def test_wrong_frames(nodes, name):
    one, _ = nodes
    for wrong in (prices().reset_index(), [1]):
        with pytest.raises(TypeError, match="DatetimeIndex"):
            one.save(name, wrong)
    for wrong in (prices().assign(when=1), prices().rename(columns={"price": 0})):
        with pytest.raises(ValueError, match="rename"):
            one.save(name, wrong)
    with pytest.raises(partd_go.Error, match="twice"):
        one.save(name, pd.concat([prices(), prices()]))
    with pytest.raises(NotFound):
        one.load(name)


def test_conflict(nodes, name):
    """Of savers at once each either saves or is told of a conflict."""
    one, two = nodes
    one.save(name, prices())
    saved, other = [], []

    def save(at):
        try:
            nodes[at % 2].save(name, pd.DataFrame({f"c{at}": [1.0]}, prices().index[:1]))
            saved.append(f"c{at}")
        except Conflict:
            pass
        except Exception as error:
            other.append(error)

    threads = [threading.Thread(target=save, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert saved and not other
    assert set(two.load(name).columns) == {"sym", "price", *saved}


def test_killed_and_returned(tmp_path, name):
    frame = prices()
    with pullframe((), tmp_path / "two", flags=("--lease=2s",)) as two:
        one = pullframe((), tmp_path / "one", flags=("--lease=2s",))
        one.save(name, frame)
        os.killpg(one._process.pid, signal.SIGKILL)
        with pytest.raises(SyncFailed):
            two.load(name)
        with pytest.raises(partd_go.Error):
            one.close()
        with pullframe((), tmp_path / "one", flags=("--lease=2s",)) as one:
            same(one.load(name), frame, check_freq=False)
            same(two.load(name), frame, check_freq=False)
        same(two.load(name), frame, check_freq=False)  # of its own files: nobody else is left


def test_closed(tmp_path, name):
    pf = pullframe((), tmp_path)
    pf.close()
    assert pf._process.poll() == 0
    with pytest.raises(partd_go.errors.NoServer, match="closed"):
        pf.load(name)

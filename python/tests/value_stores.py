"""Stores frames with each module of partd_go for the tests of values, and reads them back in this process or in a new
one.

    python -c "import value_stores; value_stores.main()" MODULE DIRECTORY URL NAMES RESULTS

reads the frames named in the JSON list NAMES, and pickles them to the file RESULTS. It creates no values itself, so
that it can read only what another process stored.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path


class Tables:
    def __init__(self, directory, url):
        import partd_go.tables

        self.open = partd_go.tables.connect(Path(directory, "tables"))

    def write(self, name, frame):
        self.open.put(name, frame)

    def append(self, name, frame):
        self.open.put(name, frame, "append", missing="ignore")

    def read(self, name):
        return self.open.get(name)

    def close(self):
        self.open.close()


class PyStore:
    def __init__(self, directory, url):
        import partd_go.pystore

        self.pystore = partd_go.pystore
        self.pystore.set_path(Path(directory, "pystore"))
        self.open = self.pystore.store("s").collection("c")

    def write(self, name, frame):
        self.open.write(name, frame)

    def append(self, name, frame):
        self.open.append(name, frame, validate_schema=False)

    def read(self, name):
        return self.open.item(name).to_pandas(parse_dates=False)  # otherwise an index of integers would become times

    def close(self):
        self.pystore.utils.release()


class Pull:
    """Stores the frames as columns of one frame, because each call of a node runs a program."""

    def __init__(self, directory, url):
        from partd_go.pull import pullframe

        self.open = pullframe((), Path(directory, "pull"))
        self.prefix = str(os.stat(directory).st_ino)  # keeps names unique, because tests share the machine's registry
        self.parts, self.loaded = {}, {}

    def write(self, name, frame, batch=0):
        from partd_go.frames import to_arrow

        to_arrow(frame)  # raises an error for a frame that must be refused
        column_name, _, step = name.rpartition(", ")
        frame = frame.rename(columns={"v": column_name})
        known = self.parts.setdefault((batch, step), frame)
        self.parts[batch, step] = known.assign(**{column: frame[column] for column in frame})

    def append(self, name, frame):
        self.write(name, frame, 1)

    def read(self, name):
        for batch, step in sorted(self.parts):
            self.open.save(f"{self.prefix} {step}", self.parts.pop((batch, step)))
        column_name, _, step = name.rpartition(", ")
        if step not in self.loaded:
            self.loaded[step] = self.open.load(f"{self.prefix} {step}")
        return self.loaded[step][["n", column_name]].rename(columns={column_name: "v"})

    def close(self):
        self.open.close()


class Arrow:
    def __init__(self, directory, url):
        import partd_go

        self.open = partd_go.Arrow(partd_go.Client(url))

    def write(self, name, frame):
        self.open.append({name: frame})

    append = write

    def read(self, name):
        return self.open.get(name)

    def close(self):
        self.open.close()


class Stage:
    def __init__(self, directory, url):
        from partd_go.stage import stage

        self.frames = {}

        @stage(cache=True, cache_dir=Path(directory, "stage"))
        def cached(name):
            return frames.pop(name)

        frames = Lazy(self.frames)
        self.cached = cached

    def write(self, name, frame):
        self.frames[name] = frame
        self.cached(name)

    def read(self, name):
        return self.cached(name)

    def close(self):
        pass


class Lazy:
    """Gives a stage access to the frames, without making them part of the hash of its arguments."""

    def __init__(self, frames):
        self.pop = frames.pop

    def __reduce__(self):
        return Lazy, ({},)


class Dask:
    def __init__(self, directory, url):
        self.directory = Path(directory, "dask")
        self.directory.mkdir(exist_ok=True)

    def write(self, name, frame):
        import numpy as np

        from partd_go.dask import blocks

        layout = blocks.layout_of(frame)
        pieces = [
            b"".join(piece)
            for block in blocks.split(frame, layout, np.zeros(len(frame), np.int64), None)
            for _, _, piece in block
        ]
        Path(self.directory, name.replace("/", "-")).write_bytes(pickle.dumps((layout, pieces)))

    def read(self, name):
        from partd_go.dask import blocks

        layout, pieces = pickle.loads(Path(self.directory, name.replace("/", "-")).read_bytes())
        return blocks.join(layout, map(memoryview, pieces), None)

    def close(self):
        pass


MODULES = {"tables": Tables, "pystore": PyStore, "pull": Pull, "Arrow": Arrow, "stage": Stage, "dask": Dask}


def read_all(store, names):
    """Returns each named frame, or the text of the error."""
    results = {}
    for name in names:
        try:
            results[name] = store.read(name)
        except Exception as error:
            results[name] = f"{type(error).__name__}: {error}"
    return results


def main():
    module, directory, url, names, results = sys.argv[1:]
    with contextlib.closing(MODULES[module](directory, url)) as store:
        Path(results).write_bytes(pickle.dumps(read_all(store, json.loads(names))))


def read_in_new_process(module, directory, url, names):
    """Returns the result of read_all in another process."""
    results = Path(directory, "results")
    arguments = [module, str(directory), url, json.dumps(names), str(results)]
    path = os.pathsep.join(filter(None, sys.path))
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import value_stores; value_stores.main()", *arguments],
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    return pickle.loads(results.read_bytes())

"""A bar of tqdm, where that is installed and somebody looks."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator

import pyarrow as pa

_SOON = 2.0  # seconds that a call takes before it has a bar


def watched() -> bool:
    """Whether a terminal or a notebook would show a bar."""
    return "ipykernel" in sys.modules or bool(sys.stderr and sys.stderr.isatty())


def barred(batches: Iterator[pa.RecordBatch], what: str, rows: int | None) -> Iterator[pa.RecordBatch]:
    """The batches, with a bar of the rows that have gone by, of so many."""
    if importlib.util.find_spec("tqdm") is None:
        yield from batches
        return
    from tqdm.auto import tqdm

    with tqdm(total=rows, desc=what, unit=" rows", unit_scale=True, delay=_SOON, leave=False) as bar:
        for batch in batches:
            bar.update(batch.num_rows)
            yield batch

"""Shows progress with tqdm, if it is installed."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator

import pyarrow as pa

_DELAY = 2.0  # seconds before a bar appears


def is_watched() -> bool:
    """Reports whether stderr is a terminal, or the program runs in a notebook."""
    return "ipykernel" in sys.modules or bool(sys.stderr and sys.stderr.isatty())


def with_bar(batches: Iterator[pa.RecordBatch], label: str, rows: int | None) -> Iterator[pa.RecordBatch]:
    """Yields the batches and shows the number of rows so far. rows is the total, if known."""
    if importlib.util.find_spec("tqdm") is None:
        yield from batches
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in a notebook without ipywidgets, tqdm warns before it shows a text bar
        from tqdm.auto import tqdm

    with tqdm(total=rows, desc=label, unit=" rows", unit_scale=True, delay=_DELAY, leave=False) as bar:
        for batch in batches:
            bar.update(batch.num_rows)
            yield batch

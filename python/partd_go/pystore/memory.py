"""Measures memory, reads items in chunks, and reduces the memory of DataFrames."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from .collection import Collection
from .frames import decode

logger = logging.getLogger("pystore.memory")
MEMORY_WARNING_THRESHOLD = 0.8
MEMORY_CRITICAL_THRESHOLD = 0.9


def get_memory_info() -> dict[str, float]:
    """Returns the memory of the machine and of this process, as measured by psutil."""
    import psutil

    memory, process = psutil.virtual_memory(), psutil.Process().memory_info()
    return {
        "total_gb": memory.total / 2**30,
        "available_gb": memory.available / 2**30,
        "used_percent": memory.percent / 100,
        "process_rss_gb": process.rss / 2**30,
        "process_vms_gb": process.vms / 2**30,
    }


def check_memory_usage() -> None:
    """Logs a warning if little memory is free."""
    info = get_memory_info()
    if info["used_percent"] > MEMORY_WARNING_THRESHOLD:
        kind = "Critical" if info["used_percent"] > MEMORY_CRITICAL_THRESHOLD else "High"
        logger.warning(
            "%s memory usage: %.1f %% (%.1f GB available)", kind, 100 * info["used_percent"], info["available_gb"]
        )


@contextmanager
def memory_efficient_read(chunk_size: int = 50_000) -> Iterator[None]:
    """Collects garbage before and after a with block. chunk_size is ignored; to read in chunks, use read_in_chunks."""
    gc.collect()
    try:
        yield
    finally:
        gc.collect()


def read_in_chunks(
    collection: Collection, item: str, chunk_size: int = 100_000, columns: list[str] | None = None
) -> Iterator[pd.DataFrame]:
    """Yields an item in frames of chunk_size rows, without reading the whole item first."""
    rows = collection.item(item)._scan(columns)
    batches: list[pa.RecordBatch] = []
    for batch in rows:
        while batch.num_rows:
            rows_left = chunk_size - sum(part.num_rows for part in batches)
            batches.append(batch.slice(0, rows_left))
            batch = batch.slice(rows_left)
            if sum(part.num_rows for part in batches) == chunk_size:
                yield decode(pa.Table.from_batches(batches, rows.schema))
                batches = []
    if batches:
        yield decode(pa.Table.from_batches(batches, rows.schema))


def estimate_dataframe_memory(df: pd.DataFrame) -> float:
    """Returns the memory of a DataFrame, in GB."""
    return float(df.memory_usage(deep=True).sum() / 2**30)


def optimize_dataframe_memory(df: pd.DataFrame, deep: bool = True) -> pd.DataFrame:
    """Returns the same values in smaller types: smaller integers, and float32 where it is exact. If deep is true,
    string columns become categories if fewer than half of their values are distinct."""
    smaller = df.copy(deep=False)
    for position in range(df.shape[1]):  # by position, because labels may repeat and need not be strings
        smaller.isetitem(position, _smaller(df.iloc[:, position], deep))
    return smaller


def _smaller(values: pd.Series[Any], deep: bool) -> pd.Series[Any]:
    if pd.api.types.is_integer_dtype(values.dtype):
        return pd.to_numeric(
            values, downcast="unsigned" if pd.api.types.is_unsigned_integer_dtype(values.dtype) else "integer"
        )
    if values.dtype == np.float64:
        reduced = values.astype(np.float32)
        return reduced if reduced.astype(np.float64).equals(values) else values
    if deep and (values.dtype == object or isinstance(values.dtype, pd.StringDtype)):
        try:
            return values.astype("category") if values.nunique() < len(values) / 2 else values
        except TypeError:
            return values  # unhashable values, such as lists
    return values


class MemoryMonitor:
    """Logs how much this process's memory grows in a with block, if it grows by more than 100 MB."""

    def __init__(self, warn_threshold: float = MEMORY_WARNING_THRESHOLD):
        self.warn_threshold = warn_threshold
        self.initial_memory: dict[str, float] = {}

    def __enter__(self) -> MemoryMonitor:
        self.initial_memory = get_memory_info()
        return self

    def __exit__(self, *exception: object) -> None:
        after = get_memory_info()
        increase = after["process_rss_gb"] - self.initial_memory["process_rss_gb"]
        if increase > 0.1:
            logger.info("Memory increased by %.2f GB", increase)
        if after["used_percent"] > self.warn_threshold:
            logger.warning("High memory usage: %.1f %%", 100 * after["used_percent"])
        gc.collect()

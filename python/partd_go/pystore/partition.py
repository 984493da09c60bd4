"""Divides items into files. Each file of an item is a partition of the item's dask DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from .collection import Collection

if TYPE_CHECKING:
    import dask.dataframe

DEFAULT_PARTITION_SIZE_MB = 128
MIN_PARTITION_SIZE_MB = 32
MAX_PARTITION_SIZE_MB = 512
_PERIODS = {"monthly": "month", "quarterly": "quarter", "yearly": "year", "auto": "auto"}


def calculate_optimal_partitions(
    data: Any, target_size_mb: float = DEFAULT_PARTITION_SIZE_MB, min_partitions: int = 1, max_partitions: int = 100
) -> int:
    """Returns the number of partitions of about target_size_mb megabytes into which to divide the data."""
    size = data.memory_usage(deep=True).sum()
    megabytes = (size if isinstance(data, pd.DataFrame) else size.compute()) / 2**20
    return max(min_partitions, min(max(1, int(megabytes / target_size_mb)), max_partitions))


def optimize_time_series_partitions(
    data: Any, freq: str = "auto", min_partition_days: int = 30
) -> tuple[dask.dataframe.DataFrame, int]:
    """Returns the data as a dask DataFrame, and the number of its partitions. freq is the period of a partition:
    "monthly", "quarterly", "yearly" or "auto"."""
    import dask.dataframe as dd

    lazy = dd.from_pandas(data, npartitions=1) if isinstance(data, pd.DataFrame) else data
    first, last = lazy.index.min().compute(), lazy.index.max().compute()
    if freq == "auto":
        days = (last - first).days
        freq = "monthly" if days < 365 else "quarterly" if days < 3 * 365 else "yearly"
    starts = pd.date_range(first.normalize(), last, freq={"monthly": "MS", "quarterly": "QS"}.get(freq, "YS"))
    divisions = [first, *(start for start in starts if first < start < last), last]
    if len(divisions) < 3 or len(divisions) > 101:
        return lazy, lazy.npartitions
    return lazy.repartition(divisions=divisions, force=True), len(divisions) - 1


def rebalance_partitions(
    collection: Collection,
    item: str,
    target_size_mb: float = DEFAULT_PARTITION_SIZE_MB,
    time_based: bool = True,
    freq: str = "auto",
) -> None:
    """Rewrites an item's files on the server. If the item has a time index and time_based is true, the files are
    divided by freq: "monthly", "quarterly", "yearly" or "auto". target_size_mb is ignored: no file exceeds 128 MB."""
    tables = collection._tables
    (settings,) = tables._ask("partd.settings", bucket=collection.collection, name=item)
    by = _PERIODS.get(freq, freq) if settings.get("time") and time_based else ""
    if by:
        tables._ask("partd.partition", bucket=collection.collection, name=item, by=by)
    else:
        tables._ask("partd.compact", Buckets=[collection.collection], Tables=[item])

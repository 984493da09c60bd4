"""A shuffle method for dask.dataframe, whose rows are in a partd store.

    with partd_go.dask.use():
        df.groupby("name").apply(f).compute()

Within it dask's shuffles, those of set_index, groupby, merge and others among them,
go through a partd-server, by threads, processes and distributed workers. Tasks may
fail, be run twice, or be killed: of each task one attempt counts, whole.
"""

from __future__ import annotations

from .method import use

__all__ = ["use"]

"""A shuffle method for dask.dataframe that stores rows in a partd store.

    with partd_go.dask.use():
        df.groupby("name").apply(len, meta=("n", "int64")).compute()

In the with block, dask's shuffles (in set_index, groupby, merge and others) go through a partd-server, with threads,
processes or distributed workers. Tasks may fail, run twice or be killed: the result contains the output of exactly one
complete execution of each task.
"""

from __future__ import annotations

from ..errors import extra

with extra("dask"):
    from .method import use

__all__ = ["use"]

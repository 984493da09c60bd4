"""dask's disk shuffle through a partd-server.

    import partd_server
    with partd_server.shuffles("tcp://127.0.0.1:7077"):
        df.shuffle("name", shuffle="disk").compute()

dask keeps what it shuffles in a directory of the machine it runs on. Within
shuffles() it keeps it in the server instead, which several processes share.
"""

import contextlib
import threading
import uuid

import dask.dataframe.shuffle
import partd
from partd.core import Interface


class Shuffle(Interface):
    """What one shuffle keeps in a server: keys that begin with its token.

    It may be used by several threads, and pickled into other processes: each
    thread has a connection of its own, as partd's client knows one at a time.
    """

    def __init__(self, address, token):
        self.address, self.token = address, token
        self.local = threading.local()
        Interface.__init__(self)

    def __reduce__(self):
        return Shuffle, (self.address, self.token)

    def client(self):
        if not hasattr(self.local, "client"):
            self.local.client = partd.Client(self.address)
        return self.local.client

    def key(self, k):
        return "%s/%s" % (self.token, k)

    def append(self, data, **kwargs):
        client = self.client()
        client.append({self.key(k): v for k, v in data.items()})
        client.get("")  # partd's client doesn't wait for the answer: this does

    def _get(self, keys, **kwargs):
        return self.client().get([self.key(k) for k in keys])

    def _iset(self, key, value, **kwargs):
        self.client().iset(self.key(key), value)

    def _delete(self, keys, **kwargs):
        client = self.client()
        client.delete([self.key(k) for k in keys])
        client.get("")

    def drop(self):
        """dask calls this after an error: what is left is the server's to drop."""


class Shuffles:
    """Takes the place of dask's choice of a store, in every process."""

    def __init__(self, address):
        self.address = address

    def __call__(self, *args, **kwargs):
        return partd.PandasBlocks(Shuffle(self.address, "dask-" + uuid.uuid4().hex))


@contextlib.contextmanager
def shuffles(address):
    """Within it, dask's shuffles on disk are in the server at the address."""
    usual = dask.dataframe.shuffle.maybe_buffered_partd
    dask.dataframe.shuffle.maybe_buffered_partd = lambda *args, **kwargs: Shuffles(address)
    try:
        yield
    finally:
        dask.dataframe.shuffle.maybe_buffered_partd = usual

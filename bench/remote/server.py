"""Runs the server of Python's partd and prints its address."""

import partd
from partd.zmq import Server

# partd 1.3 fails if it is given an address to bind to.
server = Server(partd.Dict(), hostname="127.0.0.1")
print("ready " + server.address.decode(), flush=True)
server.block()

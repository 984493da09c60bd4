"""Runs partd's own server, for comparison, and prints its address."""

import partd
from partd.zmq import Server

# Given an address to bind to, partd 1.3 fails.
server = Server(partd.Dict(), hostname="127.0.0.1")
print("ready " + server.address.decode(), flush=True)
server.block()

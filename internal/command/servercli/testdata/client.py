"""Runs every command of partd's own client against the server at an address.

It makes the same checks for every server, and prints its timings as JSON.
"""

import json
import pickle
import sys
import threading
import time

import partd


def client(address):
    return partd.Client(address)


def check(got, want, label):
    if got != want:
        raise AssertionError("%s: got %.200r, want %.200r" % (label, got, want))


def settle(c):
    """Waits for the replies to all of a client's requests, which the client itself does not do."""
    c.get("settled")


def commands(address):
    c = client(address)
    c.append({"x": b"Hello ", "y": b"123"})
    c.append({"x": b"world!", "y": b"456"})
    check(c.get("x"), b"Hello world!", "get")
    check(c.get(["y", "x"]), [b"123456", b"Hello world!"], "get of a list")
    check(c.get(["y", "missing", "y"]), [b"123456", b"", b"123456"], "get of a missing key, and of a repeated key")
    check(c.get([["y"], ["x", "y"]]), [[b"123456"], [b"Hello world!", b"123456"]], "get of lists in a list")
    c.append({("a", 1, "b"): b"tuple", b"bytes": b"b", "": b"empty key", "é/../%": b"any"})
    check(c.get(("a", 1, "b")), b"tuple", "a tuple key")
    check(c.get([("a", 1, "b"), b"bytes", "bytes", "", "é/../%"]), [b"tuple", b"b", b"b", b"empty key", b"any"], "keys of all kinds")
    c.iset("once", b"first")
    settle(c)
    other = client(address)
    other.iset("once", b"second")
    check(other.get("once"), b"first", "iset of a key that another client has set")
    other.append({"once": b"+"})
    settle(other)
    check(c.get("once"), b"first+", "append after iset")
    c.delete("y")
    c.delete(["x", "missing"])
    check(c.get(["x", "y", "once"]), [b"", b"", b"first+"], "delete")
    c.append({"empty": b""})
    check(c.get("empty"), b"", "an empty append")
    third = pickle.loads(pickle.dumps(c))
    third.append({"pickled": b"yes"})
    settle(third)
    check(c.get("pickled"), b"yes", "a client that was pickled")
    c.drop()
    settle(c)
    check(other.get(["once", "x", ("a", 1, "b"), "pickled"]), [b"", b"", b"", b""], "drop")
    c.append({"x": b"again"})
    settle(c)
    check(other.get("x"), b"again", "append after drop")
    with client(address) as last:  # the end of the block drops everything
        last.append({"z": b"z"})
        settle(last)
    time.sleep(0.5)  # the client does not wait for the reply to its drop
    check(other.get(["x", "z"]), [b"", b""], "get after the end of the with block")
    for x in (c, other, third):
        x.close()


def threads(address, clients=8, rounds=60, keys=40):
    """Appends to the same keys from several clients. No piece may be lost, and each client's pieces must stay in order."""
    errors = []

    def work(me):
        try:
            c = client(address)
            for n in range(rounds):
                c.append({"t%d" % k: b"%d.%d;" % (me, n) for k in range(keys)})
                if n % 20 == 0:
                    own = [p for p in c.get("t%d" % (n % keys)).split(b";") if p.startswith(b"%d." % me)]
                    check(len(own), n + 1, "a client's own pieces")
            settle(c)
            c.close()
        except BaseException as e:
            errors.append(e)

    all_threads = [threading.Thread(target=work, args=(i,)) for i in range(clients)]
    for t in all_threads:
        t.start()
    for t in all_threads:
        t.join()
    if errors:
        raise errors[0]
    c = client(address)
    values = c.get(["t%d" % k for k in range(keys)])
    for k, value in enumerate(values):
        pieces = value.split(b";")[:-1]
        check(len(pieces), clients * rounds, "pieces of key t%d" % k)
        for me in range(clients):
            own = [p for p in pieces if p.startswith(b"%d." % me)]
            check(own, [b"%d.%d" % (me, n) for n in range(rounds)], "key t%d, client %d" % (k, me))
    c.drop()
    c.close()


def many_keys(address, n=20000):
    c = client(address)
    c.append({"key %d" % i: b"value %d" % i for i in range(n)})
    c.append({"key %d" % i: b"+" for i in range(n)})
    got = c.get(["key %d" % i for i in range(n)])
    check(got, [b"value %d+" % i for i in range(n)], "20,000 keys in one message")
    c.delete(["key %d" % i for i in range(n)])
    check(c.get(["key %d" % i for i in (0, 1, n - 1)]), [b"", b"", b""], "20,000 keys deleted")
    c.close()


def large(address, mib=24):
    c = client(address)
    value = bytes(range(256)) * (mib << 12)
    c.append({"large": value})
    c.append({"large": b"+"})
    c.append({"large": value})
    got = c.get("large")
    if got != value + b"+" + value:
        raise AssertionError("a value of two times %d MiB came back wrong, with %d bytes" % (mib, len(got)))
    c.drop()
    c.close()


def main():
    address = sys.argv[1]
    timed = {}
    for f in (commands, threads, many_keys, large):
        start = time.time()
        f(address)
        timed[f.__name__] = time.time() - start
    print(json.dumps(timed))


if __name__ == "__main__":
    main()

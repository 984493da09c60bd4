"""Sends requests with libzmq that partd's own client never sends."""

import sys
import time

import zmq


def main():
    address = sys.argv[1]
    context = zmq.Context()

    def socket(kind=zmq.DEALER, **options):
        s = context.socket(kind)
        s.setsockopt(zmq.LINGER, 0)
        s.setsockopt(zmq.RCVTIMEO, 20000)
        s.setsockopt(zmq.SNDTIMEO, 20000)
        for name, value in options.items():
            s.setsockopt(getattr(zmq, name), value)
        s.connect(address)
        return s

    def ask(s, *frames):
        s.send_multipart(list(frames))
        return s.recv_multipart()

    def check(got, want):
        if got != want:
            raise AssertionError("got %.200r, want %.200r" % (got, want))

    # With many requests in progress, the replies must come in order.
    s = socket()
    for i in range(2000):
        s.send_multipart([b"append", b"piped", b"%d," % i])
        if i % 100 == 0:
            s.send_multipart([b"get", b"piped"])
    for i in range(2000):
        check(s.recv_multipart(), [b"ack"])
        if i % 100 == 0:
            check(s.recv_multipart(), [b"".join(b"%d," % n for n in range(i + 1))])
            check(s.recv_multipart(), [b"ack"])

    # Send the same key twice in one request, and empty and large frames.
    check(ask(s, b"append", b"twice", b"1", b"twice", b"2", b"", b"", b"large", b"x" * 3000000), [b"ack"])
    check(ask(s, b"get", b"twice", b"", b"large"), [b"12", b"", b"x" * 3000000])
    check(s.recv_multipart(), [b"ack"])
    check(ask(s, b"get"), [b"ack"])

    # A refused request gets one frame with an error before ack, and changes nothing.
    for request in ([b"append", b"odd"], [b"iset", b"odd"], [b"iset", b"odd", b"1", b"2"], [b"nonsense", b"odd"], [b""], [b"", b"syn"]):
        answer = ask(s, *request)
        if len(answer) != 1 or not answer[0].startswith(b"error: "):
            raise AssertionError("the reply to %r is %r, want one frame with an error" % (request, answer))
        check(s.recv_multipart(), [b"ack"])
    check(ask(s, b"get", b"odd"), [b""])
    check(s.recv_multipart(), [b"ack"])

    # Two peers may have the same identity.
    a, b = socket(IDENTITY=b"name"), socket(IDENTITY=b"name")
    for i in range(50):
        a.send_multipart([b"get", b"twice"])
        b.send_multipart([b"get", b"piped2"])
        check(a.recv_multipart(), [b"12"])
        check(b.recv_multipart(), [b""])
        check(a.recv_multipart(), [b"ack"])
        check(b.recv_multipart(), [b"ack"])

    # The server must answer heartbeats. Otherwise libzmq drops the connection.
    monitored = context.socket(zmq.DEALER)
    monitored.setsockopt(zmq.LINGER, 0)
    monitored.setsockopt(zmq.RCVTIMEO, 20000)
    monitored.setsockopt(zmq.HEARTBEAT_IVL, 50)
    monitored.setsockopt(zmq.HEARTBEAT_TIMEOUT, 500)
    monitored.setsockopt(zmq.HEARTBEAT_TTL, 1000)
    events = monitored.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    monitored.connect(address)
    check(ask(monitored, b"syn"), [b"ack"])
    time.sleep(1.2)
    check(ask(monitored, b"syn"), [b"ack"])
    if events.poll(0):
        raise AssertionError("the connection with heartbeats was lost")
    monitored.disable_monitor()

    # A peer with the wrong socket type is not served, and does not affect other peers.
    sub = context.socket(zmq.PULL)
    sub.setsockopt(zmq.LINGER, 0)
    sub.connect(address)
    check(ask(s, b"syn"), [b"ack"])
    s.send_multipart([b"drop"])
    check(s.recv_multipart(), [b"ack"])
    check(ask(s, b"get", b"twice"), [b""])
    check(s.recv_multipart(), [b"ack"])
    print("done")
    context.destroy(0)


if __name__ == "__main__":
    main()

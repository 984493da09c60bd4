"""Parses a server's URL and connects to it."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import urllib.parse
from dataclasses import dataclass, field

from .errors import Misuse, Refused, failure

USAGE = "pass tcp://HOST:PORT[/NAMESPACE], tls://HOST:PORT[/NAMESPACE] or ipc:///PATH"
_NETWORK = re.compile(r"(tcp|tls)://(?:\[([^]/@?#]+)\]|([^]\[:/@?#]+)):(\d+)(?:/([^/?#]*))?")
_NAMESPACE = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Settings:
    """The URL and options of a connection, as passed to Client."""

    url: str
    namespace: str = ""
    token: str | None = field(default=None, repr=False)
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_name: str | None = None
    insecure_token: bool = False
    connect_timeout: float = 10.0
    retry_for: float = 60.0
    python_server: bool = False

    def parse(self) -> Address:
        """Returns the address in the URL, after checking that the other options are compatible with it."""
        address = _parse(self.url)
        if self.namespace and address.namespace not in ("", self.namespace):
            raise Misuse(
                f"{self.url} names the namespace {address.namespace!r}, but the argument namespace is "
                f"{self.namespace!r}: pass only one"
            )
        namespace = address.namespace or self.namespace
        if namespace and not _NAMESPACE.fullmatch(namespace):
            raise Misuse(f"namespace {namespace!r}: pass 1 to 64 letters, digits, '-', '_' or '.'")
        if not address.secure and (self.tls_ca or self.tls_cert or self.tls_key or self.tls_name):
            raise Misuse(f"{self.url} does not use TLS, but a tls_ option is given: pass tls://HOST:PORT")
        if self.python_server and (self.token or namespace or address.secure):
            raise Misuse(
                f"{self.url} with python_server=True: the Python server has no users, namespaces or TLS: leave these "
                "options out"
            )
        if self.tls_key and not self.tls_cert:
            raise Misuse("tls_key is given without tls_cert: pass both")
        return Address(address.secure, address.host, address.port, address.path, namespace)


@dataclass(frozen=True)
class Address:
    """The parts of a server's URL."""

    secure: bool = False
    host: str = ""
    port: int = 0
    path: str = ""  # the Unix socket's path; if set, host and port are not
    namespace: str = ""


def _parse(url: str) -> Address:
    if url.startswith("ipc://"):
        path = urllib.parse.unquote(url[len("ipc://") :])
        if not path or "\0" in path:
            raise Misuse(f"address {url!r}: pass ipc:///PATH")
        return Address(path=path)
    match = _NETWORK.fullmatch(url)
    if not match or int(match[4]) > 0xFFFF or match[5] == "":
        # The URL may contain a secret: do not print it.
        redacted = re.sub(r"//[^/]*@|[?#].*", "//…", url)
        raise Misuse(f"address {redacted!r}: {USAGE}")
    return Address(match[1] == "tls", match[2] or match[3], int(match[4]), "", match[5] or "")


def connect(settings: Settings, address: Address, timeout: float) -> socket.socket:
    """Returns a new connection, with TLS for a tls:// URL."""
    context = _context(settings) if address.secure else None
    if address.path:
        sock = socket.socket(socket.AF_UNIX)
    else:
        sock = socket.create_connection((address.host, address.port), timeout)
    try:
        sock.settimeout(timeout)
        if address.path:
            sock.connect(address.path)
            return sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # Detect a dead peer. While data is unacknowledged, the kernel sends no probes, but TCP_USER_TIMEOUT (in
        # milliseconds) applies.
        for option, value in (
            ("TCP_KEEPIDLE", 15),
            ("TCP_KEEPINTVL", 5),
            ("TCP_KEEPCNT", 6),
            ("TCP_USER_TIMEOUT", 45_000),
        ):
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        if context:
            return context.wrap_socket(sock, server_hostname=settings.tls_name or address.host)
        if settings.token and not settings.insecure_token:
            peer = ipaddress.ip_address(sock.getpeername()[0].partition("%")[0])
            if not peer.is_loopback:
                raise failure(
                    Refused,
                    "connect",
                    settings.url,
                    "the token was not sent, because others could read it over tcp://",
                    "pass a tls:// URL, or insecure_token=True in a trusted network",
                )
        return sock
    except BaseException:
        sock.close()
        raise


def _context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if settings.tls_cert:
            # Without password=, OpenSSL would ask for an encrypted key's password at the terminal.
            context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
        return context
    except OSError as error:
        raise failure(
            Refused,
            "connect",
            settings.url,
            f"a certificate or key cannot be read ({error})",
            "pass PEM files as tls_ca, tls_cert and tls_key; the key must have no password",
        ) from error

"""Starts a table server, for this program or for others."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
from pathlib import Path

from ..errors import Error, Misuse, NoServer, failure, start_failure
from ..server import START_TIMEOUT, Process, find
from ..shared import SharedProcess

Pem = str | bytes | os.PathLike[str]  # the path of a PEM file, or its content
# Prefixes of environment variables that partd-tables does not inherit.
IGNORED_ENV_PREFIXES = ("PARTD_TABLES_", "SHOOTS_")


def program() -> str:
    """Returns the path of partd-tables: in its wheel, or else on the PATH."""
    wheel = importlib.util.find_spec("partd_go_tables")
    locations = list(wheel.submodule_search_locations or ()) if wheel else []
    return find("partd-tables", Path(*locations[:1], "_bin"), "partd-go-tables")


def _write_private(directory: str, name: str, text: str) -> str:
    """Writes text to a file that only this user can read. Returns the file's path."""
    path = os.path.join(directory, name)
    with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)
    return path


class Server(Process):
    """A running `partd-tables serve` process, as returned by serve(). Clients connect to its url.

        with serve("data") as server, connect(server.url) as tables:
            tables.put("trades", frame)

    The end of the with block stops the server.
    """

    _verify = "partd-tables verify"

    def __init__(
        self,
        directory: str | os.PathLike[str],
        listen: str = "",
        *,
        secret: str | None = None,
        flags: tuple[str, ...] = (),
        start_timeout: float = START_TIMEOUT,
        tls: tuple[Pem | None, Pem | None] = (None, None),
    ):
        super().__init__()
        self._program = program()
        self._secret = ""
        self.directory = directory = location_of(directory)
        self.arguments = directory, flags, start_timeout
        try:
            private_dir = self._make_socket_directory()
            for flag, pem in zip(("--tls-cert", "--tls-key"), tls):
                if pem:
                    pem_or_path = pem.decode() if isinstance(pem, bytes) else os.fspath(pem)
                    path = (
                        _write_private(private_dir, flag[2:], pem_or_path)
                        if "-----BEGIN" in pem_or_path
                        else pem_or_path
                    )
                    flags = (flag, path, *flags)
            if secret is not None:
                self._secret = _write_private(private_dir, "secret", secret)
                flags = ("--secret-file", self._secret, *flags)
            listen = listen or f"grpc+unix://{private_dir}/socket"
            command = [self._program, "serve", "--dir", directory, "--listen", listen, *flags]
            self.url = self._start(directory, command, private_dir, IGNORED_ENV_PREFIXES, start_timeout)
        except BaseException as error:
            self._kill()
            if isinstance(error, OSError) and not isinstance(error, Error):
                raise start_failure(str(directory), error) from error
            raise

    def __enter__(self) -> Server:
        return self

    def token(self, *, read: bool = False, ttl: str = "30d") -> str:
        """Returns a token for clients. It permits all calls or, if read is true, only reading. It expires after ttl,
        such as "12h" or "30d"."""
        if not self._secret:
            raise failure(
                NoServer,
                "make a token",
                self.url,
                "the server has no secret and needs no token",
                "pass secret= to serve()",
            )
        command = [self._program, "token", "--secret-file", self._secret, "--ttl", ttl, "--read" if read else "--admin"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def shutdown(self) -> None:
        """Stops the server after the calls in progress have finished and small appends were moved into data files."""
        try:
            self.close()
        except NoServer:
            # If the directory was deleted, nothing is lost.
            if "://" in self.directory or os.path.exists(self.directory):
                raise


class SharedServer(SharedProcess):
    """A handle to a directory's server, which all of this user's handles on this machine share."""

    _exclusive, _ignored_env_prefixes, _verify = True, IGNORED_ENV_PREFIXES, Server._verify

    def __init__(self, directory: str, flags: tuple[str, ...] = (), start_timeout: float = START_TIMEOUT):
        machine = hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:8]
        super().__init__(directory, f"server-{os.getuid()}-{machine}")
        self.arguments = directory, flags, start_timeout
        self._program, self._flags, self._start_timeout = program(), flags, start_timeout
        self._connect_or_start()

    def _command(self, socket_directory: str) -> list[str]:
        if any(_HIDDEN in flag for flag in self._flags):
            raise Misuse(
                f"the server of {self.directory} has ended, and only the handle that started it knows its passwords: "
                "connect again with the same options"
            )
        return [
            self._program,
            "serve",
            "--dir",
            self.directory,
            "--listen",
            f"grpc+unix://{socket_directory}/socket",
            *self._flags,
        ]

    def _description(self) -> list[bytes]:
        return [os.fsencode(flag) for flag in _without_passwords(self._flags)]

    def _check_description(self, description: bytes) -> None:
        if self._connection is not None:
            return  # this handle was connected before, so another handle has restarted the server: accept its options
        running_flags = tuple(os.fsdecode(description).split("\0")) if description else ()
        if not self._flags:
            self._flags = running_flags  # a restart by this handle then keeps the options, such as the catalog
        elif running_flags != _without_passwords(self._flags):
            running = f"other options ({' '.join(running_flags)})" if description else "the default options"
            raise Misuse(
                f"{self.directory} is already open with {running}: close it in all programs first, or pass the same "
                "options"
            )

    def shutdown(self) -> None:
        self.close()


_HIDDEN = "(hidden)"
_PASSWORD = re.compile(r"(?<=://)([^/?#@:]*):[^/?#@]*@|([?&]\w*password=)[^&]*", re.I)


def _without_passwords(flags: tuple[str, ...]) -> tuple[str, ...]:
    """Returns flags without passwords in URLs, such as the catalog's. Files and messages must not contain passwords."""
    return tuple(_PASSWORD.sub(lambda m: f"{m[2]}{_HIDDEN}" if m[2] else f"{m[1]}:{_HIDDEN}@", flag) for flag in flags)


def open_server(location: str, flags: tuple[str, ...], start_timeout: float) -> Server | SharedServer:
    """Returns a handle to a server for location. A handle has its own server for a bucket, for a directory that this
    user cannot write to, and with --read-only or --no-tail. All other handles to a directory share one server."""
    existing = location
    while not os.path.exists(existing) and existing != os.path.dirname(existing):
        existing = os.path.dirname(existing)
    if "://" in location or not {"--no-tail", "--read-only"}.isdisjoint(flags) or not os.access(existing, os.W_OK):
        return Server(location, flags=flags, start_timeout=start_timeout)
    return SharedServer(location, flags, start_timeout)


def location_of(url_or_dir: str | os.PathLike[str]) -> str:
    """Returns a URL unchanged, and a directory as an absolute path. ~ is the user's home directory."""
    location = os.fspath(url_or_dir)
    return location if "://" in location else os.path.abspath(os.path.expanduser(location))


def serve(
    dir: str | os.PathLike[str],
    host: str = "localhost",
    port: int = 8081,
    cert: Pem | None = None,
    key: Pem | None = None,
    secret: str | None = None,
    *,
    flags: tuple[str, ...] = (),
    memory: int | str | None = None,
    read_only: bool = False,
    start_timeout: float = START_TIMEOUT,
) -> Server:
    """Starts a server for the tables in a directory, so that other processes can use the tables. Returns the server.

        with serve("data") as server, connect(server.url) as tables:
            tables.put("trades", frame)

    Args:
        dir: The directory of the tables.
        host, port: The address for clients. If port is 0, the system chooses a free port.
        cert, key: A certificate and its key, which enable TLS: paths of PEM files, or their content.
        secret: The secret that signs tokens. If it is given, each call needs a token from Server.token().
        flags: Additional flags for `partd-tables serve`, such as ("--insecure",).
        memory, read_only, start_timeout: As in connect().
    """
    scheme = "grpc+tls" if cert else "grpc"
    url_host = f"[{host}]" if ":" in host else host
    flags = (*server_flags(memory, read_only), *flags)
    return Server(
        dir, f"{scheme}://{url_host}:{port}", secret=secret, flags=flags, start_timeout=start_timeout, tls=(cert, key)
    )


def server_flags(memory: int | str | None, read_only: bool) -> tuple[str, ...]:
    """Returns the flags of `partd-tables serve` for arguments of connect() and serve()."""
    return (*(() if memory is None else ("--memory", str(memory))), *(("--read-only",) if read_only else ()))

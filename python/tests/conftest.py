"""Provides fixtures: a server per test file, a server with TLS and users, and an empty store for each test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

import partd_go
from partd_go.server import find


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with partd_go.serve() as url:
        yield url


@pytest.fixture
def store(url: str) -> Iterator[partd_go.Client]:
    with partd_go.Client(url, retry_for=10) as store:
        yield store
        store.drop()


def openssl(*args: str) -> None:
    subprocess.run(["openssl", *args], check=True, capture_output=True)


@pytest.fixture(scope="module")
def secure(tmp_path_factory) -> Iterator[tuple[dict[str, str], str, str, str]]:
    """Starts a server with TLS and users. Yields its URLs by scheme, the directory of its certificates, a token with
    all rights, and a token that may only read."""
    directory = tmp_path_factory.mktemp("secure")
    openssl(
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=authority",
        "-days",
        "2",
        "-keyout",
        f"{directory}/ca.key",
        "-out",
        f"{directory}/ca.pem",
    )
    for name in ("server", "carol"):
        openssl(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            f"/CN={name}",
            "-keyout",
            f"{directory}/{name}.key",
            "-out",
            f"{directory}/{name}.csr",
        )
        (directory / f"{name}.ext").write_text("subjectAltName=DNS:partd.example,IP:127.0.0.1\n")
        openssl(
            "x509",
            "-req",
            "-in",
            f"{directory}/{name}.csr",
            "-CA",
            f"{directory}/ca.pem",
            "-CAkey",
            f"{directory}/ca.key",
            "-days",
            "2",
            "-extfile",
            f"{directory}/{name}.ext",
            "-out",
            f"{directory}/{name}.pem",
        )
    program = find("partd-server")
    tokens = []
    for user, rights in (("alice", "read,append,change,admin"), ("bob", "read"), ("carol", "read,append,change")):
        added = subprocess.run(
            [
                program,
                "token",
                "add",
                user,
                "--tokens-file",
                f"{directory}/users",
                "--rights",
                rights,
                *(["--certificate"] if user == "carol" else []),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        tokens += added.stdout.split()[-1:]
    server = subprocess.Popen(
        [
            program,
            "--store",
            f"log:{directory}/store",
            "--listen",
            "tls://127.0.0.1:0",
            "--listen",
            "tcp://127.0.0.1:0",
            "--tls-cert",
            f"{directory}/server.pem",
            "--tls-key",
            f"{directory}/server.key",
            "--tokens-file",
            f"{directory}/users",
            "--tls-client-ca",
            f"{directory}/ca.pem",
            "--exit-on-stdin-close",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    urls = dict(server.stdout.readline().split()[1].split("://") for _ in range(2))
    yield {scheme: f"{scheme}://{rest}" for scheme, rest in urls.items()}, str(directory), *tokens[:2]
    server.communicate()

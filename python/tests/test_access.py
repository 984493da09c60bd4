"""Tests tokens, TLS and certificates."""

from __future__ import annotations

import time

import pytest

import partd_go
from conftest import openssl


def test_tls_and_token(secure):
    urls, directory, alice, bob = secure
    for options in ({"token": alice}, {"tls_cert": f"{directory}/carol.pem", "tls_key": f"{directory}/carol.key"}):
        with partd_go.Client(urls["tls"], tls_ca=f"{directory}/ca.pem", **options) as client:
            client.append({"x": bytes(3 << 20)})
            assert client.get("x") == bytes(3 << 20) and dict(client.scan()) == {"x": bytes(3 << 20)}
            client.delete("x")
    with partd_go.Client(urls["tls"], bob, f"{directory}/ca.pem") as client:
        assert client.get("x") == b""
        with pytest.raises(partd_go.Refused, match="check the token, and its user"):
            client.append({"x": b"1"})
        assert client.get("x") == b""
    with partd_go.Client(urls["tcp"], alice) as client:  # the client sends a token without TLS to a loopback address
        assert client.get("x") == b""


def test_names_of_certificates(secure):
    urls, directory, alice, _ = secure
    url = urls["tls"].replace("127.0.0.1", "localhost")
    with pytest.raises(partd_go.Refused, match="certificate is not trusted.*tls_ca"):
        partd_go.Client(url, alice, f"{directory}/ca.pem").get("x")
    with pytest.raises(partd_go.Refused, match="certificate is not trusted"):
        partd_go.Client(urls["tls"], alice).get("x")
    with partd_go.Client(url, alice, f"{directory}/ca.pem", tls_name="partd.example") as client:
        assert client.get("x") == b""


def test_files_that_cannot_be_read(secure, tmp_path):
    urls, directory, _, _ = secure
    openssl("pkey", "-in", f"{directory}/carol.key", "-aes128", "-passout", "pass:secret", "-out", f"{tmp_path}/locked")
    for options in (
        {"tls_ca": f"{directory}/none"},
        {"tls_ca": f"{directory}/users"},
        {"tls_cert": f"{directory}/carol.pem", "tls_key": f"{directory}/server.key"},
        {"tls_cert": f"{directory}/carol.pem", "tls_key": f"{tmp_path}/locked"},
    ):
        start = time.monotonic()
        with pytest.raises(partd_go.Refused, match="certificate or key cannot be read .*: pass PEM files"):
            partd_go.Client(urls["tls"], **options).get("x")
        assert time.monotonic() - start < 5


def test_wrong_token(secure):
    urls, directory, _, bob = secure
    for token in (None, "s3cret"):
        with pytest.raises(partd_go.Refused) as caught:
            partd_go.Client(urls["tls"], token, f"{directory}/ca.pem").get("x")
        assert "s3cret" not in str(caught.value)
    with pytest.raises(PermissionError):
        partd_go.Client(urls["tls"], bob, f"{directory}/ca.pem").namespaces()


def test_token_is_not_shown_beyond_this_machine(secure, monkeypatch):
    urls, _, alice, _ = secure
    monkeypatch.setattr(partd_go.address.ipaddress.IPv4Address, "is_loopback", False)
    with pytest.raises(
        partd_go.Refused, match="the token was not sent, because others could read it over tcp://: pass a tls:// URL"
    ) as caught:
        partd_go.Client(urls["tcp"], alice).get("x")
    assert alice not in str(caught.value)
    with partd_go.Client(urls["tcp"], alice, insecure_token=True) as client:
        assert client.get("x") == b""

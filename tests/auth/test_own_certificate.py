"""The certificate that a process makes for itself: one a process, TLS 1.3, key in no file."""

from __future__ import annotations

import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from headrace.auth.own_certificate import as_file, connecting, digest_of, listening, self_signed


def shaken(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of TLS after its handshake, in memory."""
    pipes = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(pipes[0], pipes[1], server_side=False),
        server.wrap_bio(pipes[1], pipes[0], server_side=True),
    )
    done = [False, False]
    for _ in range(10):
        for number, end in enumerate(ends):
            try:
                end.do_handshake()
                done[number] = True
            except ssl.SSLWantReadError:
                pass
    assert all(done)
    return ends


def test_both_ends_see_one_digest() -> None:
    context, digest = listening()
    client, server = shaken(context, connecting())
    assert digest_of(client.getpeercert(binary_form=True)) == digest
    assert client.version() == server.version() == "TLSv1.3"
    assert listening()[1] == digest


def test_no_older_tls() -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shaken(listening()[0], old)


def test_each_process_has_its_own() -> None:
    source = "from headrace.auth.own_certificate import listening; print(listening()[1].hex())"
    run = [sys.executable, "-c", source]
    digests = {subprocess.run(run, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert len(digests | {f"{listening()[1].hex()}\n"}) == 3


def test_the_key_stays_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    listening.cache_clear()
    listening()
    assert not list(tmp_path.iterdir())
    with as_file("text") as name:
        assert Path(name).read_text() == "text"
    assert not list(tmp_path.iterdir())


def test_it_can_be_checked_against_itself() -> None:
    certificate, key = self_signed("headrace-test")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with as_file(certificate + key) as path:
        server.load_cert_chain(path)
    client = ssl.create_default_context(cadata=certificate)
    client.check_hostname = False
    shaken(server, client)


def test_no_certificate_has_a_digest_too() -> None:
    assert digest_of(None) == digest_of(b"") != digest_of(b"x")

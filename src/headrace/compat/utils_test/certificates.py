"""Certificates for tests with TLS: made when first asked for, as files that go when the process ends."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import ssl
import tempfile
from collections.abc import Iterator
from typing import Any

import dask.config
import pytest

from headrace.security import Security
from headrace.testing.clusters import StartedServer, cluster


@functools.cache
def _folder() -> str:
    """With a key, its certificate, both in one file, and the authority (here the certificate itself)."""
    folder = tempfile.mkdtemp(prefix="headrace-certificates-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = Security.temporary()
    certificate, key = str(made.tls_ca_file), str(made.tls_scheduler_key)  # type: ignore[attr-defined]
    texts = {
        "tls-ca-cert.pem": certificate,
        "tls-cert.pem": certificate,
        "tls-key.pem": key,
        "tls-key-cert.pem": key + certificate,
    }
    for name, text in texts.items():
        with open(os.path.join(folder, name), "w") as file:
            file.write(text)
    return folder


def get_cert(filename: str) -> str:
    """Path of a file: `tls-cert.pem`, `tls-key.pem`, `tls-key-cert.pem` or `tls-ca-cert.pem`.

    Raises:
        FileNotFoundError: it is none of these.
    """
    path = os.path.join(_folder(), filename)
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no certificate {filename!r}; there are {sorted(os.listdir(_folder()))}")
    return path


def tls_config() -> dict[str, Any]:
    """Configuration of TLS with these certificates, for `dask.config.set`."""
    role = {"key": get_cert("tls-key.pem"), "cert": get_cert("tls-cert.pem")}
    tls = {"ca-file": get_cert("tls-ca-cert.pem"), "client": role, "scheduler": role, "worker": role}
    return {"distributed": {"comm": {"tls": tls}}}


def tls_only_config() -> dict[str, Any]:
    """Configuration of TLS with these certificates that refuses connections without TLS."""
    config = tls_config()
    config["distributed"]["comm"]["require-encryption"] = True
    return config


def tls_only_security() -> Security:
    """A `Security` with these certificates, that refuses connections without TLS."""
    with dask.config.set(tls_only_config()):
        security = Security()
    assert security.require_encryption
    return security


def _context(purpose: ssl.Purpose, certfile: str, keyfile: str, ca_file: str) -> ssl.SSLContext:
    """A context that shows one of these certificates and asks the other side for one."""
    context = ssl.create_default_context(purpose, cafile=get_cert(ca_file))
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(get_cert(certfile), get_cert(keyfile))
    return context


def get_server_ssl_context(
    certfile: str = "tls-cert.pem", keyfile: str = "tls-key.pem", ca_file: str = "tls-ca-cert.pem"
) -> ssl.SSLContext:
    """A context for servers, that asks for certificates."""
    return _context(ssl.Purpose.CLIENT_AUTH, certfile, keyfile, ca_file)


def get_client_ssl_context(
    certfile: str = "tls-cert.pem", keyfile: str = "tls-key.pem", ca_file: str = "tls-ca-cert.pem"
) -> ssl.SSLContext:
    """A context for clients."""
    return _context(ssl.Purpose.SERVER_AUTH, certfile, keyfile, ca_file)


@contextlib.contextmanager
def tls_cluster_context(
    worker_kwargs: dict[str, Any] | None = None,
    scheduler_kwargs: dict[str, Any] | None = None,
    security: Security | None = None,
    **kwargs: Any,
) -> Iterator[tuple[StartedServer, list[StartedServer]]]:
    """A `cluster` with TLS, of processes of their own; `kwargs` as of `cluster`."""
    keywords = {"security": security or tls_only_security(), "protocol": "tls"}
    with cluster(
        worker_kwargs={**keywords, **(worker_kwargs or {})},
        scheduler_kwargs={**keywords, **(scheduler_kwargs or {})},
        **kwargs,
    ) as servers:
        yield servers


def xfail_ssl_issue5601() -> None:
    """Expect the calling test to fail where temporary certificates cannot be made."""
    pytest.importorskip("cryptography")
    try:
        Security.temporary()
    except ImportError as error:
        pytest.xfail(f"temporary certificates cannot be made: {error}")

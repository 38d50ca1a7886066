"""TLS settings per role."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import dask.config
import pytest

from headrace.comm import Comm, connect, listen
from headrace.security import Security


def test_nothing_by_default() -> None:
    security = Security()
    assert not security.require_encryption
    assert security.get_connection_args("client") == {
        "ssl_context": None,
        "require_encryption": False,
        "extra_conn_args": {},
    }
    assert security.get_listen_args("worker") == {"ssl_context": None, "require_encryption": False}
    assert repr(security) == "Security(require_encryption=False, tls_min_version=771)"


def test_temporary_certificates_do_not_show(security: Security) -> None:
    assert security.require_encryption
    assert "PRIVATE" not in repr(security)
    assert "Temporary (In-memory)" in repr(security)
    config = security.get_tls_config_for_role("worker")
    assert set(config) == {"ca_file", "ciphers", "cert", "key"}
    context = security.get_listen_args("scheduler")["ssl_context"]
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_keywords_win_over_the_configuration() -> None:
    with dask.config.set({"distributed.comm.tls.ca-file": "a.pem", "distributed.comm.tls.min-version": 1.3}):
        security = Security(tls_client_cert="c.pem", require_encryption=False)
    assert security.tls_ca_file == "a.pem"
    assert security.tls_client_cert == "c.pem"
    assert security.tls_min_version == ssl.TLSVersion.TLSv1_3
    assert not security.require_encryption
    assert Security(tls_ca_file="a.pem").require_encryption


def test_wrong_settings(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="tls_nonsense"):
        Security(tls_nonsense=1)
    with pytest.raises(ValueError, match=r"tls_min_version can be 1\.2 or 1\.3"):
        Security(tls_min_version=1.1)
    with pytest.raises(ValueError, match="unknown role 'boss'"):
        Security().get_connection_args("boss")
    missing = str(tmp_path / "missing.pem")
    with pytest.raises(FileNotFoundError, match="certificates of role 'client'"):
        Security(tls_ca_file=missing, tls_client_cert=missing).get_connection_args("client")


async def test_certificates_in_files(tmp_path: Path, security: Security) -> None:
    async def handle(comm: Comm) -> None:
        await comm.write(comm.extra_info["peercert"]["subject"])
        await comm.close()

    files: dict[str, Any] = {}
    for name in ("tls_ca_file", "tls_client_cert", "tls_client_key", "tls_scheduler_cert", "tls_scheduler_key"):
        files[name] = str(tmp_path / name)
        Path(files[name]).write_text(getattr(security, name))
    from_files = Security(**files)
    async with await listen("tls://127.0.0.1:0", handle, **from_files.get_listen_args("scheduler")) as listener:
        comm = await connect(listener.contact_address, **from_files.get_connection_args("client"))
        assert "headrace" in str(await comm.read())
        assert comm.extra_info["cipher"]
        await comm.close()

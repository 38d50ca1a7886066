"""TLS settings per role."""

from __future__ import annotations

import asyncio
import re
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask.config
import pytest

from headrace import Scheduler
from headrace.comm import Comm, CommClosedError, FatalCommClosedError, connect, listen
from headrace.comm.connections import DROPS
from headrace.security import Security


def without_rules(arguments: dict[str, Any]) -> dict[str, Any]:
    """What there is about certificates."""
    return {name: value for name, value in arguments.items() if name != "access_rules"}


def test_nothing_by_default() -> None:
    security = Security()
    assert not security.require_encryption
    assert without_rules(security.get_connection_args("client")) == {
        "ssl_context": None,
        "require_encryption": False,
        "extra_conn_args": {},
    }
    assert without_rules(security.get_listen_args("worker")) == {"ssl_context": None, "require_encryption": False}
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


def test_none_overrides_the_configuration() -> None:
    with dask.config.set({"distributed.comm.tls.ca-file": "a.pem", "distributed.comm.tls.client.cert": "c.pem"}):
        security = Security(tls_ca_file=None)
        assert security.tls_ca_file is None
        assert security.get_tls_config_for_role("client")["cert"] == "c.pem"


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({}, False),
        ({"tls_ca_file": "b.pem"}, True),
        ({"tls_ciphers": None}, True),
        ({"extra_conn_args": {"a": 1}}, False),
    ],
)
def test_certificates_of_the_configuration_alone_do_not_require_encryption(
    keywords: dict[str, Any], expected: bool
) -> None:
    with dask.config.set({"distributed.comm.tls.ca-file": "a.pem"}):
        assert Security(**keywords).require_encryption is expected
        for chosen in (False, True):
            assert Security(require_encryption=chosen, **keywords).require_encryption is chosen
            with dask.config.set({"distributed.comm.require-encryption": chosen}):
                assert Security(**keywords).require_encryption is chosen


@pytest.mark.parametrize("settings", [{}, {"distributed.comm.tls.min-version": None}])
def test_no_version_before_12_by_default(settings: dict[str, Any]) -> None:
    with dask.config.set(settings):
        assert Security().tls_min_version is ssl.TLSVersion.TLSv1_2
        assert Security(tls_min_version=None).tls_min_version is ssl.TLSVersion.TLSv1_2
        assert Security().tls_max_version is None


def test_a_role_without_certificates_has_no_context(security: Security) -> None:
    """Only an authority is there: what others must have is known, and this role does not use TLS."""
    alone = Security(tls_ca_file=security.tls_ca_file)
    assert alone.get_connection_args("client")["ssl_context"] is None
    assert without_rules(alone.get_listen_args("worker")) == {"ssl_context": None, "require_encryption": True}


async def test_a_plain_scheduler_beside_configured_certificates(security: Security, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(f"{security.tls_scheduler_cert}\n{security.tls_scheduler_key}")  # type: ignore[attr-defined]
    names = ("ca-file", "scheduler.cert", "client.cert")
    with dask.config.set({f"distributed.comm.tls.{name}": str(both) for name in names}):
        async with Scheduler(host="tcp://127.0.0.1", protocol="tcp") as scheduler:
            comm = await connect(scheduler.address, **Security().get_connection_args("client"))
            await comm.close()


async def test_refusals_by_the_documented_types() -> None:
    with pytest.raises(RuntimeError, match="encryption is required") as refused:
        await connect("tcp://127.0.0.1:1", require_encryption=True)
    assert isinstance(refused.value, FatalCommClosedError)
    with pytest.raises(TypeError, match="no certificates") as refused:
        await connect("tls://127.0.0.1:1")
    assert isinstance(refused.value, FatalCommClosedError)


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


PARTS = ("tls_ca_file", "tls_scheduler_cert", "tls_scheduler_key")


@pytest.mark.parametrize("given", [PARTS[1:2], PARTS[2:], PARTS[:2], PARTS[1:], (PARTS[0], PARTS[2])])
@pytest.mark.parametrize("encryption", [None, False, True])
async def test_half_of_a_configuration_is_refused(
    security: Security, given: tuple[str, ...], encryption: bool | None
) -> None:
    """What is missing is named; nobody listens in the clear who did not mean to."""
    keywords: dict[str, Any] = {name: getattr(security, name) for name in given}
    half = Security(require_encryption=encryption, **keywords)
    missing = [name for name in PARTS if name not in given]
    for use in (half.get_listen_args, half.get_connection_args):
        with pytest.raises(ValueError, match="no " + " and ".join(missing)):
            use("scheduler")
    settings = {Security.setting(name): value for name, value in keywords.items()}
    with dask.config.set(settings), pytest.raises(ValueError, match=re.escape(Security.setting(missing[0]))):
        Scheduler(host="127.0.0.1")
    with pytest.raises(ValueError, match="by half"):
        Scheduler(host="127.0.0.1", security=keywords)


def test_a_key_may_stand_beside_its_certificate(security: Security, tmp_path: Path) -> None:
    both = f"{security.tls_client_cert}\n{security.tls_client_key}"  # type: ignore[attr-defined]
    (tmp_path / "both.pem").write_text(both)
    for given in (both, str(tmp_path / "both.pem")):
        found = Security(tls_ca_file=security.tls_ca_file, tls_client_cert=given)
        assert found.get_connection_args("client")["ssl_context"] is not None


async def echo(comm: Comm) -> None:
    with suppress(CommClosedError):
        while True:
            await comm.write(await comm.read())


async def test_who_is_refused_by_tls_hears_so_at_once(security: Security, logs: pytest.LogCaptureFixture) -> None:
    """And not after the time to connect, which is an hour here; each has one line in the log."""
    other = Security.temporary()
    async with await listen("tls://127.0.0.1:0", echo, **security.get_listen_args("scheduler")) as listener:
        address = listener.contact_address
        for arguments, said in (
            (other.get_connection_args("client"), "certificate"),
            (
                Security(tls_ca_file=security.tls_ca_file, **own_pair(other)).get_connection_args("client"),
                "certificate",
            ),
        ):
            logs.clear()
            with pytest.raises(FatalCommClosedError, match=said):
                await connect(address, timeout=3600, **arguments)
            async with asyncio.timeout(20):
                while not logs.records:
                    await asyncio.sleep(0.005)
            assert len(logs.records) <= DROPS
            assert all("Refused the connection" in record.getMessage() for record in logs.records)
            assert not any(record.exc_info for record in logs.records)
        logs.clear()
        with pytest.raises(FatalCommClosedError, match="TLS"):
            await connect(address.replace("tls", "tcp"), timeout=3600)
        assert [record.getMessage().count("does not use TLS") for record in logs.records] == [1]
        comm = await connect(address, **security.get_connection_args("client"))
        await comm.write("still there?")
        assert await comm.read() == "still there?"
        await comm.close()
    async with await listen("tcp://127.0.0.1:0", echo) as listener:
        address = listener.contact_address.replace("tcp", "tls")
        with pytest.raises(FatalCommClosedError, match="TLS"):
            await connect(address, timeout=3600, **security.get_connection_args("client"))


def own_pair(security: Security) -> dict[str, Any]:
    return {name: getattr(security, name) for name in ("tls_client_cert", "tls_client_key")}

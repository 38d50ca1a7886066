"""The files in which `ssl` reads keys that a process has made."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from headrace import Security
from headrace.auth.own_certificate import as_file, self_signed


@pytest.fixture
def no_memory_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)


def test_no_key_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(os, "memfd_create"):
        pytest.skip("the system has no files in memory")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))  # a container's disk may be read-only
    before = set(os.listdir("/proc/self/fd"))
    with as_file("text") as path:
        for _ in range(2):
            assert Path(path).read_text() == "text"
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert Security.temporary().get_listen_args("scheduler")["ssl_context"] is not None


@pytest.mark.usefixtures("no_memory_files")
def test_elsewhere_it_is_for_this_user_alone_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = os.umask(0)
    try:
        with as_file(self_signed("x")[1]) as path:
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
            assert Path(path).parent == tmp_path
    finally:
        os.umask(before)
    assert not list(tmp_path.iterdir())
    assert Security.temporary().get_listen_args("scheduler")["ssl_context"] is not None


def test_an_error_within_is_the_callers() -> None:
    with pytest.raises(OSError, match="of the caller"), as_file("text"):
        raise OSError("of the caller")

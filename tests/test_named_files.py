"""Files of processes are for their user alone whatever the umask, and go through nobody else's links."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace import Client, Scheduler, Worker
from headrace.cli.process_life import pid_file
from headrace.cluster_dump import load_cluster_dump, write_state
from headrace.compat.cluster_dump import DumpArtefact
from headrace.compat.spill import AnyKeyFile
from headrace.deploy.ssh import Process
from headrace.diagnostics.pages.stream_drawings import Figure
from headrace.diagnostics.performance_report import write_text
from headrace.diagnostics.plugins.upload import UploadDirectory
from headrace.preloading import process_preloads
from headrace.private_directories import chosen_directory, open_named
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import poll_for
from headrace.worker.memory import SpillBuffer
from tests.test_private_directories import as_root, by_stranger, shared

__all__ = ["shared"]  # a fixture


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode_of(path: str | os.PathLike[str]) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def assert_closed(folder: Path) -> int:
    """That others may do nothing with a directory and what is in it; returns how many files were looked at."""
    paths = [folder, *folder.rglob("*")]
    assert [(path, oct(mode_of(path))) for path in paths if mode_of(path) & 0o077] == []
    return sum(path.is_file() for path in paths)


# What is made without being named.


@gen_cluster(nthreads=[])
async def test_all_that_a_worker_keeps(s: Scheduler, tmp_path: Path) -> None:
    with umask(0):
        async with Worker(s.address, nthreads=1, local_directory=str(tmp_path / "chosen")) as w:
            assert w.operations.upload_file("uploaded_here.py", b"x = 1", True)["status"] == "OK"
            (Path(w.local_directory) / "file").write_bytes(b"")  # only to see that the mask is as open as can be
            assert mode_of(Path(w.local_directory) / "file") == 0o666
            (Path(w.local_directory) / "file").unlink()
            shutil.rmtree(Path(w.local_directory) / "__pycache__", ignore_errors=True)  # Python's own, in our directory
            assert assert_closed(tmp_path / "chosen") == 2, "the file, and the lock of the directory"
            sys.modules.pop("uploaded_here")


@gen_cluster(nthreads=[], client=True)
async def test_an_uploaded_directory(c: Client, s: Scheduler, tmp_path: Path) -> None:
    (tmp_path / "package" / "inner").mkdir(parents=True)
    (tmp_path / "package" / "inner" / "module.py").write_text("")
    plugin = UploadDirectory(str(tmp_path / "package"), mode="all")
    with umask(0):
        async with Worker(s.address, nthreads=1, local_directory=str(tmp_path / "chosen")) as w:
            await c.register_plugin(plugin)
            assert assert_closed(Path(w.local_directory)) == 1
            assert [plugin for plugin in s.plugins.values() if isinstance(plugin, UploadDirectory)]


@as_root
@gen_cluster(nthreads=[])
async def test_a_stranger_on_the_machine(s: Scheduler) -> None:
    place = Path(tempfile.mkdtemp())
    place.chmod(0o1777)
    try:
        with umask(0):
            async with Worker(s.address, nthreads=1, local_directory=str(place)) as w:
                assert w.operations.upload_file("secret.txt", b"secret", False)["status"] == "OK"
                name = Path(w.local_directory).name
                for attempt in (
                    "ls N",
                    "cat N/secret.txt",
                    "> N/more",
                    "mv N O",
                    "rm -r N",
                    "> N.dirlock",
                    "cat N.dirlock",
                ):
                    with pytest.raises(subprocess.CalledProcessError):
                        by_stranger(attempt.replace("N", name), place)
                assert (Path(w.local_directory) / "secret.txt").read_bytes() == b"secret"
    finally:
        shutil.rmtree(place)


def test_what_is_spilled(tmp_path: Path) -> None:
    with umask(0):
        buffer = SpillBuffer(str(tmp_path / "spilled"), target=1)
        buffer["x"] = b"x" * 10_000
        poll_for(lambda: len(buffer.disk) == 1)
        assert assert_closed(tmp_path / "spilled") == 1
        assert buffer["x"] == b"x" * 10_000
        buffer.close()
        files = AnyKeyFile(tmp_path / "files")
        files["x"] = b"x"
        assert assert_closed(tmp_path / "files") == 1


@as_root
@pytest.mark.parametrize("trap", ["mkdir NAME", "mkdir his; ln -s his NAME"])
def test_storage_in_a_directory_of_a_stranger(shared: Path, trap: str) -> None:
    by_stranger(trap.replace("NAME", "spilled"), shared)
    files = AnyKeyFile(shared / "spilled")
    files["x"] = b"secret"
    assert files["x"] == b"secret"
    buffer = SpillBuffer(str(shared / "spilled"), target=1)
    buffer["x"] = b"x" * 10_000
    poll_for(lambda: len(buffer.disk) == 1)
    buffer.close()
    assert not list((shared / "spilled").iterdir())
    assert files.directory.startswith(str(shared / "spilled-"))


async def test_a_preload_that_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.preloading._download", lambda address: b"loaded = True")
    with umask(0):
        (preload,) = process_preloads(None, "http://host/made_for_this_test.py", None, str(tmp_path))
        await preload.load()
    assert mode_of(tmp_path / "made_for_this_test.py") == 0o600
    sys.modules.pop("made_for_this_test")


@as_root
def test_a_directory_whose_entries_anybody_may_rename(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    shared.chmod(0o777)
    for _ in range(2):
        chosen_directory(str(shared / "mine"))
    (line,) = caplog.records
    assert f"chmod +t {shared}" in line.getMessage()


# What the user names.


def test_a_private_file_and_one_to_share(tmp_path: Path) -> None:
    for mask in (0, 0o022, 0o077):
        with umask(mask):
            for private, mode in ((True, 0o600), (False, 0o666 & ~mask)):
                path = tmp_path / f"{mask}-{private}"
                with open_named(path, private) as file:
                    file.write(b"long")
                with open_named(path, private) as file:
                    file.write(b"x")
                assert mode_of(path) == mode
                assert path.read_bytes() == b"x"


def test_who_has_opened_the_file_before_reads_nothing_new(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_bytes(b"old")
    path.chmod(0o644)
    with path.open("rb") as before, open_named(path) as file:
        file.write(b"secret")
        file.flush()
        assert before.read() == b"old"
    assert path.read_bytes() == b"secret"
    assert mode_of(path) == 0o600


def test_links_of_ones_own_are_followed_and_devices_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    with open_named(tmp_path / "link") as file:
        file.write(b"x")
    assert (tmp_path / "target").read_bytes() == b"x"
    assert (tmp_path / "link").is_symlink()
    before = os.stat(os.devnull).st_mode
    with open_named(os.devnull) as file:
        file.write(b"x")
    assert os.stat(os.devnull).st_mode == before


def writers(path: Path) -> list[Any]:
    state = {"scheduler": {"tasks": {}}, "workers": {}, "versions": {}}

    def keep_pid() -> None:
        with pid_file(str(path)):
            raise AssertionError("the file was written")

    return [
        lambda: write_state(state, path.with_name(path.name + ".yaml"), "yaml"),
        lambda: write_state(state, path.with_name(path.name + ".msgpack.gz"), "msgpack"),
        lambda: write_state(state, f"file://{path}", "yaml"),
        lambda: write_text(str(path), "report"),
        lambda: write_text(f"file://{path}", "report"),
        lambda: Figure("drawing").save(str(path)),
        keep_pid,
    ]


@as_root
@pytest.mark.parametrize("trap", ["ln -s ../victim NAME", "> NAME", "mkfifo NAME", "ln -s ../nowhere NAME"])
def test_nothing_goes_where_a_stranger_wants_it(shared: Path, tmp_path: Path, trap: str) -> None:
    victim, nowhere = shared / "victim", shared / "nowhere"
    victim.write_text("precious")
    place = shared / "place"
    place.mkdir()
    place.chmod(0o1777)
    for name in ("x", "x.yaml", "x.msgpack.gz"):
        by_stranger(trap.replace("NAME", name), place)
    for write in writers(place / "x"):
        with pytest.raises(Exception, match="was made by somebody else") as caught:
            write()
        assert str(place / "x") in str(caught.value)
    assert victim.read_text() == "precious"
    assert not nowhere.exists()
    assert all(not entry.is_file() or not entry.stat().st_size for entry in place.iterdir() if not entry.is_symlink())


@as_root
def test_nor_into_a_directory_of_his(shared: Path) -> None:
    by_stranger("mkdir above", shared)
    for write in writers(shared / "above" / "x"):
        with pytest.raises(Exception, match="was made by somebody else"):
            write()
    assert not list((shared / "above").iterdir())


def test_dumps_are_private_and_reports_as_the_umask_says(tmp_path: Path) -> None:
    state = {"scheduler": {"tasks": {"x": 1}}, "workers": {}, "versions": {}}
    with umask(0):
        write_state(state, tmp_path / "new" / "dump", "yaml")
        write_state(state, tmp_path / "new" / "dump", "msgpack")
        write_text(str(tmp_path / "report.html"), "é")
        with pid_file(str(tmp_path / "pid")):
            assert mode_of(tmp_path / "pid") == 0o600
            assert int((tmp_path / "pid").read_text()) == os.getpid()
        DumpArtefact(state).to_yamls(tmp_path / "yamls")
    assert not mode_of(tmp_path / "new") & 0o022, "nobody else can exchange the dump"
    for name in ("dump.yaml", "dump.msgpack.gz"):
        assert mode_of(tmp_path / "new" / name) == 0o600
        assert load_cluster_dump(tmp_path / "new" / name) == state
    assert mode_of(tmp_path / "report.html") == 0o666
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "é"
    assert assert_closed(tmp_path / "yamls" / "scheduler") == 2


@gen_cluster(client=True)
async def test_the_dump_of_a_cluster(c: Client, s: Scheduler, a: Worker, b: Worker, tmp_path: Path) -> None:
    with umask(0):
        await c.dump_cluster_state(str(tmp_path / "dump"), format="yaml")
        await s.dump_cluster_state_to_url(str(tmp_path / "other"), exclude=())
    assert mode_of(tmp_path / "dump.yaml") == 0o600
    assert mode_of(tmp_path / "other.msgpack.gz") == 0o600


class Echo(Process):
    def _arguments(self) -> list[str]:
        return ["said"]


@pytest.mark.parametrize("planted", [False, True])
def test_logs_of_processes_that_ssh_starts(tmp_path: Path, planted: bool) -> None:
    folder = tmp_path / "logs it's"
    log = folder / "dask_echo_host.log"
    if planted:
        folder.mkdir()
        log.symlink_to(tmp_path / "victim")
    command = Echo("host", remote_python="sh -c 'echo said; umask' x", log_directory=str(folder))._command()
    done = subprocess.run(
        ["sh", "-c", f"umask 022; {command}"], input="configuration\n", capture_output=True, check=True, text=True
    )
    assert done.stderr.split() == ["said", "0022"], "the process has the umask of its user"
    assert log.read_text() == done.stderr
    assert mode_of(log) == 0o600
    assert not (tmp_path / "victim").exists()
    if not planted:
        assert mode_of(folder) == 0o700


def test_a_log_that_cannot_be_kept_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "dask_echo_host.log" / "full").mkdir(parents=True)
    command = Echo("host", remote_python="echo", log_directory=str(tmp_path))._command()
    done = subprocess.run(["sh", "-c", command], input="configuration\n", capture_output=True, check=False, text=True)
    assert done.stderr.splitlines()[-1] == "said"

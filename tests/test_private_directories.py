"""Where users share a directory, nobody gets at a worker's files by having made a name in it before."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest

from headrace import private_directories
from headrace.directories import WorkDir, WorkSpace, scratch_directory
from headrace.private_directories import chosen_directory, private_directory

#: Another user than the one who runs the tests; only root can make files for him.
STRANGER = 61002
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to be another user")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A place like /tmp, and in it: tests' own directories are closed to others."""
    private_directories._told.clear()
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


def by_stranger(code: str, folder: Path) -> None:
    """Run code as another user in a folder."""
    subprocess.run(
        ["/bin/sh", "-ec", "umask 0; " + textwrap.dedent(code)],
        cwd=folder,
        user=STRANGER,
        group=STRANGER,
        extra_groups=[],
        check=True,
    )


def assert_private(path: str) -> None:
    found = os.lstat(path)
    assert stat.S_ISDIR(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o700
    assert found.st_uid == os.geteuid()
    assert private_directories.made_by_others(path) is None


def test_a_directory_is_made_for_this_user_alone(shared: Path) -> None:
    umask = os.umask(0)
    try:
        path = private_directory(str(shared / "a" / "b" / "mine"))
    finally:
        os.umask(umask)
    assert path == str(shared / "a" / "b" / "mine")
    assert_private(path)
    assert [(shared / name).stat().st_mode & 0o022 for name in ("a", "a/b")] == [0, 0], "nobody else writes above it"
    assert private_directory(path) == path


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o770])
def test_one_that_is_open_to_others_is_not_used(shared: Path, mode: int, caplog: pytest.LogCaptureFixture) -> None:
    (shared / "mine").mkdir()
    (shared / "mine").chmod(mode)
    path = private_directory(str(shared / "mine"))
    assert path.startswith(str(shared / "mine-"))
    assert_private(path)
    assert private_directory(str(shared / "mine")) == path, "the same for the next worker"
    assert len(caplog.records) == 1
    assert f"open to others (mode {mode:o}" in caplog.text


def test_a_link_and_a_file_are_not_used(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    (shared / "elsewhere").mkdir(mode=0o700)
    (shared / "link").symlink_to("elsewhere")
    (shared / "dangling").symlink_to("nowhere")
    (shared / "file").write_text("")
    for name in ("link", "dangling", "file"):
        path = private_directory(str(shared / name))
        assert path.startswith(str(shared / f"{name}-"))
        assert_private(path)
    assert not list((shared / "elsewhere").iterdir())
    assert not (shared / "nowhere").exists()
    assert len(caplog.records) == 3


@as_root
@pytest.mark.parametrize(
    "trap", ["mkdir NAME", "mkdir -m 700 NAME", "mkdir -p mine/storage; ln -s mine NAME", "ln -s /etc NAME", "> NAME"]
)
def test_what_a_stranger_has_made_is_not_used(shared: Path, trap: str, caplog: pytest.LogCaptureFixture) -> None:
    with dask.config.set({"temporary-directory": str(shared)}):
        name = f"headrace-{os.getuid()}"
        by_stranger(trap.replace("NAME", name), shared)
        path = scratch_directory()
        assert path.startswith(str(shared / f"{name}-"))
        assert_private(path)
        assert scratch_directory() == path
        directory = WorkDir(WorkSpace(path), prefix="worker-")
        assert_private(directory.dir_path)
        directory.release()
    (line,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert path in line.getMessage()


@as_root
def test_directories_that_imitate_the_other_name_are_not_used(shared: Path) -> None:
    by_stranger("mkdir mine mine-0 mine-zzz; ln -s mine mine-1", shared)
    path = private_directory(str(shared / "mine"))
    assert_private(path)
    assert Path(path).name not in ("mine-0", "mine-1", "mine-zzz")


@as_root
@pytest.mark.parametrize("make", ["mkdir above", "mkdir his; ln -s his above", "mkdir -p above/mine"])
@pytest.mark.parametrize("directory", [private_directory, chosen_directory])
def test_a_directory_above_that_a_stranger_has_made(
    shared: Path, make: str, directory: object, caplog: pytest.LogCaptureFixture
) -> None:
    by_stranger(make, shared)
    path = directory(str(shared / "above" / "mine"))  # type: ignore[operator]
    assert path.startswith(str(shared / "mine-"))
    assert_private(path)
    assert "above was made by somebody else" in caplog.text


@as_root
def test_a_link_of_our_own_to_a_strangers_directory(shared: Path) -> None:
    by_stranger("mkdir his", shared)
    (shared / "link").symlink_to("his")
    assert Path(private_directory(str(shared / "link" / "mine"))).resolve().parent == shared


@as_root
def test_where_not_everybody_may_write_others_may_own(shared: Path) -> None:
    """A project's directory belongs to somebody of the project: its owner, and not a stranger, has put it there."""
    project = shared / "projects" / "project"
    project.mkdir(parents=True)
    os.chown(project, STRANGER, STRANGER)
    assert private_directory(str(project / "mine")) == str(project / "mine")
    assert chosen_directory(str(project)) == str(project)


@as_root
def test_a_stranger_cannot_have_directories_removed(shared: Path) -> None:
    """A lock that nobody holds, beside a directory, says that the directory is a dead worker's."""
    (shared / "precious").mkdir()
    by_stranger("> precious.dirlock; mkfifo pipe.dirlock; ln -s precious link.dirlock", shared)
    work = WorkDir(WorkSpace(shared), prefix="worker-")
    assert (shared / "precious").is_dir()
    work.release()


def test_a_scheduler_file_follows_no_link(tmp_path: Path) -> None:
    from headrace.rpc.scheduler_file import write_scheduler_file

    (tmp_path / f"file.{os.getpid()}").symlink_to(tmp_path / "victim")
    write_scheduler_file(str(tmp_path / "file"), {"address": "tcp://127.0.0.1:1"})
    assert not (tmp_path / "victim").exists()
    assert (tmp_path / "file").is_file()

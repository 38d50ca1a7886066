"""Where processes find their token: settings before files, files that others cannot read, and one maker of many."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest

from headrace.auth.token_places import (
    FILE_SETTING,
    SETTING,
    VARIABLE,
    configured_tokens,
    find_tokens,
    make_token_file,
    own_token_file,
    read_token_file,
)
from tests.other_user import OTHER_UID, needs_other_user, run_as_other_user

A, B, C = "a-token-of-24-characters", "b-token-of-24-characters", "c-token-of-24-characters"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home in which nothing is configured."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    with dask.config.set({SETTING: None, FILE_SETTING: None}):
        yield tmp_path


def written(path: Path, text: str = A, mode: int = 0o600) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_the_order(home: Path) -> None:
    written(home / ".config/headrace/token", C)
    assert find_tokens().valid == (C,)
    assert configured_tokens() is None
    with dask.config.set({FILE_SETTING: written(home / "other", B)}):
        assert find_tokens().valid == (B,)
        with dask.config.set({SETTING: A}):
            assert find_tokens().valid == (A,)
            assert SETTING in find_tokens().source


@pytest.mark.parametrize("given", [f"{A},{B}", f"{A}\n{B}", [A, B], (A, B), f" {A} , {B} "])
def test_two_tokens_in_the_setting(given: object) -> None:
    with dask.config.set({SETTING: given}):
        assert find_tokens().valid == (A, B)


def test_a_setting_that_is_no_token(home: Path) -> None:
    with dask.config.set({SETTING: "secret"}), pytest.raises(ValueError, match="could be guessed") as caught:
        find_tokens()
    assert "secret" not in str(caught.value)
    assert not (home / ".config").exists()


def test_the_environment(home: Path) -> None:
    source = "from headrace.auth.token_places import find_tokens; print(*find_tokens().valid)"
    for value in (A, f"{A},{B}", "12345678901234567890", "_ZxU-0123456789abcdefghij"):
        done = subprocess.run(
            [sys.executable, "-c", source], env={**os.environ, VARIABLE: value}, capture_output=True, text=True
        )
        assert done.stdout.split() == value.split(","), done.stderr
    assert not (home / ".config/headrace/token").exists()


def test_the_file_is_made_for_its_user_alone(home: Path) -> None:
    before = os.umask(0)
    try:
        found = find_tokens()
    finally:
        os.umask(before)
    path = home / ".config/headrace/token"
    assert own_token_file() == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert find_tokens() == found
    assert path.read_text().split() == list(found.valid)
    assert list(path.parent.iterdir()) == [path]


def test_the_place_follows_the_standard(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "xdg"))
    find_tokens()
    assert (home / "xdg/headrace/token").exists()
    assert not (home / ".config").exists()
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    assert own_token_file() == str(home / ".config/headrace/token")


def test_one_token_of_many_makers(home: Path) -> None:
    source = (
        "import sys; from headrace.auth.token_places import find_tokens; print('ready', flush=True); "
        "sys.stdin.readline(); print(*find_tokens().valid)"
    )
    makers = [
        subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(20)
    ]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("\n")
        maker.stdin.flush()
    found = {maker.communicate(timeout=60)[0] for maker in makers}
    assert len(found) == 1
    assert found.pop().strip()
    assert [path.name for path in (home / ".config/headrace").iterdir()] == ["token"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o606, 0o601, 0o620])
def test_a_file_that_others_may_use_is_refused(home: Path, mode: int) -> None:
    path = written(home / "token", mode=mode)
    with pytest.raises(PermissionError, match=f"mode {mode:o}.*chmod 600") as caught:
        read_token_file(path)
    assert A not in str(caught.value)
    os.chmod(path, 0o600)
    assert read_token_file(path).valid == (A,)
    os.chmod(path, 0o400)
    assert read_token_file(path).valid == (A,)


def test_a_mode_that_changes_later_is_noticed(home: Path) -> None:
    path = written(home / "token")
    assert read_token_file(path).valid == (A,)
    os.chmod(path, 0o644)
    with pytest.raises(PermissionError):
        read_token_file(path)


def test_a_token_that_changes_later_is_noticed(home: Path) -> None:
    path = written(home / "token")
    assert read_token_file(path).valid == (A,)
    make_token_file(path, B, A, replace=True)
    assert read_token_file(path).valid == (B, A)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_file_is_not_replaced_without_asking(home: Path) -> None:
    path = written(home / "token")
    make_token_file(path, B)
    assert read_token_file(path).valid == (A,)
    assert os.listdir(home) == ["token"]


@needs_other_user
def test_a_file_of_another_user(home: Path) -> None:
    path = written(home / "token")
    os.chown(path, OTHER_UID, OTHER_UID)
    with pytest.raises(PermissionError, match=f"another user \\({OTHER_UID}\\)"):
        read_token_file(path, named=False)


@needs_other_user
@pytest.mark.parametrize(
    ("mode", "fits"), [(0o440, True), (0o640, True), (0o400, True), (0o444, False), (0o660, False)]
)
def test_a_secret_mounted_by_root(home: Path, mode: int, fits: bool) -> None:
    """Kubernetes mounts secrets as root's, with the group of the process, behind symbolic links."""
    written(home / "..data_1/token", mode=mode)
    (home / "..data").symlink_to("..data_1")
    (home / "token").symlink_to("..data/token")
    os.chown(home / "..data_1/token", 0, OTHER_UID)
    for folder in (home, *home.parents):
        assert folder.exists()
    source = """
import sys
from headrace.auth.token_places import read_token_file
try:
    print(*read_token_file(sys.argv[1]).valid)
except PermissionError as error:
    print("refused:", error)
"""
    printed = run_as_other_user(source, str(home / "token"))
    assert printed == A if fits else printed.startswith("refused: other users may read or change")


def test_a_link_is_judged_by_where_it_leads(home: Path) -> None:
    written(home / "real", mode=0o644)
    (home / "token").symlink_to("real")
    with pytest.raises(PermissionError):
        read_token_file(str(home / "token"))


@needs_other_user
def test_a_home_that_cannot_be_written(home: Path) -> None:
    home.chmod(0o755)
    source = (
        "from headrace.auth.token_places import find_tokens; found = find_tokens(); print(found.valid, found.problem)"
    )
    printed = run_as_other_user(source, env={**os.environ, "HOME": str(home)})
    assert printed.startswith("() ")
    assert f"{home}/.config/headrace/token cannot be made: Permission denied" in printed


@pytest.mark.parametrize("there", ["file", "dangling"])
def test_a_home_that_is_odd(home: Path, there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if there == "file":
        (home / ".config").write_text("")
    else:
        monkeypatch.setenv("HOME", str(home / "nowhere\0"[:-1] / Path("x")))
        (home / "nowhere").symlink_to("/proc/nothing")
    found = find_tokens()
    assert not found
    assert "cannot be made" in found.problem


def test_errors_of_files_name_them(home: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        read_token_file(str(home / "missing"))
    with pytest.raises(ValueError, match=r"empty.*no token"):
        read_token_file(written(home / "empty", ""))
    (home / "binary").write_bytes(b"\xff" * 40)
    (home / "binary").chmod(0o600)
    with pytest.raises(ValueError, match="binary"):
        read_token_file(str(home / "binary"))
    (home / "folder").mkdir(mode=0o700)
    with pytest.raises(OSError, match="folder"):
        read_token_file(str(home / "folder"))


def test_a_tilde(home: Path) -> None:
    written(home / "token")
    assert read_token_file("~/token").valid == (A,)

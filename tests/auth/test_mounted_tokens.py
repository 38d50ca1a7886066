"""Token files as containers get them: behind links, owned by root or by a user of the host."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.auth.token_places import find_tokens, read_token_file

TOKEN = "a-token-that-is-long-enough"
#: Another user than root, who can be only where root runs the tests; and one more.
USER, STRANGER = 61002, 61003
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to be another user")


@pytest.fixture
def mounted() -> Iterator[Path]:
    """The link to a file with a token, laid out as Kubernetes mounts secrets."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # other users may not reach the directory of this one
    folder.chmod(0o755)
    (folder / "..2026").mkdir()
    (folder / "..2026" / "token").write_text(f"{TOKEN}\n")
    (folder / "..data").symlink_to("..2026")
    (folder / "token").symlink_to("..data/token")
    yield folder / "token"
    shutil.rmtree(folder)


def given(path: Path, mode: int, owner: int | None = None, group: int = 0) -> str:
    """The path of the file, which gets a mode and, if one is given, an owner."""
    file = path.resolve()
    if owner is not None:
        os.chown(file, owner, group)
    file.chmod(mode)
    return str(path)


def test_links_are_followed(mounted: Path) -> None:
    assert read_token_file(given(mounted, 0o400)).valid == (TOKEN,)


@pytest.mark.parametrize("mode", [0o644, 0o444, 0o604, 0o620])
def test_a_mode_that_lets_others_in_is_refused_with_what_to_do(mounted: Path, mode: int) -> None:
    with pytest.raises(PermissionError, match=f"mode {mode:o}.*defaultMode 0400.*fsGroup"):
        read_token_file(given(mounted, mode))


def test_a_secret_that_is_exchanged_is_read_again(mounted: Path) -> None:
    path = given(mounted, 0o400)
    assert read_token_file(path).valid == (TOKEN,)
    folder = mounted.parent
    (folder / "..2027").mkdir()
    (folder / "..2027" / "token").write_text(f"{TOKEN}-new\n{TOKEN}\n")
    (folder / "..2027" / "token").chmod(0o400)
    (folder / "..tmp").symlink_to("..2027")
    os.replace(folder / "..tmp", folder / "..data")
    assert read_token_file(path).valid == (f"{TOKEN}-new", TOKEN)


@as_root
def test_root_may_name_the_file_of_a_user(mounted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = given(mounted, 0o600, USER, USER)
    assert read_token_file(path).valid == (TOKEN,)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "headrace").mkdir()
    shutil.copy2(path, tmp_path / "headrace" / "token")
    os.chown(tmp_path / "headrace" / "token", USER, USER)
    with pytest.raises(PermissionError, match=f"belongs to another user \\({USER}\\)"):
        find_tokens()


_CHECK = """
import os, sys
from headrace.auth import token_places
os.setgroups([int(sys.argv[2])]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[3]))
try:
    print(token_places.read_token_file(sys.argv[1]).valid)
except OSError as error:
    print(error)
"""


@as_root
@pytest.mark.parametrize(
    ("mode", "owner", "group", "answer"),
    [
        (0o440, 0, USER, f"('{TOKEN}',)"),  # what fsGroup makes of a secret
        (0o400, USER, USER, f"('{TOKEN}',)"),
        (0o444, 0, USER, "fsGroup"),
        (0o460, 0, USER, "may read or change"),
        (0o444, STRANGER, USER, "belongs to another user"),
    ],
)
def test_a_user_who_is_not_root(mounted: Path, mode: int, owner: int, group: int, answer: str) -> None:
    path = given(mounted, mode, owner, group)
    command = [sys.executable, "-c", _CHECK, path, str(USER), str(USER)]
    assert answer in subprocess.run(command, capture_output=True, text=True, check=True).stdout

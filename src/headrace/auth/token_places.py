"""Where a process finds the token of its cluster: `distributed.comm.token`, else the file of its user.

The file is made the first time that somebody needs it, for its user alone; one that others may read is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from functools import lru_cache

from headrace import config
from headrace.private_directories import private_opener

from .tokens import Tokens, new_token, parse_tokens

#: The setting with the token itself; by the environment `DASK_DISTRIBUTED__COMM__TOKEN`.
SETTING = "distributed.comm.token"
VARIABLE = "DASK_DISTRIBUTED__COMM__TOKEN"
#: The setting with the name of a file that holds it.
FILE_SETTING = "distributed.comm.token-file"
#: What to do where there is no token, or another one.
REMEDY = (
    f"give both the same token: set {VARIABLE}, or mount a file and give --token-file or {FILE_SETTING}, on each "
    "machine; `headrace token` prints the one of this user"
)


def own_token_file() -> str:
    """The file of this user: `~/.config/headrace/token`, or in `$XDG_CONFIG_HOME`."""
    above = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(above, "headrace", "token")


def configured_tokens() -> Tokens | None:
    """The tokens that the configuration gives, itself or by the name of a file; None if it gives none.

    Raises:
        ValueError, OSError: see `parse_tokens` and `read_token_file`.
    """
    given = config.get(SETTING)
    if given:
        text = "\n".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
        return parse_tokens(text.replace(",", "\n"), f"the setting {SETTING}")
    path = config.get(FILE_SETTING)
    return read_token_file(str(path)) if path else None


def find_tokens(scheduler_file: str | None = None) -> Tokens:
    """The tokens of this process: configured, else in the scheduler's file, else in its user's, made if need be.

    Where there is no home to keep a file in, there are none; `problem` says why.

    Raises:
        ValueError, OSError: something is configured, or the file is there, and cannot be used.
    """
    found = configured_tokens()
    if found is not None:
        return found
    if scheduler_file is not None and (found := tokens_in_scheduler_file(scheduler_file)) is not None:
        return found
    path = own_token_file()
    try:
        if not os.path.exists(path):
            make_token_file(path, new_token())
    except OSError as error:
        return Tokens(problem=f"{path} cannot be made: {error.strerror or error}")
    return read_token_file(path, named=False)


def tokens_for_cluster() -> str:
    """A new token for a cluster that hands it to its processes itself; and the user's, if there is one, for all others.

    With commas, as the setting takes them.
    """
    made = [new_token()]
    with contextlib.suppress(OSError, ValueError):
        given = configured_tokens() or read_token_file(own_token_file())
        made.append(given.valid[0])
    return ",".join(made)


def tokens_in_scheduler_file(path: str) -> Tokens | None:
    """The token that a scheduler wrote beside its address; None if there is no such file, or none in it.

    Raises:
        PermissionError: others than its owner may read or write the file.
        ValueError: what it has is no token.
    """
    try:
        with open(path, encoding="utf-8") as file:
            token = json.load(file).get("token")
            if not isinstance(token, str):
                return None
            _check_private(path, True, os.fstat(file.fileno()))
    except (FileNotFoundError, ValueError, AttributeError):  # it is not there yet, or is not whole
        return None
    return parse_tokens(token, f"the scheduler file {path}")


def read_token_file(path: str, named: bool = True) -> Tokens:
    """The tokens in a file, also behind links, as Kubernetes mounts secrets.

    Args:
        named: whether the user has named the file. Root may name another user's: so a container's root sees a file
            that the host's user has mounted.

    Raises:
        OSError: it cannot be read.
        PermissionError: others may read or write it, or it is another user's; the message says what to do.
        ValueError: it holds no token.
    """
    path = os.path.abspath(os.path.expanduser(path))
    found = os.stat(path)
    return _read_once(path, named, (found.st_mtime_ns, found.st_ino, found.st_mode, found.st_uid, found.st_size))


@lru_cache(maxsize=8)
def _read_once(path: str, named: bool, _: tuple[int, ...]) -> Tokens:
    with open(path, encoding="utf-8", errors="replace") as file:
        _check_private(path, named, os.fstat(file.fileno()))
        return parse_tokens(file.read(1 << 16), f"the token file {path}")


def _check_private(path: str, named: bool, found: os.stat_result) -> None:
    if not hasattr(os, "geteuid"):
        return
    if found.st_uid not in (0, os.geteuid()) and not (named and os.geteuid() == 0):
        raise PermissionError(f"the token file {path} belongs to another user ({found.st_uid}): use a file of your own")
    mode = stat.S_IMODE(found.st_mode)
    # A mounted secret belongs to root and to a group of this process alone, so that the group may read it.
    others = mode & (0o027 if found.st_uid == 0 and os.geteuid() != 0 else 0o077)
    if others:
        raise PermissionError(
            f"other users may read or change the token file {path} (mode {mode:o}): `chmod 600 {path}` (a secret that "
            "Kubernetes mounts: defaultMode 0400, or 0440 with an fsGroup where the container's user is not root), and "
            "make another token if they may have read it (`headrace token rotate`)"
        )


def make_token_file(path: str, *tokens: str, replace: bool = False) -> None:
    """Write tokens to a file for this user alone. Of several processes that make it at once, the first one's stays.

    Args:
        replace: whether a file that is there is replaced.

    Raises:
        OSError: it cannot be written.
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    partial = f"{path}.{secrets.token_hex(8)}"
    try:
        with open(partial, "x", encoding="utf-8", opener=private_opener) as text:
            text.write("".join(f"{token}\n" for token in tokens))
            text.flush()
            os.fsync(text.fileno())
        if replace:
            os.replace(partial, path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)

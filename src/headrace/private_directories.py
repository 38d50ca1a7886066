"""Directories and files for this user alone, also in places that users share, such as `/tmp`.

Processes unpickle the files in these directories. Another user may have made the directory first, or a link of that
name, or one of the directories above it, and could then exchange the files. Files that the user names have data in
them, which a link that another user has put there would lead elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import tempfile
from typing import IO, Any

logger = logging.getLogger("distributed.diskutils")

#: Mode of a private directory: only its owner may use it.
PRIVATE = 0o700
#: Mode of a private file.
PRIVATE_FILE = 0o600
#: Mode of directories above, if they have to be made: only their owner may write there, whatever the umask.
ABOVE = 0o755
#: Reasons that were logged already.
_told: set[str] = set()


def private_directory(path: str) -> str:
    """Make a directory for this user alone, or take the one at the path if only this user can use it.

    Returns:
        The path, or that of another directory whose name begins with the same name. The other one is beside it, or in
        the nearest directory above it that no other user has made. A log line tells why.

    Raises:
        OSError: the directory cannot be made.
    """
    path = os.path.abspath(path)
    if not hasattr(os, "geteuid"):
        os.makedirs(path, exist_ok=True)
        return path
    _warn_of_renamers(path)
    intruder = made_by_others(os.path.dirname(path))
    if intruder is not None:
        return _another(path, os.path.dirname(intruder), f"{intruder} was made by somebody else")
    make_above(path)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, PRIVATE)
    reason = _objection(path)
    return path if reason is None else _another(path, os.path.dirname(path), f"{path} {reason}")


def chosen_directory(path: str) -> str:
    """Make a directory that the user has named, or take the one at the path, whoever else the user lets use it.

    Returns:
        The path; or another one, as for `private_directory`, if another user has put the directory, or one above it,
        into a place where everybody may write.

    Raises:
        OSError: the directory cannot be made.
    """
    path = os.path.abspath(path)
    _warn_of_renamers(path)
    if hasattr(os, "geteuid") and (intruder := made_by_others(path)) is not None:
        return _another(path, os.path.dirname(intruder), f"{intruder} was made by somebody else")
    make_above(path)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, PRIVATE)
    if not os.path.isdir(path):
        raise NotADirectoryError(f"{path} is to be a directory, and is something else")
    return path


def made_by_others(path: str) -> str | None:
    """The first part of a path that another user (root apart) has put where everybody may write; None if there is none.

    The owner of a link could let it point elsewhere, the owner of a directory could exchange the files in it.
    """
    for one in dict.fromkeys((path, os.path.realpath(path))):
        above = os.path.abspath(os.sep)
        for name in one.split(os.sep)[1:]:
            part = os.path.join(above, name)
            try:
                shared = os.stat(above).st_mode & stat.S_IWOTH
                owner = os.lstat(part).st_uid
            except OSError:  # the part does not exist yet, or may not be looked at
                break
            if shared and owner not in (0, os.geteuid()):
                return part
            above = part
    return None


def private_opener(path: str, flags: int) -> int:
    """The opener, for `open`, of a file for this user alone, whatever the umask; it follows no link."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), PRIVATE_FILE)


def open_named(path: str | os.PathLike[str], private: bool = True) -> IO[bytes]:
    """Open a file to write to that the user has named, empty; where users share a directory, it is the user's own.

    Args:
        private: whether the file is for this user alone (mode 0600), also if it was there and was not; otherwise the
            umask says who may read it.

    Raises:
        PermissionError: another user has put the file, a link, or a directory above, into a place where everybody may
            write; the message names it.
        OSError: the file cannot be written.
    """
    path = os.path.abspath(path)
    if not hasattr(os, "geteuid"):
        return open(path, "wb")
    if (intruder := made_by_others(path)) is not None:
        raise PermissionError(f"{path} is not written: {intruder} was made by somebody else; take another name")
    real = os.path.realpath(path)  # the links on the way are root's or this user's
    with contextlib.suppress(FileNotFoundError):
        found = os.lstat(real)
        # Others may have opened it for reading, and would go on to read. The name is kept, the file is a new one.
        if private and stat.S_ISREG(found.st_mode) and (found.st_mode & 0o077 or found.st_uid != os.geteuid()):
            os.unlink(real)
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.fdopen(os.open(real, flags | os.O_CREAT | os.O_EXCL, PRIVATE_FILE if private else 0o666), "wb")
    except FileExistsError:
        descriptor = os.open(real, flags)
    try:  # not emptied yet: since the look, another user may have made a file of that name
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            if found.st_uid not in (0, os.geteuid()) and os.stat(os.path.dirname(real)).st_mode & stat.S_IWOTH:
                raise PermissionError(f"{path} is not written: it was made by somebody else; take another name")
            os.ftruncate(descriptor, 0)
        return os.fdopen(descriptor, "wb")
    except BaseException:
        os.close(descriptor)
        raise


def path_of_url(url: str | os.PathLike[str], storage_options: dict[str, Any] | None = None) -> str | None:
    """The path that a URL of fsspec's stands for; None if it is not simply a file of this machine.

    Args:
        storage_options: as for `fsspec.open`.
    """
    text = os.fspath(url)
    if "://" not in text and "::" not in text and not storage_options:
        return os.path.expanduser(text)
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    system, path = url_to_fs(text, **(storage_options or {}))
    return str(path) if type(system) is LocalFileSystem else None


def _warn_of_renamers(path: str) -> None:
    """Say so if everybody may rename a directory, since another one could then take its place at any moment."""
    above = os.path.dirname(path)
    while above != os.path.dirname(above):
        with contextlib.suppress(OSError):  # it does not exist yet, or may not be looked at
            mode = os.stat(above).st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX and above not in _told:
                _told.add(above)
                logger.warning(
                    "Everybody may rename what is in %s, so that files in %s can be exchanged: `chmod +t %s`, or take "
                    "another directory",
                    above,
                    path,
                    above,
                )
        above = os.path.dirname(above)


def make_above(path: str) -> None:
    """Make the directories above a path; nobody but this user may write there."""
    above = os.path.dirname(path)
    if above != path and not os.path.isdir(above):
        make_above(above)
        with contextlib.suppress(FileExistsError):
            os.mkdir(above, ABOVE)


def _objection(path: str) -> str | None:
    """The reason why a directory is not this user's alone; None if it is."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return "is a link"
    if not stat.S_ISDIR(found.st_mode):
        return "is no directory"
    if found.st_uid != os.geteuid():
        return f"belongs to another user ({found.st_uid})"
    if stat.S_IMODE(found.st_mode) & 0o777 != PRIVATE:
        return f"is open to others (mode {stat.S_IMODE(found.st_mode):o} instead of {PRIVATE:o})"
    return None


def _another(path: str, where: str, reason: str) -> str:
    """A private directory with a similar name: one of this user's that exists already, or else a new one."""
    prefix = f"{os.path.basename(path)}-"
    with os.scandir(where) as entries:
        candidates = sorted(entry.path for entry in entries if entry.name.startswith(prefix))
    for candidate in candidates:
        with contextlib.suppress(FileNotFoundError):  # gone meanwhile
            if _objection(candidate) is None:
                break
    else:
        candidate = tempfile.mkdtemp(prefix=prefix, dir=where)
    if reason not in _told:
        _told.add(reason)
        logger.warning("Files go to %s, because %s", candidate, reason)
    return candidate

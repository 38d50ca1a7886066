"""Directories for this user alone, in places that users share, such as `/tmp`.

Processes unpickle the files in these directories. Another user may have made the directory first, or a link of that
name, or one of the directories above it, and could then exchange the files.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import tempfile

logger = logging.getLogger("distributed.diskutils")

#: Mode of a private directory: only its owner may use it.
PRIVATE = 0o700
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
    intruder = made_by_others(os.path.dirname(path))
    if intruder is not None:
        return _another(path, os.path.dirname(intruder), f"{intruder} was made by somebody else")
    _make_above(path)
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
    if hasattr(os, "geteuid") and (intruder := made_by_others(path)) is not None:
        return _another(path, os.path.dirname(intruder), f"{intruder} was made by somebody else")
    _make_above(path)
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


def _make_above(path: str) -> None:
    above = os.path.dirname(path)
    if above != path and not os.path.isdir(above):
        _make_above(above)
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

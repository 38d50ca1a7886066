"""Directories in places that users share, such as `/tmp`, in which nobody else can get at what is there.

What lies there is unpickled again. Somebody else may have made the directory first, or a link of that name, or one of
the directories above it, and can then exchange what is in it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import tempfile

logger = logging.getLogger("distributed.diskutils")

#: What others than its owner may do in a private directory: nothing.
PRIVATE = 0o700
#: Directories above it, where they have to be made: nobody else writes there, whatever the umask.
ABOVE = 0o755
#: What was said in the log already.
_told: set[str] = set()


def private_directory(path: str) -> str:
    """Make a directory for this user alone, or take the one that is there if it is that.

    Returns:
        The path, or that of another directory, which begins with the same name and is beside it, or in the nearest
        directory above it that others have not made. The log says why.

    Raises:
        OSError: it cannot be made.
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
    """Make a directory that the user has named, or take the one that is there: who else may use it is up to him.

    Returns:
        The path, or as for `private_directory` if somebody else has put it, or one above it, where everybody may.

    Raises:
        OSError: it cannot be made.
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

    A link's owner could let it point elsewhere, a directory's owner could exchange what is in it.
    """
    for one in dict.fromkeys((path, os.path.realpath(path))):
        above = os.path.abspath(os.sep)
        for name in one.split(os.sep)[1:]:
            part = os.path.join(above, name)
            try:
                shared = os.stat(above).st_mode & stat.S_IWOTH
                owner = os.lstat(part).st_uid
            except OSError:  # not there yet, or not to be looked at
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
    """Why a directory is not this user's alone; None if it is."""
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
    """A directory with a similar name: one of this user's that is there already, or else a new one."""
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

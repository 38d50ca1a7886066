"""Directories that do not outlive the process that uses them: the next process removes those that a crash has left.

A directory has a lock file beside it, locked as long as its process lives.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import weakref
from typing import IO

from headrace import config
from headrace.private_directories import chosen_directory, private_directory

try:
    import fcntl
except ImportError:  # not on this system
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("distributed.diskutils")

_LOCK = ".dirlock"
#: Lock files of the directories in use by this process, which its own locks would not keep out.
_ours: set[str] = set()


def is_locking_enabled() -> bool:
    """Whether `distributed.worker.use-file-locking` has directories locked; if not, no leftovers are removed."""
    return fcntl is not None and config.truth("distributed.worker.use-file-locking")


def scratch_directory() -> str:
    """The default directory for files of this user's workers: in dask's `temporary-directory`, or else the system's.

    Makes the directory if it is not there. No other user can get at the files in it.

    Raises:
        OSError: the directory cannot be made.
    """
    user = str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    above = config.get("temporary-directory", None) or tempfile.gettempdir()
    return private_directory(os.path.join(above, f"headrace-{user}"))


def remove_leftover(path: str) -> None:
    """Remove a directory whose process has ended, and its lock file."""
    _remove_tree(path)
    safe_unlink(path + _LOCK)


def safe_unlink(path: str) -> None:
    """Remove a file; a failure is only logged."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.error("Failed to remove %r: %s", path, error)


class WorkSpace:
    """A directory of working directories, shared by processes.

    Args:
        base_dir: its path; made for this user alone if it is not there. If another user has put it, or a directory
            above it, in a place that all users share, another directory is taken.
    """

    def __init__(self, base_dir: str | os.PathLike[str]) -> None:
        self.base_dir = chosen_directory(os.path.abspath(base_dir))
        self._purge_leftovers()

    def new_work_dir(self, **kwargs: str | None) -> WorkDir:
        """Make a working directory, after removing those of dead processes; see `WorkDir` for the keywords.

        Raises:
            OSError: the directory cannot be made.
        """
        self.base_dir = chosen_directory(self.base_dir)
        self._purge_leftovers()
        return WorkDir(self, **kwargs)

    def _purge_leftovers(self) -> list[str]:
        """Remove the directories of dead processes; returns their paths."""
        if not is_locking_enabled():
            return []
        removed = []
        for name in sorted(os.listdir(self.base_dir)):
            path = os.path.join(self.base_dir, name)
            if name.endswith(_LOCK) and path not in _ours and (file := _lock_of_the_dead(path)) is not None:
                with file:
                    leftover = path[: -len(_LOCK)]
                    logger.info("Found stale lock file and directory %r, purging", leftover)
                    remove_leftover(leftover)
                    removed.append(leftover)
        return removed


def _lock_of_the_dead(path: str) -> IO[str] | None:
    """Open and lock the lock file of a dead process; None if its process lives, or the file is not ours to lock."""
    try:
        file = open(path, "r+", opener=_open_plainly)  # noqa: SIM115 - the caller closes it
    except OSError:  # the file is gone meanwhile, or belongs to another user
        return None
    with contextlib.suppress(OSError):  # its process lives, or a new process has made another file of that name
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found, directory = os.fstat(file.fileno()), path[: -len(_LOCK)]
        # In a place that all users share, another user can put a lock file beside our directory to have it removed.
        ours = found.st_uid == os.geteuid() and (
            not os.path.lexists(directory) or os.lstat(directory).st_uid == found.st_uid
        )
        if ours and os.path.samestat(found, os.lstat(path)):
            return file
    file.close()
    return None


def _open_plainly(path: str, flags: int) -> int:
    """Open a file for this user alone; do not follow a link, and do not wait at a pipe."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o600)


def _locked_file(path: str) -> IO[str]:
    """Make a file that is locked before other processes can see it."""
    under_another_name = f"{path}-{os.getpid()}"
    file = open(under_another_name, "x", opener=_open_plainly)  # noqa: SIM115 - the caller closes it
    with contextlib.suppress(OSError):  # a file system without locks: nobody removes directories there either
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.rename(under_another_name, path)
    return file


class WorkDir:
    """A directory that is removed with this object, or, after a crash, by the next process that uses the workspace.

    Args:
        workspace: the directory in which it is made.
        name: its name; exactly one of `name` and `prefix` is to be given.
        prefix: beginning of its name.

    Attributes:
        dir_path: the directory.

    Raises:
        FileExistsError: a directory of that name is in use.
        ValueError: neither `name` nor `prefix` is given, or both are.
    """

    def __init__(self, workspace: WorkSpace, name: str | None = None, prefix: str | None = None) -> None:
        if (name is None) == (prefix is None):
            raise ValueError("give a working directory a name or a prefix, and not both")
        if name is None:
            self.dir_path = tempfile.mkdtemp(prefix=prefix, dir=workspace.base_dir)
        else:
            self.dir_path = os.path.join(workspace.base_dir, name)
            os.mkdir(self.dir_path, 0o700)
        self._lock_path = self.dir_path + _LOCK
        self._lock_file = None
        if is_locking_enabled():
            _ours.add(self._lock_path)
            self._lock_file = _locked_file(self._lock_path)
        self._finalizer = weakref.finalize(self, _release, self.dir_path, self._lock_path, self._lock_file, os.getpid())

    def release(self) -> None:
        """Remove the directory now."""
        self._finalizer()


def _release(path: str, lock_path: str, lock_file: IO[str] | None, pid: int) -> None:
    if os.getpid() != pid:  # a forked child has the same object and no right to it
        return
    _remove_tree(path)
    if lock_file is not None:
        safe_unlink(lock_path)
        lock_file.close()
        _ours.discard(lock_path)


def _remove_tree(path: str) -> None:
    def report(function: object, failed: str, info: tuple[type[BaseException], BaseException, object]) -> None:
        error = info[1]
        if not isinstance(error, FileNotFoundError):
            logger.error("Failed to remove %r (failed in %r): %s", failed, function, error)

    shutil.rmtree(path, onerror=report)

"""Directories that do not outlive the process that uses them: what a crash leaves is removed by the next one."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from typing import Any

from headrace import config

logger = logging.getLogger("distributed.diskutils")

_LOCK = ".dirlock"
#: Directories in use by this process: a process does not exclude itself from its own locks.
_ours: set[str] = set()


def is_locking_enabled() -> bool:
    """Whether `distributed.worker.use-file-locking` lets directories be locked; else nothing is removed for others."""
    return bool(config.get("distributed.worker.use-file-locking"))


def safe_unlink(path: str) -> None:
    """Remove a file; if that fails, say so in the log."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.error("Failed to remove %r: %s", path, error)


class WorkSpace:
    """A directory of working directories, shared by processes.

    Args:
        base_dir: where; made if it is not there.
    """

    def __init__(self, base_dir: str | os.PathLike[str]) -> None:
        self.base_dir = os.path.abspath(base_dir)
        self._global_lock_path = os.path.join(self.base_dir, "global.lock")
        os.makedirs(self.base_dir, exist_ok=True)
        self._purge_leftovers()

    def new_work_dir(self, **kwargs: Any) -> WorkDir:
        """A new directory in it; see `WorkDir` for the keywords. What dead processes have left is removed before.

        Raises:
            OSError: it cannot be made.
        """
        os.makedirs(self.base_dir, exist_ok=True)
        self._purge_leftovers()
        return WorkDir(self, **kwargs)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """While a directory and its lock are made, or looked for: between the two it would seem to be a leftover."""
        if not is_locking_enabled():
            yield
            return
        with open(self._global_lock_path, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _purge_leftovers(self) -> list[str]:
        """Remove the directories of processes that are gone; returns their paths."""
        if not is_locking_enabled():
            return []
        removed = []
        with self._locked():
            for name in sorted(os.listdir(self.base_dir)):
                path = os.path.join(self.base_dir, name)
                if name.endswith(_LOCK) and path not in _ours and self._remove_if_stale(path):
                    removed.append(path[: -len(_LOCK)])
        return removed

    def _remove_if_stale(self, lock_path: str) -> bool:
        with contextlib.suppress(FileNotFoundError), open(lock_path, "r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # its process lives
                return False
            path = lock_path[: -len(_LOCK)]
            logger.info("Found stale lock file and directory %r, purging", path)
            _remove_tree(path)
            safe_unlink(lock_path)
            return True
        return False


class WorkDir:
    """A directory that goes with this object, and at the latest when the next process looks after this one is gone.

    Args:
        workspace: where it is made.
        name: its name; exactly one of `name` and `prefix`.
        prefix: beginning of its name.

    Attributes:
        dir_path: the directory.

    Raises:
        FileExistsError: a directory of that name is in use.
        ValueError: neither `name` nor `prefix`, or both.
    """

    def __init__(self, workspace: WorkSpace, name: str | None = None, prefix: str | None = None) -> None:
        if (name is None) == (prefix is None):
            raise ValueError("give a working directory a name or a prefix, and not both")
        with workspace._locked():
            if name is None:
                self.dir_path = tempfile.mkdtemp(prefix=prefix, dir=workspace.base_dir)
            else:
                self.dir_path = os.path.join(workspace.base_dir, name)
                os.mkdir(self.dir_path)
            self._lock_path = self.dir_path + _LOCK
            self._lock_file = None
            if is_locking_enabled():
                self._lock_file = open(self._lock_path, "a")  # noqa: SIM115 - held as long as the directory
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _ours.add(self._lock_path)
        self._finalizer = weakref.finalize(self, _release, self.dir_path, self._lock_path, self._lock_file, os.getpid())

    def release(self) -> None:
        """Remove the directory now."""
        self._finalizer()


def _release(path: str, lock_path: str, lock_file: Any, pid: int) -> None:
    if os.getpid() != pid:  # a forked child has the same object and no right to it
        return
    _remove_tree(path)
    if lock_file is not None:
        safe_unlink(lock_path)
        lock_file.close()
        _ours.discard(lock_path)


def _remove_tree(path: str) -> None:
    def report(function: Any, failed: str, info: Any) -> None:
        error = info[1]
        if not isinstance(error, FileNotFoundError):
            logger.error("Failed to remove %r (failed in %r): %s", failed, function, error)

    shutil.rmtree(path, onerror=report)

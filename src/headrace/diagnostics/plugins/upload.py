"""Plugins that bring files to workers, nannies' environments, and the scheduler."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from headrace.client.packing.calls import note_upload
from headrace.private_directories import PRIVATE, PRIVATE_FILE, private_opener
from headrace.rpc import remote_exception

from .plugin_base import NannyPlugin, SchedulerPlugin, WorkerPlugin

if TYPE_CHECKING:
    from headrace import Nanny, Scheduler, Worker

#: Parts of paths that are left out of an uploaded directory.
SKIPPED_WORDS = (".git", ".github", ".pytest_cache", "tests", "docs")


def _is_bytecode(path: str) -> bool:
    return os.path.splitext(path)[1] == ".pyc"


class _OneFile:
    """A file that is read here, for somewhere else."""

    name = "upload_file"

    def __init__(self, filepath: str, load: bool = True) -> None:
        self.filename = os.path.basename(filepath)
        self.name = f"upload_file-{self.filename}"
        self.load = load
        with open(filepath, "rb") as file:
            self.data = file.read()
        note_upload(self.filename, self.data)


class UploadFile(_OneFile, WorkerPlugin):
    """Puts a file into every worker's local directory, and imports it if it is a module, egg or zip.

    Args:
        filepath: the file, here; read at once.
        load: whether to import it.

    Raises:
        OSError: it cannot be read.
    """

    async def setup(self, worker: Worker) -> None:
        reply = worker.operations.upload_file(self.filename, self.data, self.load)
        if reply["status"] != "OK":
            raise remote_exception(reply)


class SchedulerUploadFile(_OneFile, SchedulerPlugin):
    """Puts a file where the scheduler can import it.

    Args:
        filepath: the file, here; read at once.
        load: whether to import it at once if it is a module, egg or zip.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(self, filepath: str, load: bool = True) -> None:
        super().__init__(filepath, load)
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    async def start(self, scheduler: Scheduler) -> None:
        from headrace.rpc.files import import_file

        self._directory = tempfile.TemporaryDirectory(prefix="headrace-scheduler-")
        path = os.path.join(self._directory.name, self.filename)
        with open(path, "wb", opener=private_opener) as file:
            file.write(self.data)
        if self.load:
            import_file(path)
        for name, plugin in list(scheduler.plugins.items()):  # an earlier upload, which this one replaces
            if type(plugin) is SchedulerUploadFile and plugin is not self and plugin.filename == self.filename:
                scheduler.remove_plugin(name)
                await plugin.close()

    async def close(self) -> None:
        if self._directory is not None:
            _forget_path(self._directory.name)
            self._directory.cleanup()


class UploadDirectory(SchedulerPlugin):
    """Brings a directory to the machines of the workers, the scheduler, or both.

    Args:
        path: the directory, here; packed at once.
        restart_workers: start workers that have a nanny again, so that they import the new files.
        update_path: put the directory on Python's path there.
        skip_words: parts of paths that are left out.
        skip: functions of a path that say that a file is left out.
        mode: "workers", "scheduler" or "all".

    Raises:
        ValueError: another mode.
        NotADirectoryError: there is no such directory.
    """

    def __init__(
        self,
        path: str,
        restart_workers: bool = False,
        update_path: bool = False,
        skip_words: Iterable[str] = SKIPPED_WORDS,
        skip: Iterable[Callable[[str], bool]] = (_is_bytecode,),
        mode: str = "workers",
    ) -> None:
        if mode not in ("workers", "scheduler", "all"):
            raise ValueError(f"mode must be 'workers', 'scheduler' or 'all', not {mode!r}")
        path = os.path.abspath(os.path.expanduser(path))
        if not os.path.isdir(path):
            raise NotADirectoryError(f"{path} is no directory that could be uploaded")
        self.path = os.path.basename(path)
        self.name = f"upload-directory-{self.path}"
        self.restart_workers = restart_workers
        self.update_path = update_path
        self.mode = mode
        self.data = _packed(path, set(skip_words), list(skip))
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    async def start(self, scheduler: Scheduler) -> None:
        before = scheduler.plugins.get(self.name)
        if type(before) is UploadDirectory and before is not self:  # an earlier upload, which this one replaces
            scheduler.remove_plugin(self.name)
            await before.close()
        if self.mode in ("scheduler", "all"):
            self._directory = tempfile.TemporaryDirectory(prefix="headrace-scheduler-")
            _unpack(self.data, self._directory.name, self.path, self.update_path)
        if self.mode in ("workers", "all"):
            await scheduler.register_worker_plugin(None, _Directory(self.path, self.data, self.update_path), self.name)
            if self.restart_workers:
                await restart_with_nannies(scheduler)

    async def close(self) -> None:
        if self._directory is not None:
            _forget_path(self._directory.name)
            self._directory.cleanup()


class _Directory(WorkerPlugin):
    """Unpacks an uploaded directory into the local directory of each worker."""

    def __init__(self, path: str, data: bytes, update_path: bool) -> None:
        self.path = path
        self.data = data
        self.update_path = update_path

    async def setup(self, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, _unpack, self.data, worker.local_directory, self.path, self.update_path)

    def teardown(self, worker: Worker) -> None:
        _forget_path(os.path.join(worker.local_directory, self.path))


class Environ(NannyPlugin):
    """Sets environment variables for workers: their processes start again with these.

    Args:
        environ: values by name; None removes a variable.
    """

    restart = True

    def __init__(self, environ: Mapping[str, Any] | None = None) -> None:
        self.environ = {name: None if value is None else str(value) for name, value in (environ or {}).items()}
        self.name = f"environ-{uuid.uuid4().hex}"

    async def setup(self, nanny: Nanny) -> None:
        nanny.env.update(self.environ)


async def restart_with_nannies(scheduler: Scheduler) -> None:
    """Start workers again that have a nanny."""
    nannies = [worker.nanny for worker in scheduler.workers.values() if worker.nanny]
    await asyncio.gather(*[scheduler.rpc.rpc(nanny).restart(reason="a plugin asks for it") for nanny in nannies])


def _packed(path: str, skip_words: set[str], skip: list[Callable[[str], bool]]) -> bytes:
    """A directory as a zip file whose entries begin with the directory's own name."""
    buffer = io.BytesIO()
    parent = os.path.dirname(path)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder, _, names in os.walk(path):
            for name in sorted(names):
                whole = os.path.join(folder, name)
                within = os.path.relpath(whole, path)
                if any(predicate(whole) for predicate in skip) or skip_words.intersection(within.split(os.sep)):
                    continue
                archive.write(whole, os.path.relpath(whole, parent))
    return buffer.getvalue()


def _unpack(data: bytes, directory: str, name: str, update_path: bool) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(directory)
    path = os.path.join(directory, name)
    for folder, _, names in os.walk(path):
        os.chmod(folder, PRIVATE)
        for each in names:
            os.chmod(os.path.join(folder, each), PRIVATE_FILE)
    if update_path and path not in sys.path:
        sys.path.insert(0, path)
    if directory not in sys.path:
        sys.path.append(directory)


def _forget_path(directory: str) -> None:
    """Take a directory, and those in it, off Python's path."""
    sys.path[:] = [entry for entry in sys.path if entry != directory and not entry.startswith(directory + os.sep)]

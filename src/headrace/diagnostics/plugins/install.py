"""Plugins that install packages where workers run, once a machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from headrace.directories import scratch_directory
from headrace.private_directories import private_opener
from headrace.rpc import remote_exception

from .plugin_base import SchedulerPlugin, WorkerPlugin

if TYPE_CHECKING:
    from headrace import Scheduler, Worker

logger = logging.getLogger("distributed.diagnostics.plugin")

#: Seconds after which the mark that something was installed on a machine is removed.
FORGOTTEN_AFTER = 7 * 24 * 3600.0
_PROCESS_STARTED = time.time()


class InstallPlugin(SchedulerPlugin):
    """Calls a function once on each machine that has workers, before they take work; later ones included.

    Args:
        install_fn: installs something; called in a thread.
        restart_workers: start workers that have a nanny again once it has returned.
    """

    idempotent = True

    def __init__(self, install_fn: Callable[[], None], restart_workers: bool) -> None:
        self._install_fn = install_fn
        self._restart_workers = restart_workers
        self.name = f"{type(self).__name__}-{uuid.uuid4().hex}"

    async def start(self, scheduler: Scheduler) -> None:
        installer = Installer(self._install_fn, self._restart_workers, self.name)
        replies = await scheduler.register_worker_plugin(None, installer, self.name)
        for address, reply in replies.items():
            if reply["status"] != "OK":
                exception = remote_exception(reply)
                logger.error("The worker at %s could not install: %s", address, exception)
                raise exception


class PipInstall(InstallPlugin):
    """Installs packages with pip on each machine that has workers.

    Args:
        packages: as pip takes them.
        pip_options: for `pip install`, such as `["--upgrade"]`.
        restart_workers: start workers again afterwards, so that they import the new packages.
    """

    def __init__(
        self, packages: list[str], pip_options: list[str] | None = None, restart_workers: bool = False
    ) -> None:
        self.packages = list(packages)
        self.pip_options = _listed(pip_options)
        super().__init__(_PipInstall(self.packages, self.pip_options), restart_workers)


class CondaInstall(InstallPlugin):
    """Installs packages with conda on each machine that has workers.

    Args:
        packages: as conda takes them.
        conda_options: for `conda install`, such as `["--update-deps"]`.
        restart_workers: start workers again afterwards, so that they import the new packages.
    """

    def __init__(
        self, packages: list[str], conda_options: list[str] | None = None, restart_workers: bool = False
    ) -> None:
        self.packages = list(packages)
        self.conda_options = _listed(conda_options)
        super().__init__(_CondaInstall(self.packages, self.conda_options), restart_workers)


class _Command:
    """Runs an installer's command; its output is in the error if it fails."""

    installer = ""

    def __init__(self, packages: list[str], options: list[str]) -> None:
        self.packages = packages
        self.options = options

    def command(self) -> list[str]:
        raise NotImplementedError

    def __call__(self) -> None:
        command = self.command()
        logger.info("%s installing %s", self.installer, self.packages)
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            output = (done.stderr or done.stdout).strip()
            raise RuntimeError(f"{self.installer} install of {self.packages} failed: {output[-2000:]}")


class _PipInstall(_Command):
    installer = "pip"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "pip", "install", *self.options, *self.packages]


class _CondaInstall(_Command):
    installer = "conda"

    def command(self) -> list[str]:
        conda = os.environ.get("CONDA_EXE") or shutil.which("conda")
        if conda is None:
            raise RuntimeError(f"conda install of {self.packages} failed: there is no conda on this worker")
        return [conda, "install", "--yes", "--prefix", sys.prefix, *self.options, *self.packages]


class Installer(WorkerPlugin):
    """The part of an `InstallPlugin` on each worker: the first on its machine installs, the others wait for it."""

    def __init__(self, install_fn: Callable[[], None], restart_workers: bool, mark: str) -> None:
        self._install_fn = install_fn
        self._restart_workers = restart_workers
        self._mark = mark

    async def setup(self, worker: Worker) -> None:
        installed = await asyncio.get_running_loop().run_in_executor(None, self._install_once)
        if self._restart_workers and worker.nanny and installed > _PROCESS_STARTED:
            logger.info("Restarting the worker at %s to use what was installed", worker.address)
            worker.run_in_background(_restart(worker))

    def _install_once(self) -> float:
        """Install on this machine unless a worker has; returns the time of that in seconds since the epoch."""
        mark = os.path.join(_marks(), self._mark)
        with _machine_lock():
            if not os.path.exists(mark):
                self._install_fn()
                with open(mark, "w", opener=private_opener) as file:
                    file.write(str(time.time()))
            with open(mark) as file:
                return float(file.read())


async def _restart(worker: Worker) -> None:
    with contextlib.suppress(OSError):  # the connection ends with this process
        await worker.rpc.rpc(str(worker.nanny)).restart(reason="packages were installed")


def _marks() -> str:
    """The directory in which a user's workers on this machine mark what they have installed."""
    directory = os.path.join(scratch_directory(), "installed")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        with contextlib.suppress(OSError):
            if name != "lock" and time.time() - os.path.getmtime(path) > FORGOTTEN_AFTER:
                os.unlink(path)
    return directory


@contextlib.contextmanager
def _machine_lock() -> Iterator[None]:
    """One installation at a time on this machine."""
    with open(os.path.join(_marks(), "lock"), "w", opener=private_opener) as file:
        try:
            import fcntl
        except ImportError:  # not on this system: installations may overlap
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _listed(options: str | Iterable[str] | None) -> list[str]:
    return [options] if isinstance(options, str) else list(options or ())

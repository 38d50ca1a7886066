"""A cluster on other machines, reached with SSH: the scheduler on the first of them, workers on the others.

Needs `asyncssh` (`pip install headrace[ssh]`) here, and headrace on the machines. The processes there end when their
connection ends, in whatever way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import warnings
from collections.abc import Sequence
from typing import Any

from headrace.auth.access_rules import NONE, configured_auth
from headrace.auth.token_places import SETTING, find_tokens
from headrace.config import INHERITED, get, parse_seconds
from headrace.nanny.environment import (
    SEED_VARIABLE,
    SPEC_VARIABLE,
    STOP_WITH_STDIN,
    hash_seed,
    inherited_configuration,
)

from .cluster import logger
from .output import Output
from .spec import ProcessInterface, SpecCluster
from .subprocess import spec_text

__all__ = ["Process", "SSHCluster", "Scheduler", "Worker", "old_cluster_kwargs"]

#: Seconds that a process gets to close before its connection is cut.
_PATIENCE = 10.0
#: Seconds that a scheduler or worker may take to start.
_START = 60.0

#: Keywords that SSHCluster had long ago; with one of these it takes all its old keywords.
old_cluster_kwargs = {
    "scheduler_addr",
    "scheduler_port",
    "worker_addrs",
    "nthreads",
    "n_workers",
    "ssh_username",
    "ssh_port",
    "ssh_private_key",
    "nohost",
    "local_directory",
    "logdir",
    "remote_python",
    "memory_limit",
    "worker_port",
    "nanny_port",
    "remote_dask_worker",
}


class Process(ProcessInterface):
    """A process of another machine. Subclasses give the arguments of its Python in `_arguments`.

    Args:
        address: host name or address of the machine.
        connect_options: keywords of `asyncssh.connect`.
        remote_python: the machine's Python; "python" by default.
        log_directory: directory of the machine for a file with the process's output.

    Attributes:
        output: the process's output.
    """

    #: text in the line that the process prints when it is up
    _until = ""

    def __init__(
        self,
        address: str = "",
        connect_options: dict[str, Any] | None = None,
        remote_python: str | None = None,
        log_directory: str | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.host = address
        self.connect_options = dict(connect_options or {})
        self.remote_python = remote_python or "python"
        self.log_directory = log_directory
        self.connection: Any = None
        self.proc: Any = None
        self.output: Output | None = None

    def _arguments(self) -> list[str]:
        """Arguments for the machine's Python, which all users of the machine see."""
        raise NotImplementedError

    def _specification(self) -> dict[str, Any] | None:
        """The specification of the process's servers, if it goes by one."""
        return None

    def _told(self) -> dict[str, str]:
        """Variables of the process that nobody else may see: each is a line of its standard input."""
        # The other machine may have another home, and so no token, or another one.
        tokens = find_tokens().valid if configured_auth() != NONE else ()
        settings = {SETTING: ",".join(tokens)} if tokens else None
        told = {INHERITED: inherited_configuration(settings=settings)}
        specification = self._specification()
        return told if specification is None else {**told, SPEC_VARIABLE: spec_text(specification)}

    def _label(self) -> str:
        return type(self).__name__.lower()

    def _command(self) -> str:
        """The command line for the machine's shell, which is assumed to be a POSIX one."""
        python = shlex.split(self.remote_python)
        variables = {SEED_VARIABLE: hash_seed(os.environ), STOP_WITH_STDIN: "1"}
        run = shlex.join(
            ["env", *(f"{name}={value}" for name, value in variables.items()), *python, *self._arguments()]
        )
        # The configuration may have secrets in it, and a specification, too. The shell reads no more than these lines.
        steps = [step for name in self._told() for step in (f"IFS= read -r {name}", f"export {name}")]
        command = shlex.join(["sh", "-c", " && ".join([*steps, f"exec {run}"])])
        if self.log_directory is None:
            return command
        file = shlex.quote(f"{self.log_directory}/dask_{self._label()}_{self.host}.log")
        # Output has users' data in it: the file is new, by noclobber also behind a link of that name, and for this user
        # alone. The command keeps its umask.
        make = f"(umask 077 && mkdir -p {shlex.quote(self.log_directory)})"
        keep = f"rm -f {file}; umask 077; set -C; command exec 3> {file} || exec 3> /dev/null; exec tee /dev/fd/3 >&2"
        return f"{make} && {command} 2>&1 | sh -c {shlex.quote(keep)}"

    async def start(self) -> None:
        """Start the process, and wait until it reports that it is up.

        Raises:
            OSError: the machine cannot be reached, or refuses the connection.
            RuntimeError: the process did not start; the message has its output.
        """
        try:
            await self._connect()
            self.proc = await self.connection.create_process(self._command())
            with contextlib.suppress(OSError):  # it ended at once: its output tells why
                self.proc.stdin.write("".join(f"{line}\n" for line in self._told().values()))
            self.output = Output(self.proc.stderr, f"the {self._label()} on {self.host}")
            self._on_up(await self.output.wait_for(self._until, _START))
        except BaseException:
            await self.close()
            raise
        await super().start()

    async def _connect(self) -> None:
        asyncssh = _asyncssh()
        timeout = parse_seconds(get("distributed.comm.timeouts.connect"))
        try:
            async with asyncio.timeout(timeout):
                self.connection = await asyncssh.connect(self.host, **self.connect_options)
        except (OSError, TimeoutError, asyncssh.Error) as error:
            reason = str(error) or f"no answer within {timeout:g} s"
            raise OSError(f"cannot connect to {self.host} with SSH: {type(error).__name__}: {reason}") from error

    def _on_up(self, line: str) -> None:
        """Read the line in which the process reports that it is up; for subclasses."""

    async def close(self) -> None:
        """End the process in good order, or by cutting the connection if it does not end within some seconds."""
        process, self.proc = self.proc, None
        connection, self.connection = self.connection, None
        if process is not None:
            with contextlib.suppress(OSError):
                process.stdin.write_eof()
            try:
                async with asyncio.timeout(_PATIENCE):
                    await process.wait_closed()
            except TimeoutError:
                logger.warning("The %s on %s does not end; its connection is cut", self._label(), self.host)
            if self.output is not None:
                await self.output.close()
        if connection is not None:
            connection.close()
            await connection.wait_closed()
        await super().close()


class Worker(Process):
    """A process with one or several workers on another machine.

    Args:
        scheduler: the scheduler's address.
        address: host name or address of the machine.
        connect_options: keywords of `asyncssh.connect`.
        kwargs: keywords of the worker's class; `n_workers` among them is the number of workers.
        worker_class: class of the worker, by its dotted name.
        remote_python: the machine's Python.
        loop: accepted for compatibility.
        name: the worker's.
        command: module to run with the options of `headrace worker`, instead of the class.
        log_directory: see `Process`.
    """

    _until = "Registered with scheduler at:"

    def __init__(
        self,
        scheduler: str,
        address: str,
        connect_options: dict[str, Any],
        kwargs: dict[str, Any],
        worker_class: str = "distributed.Nanny",
        remote_python: str | None = None,
        loop: object = None,
        name: object = None,
        command: str | None = None,
        log_directory: str | None = None,
    ) -> None:
        super().__init__(address, connect_options, remote_python, log_directory)
        self.scheduler = scheduler
        self.worker_class = worker_class
        self.kwargs = dict(kwargs)
        self.n_workers = int(self.kwargs.pop("n_workers", 1))
        self.name = name
        self.command = command

    def _arguments(self) -> list[str]:
        if self.command is not None:
            options = {"name": self.name, "nworkers": self.n_workers, **self.kwargs}
            return ["-m", self.command, self.scheduler, *_options(options)]
        return ["-m", "headrace.cli.dask_spec", "--spec-variable", SPEC_VARIABLE, self.scheduler]

    def _specification(self) -> dict[str, Any] | None:
        if self.command is not None:
            return None
        numbers = range(self.n_workers)
        names = [self.name] if self.n_workers == 1 else [f"{self.name}-{number}" for number in numbers]
        return {
            str(name): {"cls": self.worker_class, "opts": {"name": name, **_without_none(self.kwargs)}}
            for name in names
        }


class Scheduler(Process):
    """A process with a scheduler on another machine.

    Args:
        address: host name or address of the machine.
        connect_options: keywords of `asyncssh.connect`.
        kwargs: keywords of the Scheduler.
        remote_python: the machine's Python.
        log_directory: see `Process`.

    Attributes:
        address: the scheduler's, once it has started.
    """

    _until = "Scheduler at:"

    def __init__(
        self,
        address: str,
        connect_options: dict[str, Any],
        kwargs: dict[str, Any],
        remote_python: str | None = None,
        log_directory: str | None = None,
    ) -> None:
        super().__init__(address, connect_options, remote_python, log_directory)
        self.kwargs = dict(kwargs)

    def _arguments(self) -> list[str]:
        return ["-m", "headrace.cli.dask_spec", "--spec-variable", SPEC_VARIABLE]

    def _specification(self) -> dict[str, Any]:
        return {"cls": "headrace.Scheduler", "opts": _without_none(self.kwargs)}

    def _on_up(self, line: str) -> None:
        self.address = line.split()[-1]


def SSHCluster(
    hosts: Sequence[str] | None = None,
    connect_options: dict[str, Any] | list[dict[str, Any]] | None = None,
    worker_options: dict[str, Any] | None = None,
    scheduler_options: dict[str, Any] | None = None,
    worker_class: str = "distributed.Nanny",
    remote_python: str | list[str] | None = None,
    **kwargs: Any,
) -> SpecCluster:
    """A cluster on machines that are reached with SSH.

    Args:
        hosts: the machines: the scheduler's, then one for each worker. A machine may come several times.
        connect_options: keywords of `asyncssh.connect`, for all machines, or one dictionary for each of `hosts`.
        worker_options: keywords of the workers; `n_workers` among them is the number of workers on each machine.
        scheduler_options: keywords of the Scheduler.
        worker_class: class of the workers, by its dotted name.
        remote_python: the machines' Python, for all or one for each of `hosts`.
        kwargs: for `SpecCluster`; or the keywords of the SSHCluster of long ago, such as `scheduler_addr`.

    Raises:
        ImportError: `asyncssh` is not installed.
        ValueError: there are not two machines.
        RuntimeError: lists differ in length; or the scheduler cannot be started, and the message says why.
        OSError: a worker's machine cannot be reached.

    >>> cluster = SSHCluster(["localhost", "localhost"], connect_options={"known_hosts": None})  # doctest: +SKIP
    """
    _asyncssh()
    if {"scheduler_addr", "worker_addrs"} & kwargs.keys():
        return _old_cluster(hosts, worker_class, remote_python, kwargs)
    if isinstance(hosts, str) or not hosts or len(hosts) < 2:
        raise ValueError(
            "SSHCluster needs a list of at least two hosts: the scheduler's, then one for each worker "
            f"(the same one may be repeated), not {hosts!r}"
        )
    workers, scheduler = specifications(
        hosts,
        connect_options,
        worker_options,
        scheduler_options,
        worker_class=worker_class,
        remote_python=remote_python,
    )
    return SpecCluster(workers, scheduler, **{"name": "SSHCluster", **kwargs})


def specifications(
    hosts: Sequence[str],
    connect_options: dict[str, Any] | list[dict[str, Any]] | None = None,
    worker_options: dict[str, Any] | None = None,
    scheduler_options: dict[str, Any] | None = None,
    *,
    worker_class: str = "distributed.Nanny",
    remote_python: str | list[str] | None = None,
    command: str | None = None,
    log_directory: str | None = None,
    tell_host: bool = False,
) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """The specifications of the workers and of the scheduler, for `SpecCluster`.

    Args:
        hosts, connect_options, worker_options, scheduler_options, worker_class, remote_python: as for `SSHCluster`.
        command: module to run for the workers with the options of `headrace worker`, instead of the class.
        log_directory: directory of the machines for files with the processes' output.
        tell_host: whether servers are to listen at the names in `hosts`.

    Raises:
        RuntimeError: lists differ in length.
    """
    connections = _each("connect_options", connect_options or {}, hosts, dict)
    pythons = _each("remote_python", remote_python, hosts, str)
    n_workers = int((worker_options or {}).get("n_workers", 1))
    group = {"group": [f"-{number}" for number in range(n_workers)]} if n_workers != 1 else {}
    made: list[dict[str, Any]] = [
        {
            "address": host,
            "connect_options": connection,
            "remote_python": python,
            "log_directory": log_directory,
            "kwargs": {"host": host} if tell_host else {},
        }
        for host, connection, python in zip(hosts, connections, pythons, strict=True)
    ]
    for options in made[1:]:
        options["kwargs"].update(worker_options or {})
        options.update(worker_class=worker_class, command=command)
    made[0]["kwargs"].update(scheduler_options or {})
    workers = {number: {"cls": Worker, "options": options, **group} for number, options in enumerate(made[1:])}
    return workers, {"cls": Scheduler, "options": made[0]}


def _old_cluster(
    hosts: Sequence[str] | None, worker_class: str, remote_python: str | list[str] | None, kwargs: dict[str, Any]
) -> SpecCluster:
    """A cluster by the keywords that `SSHCluster` had long ago."""
    warnings.warn(
        "these keywords of SSHCluster are old: use SSHCluster([scheduler, worker, …], connect_options={…}, "
        "worker_options={…})",
        FutureWarning,
        stacklevel=3,
    )
    old = {name: kwargs.pop(name) for name in list(kwargs) if name in old_cluster_kwargs}
    connect = {
        "username": old.get("ssh_username"),
        "port": old.get("ssh_port"),
        "client_keys": [old["ssh_private_key"]] if old.get("ssh_private_key") else None,
    }
    worker = {
        "nthreads": old.get("nthreads") or None,
        "n_workers": old.get("n_workers"),
        "memory_limit": old.get("memory_limit"),
        "worker_port": old.get("worker_port"),
        "local_directory": old.get("local_directory"),
        "nanny_port" if old.get("remote_dask_worker") else "port": old.get("nanny_port"),
    }
    workers, scheduler = specifications(
        [old.get("scheduler_addr") or old["worker_addrs"][0], *old.get("worker_addrs", hosts or [])],
        _without_none(connect),
        _without_none(worker),
        _without_none({"port": old.get("scheduler_port")}),
        worker_class=worker_class,
        remote_python=remote_python,
        command=old.get("remote_dask_worker"),
        log_directory=old.get("logdir"),
        tell_host=not old.get("nohost"),
    )
    return SpecCluster(workers, scheduler, **{"name": "SSHCluster", **kwargs})


def _asyncssh() -> Any:
    try:
        import asyncssh
    except ImportError as error:
        raise ImportError("SSHCluster needs asyncssh: pip install 'headrace[ssh]'") from error
    return asyncssh


def _each(name: str, given: Any, hosts: Sequence[str], one: type) -> list[Any]:
    """A value for each host, from one for all or a list; a value for all is None or an instance of `one`."""
    if given is None or isinstance(given, one):
        return [given] * len(hosts)
    if len(given) != len(hosts):
        raise RuntimeError(f"{name} has {len(given)} entries for {len(hosts)} hosts: give one for each, or one for all")
    return list(given)


def _without_none(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _options(options: dict[str, Any]) -> list[str]:
    """Keywords as options of a command."""
    return [
        word for name, value in _without_none(options).items() for word in (f"--{name.replace('_', '-')}", str(value))
    ]

"""The nanny: keeps one worker process, starts it again when it dies, and answers for it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
from collections.abc import Iterable, Mapping
from typing import Any

from headrace import config as config_of_process
from headrace.comm import get_address_host
from headrace.comm.addressing import address_from_user_args, parse_address
from headrace.common.display.cluster_html import status_colour
from headrace.common.display.html import card, code, facts
from headrace.common.display.units import bytes_in_words
from headrace.common.status import Status
from headrace.containment import log_raised
from headrace.exceptions import CommClosedError
from headrace.rpc.run_function import error_reply, opened, run_function
from headrace.rpc.server import Operation
from headrace.rpc.server_life import Node, scheduler_address_of
from headrace.rpc.server_logs import silence
from headrace.security import Security

from . import forkserver
from .beginning import Beginning
from .memory_watch import NannyMemoryManager
from .worker_process import (
    FIRST_PAUSE,
    LIVED,
    LONGEST_PAUSE,
    WorkerProcess,
    cause_of_death,
    kind_of_end,
)

logger = logging.getLogger("distributed.nanny")

#: Seconds in which the scheduler must be told of a death; it draws its own conclusions long before.
REPORT_SECONDS = 10.0
#: The same when it was asked to end, and somebody waits for that.
ASKED_REPORT_SECONDS = 1.0
#: Seconds within which a signal that ended the worker's process, sent to more processes than that, is here as well.
SIGNAL_SECONDS = 0.3
#: Signals that also tell whoever keeps workers to end them: sent to a whole group, job or machine.
ENDING = (-signal.SIGTERM, -getattr(signal, "SIGHUP", signal.SIGTERM), -signal.SIGINT)
#: Seconds that a worker gets to close in good order when it is restarted.
CLOSING_SECONDS = 5.0


class NannyServer(Node):
    """Runs a Worker in a process of its own, and starts it again when the process dies.

    Await it, or use it in `async with`, to start it; `await nanny.finished()` waits until it has closed.

    Args:
        scheduler_ip, scheduler_port, scheduler_file: as for Worker.
        worker_port: where the worker listens; 0 takes any free port.
        env: environment variables for the worker's process; None removes one.
        config: configuration for the worker's process; laid over this one's.
        worker_class: class of the worker.
        host, port, interface, protocol: where the nanny listens; the worker uses the same but the port.
        memory_limit: as for Worker; a worker over the share `distributed.worker.memory.terminate` of it
            (`memory_terminate_fraction`) is killed and started again.
        preload_nanny, preload_nanny_argv: code to run as this starts and ends; without `_nanny`, the worker does.
        plugins: nanny plugins to start with; others among them are the worker's.
        worker_kwargs: for the Worker.

    Raises:
        ValueError: no scheduler is named, and there is no preload that could do so.
        TimeoutError: when started, if the scheduler cannot be reached.
        RuntimeError: when started, if the worker did not start, or for whatever else prevents the start: its cause.
    """

    def __init__(
        self,
        scheduler_ip: object = None,
        scheduler_port: int | str | None = None,
        scheduler_file: str | None = None,
        worker_port: int | str | Iterable[int] | None = 0,
        nthreads: int | None = None,
        local_directory: str | None = None,
        services: object = None,
        name: object = None,
        memory_limit: str | float | None = "auto",
        reconnect: bool = True,
        validate: bool = False,
        quiet: bool = False,
        resources: Mapping[str, float] | None = None,
        silence_logs: int | None = None,
        death_timeout: float | str | None = None,
        preload: str | Iterable[str] | None = None,
        preload_argv: Iterable[Any] | None = None,
        preload_nanny: str | Iterable[str] | None = None,
        preload_nanny_argv: Iterable[Any] | None = None,
        security: Security | Mapping[str, Any] | None = None,
        contact_address: str | None = None,
        listen_address: str | None = None,
        worker_class: object = None,
        env: Mapping[str, Any] | None = None,
        interface: str | None = None,
        host: str | None = None,
        port: int | str | None = None,
        protocol: str | None = None,
        config: Mapping[str, Any] | None = None,
        plugins: Iterable[Any] = (),
        **worker_kwargs: Any,
    ) -> None:
        follows = bool(preload_nanny or config_of_process.get("distributed.nanny.preload", None))
        self.scheduler_address = scheduler_address_of(scheduler_ip, scheduler_port, scheduler_file, follows)
        super().__init__("Nanny", {}, security, "distributed.nanny")
        self._learn_token_from(scheduler_file)
        self.server.add_operations("NannyServer", self._operations())
        silence(logger, silence_logs)
        self.name = name
        self.nthreads = nthreads
        self.memory_manager = NannyMemoryManager(
            self,
            memory_limit=memory_limit,
            memory_terminate_fraction=worker_kwargs.pop("memory_terminate_fraction", None),
            memory_monitor_interval=worker_kwargs.get("memory_monitor_interval"),
        )
        self.contact_address = contact_address
        self.auto_restart = True
        self.process: WorkerProcess | None = None
        self.plugins: dict[str, Any] = {}
        given = list(plugins)
        self._start_plugins = [plugin for plugin in given if self._is_for_nannies(plugin)]
        if others := [plugin for plugin in given if not self._is_for_nannies(plugin)]:
            worker_kwargs["plugins"] = others
        self._listen: Any = listen_address or {
            "host": host,
            "port": port or 0,
            "interface": interface,
            "protocol": protocol,
        }
        self._process_options: dict[str, Any] = {"worker": worker_class, "config": config}
        self.env = dict(env or {})
        self._worker_kwargs = {
            **worker_kwargs,
            "nthreads": nthreads,
            "local_directory": local_directory,
            "name": name,
            "memory_limit": memory_limit,
            "validate": validate or None,  # as configured, unless asked for
            "resources": resources,
            "silence_logs": silence_logs,
            "death_timeout": death_timeout,
            "reconnect": reconnect,
            "security": self.security,
            "contact_address": contact_address,
            "interface": interface,
            "host": host,
            "port": worker_port,
            "protocol": protocol,
            "preload": preload,
            "preload_argv": preload_argv,
        }
        self.beginning = Beginning(self, scheduler_file, death_timeout, preload_nanny, preload_nanny_argv)
        #: how many processes this has started for its worker, and how the ended ones ended, in a word or two
        self.starts = 0
        self.ends: dict[str, int] = {}
        self._pause = FIRST_PAUSE
        self._born = 0.0
        self._starting_again = False
        self._keeps_forkserver = False
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Nanny: {self.worker_address}, threads: {self.nthreads}>"

    def _repr_html_(self) -> str:
        limit, status = self.memory_limit, self.status.name
        values = {
            "Worker": code(self.worker_address or "none"),
            "Scheduler": code(self.scheduler_address),
            "Threads": self.nthreads,
            "Memory": bytes_in_words(limit) if limit else None,
            "Process": self.pid,
        }
        return card(
            "Nanny",
            facts(values),
            subtitle="" if self.name is None else self.name,
            status=status,
            colour=status_colour(status),
        )

    def _is_for_nannies(self, plugin: object) -> bool:
        """Whether a plugin that the constructor was given is a nanny's, and not its worker's."""
        return True

    def _operations(self) -> dict[str, Operation]:
        """The operations that others may ask for."""
        return {
            "instantiate": Operation(self._instantiate_request),
            "kill": Operation(self._kill_request),
            "restart": Operation(self.restart),
            "get_logs": Operation(self.get_logs),
            "terminate": Operation(self._terminate),
            "close_gracefully": Operation(self.close_gracefully),
            "run": Operation(self._run),
            "identity": Operation(self.identity),
            "versions": Operation(self.versions),
            "echo": Operation(self.echo),
            "plugin_add": Operation(self.plugin_add),
            "plugin_remove": Operation(self.plugin_remove),
        }

    # Life

    async def _prepare(self) -> None:
        await self.beginning.load_preloads()

    async def _start(self) -> None:
        forkserver.keep()
        self._keeps_forkserver = True
        await self.beginning.find_scheduler()
        if isinstance(self._listen, str):
            await self.server.listen(self._listen)
        else:
            peer = self.scheduler_address
            if parse_address(peer)[0] == "inproc":
                raise ValueError(
                    "a Nanny's worker cannot reach a scheduler inside this process (inproc): "
                    "start the Scheduler with protocol='tcp', or use Worker"
                )
            await self._listen_somewhere(peer)
        if self._worker_kwargs.get("dashboard_address") is not None:
            self._open_http(config_of_process.get("distributed.nanny.http.address", ":0"))
        for plugin in self._start_plugins:
            await self.plugin_add(plugin)
        await self.beginning.prepare()
        await self.instantiate()
        self.memory_manager.start()
        self.status = Status.running

    async def _listen_somewhere(self, peer: str) -> None:
        """Listen at the first of the possible ports that can be had."""
        listen = dict(self._listen)
        ports = listen.pop("port")

        def addresses(port: int | str | None) -> list[str]:
            return [address_from_user_args(port=port, peer=peer, security=self.security, **listen)]

        await self._listen_at_first(ports, addresses)

    async def _instantiate_request(self) -> str:
        return (await self.instantiate()).name

    async def instantiate(self) -> Status:
        """Start the worker; returns `Status.running` when it is registered with the scheduler."""
        async with self._lock:
            if self.process is not None and self.process.is_alive():
                return self.process.status
            self.auto_restart = self.status is not Status.closing_gracefully
            loop = asyncio.get_running_loop()
            process = self.process = WorkerProcess(
                {"scheduler_ip": self.scheduler_address, "nanny": self.address, **self._worker_kwargs},
                on_exit=self._on_exit,
                env=self.env,
                **self._process_options,
            )
            self._born = loop.time()
            self.starts += 1
            await process
            return process.status

    def _on_exit(self, code: int) -> None:
        """The worker's process has ended."""
        if self.process is not None:
            end = kind_of_end(self.process, code, asked=not self.auto_restart)
            self.ends[end] = self.ends.get(end, 0) + 1
        if self.status is not Status.running or self.process is None or not self.auto_restart:
            return
        if self.process.address is None:
            return  # it has not come to start a worker, which whoever started it is told
        if self.process.closed_itself is not None:
            logger.info("Worker closed: %s", self.process.closed_itself)
            self._close_soon(f"the worker has closed: {self.process.closed_itself}")
            return
        if self.process.restart_reason is not None:
            logger.info("Worker process %s ended: %s; starting another", self.process.pid, self.process.restart_reason)
            self._pause = FIRST_PAUSE  # it has not failed, however short its life
            self._start_another()
        elif code in ENDING and self.process.exit_cause is None:
            self._starting_again = True
            self.run_in_background(self._judge(self.process, code))
        else:
            self._mourn(self.process, self.process.exit_cause or cause_of_death(code))

    async def _judge(self, process: WorkerProcess, code: int) -> None:
        """A signal has ended the worker: if this gets it, too, within a moment, that is an end in good order."""
        await asyncio.sleep(SIGNAL_SECONDS)
        self._starting_again = False
        told = process.has_closed or self.process is not process  # somebody has restarted it meanwhile
        if self.status is Status.running and self.auto_restart and not told:
            self._mourn(process, cause_of_death(code))

    def _mourn(self, process: WorkerProcess, cause: str) -> None:
        """The worker has died: nobody who may ask for its end has."""
        logger.warning("Worker process %s died (%s); starting another", process.pid, cause)
        self.run_in_background(self._report_end(process, cause))
        self._start_another()

    def _start_another(self) -> None:
        self._starting_again = True
        self.run_in_background(self._start_again())

    async def _report_end(self, process: WorkerProcess, cause: str, asked: bool = False) -> None:
        """Tell the scheduler at once, and what it was: from a broken connection it could only guess."""
        pause = FIRST_PAUSE
        end = {"worker": process.address, "pid": process.pid, "cause": cause, "asked": asked}
        try:
            async with asyncio.timeout(ASKED_REPORT_SECONDS if asked else REPORT_SECONDS):
                while True:
                    try:
                        await self.rpc.rpc(self.scheduler_address).worker_exited(**end)
                        return
                    except CommClosedError:
                        await asyncio.sleep(pause)
                        pause *= 2
        except Exception as error:
            logger.info("Could not tell the scheduler at %s of the worker's end: %s", self.scheduler_address, error)

    async def _start_again(self) -> None:
        try:
            await self._start_until_it_lives()
        finally:
            self._starting_again = False

    async def _start_until_it_lives(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._born > LIVED:
            self._pause = FIRST_PAUSE
        while True:
            await asyncio.sleep(self._pause)
            if self.status is not Status.running or not self.auto_restart:
                return
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            try:
                await self.instantiate()
            except (RuntimeError, TimeoutError) as error:
                logger.error("Could not start the worker again: %s", error)
                if isinstance(error, TimeoutError):
                    self._close_soon(f"its scheduler is gone: {error}")
                    return
            else:
                return

    async def kill(self, timeout: float = 5, reason: str = "nanny-kill") -> None:
        """End the worker's process and do not start another; returns when it is gone."""
        self.auto_restart = False
        process = self.process
        if process is None:
            return
        await process.close(timeout=timeout, reason=reason)
        if process.address is not None and not process.has_closed:
            process.has_closed = True
            await self._report_end(process, reason, asked=True)  # no task is to blame

    async def _kill_request(self, timeout: float = 5, reason: str = "nanny-kill") -> str:
        await self.kill(timeout, reason)
        return "OK"

    async def restart(self, timeout: float | None = 30, reason: str = "nanny-restart", wait: bool = True) -> str:
        """End the worker's process and start another.

        Args:
            timeout: seconds to wait; what is not done then goes on.
            wait: wait until the new worker is registered, not only until the old process has ended.

        Returns:
            "OK", or "timed out".
        """
        ended = asyncio.get_running_loop().create_future()
        work = self.run_in_background(self._restart(reason, ended))
        await asyncio.wait([work if wait else ended, work], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()  # raises why the worker did not start
        elif wait or not ended.done():
            logger.error("The restart of the worker takes longer than %s s", timeout)
            return "timed out"
        return "OK"

    async def _restart(self, reason: str, ended: asyncio.Future[None]) -> None:
        try:
            await self.kill(timeout=CLOSING_SECONDS, reason=reason)
            if not ended.done():
                ended.set_result(None)
            await self.instantiate()
        finally:
            self.auto_restart = self.status is not Status.closing_gracefully
            ended.cancel()

    def close_gracefully(self, reason: str = "nanny-close-gracefully") -> None:
        """The worker is about to leave on purpose: do not start another."""
        self.auto_restart = False
        self.status = Status.closing_gracefully

    async def close(self, timeout: float = 5, reason: str = "nanny-close") -> str:  # type: ignore[override]
        """Close the worker and this. Waits for a close under way. Returns "OK"."""
        return await self._shut(reason, {"timeout": float(timeout)})

    async def _close(self, reason: str = "", timeout: float = 5, **_: object) -> None:
        logger.info("Closing Nanny at %s. Reason: %s", self.address_safe, reason)
        await self.kill(timeout=timeout, reason=reason)
        if self._keeps_forkserver:
            self._keeps_forkserver = False
            await forkserver.let_go()
        for name in list(self.plugins):
            await self.plugin_remove(name)
        await self.beginning.preloads.teardown()
        self.process = None

    def _close_soon(self, reason: str) -> None:
        if self._closing is None:
            self.run_detached(self.close(reason=reason))

    def _terminate(self, reason: str = "asked to terminate", **_: object) -> dict[str, str]:
        self._close_soon(reason)
        return {"status": "OK"}

    # Views and requests

    @property
    def worker_address(self) -> str | None:
        """The worker's, or None while there is none."""
        return self.process.address if self.process is not None else None

    @property
    def is_starting_again(self) -> bool:
        """Whether the worker has died and this is about to start another, however often it takes."""
        return self._starting_again

    @property
    def memory_limit(self) -> int | None:
        """Bytes that the worker may take; None for no limit."""
        return self.memory_manager.memory_limit

    @property
    def pid(self) -> int | None:
        """Of the worker's process."""
        return self.process.pid if self.process is not None else None

    def is_alive(self) -> bool:
        """Whether the worker's process runs."""
        return self.process is not None and self.process.is_alive()

    def identity(self) -> dict[str, Any]:
        """The answer to `identity`: the kind of server, its id and its worker."""
        return {
            "type": type(self).__name__,
            "id": self.id,
            "scheduler": self.scheduler_address,
            "name": self.name,
            "address": self.address,
            "host": get_address_host(self.address),
            "worker_address": self.worker_address,
            "pid": os.getpid(),
            "status": self.status.name,
        }

    async def _run(self, function: object, args: object = (), kwargs: object = None, wait: bool = True) -> Any:
        """Call a function in the nanny's process; it gets `dask_worker` (the nanny) if it takes that."""
        return await run_function(self, function, args, kwargs, wait)

    async def plugin_add(self, plugin: object, name: str | None = None) -> dict[str, Any]:
        """Install a nanny plugin; the worker starts again if the plugin wants that. Its failure is the answer."""
        try:
            await self._install(opened(plugin), name)
        except BaseException as raised:
            return error_reply(log_raised(logger, raised, "Plugin %s failed in setup", name or "?", awaited=True))
        return {"status": "OK"}

    async def _install(self, plugin: Any, name: str | None) -> None:
        name = name or getattr(plugin, "name", None) or f"{type(plugin).__name__}-{id(plugin):x}"
        if name in self.plugins:
            if getattr(plugin, "idempotent", False):
                return
            await self.plugin_remove(name)
        self.plugins[name] = plugin
        logger.info("Starting Nanny plugin %s", name)
        result = plugin.setup(nanny=self) if hasattr(plugin, "setup") else None
        if inspect.isawaitable(result):
            await result
        if getattr(plugin, "restart", False) and self.is_alive():
            await self.restart(reason=f"plugin {name} was installed")

    async def plugin_remove(self, name: str) -> dict[str, Any]:
        """Remove a nanny plugin; that there is none, or that it fails, is the answer."""
        if name not in self.plugins:
            return error_reply(KeyError(f"there is no nanny plugin named {name!r}; there are {sorted(self.plugins)}"))
        plugin = self.plugins.pop(name)
        if hasattr(plugin, "teardown"):
            try:
                result = plugin.teardown(nanny=self)
                if inspect.isawaitable(result):
                    await result
            except BaseException as raised:  # the nanny may be closing, and has to go on with that
                return error_reply(log_raised(logger, raised, "Plugin %s failed in teardown", name, awaited=True))
        return {"status": "OK"}

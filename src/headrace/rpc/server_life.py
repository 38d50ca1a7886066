"""The life of schedulers, workers and nannies: made cheaply, started by `await`, closed once, waited for."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine, Generator, Mapping
from importlib import import_module
from typing import Any, Self

from headrace import config
from headrace.auth.access_rules import ROLES
from headrace.comm import get_address_host, get_address_host_port
from headrace.comm.addressing import ports_of
from headrace.comm.sockets import is_loopback
from headrace.common.status import Status
from headrace.containment import log_failure_of, log_raised
from headrace.messages.base import HandlerMessage
from headrace.security import Security

from .loops.loop import IOLoop
from .loops.periodic import PeriodicCallback
from .loops.ticks import Ticks
from .pool import ConnectionPool
from .scheduler_file import read_scheduler_file
from .server import RequestServer
from .server_logs import LogLines

logger = logging.getLogger("distributed.core")

#: Seconds that users' code in a start has to end when its server is closed meanwhile.
STOP_STARTING_SECONDS = 5.0


class Node:
    """A server with a life. Subclasses give `_start` and `_close`.

    Args:
        kind: "Scheduler", "Worker" or "Nanny"; for names and messages.
        handlers, takeovers: see `RequestServer`.
        security: certificates.
        log_of: the logger whose lines `get_logs` gives.
        deserialize: whether pickles that reach it are loaded.

    Attributes:
        status: where it is in its life.
        rpc: calls other servers: `await node.rpc(address).identity()`.
        http_server: what answers HTTP, a `headrace.http.http_server.HttpServer`; None if nothing does.
        stream_handlers: functions that take messages of plugins' and extensions' own, by name.
        loop: facade of the event loop it runs on; until it starts, of the one that it was made on (None if on none).
    """

    #: operations to refuse; None means those of the configuration
    blocked_handlers: list[str] | None = None

    def __init__(
        self,
        kind: str,
        handlers: Mapping[str, Callable[..., Any]],
        security: Security | Mapping[str, Any] | None,
        log_of: str,
        *,
        takeovers: Mapping[str, Callable[..., Any]] | None = None,
        deserialize: bool = True,
    ) -> None:
        self.kind = kind
        self.id = f"{kind}-{uuid.uuid4()}"
        self.status = Status.created
        self.security = security if isinstance(security, Security) else Security(**(security or {}))
        role = "scheduler" if kind == "Scheduler" else "worker"
        rules = {"access_rules": self.security.access_rules(kind.lower() if kind.lower() in ROLES else role)}
        self.connection_args = self.security.get_connection_args(role) | rules
        self.rpc = ConnectionPool(deserialize=deserialize, connection_args=self.connection_args)
        self.server = RequestServer(
            handlers,
            takeovers,
            deserialize=deserialize,
            connection_args=self.security.get_listen_args(role) | rules,
            name=kind.lower(),
            timeout=1,
        )
        self.periodic_callbacks: dict[str, PeriodicCallback] = {}
        self.stream_handlers: dict[str, Callable[..., Any]] = {}
        self.http_server: Any = None
        self.loop: IOLoop | None = IOLoop.current(instance=False)
        self._log_lines = LogLines(log_of)
        self.ticks = Ticks(kind)
        self._finished: asyncio.Event | None = None
        self._starting: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self._detached: set[asyncio.Task[Any]] = set()

    def loop_interval(self) -> float:
        """Seconds between two ticks of its event loop on the average, since the last call: more if it is busy."""
        return self.ticks.mean_interval

    def __getstate__(self) -> Any:
        raise TypeError(f"a {self.kind} cannot be pickled: send its address")

    def __await__(self) -> Generator[Any, None, Self]:
        return self.start().__await__()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> Self:
        """Start, if that has not been done; whoever else awaits it meanwhile waits for the same start.

        Raises:
            RuntimeError: it has been closed, or is closed meanwhile.
            Exception: whatever prevented the start; it is closed then.
        """
        if self.status in (Status.closing, Status.closed, Status.failed):
            raise RuntimeError(f"this {self.kind} has been closed and cannot be started again; make a new one")
        if self._starting is None:
            self.status = Status.starting
            self.loop = IOLoop.current()
            self._finished = asyncio.Event()
            self._log_lines.start()
            self.ticks.start()
            self._block_operations()
            self._starting = asyncio.ensure_future(self._begin())
        starting = self._starting
        try:
            await asyncio.shield(starting)
        except BaseException as error:
            if not starting.done():  # the caller gave up
                starting.cancel()
                await asyncio.wait([starting])
            elif starting.cancelled():
                await self._shut("it was closed as it started", {})
                raise RuntimeError(f"this {self.kind} was closed while it started") from error
            await self._shut(f"it did not start: {type(error).__name__}", {"failed": True})
            raise
        return self

    def _block_operations(self) -> None:
        """Refuse what the owner or the configuration does not allow others to ask for."""
        blocked = self.blocked_handlers
        if blocked is None:
            blocked = config.texts(f"distributed.{self.kind.lower()}.blocked-handlers")
        self.server.block(blocked or ())

    async def _listen_at_first(self, ports: Any, addresses: Callable[[Any], list[str]]) -> None:
        """Listen at the first port that can be had.

        Args:
            ports: as `ports_of` takes them.
            addresses: where to listen with a port.

        Raises:
            OSError: none can be had; with the last cause.
        """
        failure: OSError | None = None
        tried = ports_of(ports)
        for port in tried:
            try:
                for address in addresses(port):
                    await self.server.listen(address)
                return
            except OSError as error:
                failure = error
        listed = ", ".join(map(str, tried[:5])) + (", …" if len(tried) > 5 else "")
        raise OSError(f"Could not listen at any of the ports {listed}: {failure}") from failure

    def _learn_token_from(self, scheduler_file: object) -> None:
        """Have the token that stands in a scheduler's file count, unless the user names another."""
        if scheduler_file is not None and self.security.scheduler_file is None:
            self.security.scheduler_file = str(scheduler_file)

    def _warn_if_open(self) -> None:
        """Say it if everybody on the network may connect."""
        if self.security.access_rules("scheduler").asks or self.security.require_encryption:
            return
        for listener in self.server.listeners:
            address = listener.listen_address
            if not address.startswith("inproc://") and not is_loopback(get_address_host(address)):
                logger.warning(
                    "%s at %s asks nobody for a token (distributed.comm.auth: none): whoever can reach it may run code "
                    "as this user",
                    self.kind,
                    address,
                )

    def _open_http(
        self, address: object, *, pages: bool = False, prefix: str | None = "/", default_port: int = 0, tls: Any = None
    ) -> None:
        """Listen for HTTP, if an address is given or pages are wanted.

        Args:
            address: see `headrace.http.http_places.places_of`; None for the default, if pages are wanted.
            pages: whether there are pages for people.
            prefix: path before all others.
            default_port: if the address names none.
            tls: an `ssl.SSLContext` for https; None for what is configured.

        Raises:
            ValueError: the address, or a setting, is malformed.
            OSError: there is no port to be had.
        """
        if address is None and not pages:
            return
        http = import_module("headrace.http.http_server")  # stands above; servers without HTTP do not load it
        made = http.HttpServer(self, prefix=prefix, pages=pages, tls=tls or http.configured_tls())
        try:
            made.listen(True if address is None else address, default_port)
        except BaseException:
            made.stop()  # it may listen at the first of several addresses
            raise
        self.http_server = made

    async def _begin(self) -> None:
        """Start for the first and only time; nobody else starts it meanwhile."""
        await self._prepare()
        await self._start()
        self._warn_if_open()

    async def _prepare(self) -> None:
        """Load users' code that belongs to this: before anything is opened, since it may say where what is."""

    async def _start(self) -> None:
        raise NotImplementedError

    async def _close(self, **options: Any) -> None:
        raise NotImplementedError

    async def close(self, timeout: float | None = None, reason: str = "closed by its owner") -> str:
        """Close; waits for a close that is under way. Returns "OK".

        Args:
            timeout: seconds to wait for requests under way.
        """
        return await self._shut(reason, {} if timeout is None else {"timeout": timeout})

    async def _shut(self, reason: str, options: dict[str, Any]) -> str:
        if self._closing is None:
            if self.status is Status.created:
                self.status = Status.closed
                return "OK"
            self.status = Status.closing
            self._closing = asyncio.ensure_future(self._run_close(reason, options))
        await asyncio.shield(self._closing)
        return "OK"

    async def _run_close(self, reason: str, options: dict[str, Any]) -> None:
        failed = options.pop("failed", False)
        starting = self._starting
        if starting is not None and not starting.done():  # it would go on with what is being closed
            starting.cancel()
            await asyncio.wait([starting], timeout=STOP_STARTING_SECONDS)
        try:
            for callback in self.periodic_callbacks.values():
                callback.stop()
            self.server.stop_listening()
            if self.http_server is not None:
                self.http_server.stop()
            await self._close(reason=reason, **options)
            for task in list(self._background):
                task.cancel()
            if self._background:
                await asyncio.wait(list(self._background), timeout=1)
            await self.rpc.close()
            await self.server.close_comms()
            if self.http_server is not None:
                await self.http_server.close()
        finally:
            self._log_lines.stop()
            self.ticks.stop()
            self.status = Status.failed if failed else Status.closed
            assert self._finished is not None
            self._finished.set()

    async def finished(self) -> None:
        """Wait until it has closed.

        Raises:
            RuntimeError: it has not been started.
        """
        if self._finished is None:
            raise RuntimeError(f"this {self.kind} has not been started; await it first")
        await self._finished.wait()

    async def wait_until_closed(self) -> None:
        """Wait until it has closed; the same as `finished`."""
        await self.finished()

    def run_in_background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine until it ends or this closes."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def take_handler_message(self, message: HandlerMessage, source: str, **more: Any) -> None:
        """Call the function in `stream_handlers` that a message of a plugin's own is for; a coroutine runs on.

        Args:
            source: address of the sender, for complaints.
            more: further keywords for it.
        """
        handler = self.stream_handlers.get(message.handler)
        if handler is None:
            text = "No handler for the stream's operation %.100r"
            self.server.complaints.say("a stream's operation", source, text, message.handler)
            return
        failed = "The handler %r of a stream failed"
        try:
            result = handler(**{**more, **message.arguments})
            if asyncio.iscoroutine(result):
                self.run_in_background(log_failure_of(logger, result, failed, message.handler))
        except BaseException as raised:
            log_raised(logger, raised, failed, message.handler)

    def run_detached(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine that outlives the closing of this: the closing itself, asked for from within."""
        task = asyncio.ensure_future(work)
        self._detached.add(task)
        task.add_done_callback(self._detached.discard)

    @property
    def is_running(self) -> bool:
        """Whether it has started and not begun to close."""
        return self.status in (Status.running, Status.paused, Status.closing_gracefully)

    @property
    def io_loop(self) -> IOLoop | None:
        """The same as `loop`."""
        return self.loop

    @property
    def address(self) -> str:
        """The address at which others reach it.

        Raises:
            ValueError: it does not listen yet.
        """
        return self.server.address

    @property
    def address_safe(self) -> str:
        """The address, or a text that says that there is none yet."""
        return self.address if self.server.listeners else "not-running"

    @property
    def listen_address(self) -> str:
        """The address that it is bound to."""
        return self.server.listen_address

    @property
    def listener(self) -> Any:
        """The first listener, or None."""
        return self.server.listeners[0] if self.server.listeners else None

    @property
    def port(self) -> int:
        """Port of its address."""
        return get_address_host_port(self.address)[1]

    @property
    def ip(self) -> str:
        """Host of its address."""
        return get_address_host(self.address)

    @property
    def host(self) -> str:
        """Host of its address."""
        return get_address_host(self.address)

    def get_logs(self, start: float = 0, n: int | None = None, timestamps: bool = False) -> list[tuple[Any, ...]]:
        """The latest lines of its log, newest first: (level, text), with `timestamps` (seconds, level, text).

        Args:
            start: only lines since then, in seconds since the epoch.
            n: at most so many.
        """
        return self._log_lines.lines(start, n, timestamps)

    def versions(self, packages: Any = None) -> dict[str, Any]:
        """Versions of Python and of packages here; `packages` names further ones."""
        from headrace.common.package_versions import get_versions

        return get_versions(packages)

    def echo(self, data: Any = None) -> Any:
        """Give back what came; for tests of the connection."""
        return data


def scheduler_address_of(ip: Any, port: Any, scheduler_file: str | None, may_follow: bool = False) -> str:
    """The scheduler's address as the constructor's arguments give it; empty while its file is not there.

    Args:
        may_follow: a preload may still say it; then it is empty if nothing else does.

    Raises:
        ValueError: none of them does, or the file does not name one.
        TypeError: the address is not text.
    """
    if scheduler_file is not None:
        return read_scheduler_file(scheduler_file) or ""
    if ip is None:
        ip = _configured_address()
    if ip is None:
        if may_follow:
            return ""
        raise ValueError(
            "name the scheduler: its address (Worker('tcp://host:8786')), host and port, or scheduler_file=..."
        )
    if hasattr(ip, "scheduler_address"):  # a cluster
        ip = ip.scheduler_address
    if not isinstance(ip, str):
        raise TypeError(f"the scheduler's address must be text such as 'tcp://host:8786', not {type(ip).__name__}")
    if port is not None:
        return f"{ip}:{int(port)}" if "://" in ip else f"tcp://{ip}:{int(port)}"
    from headrace.comm.addressing import normalize_address

    return normalize_address(ip)


def _configured_address() -> str | None:
    from headrace import config

    address = config.get("scheduler-address", None)
    return str(address) if address else None

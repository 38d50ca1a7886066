"""Documented members of every server that nothing here needs itself: for plugins, extensions and subclasses.

They look at what a `Node` has, or pass on to it; nothing here decides anything.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import tempfile
import threading
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from headrace import config
from headrace.comm import Comm, Listener
from headrace.common.status import Status
from headrace.compat.counter import Counter
from headrace.containment import described, log_raised
from headrace.exceptions import CommClosedError
from headrace.rpc.loops.periodic import PeriodicCallback
from headrace.rpc.server import Operation, takes_by_name
from headrace.rpc.server_life import Node
from headrace.system_monitor import SystemMonitor

if TYPE_CHECKING:
    from headrace.compat.http.routing import RoutingApplication

logger = logging.getLogger("distributed.core")

#: Seconds by which a start may be late to say why it takes too long.
LAST_WORDS_SECONDS = 0.5


class DocumentedServer(Node):
    """A server with the members that older documents promise of schedulers, workers and nannies.

    Attributes:
        stream_handlers: by operation, what `handle_stream` calls, and what takes messages `{"op": …}` of streams.
        services: what `start_services` has started, by name.
        service_specs: `{name: class}` or `{(name, port): class}`, each with keywords in `service_kwargs[name]`: made
            with the server as its argument and told where to `listen`.
        counters: "op" counts the operations that it was asked for; more may be put in.
        digests_max: maxima of what `digest_metric` was told, by name.
    """

    #: where it listens unless told otherwise; an empty host means all interfaces
    default_ip = ""
    default_port = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.services: dict[str, Any] = {}
        self.service_specs: dict[Any, Any] = {}
        self.service_kwargs: dict[Any, dict[str, Any]] = {}
        self._files: tempfile.TemporaryDirectory[str] | None = None
        self.digests_max: dict[Any, float] = {}
        self._thread = 0
        self.counters: defaultdict[str, Counter] = defaultdict(Counter)
        self.server.on_operation = self.counters["op"].add

    # Start and end

    async def _begin(self) -> None:
        self._thread = threading.get_ident()
        await self._prepare()
        seconds = self._may_start_for()
        try:
            # what has a limit of its own says what it waited for: let it speak first
            async with asyncio.timeout(None if seconds is None else seconds + LAST_WORDS_SECONDS):
                await self.start_unsafe()
                self._warn_if_open()
        except TimeoutError as error:
            if str(error):
                raise
            within = "" if seconds is None else f" within {seconds:g} s"
            raise TimeoutError(f"{type(self).__name__} did not start{within}") from error
        except Exception as error:
            raise RuntimeError(f"{type(self).__name__} failed to start: {described(error)}") from error

    def _may_start_for(self) -> float | None:
        """Seconds that a start may take; None for as long as it likes."""
        return None

    async def _run_close(self, reason: str, options: dict[str, Any]) -> None:
        try:
            self.stop_services()
        finally:
            await super()._run_close(reason, options)
            if self._files is not None:
                self._files.cleanup()

    async def start_unsafe(self) -> Self:
        """Start; what a subclass that overrides this does beside is part of the start. Call `start`, not this.

        What this raises reaches the caller of `start` as the cause of a RuntimeError; a TimeoutError as it is.
        """
        await self._start()
        return self

    def stop(self) -> None:
        """Accept no more connections; those that there are stay until it is closed."""
        self.server.stop_listening()

    def start_periodic_callbacks(self) -> None:
        """Start those of `periodic_callbacks` that do not run."""
        for callback in self.periodic_callbacks.values():
            if not callback.is_running():
                callback.start()

    def _open_http(self, address: object, **options: Any) -> None:
        super()._open_http(address, **options)
        if self.http_server is not None:
            self.services["dashboard"] = self.http_server

    def start_http_server(
        self, routes: Iterable[Any], dashboard_address: object, default_port: int = 0, ssl_options: Any = None
    ) -> None:
        """Listen for HTTP, beside where this does already, and answer further routes.

        Args:
            routes: `(pattern, class, keywords)` each, of classes below `distributed.http.utils.RequestHandler`.
            dashboard_address: a port, ":port", "host:port" or several of these.
            default_port: if the address names none.
            ssl_options: an `ssl.SSLContext`, for a server that did not listen for HTTP yet.

        Raises:
            TypeError, ValueError: a route or the address is malformed.
            OSError: there is no port to be had.
        """
        if self.http_server is None:
            where = ":0" if dashboard_address is None else dashboard_address
            self._open_http(where, default_port=default_port, tls=ssl_options)
        else:
            self.http_server.listen(True if dashboard_address is None else dashboard_address, default_port)
        self.http_server.add_routes(routes)

    @cached_property
    def http_application(self) -> RoutingApplication:
        """What it answers by HTTP, as an object to which `(pattern, class, keywords)` can be added.

        Raises:
            ValueError: it does not serve HTTP.
        """
        from headrace.compat.http.routing import RoutingApplication

        if self.http_server is None:
            raise ValueError(f"this {self.kind} serves no HTTP: give it a dashboard_address, such as ':0'")
        return RoutingApplication(add=self.http_server.add_routes)

    def start_services(self, default_listen_ip: str) -> None:
        """Make the services of `service_specs` and have them listen.

        Args:
            default_listen_ip: where, if a service does not name its own host.
        """
        for specified, make in self.service_specs.items():
            name, port = specified if isinstance(specified, tuple) else (specified, 0)
            where = (default_listen_ip, port)
            if isinstance(port, str) and ":" in port:
                host, _, number = port.rpartition(":")
                where = (host or default_listen_ip, int(number))
            try:
                service = make(self, **self.service_kwargs.get(name, {}))
                service.listen(where)
            except BaseException as raised:
                log_raised(logger, raised, "The service %r could not be started at %s", name, where)
            else:
                self.services[name] = service

    def stop_services(self) -> None:
        """Stop what `start_services` started."""
        services, self.services = self.services, {}
        for service in services.values():
            service.stop()

    @property
    def service_ports(self) -> dict[str, int]:
        """Port of each service."""
        return {name: service if isinstance(service, int) else service.port for name, service in self.services.items()}

    # Connections

    async def listen(
        self, port_or_addr: str | int | None = None, allow_offload: bool = True, **kwargs: Any
    ) -> Listener:
        """Listen at one more address as well, and return the listener.

        Args:
            port_or_addr: an address; a port means all interfaces.
            allow_offload: accepted for compatibility: large messages are always read off the loop.

        Raises:
            OSError: the address cannot be had.
        """
        return await self.server.listen(port_or_addr, **kwargs)

    def handle_comm(self, comm: Comm) -> Awaitable[None]:
        """Answer requests on a comm, until it closes or is taken over."""
        return self.server.handle_comm(comm)

    async def handle_stream(self, comm: Comm, extra: dict[str, Any] | None = None) -> None:
        """Take lists of `{"op": …}` from a comm, and call `stream_handlers` with them, until it closes.

        Args:
            extra: more keywords for the handlers.
        """
        try:
            while not comm.closed():
                messages = await comm.read()
                for message in messages if isinstance(messages, (list, tuple)) else (messages,):
                    operation = message.pop("op")
                    if operation == "close-stream":
                        return
                    handler = self.stream_handlers.get(operation)
                    if handler is None:
                        text = "No handler for the stream's operation %.100r"
                        self.server.complaints.say("a stream's operation", comm.peer_address, text, operation)
                        continue
                    result = handler(**(extra or {}), **message)
                    if inspect.isawaitable(result):
                        await result
        except CommClosedError:
            pass
        finally:
            await comm.close()

    @property
    def incoming_comms_open(self) -> int:
        """Connections that others have made to it for requests."""
        return len(self.server.comms)

    @property
    def incoming_comms_active(self) -> int:
        """Connections among these on which a request is being answered."""
        return sum(operation is not None for operation in self.server.comms.values())

    @property
    def outgoing_comms_open(self) -> int:
        """Connections that it has made for requests."""
        return self.rpc.open

    @property
    def outgoing_comms_active(self) -> int:
        """Connections among these on which it waits for an answer."""
        return self.rpc.active

    def get_connection_counters(self) -> dict[str, int]:
        """The four numbers of connections by name."""
        return {
            "incoming_comms_open": self.incoming_comms_open,
            "incoming_comms_active": self.incoming_comms_active,
            "outgoing_comms_open": self.outgoing_comms_open,
            "outgoing_comms_active": self.outgoing_comms_active,
        }

    # Looking, and files

    @cached_property
    def monitor(self) -> SystemMonitor:
        """Readings of this process and its machine, from the first use of this on.

        They are made every `distributed.admin.system-monitor.interval` while the server runs; a worker makes its own
        with each heartbeat.
        """
        monitor = SystemMonitor()
        if self.is_running or self.status is Status.starting:
            seconds = config.parse_seconds(config.get("distributed.admin.system-monitor.interval"))
            callback = self.periodic_callbacks["monitor"] = PeriodicCallback(monitor.update, 1000 * seconds)
            assert self.loop is not None
            self.loop.add_callback(callback.start)
        return monitor

    @property
    def digests(self) -> None:
        """None: what `digest_metric` is told is summed up, and its distribution not kept."""
        return None

    @cached_property
    def digests_total(self) -> defaultdict[Any, float]:
        """Sums of what `digest_metric` was told, by name."""
        return defaultdict(float)

    @cached_property
    def digests_total_since_heartbeat(self) -> dict[Any, float]:
        """Empty: only workers have heartbeats."""
        return defaultdict(float)

    @property
    def thread_id(self) -> int:
        """The thread of its event loop; 0 before it starts."""
        return self._thread

    def digest_metric(self, name: Any, value: float) -> None:
        """Add a measurement to `digests_total` and `digests_max`."""
        self.digests_total[name] += value
        self.digests_max[name] = max(value, self.digests_max.get(name, value))

    @property
    def logs(self) -> deque[logging.LogRecord]:
        """The latest records of its log, oldest first."""
        return self._log_lines.records

    @property
    def listeners(self) -> list[Listener]:
        """The listeners, in the order in which they were opened."""
        return self.server.listeners

    @property
    def handlers(self) -> dict[str, Callable[..., Any]]:
        """Functions that answer requests, by operation; more may be put in."""
        return self.server.handlers

    async def upload_file(self, filename: str, data: Any, load: bool = True) -> dict[str, Any]:
        """Write a file into its local directory and, with `load`, import it (a module, egg or zip) anew.

        Returns:
            `{"status": "OK", "nbytes": …}`, or with status "error" the pickled `exception` and `traceback`.

        Raises:
            ValueError: the name is not a plain file name.
        """
        from headrace.rpc.files import take_file

        directory = self._directory_for_files()
        return await asyncio.get_running_loop().run_in_executor(None, take_file, directory, filename, data, load)

    def _directory_for_files(self) -> str:
        """The directory for files that others put here; a server that has none gets one, removed when it closes."""
        own = getattr(self, "local_directory", None)
        if own:
            return str(own)
        return self._directory_of_its_own()

    def _directory_of_its_own(self) -> str:
        if self._files is None:
            self._files = tempfile.TemporaryDirectory(prefix=f"{type(self).__name__.lower()}-")
        return self._files.name


def given_as_they_ask(server: DocumentedServer, operations: Mapping[str, Operation]) -> dict[str, Operation]:
    """The operations, with `comm` and `serializers` for each method of the server that has such parameters.

    A method that a user's subclass overrides may take what it likes.
    """
    return {name: _given_as_it_asks(server, operation) for name, operation in operations.items()}


def _given_as_it_asks(server: DocumentedServer, operation: Operation) -> Operation:
    if operation.takes_over or getattr(operation.function, "__self__", None) is not server:
        return operation
    takes_comm, takes_serializers = takes_by_name(operation.function)
    return replace(operation, takes_comm=takes_comm, takes_serializers=takes_serializers)

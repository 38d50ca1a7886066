"""`Client`: connects a user's process to a scheduler. Its methods are in `api`, its end of the connection in `link`.

What is here: construction, connecting, being current, closing.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import logging
import os
import sys
import uuid
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import dask

from headrace.comm import normalize_address
from headrace.common.importing import BY_VALUE, import_late
from headrace.config import get as config_get
from headrace.config import parse_seconds, register_defaults
from headrace.containment import log_raised
from headrace.messages.base import HandlerMessage, as_message
from headrace.messages.client import ClientEvent
from headrace.preloading import PreloadManager, configured_preloads
from headrace.rpc import IOLoop, LoopRunner, send_recv, sync
from headrace.rpc.dashboard_links import link_of, link_with_login
from headrace.security import Security

from . import dask_settings
from .api.admin import AdminMethods
from .api.client_base import no_default
from .api.client_plugins import PluginMethods
from .api.dask_collections import CollectionMethods
from .api.data import DataMethods
from .api.datasets import DatasetMethods
from .api.info import InfoMethods
from .api.memory_manager_handle import AMMClientProxy
from .api.task_inspection import LookMethods
from .current import context_client, current_client, default_client, forget, remember
from .errors import UnexpectedKeywordError
from .link.client_session import ClientSession
from .link.fetch_lanes import Lanes
from .link.held_keys import HeldKeys
from .link.latest_info import LatestInfo
from .link.lost_results import Losses
from .link.outbox import ClientOutbox
from .link.security_loader import loaded_security
from .link.version_check import handshake_versions
from .packing.user_frames import frames_wanted
from .presentation.client_card import client_html, client_text

register_defaults()  # whoever has `Client` may ask dask for our settings before there is a client

logger = logging.getLogger("distributed.client")

#: Longest time in seconds that `shutdown` waits for the scheduler's end.
SHUTDOWN_SECONDS = 30

#: Clients that are open, to be closed when the interpreter ends.
_open_clients: weakref.WeakSet[Client] = weakref.WeakSet()


class Client(CollectionMethods, DataMethods, DatasetMethods, InfoMethods, LookMethods, AdminMethods, PluginMethods):
    """Connect to a scheduler, and submit work to it.

    Args:
        address: "host:port" or "tcp://host:port" of a scheduler, or a cluster. Without one, the configured
            `scheduler-address` is used, or else a `LocalCluster` is started with the remaining keywords.
        loop: an asyncio loop (or anything with `.asyncio_loop`) to live on; a background thread's by default.
        timeout: seconds (or text) to connect; `distributed.comm.timeouts.connect` by default.
        set_as_default: whether dask uses this client when none is named.
        scheduler_file: JSON file that a scheduler wrote, to read the address from.
        security: a `Security`, a dictionary of its keywords, or `True` for a self-made one of a local cluster.
        asynchronous: whether methods return awaitables; such a client is awaited, or used with `async with`.
        name: part of the client's id; the setting `client-name` by default.
        heartbeat_interval: seconds (or text) between signs of life.
        direct_to_workers: whether data goes straight to and from workers (the default); with `False`, through the
            scheduler.
        connection_limit: connections to workers kept open.
        serializers, deserializers: names of the families by which data of this client is serialized and that it
            accepts, see `distributed.protocol.register_serialization_family`. Tasks themselves are always pickled.
        extensions: accepted for compatibility.

    Raises:
        OSError: no scheduler at the address in time; names the address.
        UnexpectedKeywordError: (a TypeError and ValueError) a keyword that is unknown where an address is given.
        ValueError: a family of serializers that is not registered here.
    """

    def __init__(
        self,
        address: object = None,
        loop: IOLoop | asyncio.AbstractEventLoop | None = None,
        timeout: float | str | None = no_default,
        set_as_default: bool = True,
        scheduler_file: str | None = None,
        security: Security | dict[str, Any] | bool | None = None,
        asynchronous: bool = False,
        name: str | None = None,
        heartbeat_interval: float | str | None = None,
        serializers: Iterable[str] | None = None,
        deserializers: Iterable[str] | None = None,
        extensions: Mapping[str, object] | None = {},
        direct_to_workers: bool | None = None,
        connection_limit: int = 512,
        **kwargs: Any,
    ) -> None:
        if timeout is no_default or timeout is None:
            timeout = config_get("distributed.comm.timeouts.connect")
        self._timeout = parse_seconds(timeout)
        self._heartbeat_seconds = parse_seconds(
            config_get("distributed.client.heartbeat") if heartbeat_interval is None else heartbeat_interval
        )
        if direct_to_workers is None:
            direct_to_workers = config_get("distributed.client.direct-to-workers")
        self.direct_to_workers = direct_to_workers
        name = dask.config.get("client-name", None) if name is None else name
        self.id = "-".join(filter(None, (type(self).__name__, name, str(uuid.uuid1(clock_seq=os.getpid())))))
        self.scheduler_file = scheduler_file
        self.security = _security(security)
        self.extensions = dict(extensions or {})
        self.cluster: Any = None
        self._asynchronous = asynchronous
        self._set_as_default = set_as_default
        self._is_in_force = False
        self._connection_limit = connection_limit
        self._own_cluster = False
        self._io_loop: IOLoop | None = None
        self._starting = None
        self._started = False
        self._event_handlers: dict[str, Callable[[Any], Any]] = {}
        self._stream_handlers: dict[str, Callable[..., Any]] = {}
        self._event_tasks: set[asyncio.Task[Any]] = set()
        self._questions = set()
        self._source_frames = frames_wanted()
        self.outbox = ClientOutbox()
        self.held = HeldKeys(self.id, self.outbox)
        self.session = ClientSession(self.id, self.outbox, self.held, _weak_event(self))
        self._latest_info = LatestInfo(self.session)
        self._losses = Losses()
        self._lanes = Lanes()
        #: user code that runs once this is connected, and before it closes (`distributed.client.preload`)
        self.preloads: PreloadManager | None = None
        if serializers is not None or deserializers is not None:
            from .packing.serializer_families import ChosenFamilies, FetchedResults

            self._families = ChosenFamilies(serializers, deserializers)
            self.held.core = FetchedResults()
        self._address = self._find_address(address, kwargs)
        if self.security is None and self.cluster is None:
            self.security = loaded_security(self._address) or Security()
        self._cluster_keywords = kwargs
        if loop is None and self.cluster is not None and not asynchronous:
            loop = getattr(self.cluster, "loop", None)
        self._loop_argument = loop
        self._runner: LoopRunner | None = None
        if not asynchronous:
            try:
                self._begin()
                self._start_sync()
            except BaseException:
                self._stop_loop()
                raise
        elif asyncio._get_running_loop() is not None:
            self._begin()
            self._starting = self._start_soon()

    # ------------------------------------------------------------------ finding the scheduler

    def _find_address(self, address: object, kwargs: dict[str, Any]) -> str | None:
        """The address to connect to; `None` when a local cluster is to be started, or a cluster tells it later.

        Raises:
            TypeError: not an address or a cluster, or keywords that only a new cluster could take.
            RuntimeError: the cluster is closed.
        """
        if address is None and self.scheduler_file is None:
            address = dask.config.get("scheduler-address", None)
            if address is None:
                return None
        if kwargs:
            raise UnexpectedKeywordError(f"Unexpected keyword arguments: {sorted(kwargs)} (a scheduler was named)")
        if address is None:
            return None
        if isinstance(address, (tuple, list)) and len(address) == 2:
            address = f"{address[0]}:{address[1]}"
        if isinstance(address, str):
            return normalize_address(address)
        if isinstance(address, type):
            raise TypeError(
                f"Scheduler address must be a string or a Cluster instance, not the class {address.__name__}: make one"
            )
        if hasattr(address, "address") and isinstance(getattr(address, "address", None), str):
            return normalize_address(address.address)
        if hasattr(address, "scheduler_address"):
            _check_open(address)
            self.cluster = address
            return None
        raise TypeError(f"Scheduler address must be a string or a Cluster instance, got {type(address)}")

    def _begin(self) -> None:
        """Have a loop, and a cluster if none was named."""
        self._runner = LoopRunner(self._loop_argument, self._asynchronous)
        self._io_loop = self._runner.start()
        self.session.attach(self._io_loop)
        _open_clients.add(self)
        if self._address is None and self.cluster is None and self.scheduler_file is None:
            from headrace.deploy import LocalCluster

            keywords = {"security": self.security, **self._cluster_keywords}
            if keywords["security"] is None:
                del keywords["security"]
            self._own_cluster = True
            self.cluster = LocalCluster(loop=self._io_loop, asynchronous=self._asynchronous, **keywords)

    def _start_sync(self) -> None:
        assert self._io_loop is not None
        if asyncio._get_running_loop() is self._io_loop.asyncio_loop:
            raise RuntimeError(
                "a synchronous client cannot be made on its own event loop: use `await Client(…, asynchronous=True)`"
            )
        try:
            sync(self._io_loop, self._connect)
        except BaseException:
            if self._own_cluster:
                self.cluster.close()
            raise
        self._become_default()

    def _start_soon(self) -> asyncio.Task[None]:
        starting = asyncio.get_running_loop().create_task(self._start_async())
        starting.add_done_callback(partial(_look_at_failure, self.session))
        return starting

    async def _start_async(self) -> None:
        if self._started:
            return
        if self.cluster is not None and hasattr(self.cluster, "__await__"):
            await self.cluster
        await self._connect()
        self._become_default()

    async def _connect(self) -> None:
        address = self._address or await self._address_later()
        if self.security is None and self.cluster is not None:
            self.security = getattr(self.cluster, "security", None)
        self.security = self.security or Security()
        if self.security.scheduler_file is None:
            self.security.scheduler_file = None if self.scheduler_file is None else str(self.scheduler_file)
        arguments = self.security.get_connection_args("client")
        await self.session.start(
            address, self._timeout, arguments, handshake_versions(), self._heartbeat_seconds, self._connection_limit
        )
        import_late(BY_VALUE)
        self._started = True
        await self._latest_info.refresh()
        self.preloads = configured_preloads(self, "client", None, None)
        try:
            await self.preloads.start()
        except BaseException:
            await self.session.close()
            raise

    async def _address_later(self) -> str:
        """The address out of a cluster, or of a file that the scheduler may not have written yet."""
        if self.cluster is not None:
            self.session.told_address = normalize_address(self.cluster.scheduler_address)
            address = getattr(self.cluster, "client_address", None) or self.cluster.scheduler_address
            return normalize_address(address)
        assert self.scheduler_file is not None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        while True:
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError, KeyError):
                return normalize_address(json.loads(Path(self.scheduler_file).read_text(encoding="utf-8"))["address"])
            if loop.time() > deadline:
                raise OSError(f"no scheduler wrote its address to {self.scheduler_file} within {self._timeout:g} s")
            await asyncio.sleep(0.01)

    # ------------------------------------------------------------------ being current

    def _become_default(self) -> None:
        if self._set_as_default:
            self.come_into_force()
            remember(self)

    def come_into_force(self) -> None:
        """Have dask compute with a client until this one closes."""
        if not self._is_in_force:
            self._is_in_force = True
            dask_settings.begin()

    @classmethod
    def current(cls, allow_global: bool = True) -> Client:
        """The client of this context (`as_current`), or else the default one.

        Args:
            allow_global: whether the default one will do.

        Raises:
            ValueError: there is none.
        """
        client = context_client()
        if client is not None:
            return client
        if not allow_global:
            raise ValueError("Not running inside the `as_current` context manager")
        return default_client()

    @contextlib.contextmanager
    def as_current(self) -> Iterator[Client]:
        """Within this context, here and in what it calls, this client is the current one."""
        token = current_client.set(self)
        try:
            with dask_settings.in_force():
                yield self
        finally:
            current_client.reset(token)

    @property
    def status(self) -> str:
        """connecting, running, closing or closed."""
        return self.session.status

    @property
    def amm(self) -> AMMClientProxy:
        """The scheduler's active memory manager: `start()`, `stop()`, `run_once()`, `running()`."""
        return AMMClientProxy(self)

    @property
    def name(self) -> str:
        """The client's id."""
        return self.id

    @property
    def dashboard_link(self) -> str | None:
        """The address of the dashboard by `distributed.dashboard.link`; None if there is none, or no scheduler.

        With a new code to log in once, if the scheduler is on another machine.
        """
        return self._dashboard_link()

    def _dashboard_link(self, also_here: bool = False) -> str | None:
        """The dashboard's address, with a code if it needs one; see `link_with_login`."""
        link = getattr(self.cluster, "dashboard_link", None)
        if link is None:
            link = link_of(self.session.identity) if self.status == "running" else None
        if not link:
            return None if link is None else str(link)
        address = str(self.session.identity.get("address", ""))
        return link_with_login(str(link), address, self.security, also_here=also_here)

    def _send_to_scheduler(self, message: dict[str, Any]) -> None:
        """Send `{"op": …}` with keywords to the function of that name in the scheduler's `stream_handlers`."""
        self.outbox.post(as_message(message))

    def _on_event(self, event: ClientEvent | HandlerMessage) -> None:
        arguments: dict[str, Any] = {}
        if isinstance(event, HandlerMessage):
            handler, arguments = self._stream_handlers.get(event.handler), event.arguments
            if handler is None:
                logger.warning("No handler for the stream's operation %.100r", event.handler)
        else:
            if event.topic in ("print", "warn"):
                _show(event)
            handler = self._event_handlers.get(event.topic)
            if handler is not None:
                handler = partial(handler, tuple(event.event))
        if handler is not None:
            result = handler(**arguments)
            if asyncio.iscoroutine(result):
                task = self.loop.asyncio_loop.create_task(result)
                self._event_tasks.add(task)
                task.add_done_callback(self._event_task_done)

    def _event_task_done(self, task: asyncio.Task[Any]) -> None:
        self._event_tasks.discard(task)
        if not task.cancelled() and (raised := task.exception()) is not None:
            log_raised(logger, raised, "A handler of events failed")

    def subscribe_topic(self, topic: str, handler: Callable[[Any], Any]) -> Any:
        """Call `handler((time, event))` for each event that is published under a topic from now on.

        Args:
            handler: in place of the one that the topic has; it is called on the client's loop, and may be a coroutine
                function.
        """
        self._event_handlers[topic] = handler
        return self._ask_at_once("subscribe_topic", topic=topic, client=self.id)

    def unsubscribe_topic(self, topic: str) -> Any:
        """Call the topic's handler no more.

        Raises:
            ValueError: there is none.
        """
        if topic not in self._event_handlers:
            raise ValueError(f"No event handler known for topic {topic!r}.")
        del self._event_handlers[topic]
        return self._ask_at_once("unsubscribe_topic", topic=topic, client=self.id)

    # ------------------------------------------------------------------ start and end

    def start(self, **kwargs: object) -> Any:
        """Connect, if that has not happened yet (a synchronous client connects when it is made)."""
        return self._wait_started() if self._asynchronous else self

    async def _wait_started(self) -> Client:
        if self._io_loop is None:
            self._begin()
        if self._starting is None and not self._started:
            self._starting = self._start_soon()
        if self._starting is not None:
            await self._starting
        return self

    def __await__(self) -> Generator[Any, None, Client]:
        return self._wait_started().__await__()

    def __enter__(self) -> Client:
        if self._asynchronous:
            raise TypeError(f"Used 'with' with asynchronous class; please use 'async with' ({type(self).__name__})")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Client:
        return await self._wait_started()

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    def close(self, timeout: float | str | None = no_default) -> Any:
        """Leave the scheduler: all futures are released. A cluster that this client started is closed, too.

        Args:
            timeout: seconds (or text) to wait.
        """
        if self.status == "closed" and not self._own_cluster:
            self._forget()
            self._stop_loop()
            return _nothing() if self._asynchronous else None
        if self.asynchronous:
            return self._close()
        seconds = None if timeout is no_default or timeout is None else parse_seconds(timeout)
        loop = self.loop.asyncio_loop
        if not loop.is_closed() and loop.is_running():
            try:
                sync(self.loop, self._close_session, callback_timeout=seconds)
            finally:
                self._forget()
                if self._own_cluster:
                    self._own_cluster = False
                    self.cluster.close()
                self._stop_loop()
        else:
            self.session.loop_has_ended()
            self._forget()
        return None

    async def _close_session(self) -> None:
        preloads, self.preloads = self.preloads, None
        if preloads is not None:
            await preloads.teardown()
        await self._latest_info.close()
        await self.session.close()
        if self._families is not None:
            await self._families.close()

    async def _close(self) -> None:
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait([self._starting])
        await self._close_session()
        self._forget()
        if self._own_cluster:
            self._own_cluster = False
            closing = self.cluster.close()
            if closing is not None:
                await closing
        self._stop_loop()

    def _forget(self) -> None:
        _open_clients.discard(self)
        forget(self)
        if self._is_in_force:
            self._is_in_force = False
            dask_settings.end()

    def _stop_loop(self) -> None:
        if self._runner is not None and asyncio._get_running_loop() is not self.loop.asyncio_loop:
            self._runner.stop()

    def shutdown(self) -> Any:
        """Shut the scheduler and its workers down, and close this client."""
        return self.sync(self._shutdown) if self.asynchronous else self._shutdown_sync()

    def _shutdown_sync(self) -> None:
        if self.cluster is not None:
            self._own_cluster = True
        else:
            self.sync(self._terminate_scheduler)
        self.close()

    async def _shutdown(self) -> None:
        if self.cluster is not None:
            self._own_cluster = True
        else:
            await self._terminate_scheduler()
        await self._close()

    async def _terminate_scheduler(self) -> None:
        """Have the scheduler close, and wait until it has: closing its connections is the last that it does."""
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                comm = await self.scheduler.live_comm()
                try:
                    await send_recv(comm, op="terminate", reply=False)
                    await comm.read()
                finally:
                    comm.abort()

    def __del__(self) -> None:
        # An unfinished `__init__` leaves no session; the loop's thread is a daemon.
        session = getattr(self, "session", None)
        loop = getattr(session, "loop", None)
        if session is None or session.status in ("closing", "closed") or loop is None:
            return
        with contextlib.suppress(Exception):
            loop.call_soon_threadsafe(session.abort)

    def __repr__(self) -> str:
        return client_text(self)

    def _repr_html_(self) -> str:
        return client_html(self)

    def __getstate__(self) -> Any:
        raise TypeError("a Client cannot be pickled: use get_client() inside tasks")


def _check_open(cluster: object) -> None:
    status = getattr(cluster, "status", None)
    if getattr(status, "name", status) in ("closing", "closed"):
        raise RuntimeError(f"cannot connect to {cluster!r}: this cluster is closed or closing; make a new one")


def _security(security: Security | dict[str, Any] | bool | None) -> Security | None:
    if security is None or security is False:
        return None
    if security is True:
        return Security.temporary()
    if isinstance(security, dict):
        return Security(**security)
    if not isinstance(security, Security):
        raise TypeError(f"security must be a Security object, a dictionary of its keywords, or True; got {security!r}")
    return security


def _weak_event(client: Client) -> Callable[[ClientEvent | HandlerMessage], None]:
    """The session must not keep its client alive."""
    reference = weakref.ref(client)

    def on_event(event: ClientEvent | HandlerMessage) -> None:
        client = reference()
        if client is not None:
            try:
                client._on_event(event)
            except BaseException as raised:
                name = event.handler if isinstance(event, HandlerMessage) else event.topic
                log_raised(logger, raised, "The handler of topic %r failed", name)

    return on_event


def _show(event: ClientEvent) -> None:
    """Print, or warn of, what a task has printed or warned of."""
    message = event.event[1]
    if event.topic == "print":
        if isinstance(message, dict):
            separator, end = message.get("sep"), message.get("end")
            print(
                *message.get("args", ()),
                sep=" " if separator is None else separator,
                end="\n" if end is None else end,
                file=sys.stderr if message.get("file") == 2 else sys.stdout,
                flush=bool(message.get("flush")),
            )
        else:
            print(message)
    else:
        import warnings

        parts = message if isinstance(message, dict) else {"message": message}
        said, category = (_loaded(parts.get(name)) for name in ("message", "category"))
        category = category if isinstance(category, type) and issubclass(category, Warning) else UserWarning
        warnings.warn(said if isinstance(said, Warning) else str(said), category, stacklevel=2)


def _loaded(value: object) -> Any:
    """A warning's text or class, which travels as a pickle; the pickle itself where it cannot be loaded."""
    from headrace.protocol import loads

    with contextlib.suppress(Exception):
        return loads(value) if isinstance(value, bytes) else value
    return value


def _look_at_failure(session: ClientSession, task: asyncio.Task[Any]) -> None:
    """Whoever awaits the client sees the failure, or its futures; nobody is warned that nobody did."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        session.give_up(f"The client could not connect: {error}")


async def _nothing() -> None:
    return None


def _after_fork() -> None:
    """Disown the parent's clients in a forked child, which can neither use nor close them."""
    for client in list(_open_clients):
        client.session.disown()
        client._own_cluster = False
        client._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _close_open_clients() -> None:
    for client in list(_open_clients):
        if client._asynchronous:
            continue
        with contextlib.suppress(Exception):
            client.close(timeout=2)

"""The transports by scheme, each loaded when an address with its scheme is first used."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .connections import Comm, HandleComm, Listener


class Connector(ABC):
    """Makes one attempt to connect."""

    @abstractmethod
    async def connect(self, address: str, deserialize: bool = True, **connection_args: object) -> Comm:
        """A connected comm after its handshake.

        Args:
            address: without `scheme://`.

        Raises:
            OSError: the connection cannot be made.
        """


class Backend(ABC):
    """A transport. Locations are addresses without `scheme://`."""

    @abstractmethod
    def get_connector(self) -> Connector:
        """A connector."""

    @abstractmethod
    def get_listener(self, loc: str, handle_comm: HandleComm, deserialize: bool, **args: object) -> Listener:
        """A listener that has not started."""

    @abstractmethod
    def get_address_host(self, loc: str) -> str:
        """The host in a location."""

    @abstractmethod
    def get_address_host_port(self, loc: str) -> tuple[str, int]:
        """Host and port in a location.

        Raises:
            ValueError: the location has no port.
            NotImplementedError: the scheme has no ports.
        """

    @abstractmethod
    def resolve_address(self, loc: str) -> str:
        """The location with its host name looked up."""

    @abstractmethod
    def get_local_address_for(self, loc: str) -> str:
        """A location of this host, without a port, from which the given one can be reached."""


class Backends(dict[str, Backend]):
    """Backends by scheme; those of headrace's own are loaded when they are first looked up."""

    def __missing__(self, scheme: str) -> Backend:
        importlib.import_module(_modules[scheme])
        return self[scheme]


#: Those that are loaded, and those of others.
backends: dict[str, Backend] = Backends()
#: Group of the entry points by which installed packages offer transports; each loads what makes a `Backend`.
ENTRY_POINTS = "distributed.comm.backends"
#: Module that registers the backend of a scheme.
_modules = {
    "tcp": "headrace.comm.tcp",
    "tls": "headrace.comm.tls",
    "ws": "headrace.comm.websockets.ws",
    "wss": "headrace.comm.websockets.wss",
    "inproc": "headrace.comm.inproc",
}


def get_backend(scheme: str) -> Backend:
    """The backend of a scheme: one of ours, one in `backends`, or one that an installed package offers.

    Raises:
        ValueError: the scheme is unknown; the message names the known ones.
    """
    backend = backends.get(scheme)
    if backend is not None:
        return backend
    if scheme in _modules:
        return backends[scheme]
    from importlib.metadata import entry_points

    offered = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if scheme not in offered:
        known = ", ".join(sorted({*backends, *_modules, *offered}))
        raise ValueError(f"unknown address scheme {scheme!r} (known schemes: {known})")
    backends[scheme] = offered[scheme].load()()
    return backends[scheme]

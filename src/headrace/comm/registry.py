"""Which transport serves which scheme."""

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
        """A connected comm after its handshake; OSError when there is none. The address has no `scheme://`."""


class Backend(ABC):
    """A transport. Locations are addresses without `scheme://`."""

    @abstractmethod
    def get_connector(self) -> Connector:
        """What makes connections."""

    @abstractmethod
    def get_listener(self, loc: str, handle_comm: HandleComm, deserialize: bool, **args: object) -> Listener:
        """A listener that has not started."""

    @abstractmethod
    def get_address_host(self, loc: str) -> str:
        """The host in a location."""

    @abstractmethod
    def get_address_host_port(self, loc: str) -> tuple[str, int]:
        """Host and port; ValueError where there is none."""

    @abstractmethod
    def resolve_address(self, loc: str) -> str:
        """The location with its host name looked up."""

    @abstractmethod
    def get_local_address_for(self, loc: str) -> str:
        """A location on this host that the given one can be reached from, without a port."""


#: Backends by scheme, or the module that registers them when first needed.
backends: dict[str, Backend] = {}
_modules = {"tcp": "headrace.comm.tcp", "tls": "headrace.comm.tls", "inproc": "headrace.comm.inproc"}


def get_backend(scheme: str) -> Backend:
    """The backend of a scheme.

    Raises:
        ValueError: there is none; names those that there are.
    """
    backend = backends.get(scheme)
    if backend is None:
        module = _modules.get(scheme)
        if module is None:
            known = ", ".join(sorted({*backends, *_modules}))
            raise ValueError(f"unknown address scheme {scheme!r} (known schemes: {known})")
        importlib.import_module(module)
        backend = backends[scheme]
    return backend

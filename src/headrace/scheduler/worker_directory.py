"""Workers by what users call them: an address, a name, a host, or (host, port)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headrace.comm.addressing import normalize_address, resolve_address, unparse_host_port
from headrace.exceptions import UnknownWorkerError

from .state.core import SchedulerCore
from .state.placing.restrictions import workers_named


class WorkerDirectory:
    """Finds workers' addresses.

    Args:
        core: the state machine, which has the workers and their names.
    """

    def __init__(self, core: SchedulerCore) -> None:
        self.core = core

    def coerce_address(self, addr: object, resolve: bool = True) -> str:
        """The address that a worker's name, address, or (host, port) means.

        Args:
            resolve: whether to look a host's name up.

        Raises:
            TypeError: it is none of these.
        """
        if addr in self.core.aliases:
            return self.core.aliases[addr]
        if isinstance(addr, tuple):
            addr = unparse_host_port(*addr)
        if not isinstance(addr, str):
            raise TypeError(f"a worker's address must be text or (host, port), not {addr!r}")
        address = normalize_address(addr)
        if not resolve or address in self.core.workers:
            return address
        try:
            return resolve_address(address)
        except OSError:  # no such host: then it is no worker's either, and the caller says so
            return address

    def workers_list(self, workers: Iterable[Any] | None) -> list[str]:
        """Addresses of the workers that names, addresses or hosts mean; of all by default."""
        if workers is None:
            return list(self.core.workers)
        found: dict[str, None] = {}
        for name in workers:
            found.update(dict.fromkeys(worker.address for worker in workers_named(self.core, name)))
        return list(found)

    def addresses_of(self, workers: Iterable[Any] | None, *, connected: bool = False) -> list[str]:
        """Addresses of the workers that names, addresses or hosts mean; of all by default.

        Args:
            connected: whether an address counts only while a worker is there: others may have left a moment ago.

        Raises:
            UnknownWorkerError: there is no such worker.
        """
        found: dict[str, None] = dict.fromkeys(self.core.workers if workers is None else ())
        for name in workers or ():
            addresses = self.workers_list([name])
            if not addresses and (isinstance(name, tuple) or ":" in str(name)):
                address = self.coerce_address(name)
                addresses = [address] if address in self.core.workers or not connected else []
            if not addresses:
                known = sorted(self.core.workers)
                listed = f"there are {', '.join(known[:10])}" if known else "there are none"
                more = f" and {len(known) - 10} more" if known[10:] else ""
                raise UnknownWorkerError(f"no worker is called {name!r}; {listed}{more}")
            found.update(dict.fromkeys(addresses))
        return list(found)

    def present_addresses(self, workers: Iterable[Any]) -> list[str]:
        """The same as `addresses_of`, of those that are connected, and there must be one (if any were named)."""
        named = list(workers)
        found = [address for address in self.addresses_of(named) if address in self.core.workers]
        return found or self.addresses_of(named, connected=True)

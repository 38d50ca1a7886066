"""A nanny's work before it starts its worker: find the scheduler, run preloads, and install plugins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from headrace import config
from headrace.exceptions import UnknownOperationError
from headrace.preloading import PreloadManager, configured_preloads
from headrace.rpc.scheduler_file import wait_for_scheduler_file
from headrace.rpc.server_life import scheduler_address_of
from headrace.rpc.slow_waits import WAITS, say_if_slow

if TYPE_CHECKING:
    from .server import NannyServer

logger = logging.getLogger("distributed.nanny")


class Beginning:
    """The start of one nanny.

    Args:
        scheduler_file: where the scheduler writes its address, if it is not named otherwise.
        death_timeout: seconds, or text, in which the scheduler must be there; by default the time to connect.
        preload, preload_argv: code to run as the nanny starts and ends; by default as configured.
    """

    def __init__(
        self,
        nanny: NannyServer,
        scheduler_file: str | None,
        death_timeout: float | str | None,
        preload: str | Iterable[str] | None,
        preload_argv: Iterable[Any] | None,
    ) -> None:
        self._nanny = nanny
        self._scheduler_file = scheduler_file
        if death_timeout is None:
            death_timeout = config.get("distributed.comm.timeouts.connect")
        self.timeout: float = config.parse_seconds(death_timeout)
        self.preloads: PreloadManager = configured_preloads(nanny, "nanny", preload, preload_argv)

    async def load_preloads(self) -> None:
        """Import the preloads, one of which may say where the scheduler is.

        Raises:
            ImportError: one cannot be found.
            ValueError: nothing has said where the scheduler is.
        """
        await self.preloads.load()
        nanny = self._nanny
        if not nanny.scheduler_address and self._scheduler_file is None:
            nanny.scheduler_address = scheduler_address_of(None, None, None)

    async def find_scheduler(self) -> None:
        """Wait for the scheduler's file, if its address is to come from there."""
        nanny = self._nanny
        if not nanny.scheduler_address:
            nanny.scheduler_address = await wait_for_scheduler_file(str(self._scheduler_file), self.timeout)

    async def prepare(self) -> None:
        """Run preloads, then install the plugins that all nannies are to have."""
        await self.preloads.start()
        for name, plugin in (await self._plugins()).items():
            await self._nanny.plugin_add(plugin, name)  # logs a failure: the other nannies have it by now

    async def _plugins(self) -> dict[str, Any]:
        nanny = self._nanny
        try:
            with say_if_slow(logger, WAITS, nanny.scheduler_address, self.timeout):
                async with asyncio.timeout(self.timeout):
                    reply = await nanny.rpc.rpc(nanny.scheduler_address).register_nanny()
        except UnknownOperationError:  # the worker will say that this is no scheduler
            return {}
        except TimeoutError as error:
            reason = str(error) or f"nothing answered within {self.timeout:g} s"
            raise TimeoutError(f"no scheduler at {nanny.scheduler_address}: {reason}") from error
        except OSError as error:
            raise RuntimeError(f"no scheduler at {nanny.scheduler_address}: {error}") from error
        return dict(reply["nanny-plugins"])

"""Workers that are silent for longer than `distributed.scheduler.worker-ttl`: dropped, and restarted by nannies."""

from __future__ import annotations

import time

from headrace import config
from headrace.rpc import PeriodicCallback
from headrace.scheduler.shell import Shell, logger
from headrace.scheduler.state.records.workers import WorkerState

from .heart_rates import HeartRates
from .verdicts import Verdicts


class Silence:
    """Looks for silent workers.

    Args:
        verdicts: removes those that are taken for dead.
        heart_rates: knows how often workers say that they live.
        worker_ttl: seconds (or text) of silence; None for what is configured, 0 for any silence.

    Attributes:
        worker_ttl: seconds, or None.
    """

    def __init__(
        self, shell: Shell, verdicts: Verdicts, heart_rates: HeartRates, worker_ttl: str | float | None
    ) -> None:
        self.shell = shell
        self.core = shell.core
        self.verdicts = verdicts
        self.heart_rates = heart_rates
        given = config.get("distributed.scheduler.worker-ttl", None) if worker_ttl is None else worker_ttl
        self.worker_ttl: float | None = config.parse_seconds(given) if given else None
        self._last_look = 0.0

    def start(self) -> None:
        """Look from now on."""
        if self.worker_ttl is not None:
            interval = max(self.worker_ttl / 4, 0.05)
            check = PeriodicCallback(lambda: self._check_worker_ttl(interval), interval * 1000)
            self._last_look = time.monotonic()
            self.shell.periodic_callbacks["worker-ttl"] = check
            check.start()

    async def check_worker_ttl(self) -> None:
        """Drop workers that have been silent for too long, now."""
        if self.worker_ttl is not None:
            self._last_look = time.monotonic()
            self._check_worker_ttl(self.worker_ttl)

    def _check_worker_ttl(self, interval: float) -> None:
        """Drop workers that have been silent for too long."""
        now, before = time.monotonic(), self._last_look
        self._last_look = now
        if now - before > 2 * interval:
            return  # it is we who were away; what they have said meanwhile is still to be read
        assert self.worker_ttl is not None
        limit = max(self.worker_ttl, 2 * self.heart_rates.interval)
        for worker in list(self.core.workers.values()):
            silence = self.shell.now() - worker.heard_at
            if silence > limit:
                self._drop_silent(worker, silence)

    def _drop_silent(self, worker: WorkerState, silence: float) -> None:
        reason = f"no heartbeat came for {silence:.1f} s (distributed.scheduler.worker-ttl)"
        logger.warning("Worker %s is dropped: %s", worker.address, reason)
        stream = self.shell.worker_streams.pop(worker.address, None)
        self.verdicts.remove_dead(worker, reason)
        if stream is not None:
            stream.abort()  # if the process wakes up, it sees that and registers again
        if worker.nanny:
            self.shell.run_in_background(self._have_restarted(worker.nanny, reason))

    async def _have_restarted(self, nanny: str, reason: str) -> None:
        try:
            await self.shell.worker_rpc(nanny).restart(reason=reason)
        except Exception as error:
            logger.warning("The nanny at %s could not be asked to restart its worker: %s", nanny, error)

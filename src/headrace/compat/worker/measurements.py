"""Documented attributes of a Worker about what it has measured: its transfers above all. Nothing is decided here."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from functools import cached_property
from typing import Any

from headrace.common.keys import Key, from_wire
from headrace.compat.core.server_members import DocumentedServer
from headrace.worker.server import WorkerServer

#: Transfers that each of the two logs keeps.
LOG_LENGTH = 1000


class Measurements(WorkerServer, DocumentedServer):
    """The attributes of a `Worker` that hold measurements."""

    @cached_property
    def transfer_incoming_log(self) -> deque[dict[str, Any]]:
        """The latest transfers of values to this worker, oldest first.

        Dictionaries with `start`, `stop`, `middle` (seconds since the epoch), `duration` (seconds), `keys` (bytes by
        key), `total` (bytes), `bandwidth` (bytes per second) and `who` (the address of the peer).
        """
        return deque(maxlen=LOG_LENGTH)

    @cached_property
    def transfer_outgoing_log(self) -> deque[dict[str, Any]]:
        """The latest transfers of values from this worker, oldest first: as those to it, with `who` None for a client.

        `compressed` are the bytes that have travelled, with what says what they are; those of `total` within one
        process, or over a transport of one's own.
        """
        return deque(maxlen=LOG_LENGTH)

    @property
    def digests_total(self) -> defaultdict[Any, float]:
        """Sums of what it spends on activities (see `ActivityTotals`), and of what `digest_metric` was told."""
        return self.activities.totals

    @property
    def digests_total_since_heartbeat(self) -> dict[Any, float]:
        """What has come to `digests_total` since the last heartbeat; of runs without the spans."""
        return self.activities.since_heartbeat

    def digest_metric(self, name: Any, value: float) -> None:
        """Add a measurement to `digests_total` and `digests_max`; the scheduler is told with the next heartbeat."""
        self.activities.add(name, value)
        self.digests_max[name] = max(value, self.digests_max.get(name, value))

    def _may_start_for(self) -> float | None:
        return self.death_timeout

    def note_received(self, who: str, sizes: dict[Key, int], nbytes: int, start: float, seconds: float) -> None:
        """Enter a transfer into `transfer_incoming_log` and the digests."""
        transfer = _transfer(who, {from_wire(key): size for key, size in sizes.items()}, nbytes, start, seconds)
        self.transfer_incoming_log.append(transfer)
        self.digest_metric("transfer-bandwidth", transfer["bandwidth"])
        self.digest_metric("transfer-duration", seconds)

    def note_sent(
        self, who: str | None, keys: list[Key], nbytes: int, start: float, seconds: float, travelled: int
    ) -> None:
        """Enter a transfer into `transfer_outgoing_log`."""
        tasks = self.core.tasks
        sizes = {from_wire(key): tasks[key].get_nbytes() for key in keys if key in tasks}
        transfer = _transfer(who, sizes, nbytes, start, seconds)
        transfer["compressed"] = travelled
        self.transfer_outgoing_log.append(transfer)

    @property
    def transfer_outgoing_bytes(self) -> int:
        """Bytes on their way from here."""
        return self.transfers.outgoing_bytes

    @property
    def transfer_outgoing_bytes_total(self) -> int:
        """Bytes that have been sent from here."""
        return self.transfers.sent

    @property
    def transfer_outgoing_count(self) -> int:
        """Answers with values that are being sent."""
        return self.transfers.outgoing_count

    @property
    def transfer_outgoing_count_total(self) -> int:
        """Answers with values so far."""
        return self.transfers.outgoing_total

    @property
    def transfer_outgoing_count_limit(self) -> int:
        """Answers to peers at a time, beyond which they are told to come later; may be changed."""
        return self.transfers.incoming_limit

    @transfer_outgoing_count_limit.setter
    def transfer_outgoing_count_limit(self, limit: int) -> None:
        self.transfers.incoming_limit = int(limit)

    @property
    def bandwidth(self) -> float:
        """Bytes per second from peers of late; may be set."""
        return self.transfers.bandwidth

    @bandwidth.setter
    def bandwidth(self, bandwidth: float) -> None:
        self.transfers.bandwidth = float(bandwidth)

    @property
    def bandwidth_workers(self) -> dict[str, tuple[float, int]]:
        """By peer, the sum of the bandwidths of large transfers since the last heartbeat, and their number."""
        return defaultdict(_nothing_yet, self.transfers.bandwidth_workers)

    @property
    def bandwidth_types(self) -> dict[str, tuple[float, int]]:
        """The same by the name of the values' type, for transfers of values of one type."""
        return defaultdict(_nothing_yet, self.transfers.bandwidth_types)

    @property
    def latency(self) -> float:
        """Seconds that the scheduler took to answer the registration."""
        return self.session.latency

    @property
    def scheduler_delay(self) -> float:
        """Seconds by which the scheduler's clock is ahead: always 0, times of workers are not corrected by it."""
        return 0.0

    @property
    def metrics(self) -> dict[str, Callable[[Any], Any]]:
        """The functions, by name, whose values go along with the heartbeats; more may be put in."""
        return self.measured.custom


def _nothing_yet() -> tuple[float, int]:
    return 0, 0


def _transfer(who: str | None, sizes: dict[Key, int], nbytes: int, start: float, seconds: float) -> dict[str, Any]:
    return {
        "start": start,
        "stop": start + seconds,
        "middle": start + seconds / 2,
        "duration": seconds,
        "keys": sizes,
        "total": nbytes,
        "bandwidth": nbytes / max(seconds, 1e-9),
        "who": who,
    }

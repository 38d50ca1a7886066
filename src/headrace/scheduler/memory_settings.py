"""Settings of `distributed.worker.memory` for the scheduler: how it judges readings, and when it rebalances."""

from __future__ import annotations

from dataclasses import dataclass

from headrace import config

#: Readings of `MemoryState` by which workers can be compared.
MEASURES = ("process", "optimistic", "managed", "managed_total", "managed_in_memory")


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """Settings of the scheduler that concern its workers' memory.

    Attributes:
        recent_to_old_time: seconds after which memory that no result accounts for counts as old.
        measure: the reading of `MemoryState` by which `rebalance` compares workers.
        sender_min: share of its limit above which a worker gives data away.
        recipient_max: share of its limit below which a worker takes data.
        half_gap: half the share by which both must differ.
    """

    recent_to_old_time: float = 30.0
    measure: str = "optimistic"
    sender_min: float = 0.3
    recipient_max: float = 0.6
    half_gap: float = 0.05

    @classmethod
    def from_config(cls) -> MemorySettings:
        """The settings that are configured now.

        Raises:
            ValueError: an unknown measure.
        """
        values = config.get("distributed.worker.memory")
        rebalance = values["rebalance"]
        measure = str(rebalance["measure"])
        if measure not in MEASURES:
            raise ValueError(
                f"distributed.worker.memory.rebalance.measure is {measure!r}; it can be one of {', '.join(MEASURES)}"
            )
        return cls(
            recent_to_old_time=config.parse_seconds(values["recent-to-old-time"]),
            measure=measure,
            sender_min=float(rebalance["sender-min"]),
            recipient_max=float(rebalance["recipient-max"]),
            half_gap=float(rebalance["sender-recipient-gap"]) / 2,
        )

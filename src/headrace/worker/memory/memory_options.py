"""The configuration of a worker's memory, completed by the documented keywords, once, at the edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.machine import memory_fraction

#: Keywords of Worker and Nanny that go to `MemoryOptions.from_config`.
KEYWORDS = (
    "memory_target_fraction",
    "memory_spill_fraction",
    "memory_pause_fraction",
    "memory_terminate_fraction",
    "memory_monitor_interval",
    "max_spill",
)


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """Shares of the memory limit and what belongs to them; False switches one off.

    Attributes:
        target: of results; above it the least recently used are spilled.
        spill: of the process; above it results are spilled until it is below.
        pause: of the process; above it no task is started.
        terminate: of the process; above it the nanny ends it.
        max_spill: bytes on disk at most.
        monitor_interval: seconds between two looks at the process.
        compression: of spilled values: "auto", "lz4", "zstd", None or False.
    """

    target: float | bool = 0.6
    spill: float | bool = 0.7
    pause: float | bool = 0.8
    terminate: float | bool = 0.95
    max_spill: int | bool = False
    monitor_interval: float = 0.1
    compression: str | bool | None = "auto"

    @classmethod
    def from_config(cls, keywords: Mapping[str, Any] | None = None) -> MemoryOptions:
        """Read the configuration as it is now, with the documented keywords (see `KEYWORDS`) on top.

        Raises:
            ValueError: a value that makes no sense.
        """
        from headrace import config

        values = dict(config.get("distributed.worker.memory"))
        for name, value in (keywords or {}).items():
            if value is not None:
                values[name.removeprefix("memory_").removesuffix("_fraction").replace("_", "-")] = value
        max_spill = values["max-spill"]
        interval = config.parse_seconds(values["monitor-interval"])
        if interval <= 0:
            raise ValueError(f"distributed.worker.memory.monitor-interval must be positive, not {interval:g} s")
        return cls(
            target=memory_fraction("target", values["target"]),
            spill=memory_fraction("spill", values["spill"]),
            pause=memory_fraction("pause", values["pause"]),
            terminate=memory_fraction("terminate", values["terminate"]),
            max_spill=config.parse_bytes(max_spill) if max_spill is not False and max_spill is not None else False,
            monitor_interval=interval,
            compression=values["spill-compression"],
        )

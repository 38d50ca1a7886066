"""A worker's documented keywords, completed from the configuration, once, at the edge."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Keywords that are accepted and mean nothing here (yet), so that scripts keep working.
IGNORED = frozenset(
    {
        "loop", "services", "service_ports", "service_kwargs", "dashboard_address", "dashboard", "http_prefix",
        "low_level_profiler", "profile_cycle_interval", "reconnect", "memory_monitor_interval", "scheduler_sni",
        "lifetime", "lifetime_stagger", "lifetime_restart", "transition_counter_max", "WorkerStateClass",
        "memory_target_fraction", "memory_spill_fraction", "memory_pause_fraction", "memory_terminate_fraction",
        "preload", "preload_argv", "extensions",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a worker needs to know of the configuration.

    Attributes:
        outgoing, incoming: connections to, and from, peers at a time.
        message_bytes: bytes asked of one peer at a time.
        incoming_fraction: share of the memory limit that data on their way may take together.
        validate: check invariants after each event.
        resources: amounts of abstract resources by name.
        connect_timeout: seconds to reach the scheduler.
        log_length: transitions remembered.
    """

    outgoing: int = 50
    incoming: int = 10
    message_bytes: int = 50_000_000
    incoming_fraction: float = 0.1
    validate: bool = False
    resources: Mapping[str, float] | None = None
    connect_timeout: float = 30.0
    log_length: int = 20_000

    @classmethod
    def from_config(cls) -> WorkerOptions:
        """As configured now."""
        from headrace import config

        values = config.get("distributed.worker")
        return cls(
            outgoing=int(values["connections"]["outgoing"]),
            incoming=int(values["connections"]["incoming"]),
            message_bytes=config.parse_bytes(values["transfer"]["message-bytes-limit"]),
            incoming_fraction=float(values["memory"]["transfer"] or 0),
            validate=bool(values["validate"]),
            resources=dict(values["resources"] or {}),
            connect_timeout=config.parse_seconds(config.get("distributed.comm.timeouts.connect")),
            log_length=int(config.get("distributed.admin.low-level-log-length", 20_000)),
        )


def scheduler_address_of(ip: Any, port: Any, scheduler_file: str | None) -> str:
    """The scheduler's address as the constructor's arguments give it.

    Raises:
        ValueError: none of them does, or the file does not name one.
        TypeError: the address is not text.
    """
    if scheduler_file is not None:
        with open(scheduler_file) as file:
            address = json.load(file).get("address")
        if not address:
            raise ValueError(f"the scheduler file {scheduler_file!r} names no address")
        return str(address)
    if ip is None:
        ip = _configured_address()
    if ip is None:
        raise ValueError(
            "name the scheduler: its address (Worker('tcp://host:8786')), host and port, or scheduler_file=..."
        )
    if hasattr(ip, "scheduler_address"):  # a cluster
        ip = ip.scheduler_address
    if not isinstance(ip, str):
        raise TypeError(f"the scheduler's address must be text such as 'tcp://host:8786', not {type(ip).__name__}")
    if port is not None:
        return f"{ip}:{int(port)}" if "://" in ip else f"tcp://{ip}:{int(port)}"
    from headrace.comm.addressing import normalize_address

    return normalize_address(ip)


def _configured_address() -> str | None:
    from headrace import config

    address = config.get("scheduler-address", None)
    return str(address) if address else None

"""A worker's documented keywords, completed from the configuration, once, at the edge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

#: Keywords that are accepted and mean nothing here (yet), so that scripts keep working.
IGNORED = frozenset(
    {
        "loop", "service_ports", "service_kwargs", "timeout",
    }
)  # fmt: skip


#: The documented default of `heartbeat_interval`; it leaves the interval to the scheduler.
HEARTBEAT = "1s"

Readings: TypeAlias = Mapping[str, Callable[[Any], Any]]
NO_READINGS: Readings = {}


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The part of the configuration that concerns a worker.

    Attributes:
        outgoing, incoming: connections to, and from, peers at a time.
        message_bytes: bytes asked of one peer at a time.
        incoming_fraction: share of the memory limit that data on their way may take together.
        validate: check invariants after each event.
        resources: amounts of abstract resources by name.
        connect_timeout: seconds to reach the scheduler.
        log_length: transitions remembered.
        profile_interval: seconds between two samples of the profile; 0 for no profile.
        profile_cycle: seconds that share an entry of its history.
        life: by the constructor's keywords; see `lifetime`.
        interrupt_grace: seconds that an interrupted task has to end.
    """

    outgoing: int = 50
    incoming: int = 10
    message_bytes: int = 50_000_000
    incoming_fraction: float = 0.1
    validate: bool = False
    resources: Mapping[str, float] | None = None
    connect_timeout: float = 30.0
    log_length: int = 20_000
    profile_interval: float = 0.01
    profile_cycle: float = 1.0
    life: Mapping[str, Any] = field(default_factory=dict)
    interrupt_grace: float = 1.0

    @classmethod
    def from_config(cls) -> WorkerOptions:
        """Read the configuration as it is now."""
        from headrace import config

        values = config.get("distributed.worker")
        return cls(
            outgoing=int(values["connections"]["outgoing"]),
            incoming=int(values["connections"]["incoming"]),
            message_bytes=config.parse_bytes(values["transfer"]["message-bytes-limit"]),
            incoming_fraction=float(values["memory"]["transfer"] or 0),
            validate=config.truth("distributed.worker.validate"),
            resources=dict(values["resources"] or {}),
            connect_timeout=config.parse_seconds(config.get("distributed.comm.timeouts.connect")),
            profile_interval=config.parse_seconds(values["profile"]["interval"])
            if config.truth("distributed.worker.profile.enabled")
            else 0.0,
            profile_cycle=config.parse_seconds(values["profile"]["cycle"]),
            log_length=int(config.get("distributed.admin.low-level-log-length", 20_000)),
            interrupt_grace=config.parse_seconds(values["interrupt-grace"]),
            life={
                "lifetime": values["lifetime"]["duration"],
                "lifetime_stagger": values["lifetime"]["stagger"],
                "lifetime_restart": config.truth("distributed.worker.lifetime.restart"),
                "preload": values["preload"],
                "preload_argv": values["preload-argv"],
            },
        )


def executors_of(executor: Any) -> dict[str, Executor]:
    """Executors by name, from what the constructor takes.

    Raises:
        TypeError: neither an executor nor several by name.
    """
    if executor is None:
        return {}
    if executor == "offload":  # all tasks in one background thread
        from concurrent.futures import ThreadPoolExecutor

        return {"default": ThreadPoolExecutor(1, thread_name_prefix="Headrace-Offload")}
    if isinstance(executor, Executor):
        return {"default": executor}
    if isinstance(executor, Mapping):
        return dict(executor)
    raise TypeError(f"executor must be a concurrent.futures.Executor, or several by name, not {executor!r}")


def with_server_name(connection_args: dict[str, Any], name: str | None) -> dict[str, Any]:
    """Arguments for connections, that expect a TLS server under another name than its host's, if one is given."""
    if not name:
        return connection_args
    extra = {**(connection_args.get("extra_conn_args") or {}), "server_hostname": name}
    return {**connection_args, "extra_conn_args": extra}

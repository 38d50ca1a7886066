"""The parts of a scheduler around its shell: connections and topics, each made with the others that it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from headrace.rpc.server import Operation

from .connections.clients import ClientConnections
from .connections.fatal_results import FatalResults
from .connections.heart_rates import HeartRates
from .connections.lifetime_departures import LifetimeDepartures
from .connections.silence import Silence
from .connections.verdicts import Verdicts
from .connections.worker_removal import WorkerRemoval
from .connections.workers import WorkerConnections
from .shell import Shell
from .topics.cluster_requests import ClusterRequests
from .topics.data_requests import DataRequests
from .topics.event_requests import EventRequests
from .topics.inspection import Inspection
from .topics.lifecycle import Lifecycle
from .topics.observation import Observation
from .topics.plugins import PluginRequests
from .topics.profiles import Profiles
from .topics.rebalancing import Rebalancing
from .topics.restarts import Restarts
from .topics.scaling import Scaling
from .topics.sent_functions import SentFunctions
from .topics.shared_metadata import SharedMetadata
from .topics.state_dump import StateDump
from .topics.worker_watch import WorkerWatch
from .worker_directory import WorkerDirectory


class Topic(Protocol):
    """A part of the scheduler that answers requests."""

    def operations(self) -> Mapping[str, Operation]:
        """The requests that it answers."""


class SchedulerParts:
    """All parts of one scheduler, by name.

    Args:
        worker_ttl, scheduler_file, idle_timeout, preload, preload_argv: see `headrace.Scheduler`.
    """

    def __init__(
        self,
        shell: Shell,
        *,
        worker_ttl: str | float | None,
        scheduler_file: str | None,
        idle_timeout: object,
        preload: str | Iterable[str] | None,
        preload_argv: Iterable[Any] | None,
    ) -> None:
        self.shell = shell
        self.directory = directory = WorkerDirectory(shell.core)
        self.cluster_requests = cluster = ClusterRequests(shell, directory)
        self.event_requests = events = EventRequests(shell)
        self.fatal_results = FatalResults(shell)
        self.heart_rates = heart_rates = HeartRates(shell)
        self.removal = removal = WorkerRemoval(shell, directory, self.fatal_results, heart_rates)
        self.verdicts = verdicts = Verdicts(shell, directory, removal)
        self.departures = departures = LifetimeDepartures(shell, directory)
        self.silence = Silence(shell, verdicts, heart_rates, worker_ttl)
        self.client_connections = ClientConnections(shell, cluster, events)
        self.worker_connections = WorkerConnections(shell, directory, removal, verdicts, departures, heart_rates)
        self.plugin_requests = PluginRequests(shell, cluster)
        self.data_requests = DataRequests(shell, directory)
        self.rebalancing = Rebalancing(shell, directory)
        self.scaling = Scaling(shell, directory, removal, departures)
        self.restarts = Restarts(shell, directory, removal)
        self.inspection = Inspection(shell, cluster)
        self.metadata = SharedMetadata(shell)
        self.sent_functions = SentFunctions(shell)
        self.profiles = Profiles(cluster)
        self.state_dump = StateDump(shell, cluster, events)
        self.observation = Observation(shell, cluster, self.profiles)
        self.worker_watch = WorkerWatch(shell, cluster, self.plugin_requests)
        self.lifecycle = Lifecycle(
            shell,
            directory,
            cluster,
            scheduler_file=scheduler_file,
            idle_timeout=idle_timeout,
            preload=preload,
            preload_argv=preload_argv,
        )

    def answering(self) -> tuple[Topic, ...]:
        """The parts that answer requests."""
        return (
            self.cluster_requests,
            self.event_requests,
            self.fatal_results,
            self.removal,
            self.verdicts,
            self.departures,
            self.client_connections,
            self.worker_connections,
            self.plugin_requests,
            self.data_requests,
            self.rebalancing,
            self.scaling,
            self.restarts,
            self.inspection,
            self.metadata,
            self.sent_functions,
            self.profiles,
            self.state_dump,
            self.observation,
            self.worker_watch,
            self.lifecycle,
        )

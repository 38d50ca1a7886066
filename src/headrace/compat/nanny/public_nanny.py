"""The public `Nanny`: the production nanny with all documented members."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from typing import Any

from headrace import config as settings
from headrace.compat.core.server_members import DocumentedServer, given_as_they_ask
from headrace.diagnostics.plugins.plugin_base import NannyPlugin
from headrace.directories import scratch_directory
from headrace.nanny.environment import laid_over
from headrace.nanny.server import NannyServer
from headrace.preloading import PreloadManager
from headrace.rpc import PooledRPCCall
from headrace.rpc.server import Operation


class Nanny(NannyServer, DocumentedServer):
    __doc__ = NannyServer.__doc__

    def _is_for_nannies(self, plugin: object) -> bool:
        return isinstance(plugin, NannyPlugin)

    def _operations(self) -> dict[str, Operation]:
        return given_as_they_ask(self, super()._operations())

    def run(self, comm: object, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Call a (pickled) function in the nanny's process, as `run(comm, function, args, kwargs, wait)`."""
        return self._run(*args, **kwargs)

    def log_event(self, topic: str | Iterable[str], msg: object) -> None:
        """Publish a message on a topic, or several, by way of the scheduler."""
        topics = [topic] if isinstance(topic, str) else list(topic)
        self.run_in_background(self.rpc(self.scheduler_address).log_event(topic=topics, msg=msg))

    def _may_start_for(self) -> float | None:
        return self.death_timeout

    def _directory_for_files(self) -> str:
        return self._directory_of_its_own()  # `local_directory` is the place of the workers of many

    # What it was made with

    @property
    def Worker(self) -> Any:
        """The class of its worker."""
        from headrace import Worker

        return self._process_options["worker"] or Worker

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of its worker's process: this one's with what the nanny was given laid over it."""
        import dask.config

        return laid_over(dask.config.config, self._process_options["config"] or {})

    @property
    def worker_kwargs(self) -> dict[str, Any]:
        """The keywords of its worker; what is changed here counts for the next one."""
        return self._worker_kwargs

    @property
    def resources(self) -> Mapping[str, float] | None:
        """Abstract resources of its worker, as given."""
        return self._worker_kwargs["resources"]  # type: ignore[no-any-return]

    @property
    def local_directory(self) -> str:
        """The directory in which its workers make theirs."""
        return self._worker_kwargs["local_directory"] or scratch_directory()

    @property
    def preload(self) -> list[str]:
        """The worker's preloads, as given or configured."""
        return self._listed("preload", "distributed.worker.preload")

    @property
    def preload_argv(self) -> list[Any]:
        """The arguments for the worker's preloads, as given or configured."""
        return self._listed("preload_argv", "distributed.worker.preload-argv")

    def _listed(self, keyword: str, setting: str) -> list[Any]:
        found = self._worker_kwargs[keyword]
        if found is None:
            found = settings.get(setting, None) or ()
        return [found] if isinstance(found, str) else list(found)

    @property
    def preloads(self) -> PreloadManager:
        """The preloads of this nanny."""
        return self.beginning.preloads

    @property
    def death_timeout(self) -> float | None:
        """Seconds that it may take to start, and its worker to come back to a scheduler that has gone.

        None for what is configured. May be changed, for the next worker.
        """
        return settings.seconds_of(self._worker_kwargs["death_timeout"])

    @death_timeout.setter
    def death_timeout(self, seconds: float | str | None) -> None:
        self._worker_kwargs["death_timeout"] = seconds

    @property
    def silence_logs(self) -> int | None:
        """The level under which nothing is logged, as given."""
        return self._worker_kwargs["silence_logs"]  # type: ignore[no-any-return]

    @property
    def reconnect(self) -> bool:
        """Whether its worker registers again when the connection to the scheduler breaks, as given."""
        return bool(self._worker_kwargs["reconnect"])

    @property
    def validate(self) -> bool:
        """Whether its worker checks its state after each event, as given."""
        return bool(self._worker_kwargs["validate"])

    @property
    def pre_spawn_env(self) -> dict[str, str]:
        """The variables that its worker's process gets before it starts, unless they are set otherwise."""
        variables = settings.variables("distributed.nanny.pre-spawn-environ")
        return {name: str(value) for name, value in variables.items() if value is not None}

    # The others

    @property
    def scheduler(self) -> PooledRPCCall:
        """Calls the scheduler: `await nanny.scheduler.identity()`."""
        return self.rpc(self.scheduler_address)

    @property
    def scheduler_addr(self) -> str:
        """The scheduler's address."""
        return self.scheduler_address

    @property
    def memory_terminate_fraction(self) -> float | bool:
        """Share of the limit above which the worker is killed; False for never."""
        return self.memory_manager.memory_terminate_fraction

    def memory_monitor(self) -> None:
        """Look now how much memory the worker takes; kill it if it is too much."""
        self.memory_manager.look()

    @property
    def worker_dir(self) -> str | None:
        """The worker's local directory, while it runs."""
        return self.process.worker_dir if self.process is not None and self.process.is_alive() else None

    @property
    def local_dir(self) -> str | None:
        """The worker's directory, by the name that a Worker has for it."""
        return self.worker_dir

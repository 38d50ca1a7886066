"""The public `Worker`: the production worker with all documented members, and the documented state as `state`."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from headrace.compat.worker_state_machine.abstract_worker import BaseWorker
from headrace.compat.worker_state_machine.documented_machine import WorkerState
from headrace.worker.server import WorkerServer
from headrace.worker.state.core import WorkerCore

from .methods import WorkerMethods


class Worker(WorkerMethods):
    __doc__ = WorkerServer.__doc__

    def _make_core(self, state_class: type | None, **options: Any) -> WorkerCore:
        """The core of a documented state machine, which is `state` from now on."""
        self.state = (state_class or WorkerState)(
            transfer_incoming_count_limit=options.pop("outgoing_limit"),
            transfer_message_bytes_limit=options.pop("message_bytes_limit"),
            transfer_incoming_bytes_limit=options.pop("incoming_bytes_limit"),
            **options,
        )
        return self.state.core

    def _now_listens(self) -> None:
        super()._now_listens()
        self.start_services(self.default_ip)

    def other_ports(self) -> dict[str, int]:
        """Ports of the services that `start_services` has started, by name."""
        return self.service_ports

    def _keep_results_in(self, data: MutableMapping[Any, object]) -> None:
        super()._keep_results_in(data)
        self.state.data = data


BaseWorker.register(Worker)  # documented: whoever is given a worker may look whether it is one of the machine's

"""The worker's state machine under the documented names (`distributed.worker_state_machine`).

`WorkerState.handle_stimulus` takes documented events, has the pure core in `headrace.worker.state` decide, and returns
documented instructions. Our own worker speaks to the core directly, in fewer words; nothing here decides anything.
"""

"""One sample of one row, in the environment of the interpreter that runs this; prints it as a line of JSON.

Only the name `distributed` is used, which is headrace's alias on one side and the peer on the other.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

#: Where functions may live that tasks run. Those of a module are sent as their names, the others by value.
FUNCTIONS = ("module", "script", "lambda")


@dataclass
class Session:
    """What a row's `run` gets.

    Attributes:
        side: ours, peer or reference.
        quick: small sizes are enough.
        client: connected to 2 workers of 1 thread each; None when alone or for a reference.
        scheduler_pid: the scheduler's process when it has one of its own.
        functions: where the functions live that tasks run, see `function`.
    """

    side: str
    quick: bool
    client: Any = None
    scheduler_pid: int | None = None
    functions: str = "module"

    def function(self, function: Any) -> Any:
        """A row's function, as one of its module, or the same as one of a script, or as a lambda of a script."""
        if self.functions == "module":
            return function
        name = function.__name__ if self.functions == "script" else "<lambda>"
        return FunctionType(function.__code__, {"__name__": "__main__"}, name)

    def size(self, full: int) -> int:
        return max(1, full // 10) if self.quick else full


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runner", description=__doc__)
    parser.add_argument("row")
    parser.add_argument("--arrangement", choices=["local", "separate", "alone"], default="local")
    parser.add_argument("--side", choices=["ours", "peer", "reference"], default="ours")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--functions", choices=FUNCTIONS, default="module")
    options = parser.parse_args()
    row = importlib.import_module(f"benchmarks.rows.{options.row}")
    session = Session(options.side, options.quick, functions=options.functions)
    with contextlib.ExitStack() as stack:
        if options.side != "reference" and options.arrangement == "local":
            stack.enter_context(local(session))
        elif options.side != "reference" and options.arrangement == "separate":
            stack.enter_context(separate(session))
        sample = row.reference(session) if options.side == "reference" else row.run(session)
        print(json.dumps(sample), flush=True)


@contextlib.contextmanager
def local(session: Session) -> Iterator[None]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as session.client,
    ):
        session.client.wait_for_workers(2)
        yield


@contextlib.contextmanager
def separate(session: Session) -> Iterator[None]:
    """Scheduler and workers from the command line, in their simplest form."""
    from distributed import Client

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = folder / "scheduler.json"
        arguments = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
        scheduler = stack.enter_context(process("dask_scheduler", arguments, folder))
        deadline = time.monotonic() + 60
        while not file.exists() or not file.read_text().strip():
            if scheduler.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the scheduler did not start: {(folder / 'dask_scheduler').read_text()[-1000:]}")
            time.sleep(0.02)
        arguments = ["--scheduler-file", str(file), "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        for name in ("a", "b"):
            stack.enter_context(process("dask_worker", [*arguments, "--name", name], folder))
        session.scheduler_pid = scheduler.pid
        session.client = stack.enter_context(Client(scheduler_file=str(file)))
        session.client.wait_for_workers(2, timeout=60)
        yield


@contextlib.contextmanager
def process(command: str, arguments: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / command).open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{command}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


if __name__ == "__main__":
    main()

"""The life of a server's process: it ends when its servers have closed, or a signal has them closed; a second forces.

All commands use this, so that schedulers and workers end alike, with an exit status that tells how.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import click

from headrace.logging_setup import configured_logging, initialize_logging
from headrace.nanny.environment import STOP_WITH_STDIN
from headrace.private_directories import open_named
from headrace.rpc import run
from headrace.rpc.loops import signals
from headrace.rpc.server_life import Node

#: Objects made before the youngest generation is collected, and younger collections before an older one. A scheduler
#: makes many records that live long and hold no cycles: the default thresholds cost it as much as its work.
GC_THRESHOLDS = (100_000, 50, 100)
#: Exit status after a second signal.
FORCED = 1


class Running(Protocol):
    """A server, or a cluster, as the main work of a process."""

    async def finished(self) -> object:
        """Wait until the server has closed."""

    async def close(self) -> object:
        """Close the server."""


def tune_for_a_scheduler() -> None:
    """Have this process, whose main work is a scheduler that has started, collect garbage rarely."""
    gc.collect()
    gc.freeze()  # the objects of now live as long as the process: no collection needs to look at them
    gc.set_threshold(*GC_THRESHOLDS)


def serve(start: Callable[[], Coroutine[Any, Any, Sequence[Running]]], kind: str) -> None:
    """Run servers in this process until all have finished or a signal asks to stop.

    Args:
        start: returns the running servers.
        kind: the user's word for this process, such as "scheduler" or "worker".

    Raises:
        click.ClickException: the start failed; click exits with status 1.
        SystemExit: a signal other than SIGINT has ended the process; the status is 0.
    """
    try:
        signalled = run(_serve(start, kind))
    except click.ClickException:
        raise
    except Exception as error:
        logging.getLogger("distributed").debug("start failed", exc_info=True)
        raise click.ClickException(f"the {kind} did not start: {str(error) or repr(error)}") from error
    click.echo(f"End {kind}", err=True)
    if signalled is not None and signalled != signal.SIGINT:
        sys.exit(0)


async def _serve(start: Callable[[], Coroutine[Any, Any, Sequence[Running]]], kind: str) -> int | None:
    loop = asyncio.get_running_loop()
    received: asyncio.Future[int] = loop.create_future()

    def on_signal(number: int) -> None:
        if received.done():
            click.echo(f"Forced: the {kind} ends without closing", err=True)
            os._exit(FORCED)
        received.set_result(number)

    with _handlers(loop, on_signal), _parent(loop, received):
        starting: asyncio.Future[Any] = asyncio.ensure_future(start())
        await asyncio.wait([starting, received], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait([starting])
            return received.result()
        servers: Sequence[Running] = starting.result()
        finishing = [asyncio.ensure_future(server.finished()) for server in servers]
        finished_all: asyncio.Future[Any] = asyncio.gather(*finishing)
        await asyncio.wait([finished_all, received], return_when=asyncio.FIRST_COMPLETED)
        name = signal.Signals(received.result()).name if received.done() else None
        if name is not None:
            click.echo(f"Received {name}: the {kind} closes", err=True)
        await asyncio.gather(*[_close(server, name) for server in servers], return_exceptions=True)
        finished_all.cancel()
        await asyncio.wait([finished_all])
        return received.result() if received.done() else None


async def _close(server: Running, name: str | None) -> None:
    """Close a server; if a signal of this name is the reason, the server tells others so."""
    await (server.close(reason=f"received {name}") if name is not None and isinstance(server, Node) else server.close())


@contextlib.contextmanager
def _handlers(loop: asyncio.AbstractEventLoop, on_signal: Callable[[int], None]) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        signals.handle(loop, number, on_signal, number)
    try:
        yield
    finally:
        for number in numbers:
            signals.release(loop, number)


@contextlib.contextmanager
def _parent(loop: asyncio.AbstractEventLoop, received: asyncio.Future[int]) -> Iterator[None]:
    """Have the process close when its standard input closes, if its environment asks for that.

    Processes that are started from here do not inherit the request.
    """
    if not os.environ.pop(STOP_WITH_STDIN, None):
        yield
        return

    def on_input() -> None:
        if not os.read(0, 1 << 16):
            loop.remove_reader(0)
            if not received.done():
                received.set_result(signal.SIGTERM)

    loop.add_reader(0, on_input)
    try:
        yield
    finally:
        loop.remove_reader(0)


def start_logging() -> None:
    """Log as configured (`distributed.logging` or `distributed.logging-file-config`, `distributed.admin.log-format`).

    Raises:
        click.UsageError: the configuration names a level, a file or a combination that is not possible.
    """
    try:
        initialize_logging(configured_logging())
    except (OSError, RuntimeError, ValueError) as error:
        raise click.UsageError(f"logging as configured: {error}") from error


@contextlib.contextmanager
def pid_file(path: str | None) -> Iterator[None]:
    """Keep this process's id in a file of this user alone while it runs.

    Raises:
        click.ClickException: the file cannot be written.
    """
    if not path:
        yield
        return
    file = Path(path)
    try:
        with open_named(file) as opened:
            opened.write(str(os.getpid()).encode())
    except OSError as error:
        raise click.ClickException(f"cannot write the file that --pid-file names: {error}") from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)

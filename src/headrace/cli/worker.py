"""`headrace worker`, `dask worker`, `dask-worker`: workers as the main work of a process."""

from __future__ import annotations

import asyncio
from typing import Any

import click
from dask.system import CPU_COUNT

from headrace.common.sizing import workers_and_threads
from headrace.nanny.tuning import tune_allocator, tune_interpreter

from .lifetime import pid_file, serve, start_logging
from .options import parse_resources, security, tls_options, version_option


@click.command(name="worker", context_settings={"ignore_unknown_options": False})
@click.argument("scheduler", type=str, required=False)
@tls_options
@click.option("--worker-port", type=str, default=None, help="Port that the worker listens on (default: any)")
@click.option("--nanny-port", type=str, default=None, help="Port that the nanny listens on (default: any)")
@click.option("--dashboard-address", type=str, default=":0", hidden=True)
@click.option("--dashboard/--no-dashboard", default=True, hidden=True)
@click.option("--dashboard-prefix", type=str, default="", hidden=True)
@click.option("--listen-address", type=str, default=None, help="Address to listen on, such as tcp://0.0.0.0:9000")
@click.option("--contact-address", type=str, default=None, help="Address that others use, such as tcp://127.0.0.1:9000")
@click.option(
    "--host", type=str, default=None, help="Host to listen on; found from the scheduler's address if not given"
)
@click.option("--interface", type=str, default=None, help="Network interface to listen on, such as 'eth0' or 'lo'")
@click.option("--protocol", type=str, default=None, help="tcp or tls")
@click.option("--nthreads", type=int, default=0, help="Threads per worker (default: CPUs / workers)")
@click.option("--nworkers", type=str, default=None, help="Workers, each in a process of its own; 'auto' from the CPUs")
@click.option("--name", type=str, default=None, help="Name of the worker; with several, a number is added")
@click.option(
    "--memory-limit", default="auto", help="Bytes per worker: a number, text such as 5GB, 'auto' or 0 for none"
)
@click.option("--nanny/--no-nanny", default=True, help="Restart a worker that dies, from a process that watches it")
@click.option("--pid-file", "pid_path", type=str, default="", help="File to write the process id to")
@click.option("--local-directory", type=str, default=None, help="Where the worker places its files")
@click.option("--resources", type=str, default=None, help="Resources, such as 'GPU=2 MEM=10e9'")
@click.option("--scheduler-file", type=str, default=None, help="File with the scheduler's connection information")
@click.option("--death-timeout", type=str, default=None, help="Time to wait for a scheduler before giving up")
@click.option("--lifetime", type=str, default=None, help="Time after which the worker closes")
@click.option("--lifetime-stagger", type=str, default=None, help="Random part of the lifetime")
@click.option("--lifetime-restart/--no-lifetime-restart", default=None, help="Start anew after the lifetime")
@version_option
def worker(
    scheduler: str | None,
    tls_ca_file: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    nthreads: int,
    nworkers: str | None,
    name: str | None,
    nanny: bool,
    pid_path: str,
    resources: str | None,
    scheduler_file: str | None,
    worker_port: str | None,
    nanny_port: str | None,
    dashboard_address: str,
    dashboard: bool,
    dashboard_prefix: str,
    **given: Any,
) -> None:
    """Launch workers that take work from the scheduler at SCHEDULER, such as tcp://192.168.0.1:8786."""
    if not scheduler and not scheduler_file:
        raise click.UsageError("name the scheduler: 'headrace worker tcp://HOST:PORT', or --scheduler-file FILE")
    count, threads = _sizes(nworkers, nthreads)
    if count > 1 and not nanny:
        raise click.UsageError("--no-nanny runs the worker in this process: there can be only one (--nworkers 1)")
    start_logging()
    if not nanny:
        tune_allocator()
    keywords: dict[str, Any] = {
        "scheduler_file": scheduler_file,
        "nthreads": threads,
        "resources": parse_resources(resources),
        "security": security("worker", tls_ca_file, tls_cert, tls_key),
        **{option: value for option, value in given.items() if value is not None},
    }
    if worker_port is not None:
        keywords["worker_port" if nanny else "port"] = int(worker_port)
    if nanny_port is not None and nanny:
        keywords["port"] = int(nanny_port)
    names = [name] if count == 1 else [f"{name}-{number}" if name else None for number in range(count)]

    async def start() -> list[Any]:
        servers = await _start(scheduler, nanny, [{**keywords, "name": one} for one in names])
        if not nanny:
            tune_interpreter()
        return servers

    with pid_file(pid_path):
        serve(start, "worker")


def _sizes(nworkers: str | None, nthreads: int) -> tuple[int, int]:
    """Workers and threads each.

    Raises:
        click.BadParameter: the number of workers is none.
    """
    if nworkers == "auto":
        return workers_and_threads(None, nthreads or None, processes=True, cpus=CPU_COUNT)
    try:
        count = int(nworkers) if nworkers is not None else 1
    except ValueError:
        raise click.BadParameter(f"--nworkers must be a number or 'auto', not {nworkers!r}") from None
    if count < 0:
        count = CPU_COUNT + 1 + count
    if count < 1:
        raise click.BadParameter("--nworkers must be at least 1")
    return workers_and_threads(count, nthreads or None, processes=True, cpus=CPU_COUNT)


async def _start(scheduler: str | None, nanny: bool, specifications: list[dict[str, Any]]) -> list[Any]:
    server_class: Any
    if nanny:
        from headrace.nanny import Nanny

        server_class = Nanny
    else:
        from headrace.worker import Worker

        server_class = Worker
    servers = [server_class(scheduler, **specification) for specification in specifications]
    try:
        await asyncio.gather(*servers)
    except BaseException:
        await asyncio.gather(*[server.close() for server in servers], return_exceptions=True)
        raise
    for server in servers:
        click.echo(f"Start worker at: {getattr(server, 'worker_address', None) or server.address}", err=True)
        click.echo(f"Registered with scheduler at: {_scheduler_address(server, scheduler)}", err=True)
    return servers


def _scheduler_address(server: Any, given: str | None) -> str:
    return str(getattr(server, "scheduler_address", None) or given)


def main() -> None:
    """Console script."""
    worker()


if __name__ == "__main__":
    main()

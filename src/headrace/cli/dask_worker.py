"""`headrace worker`, `dask worker`, `dask-worker`: workers as the main work of a process."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import click
from dask.system import CPU_COUNT

from headrace import config
from headrace.common.callables import import_term
from headrace.common.sizing import workers_and_threads
from headrace.config import tell_dask_of_a_cluster
from headrace.machine import parse_memory_limit
from headrace.nanny.tuning import tune_allocator, tune_interpreter

from .common_options import (
    PRELOADING,
    announce_worker,
    check_preload_arguments,
    dashboard_keywords,
    dashboard_options,
    parse_ports,
    parse_resources,
    preload_options,
    security,
    tls_options,
    version_option,
)
from .hash_seed import run_with_hash_seed
from .process_life import pid_file, serve, start_logging

#: Class of workers by default, by its documented name.
WORKER_CLASS = "dask.distributed.Worker"


@click.command(name="worker", context_settings=PRELOADING)
@click.argument("scheduler", type=str, required=False)
@tls_options
@click.option("--worker-port", type=str, default=None, help="Port, or range of ports, of the workers (default: any)")
@click.option("--nanny-port", type=str, default=None, help="Port, or range of ports, of the nannies (default: any)")
@dashboard_options(":0")
@click.option("--listen-address", type=str, default=None, help="Address to listen on, such as tcp://0.0.0.0:9000")
@click.option("--contact-address", type=str, default=None, help="Address that others use, such as tcp://127.0.0.1:9000")
@click.option(
    "--host", type=str, default=None, help="Host to listen on; found from the scheduler's address if not given"
)
@click.option("--interface", type=str, default=None, help="Network interface to listen on, such as 'eth0' or 'lo'")
@click.option("--protocol", type=str, default=None, help="tcp, tls, ws or wss")
@click.option("--nthreads", type=int, default=0, help="Threads per worker (default: CPUs / workers)")
@click.option(
    "--nworkers", type=str, default=None, help="Workers, each in a process of its own; 'auto' from the CPUs; -1 for all"
)
@click.option(
    "--name", type=str, default=None, help="Name of the worker, text or a number; with several, a number is added"
)
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
@click.option("--worker-class", type=str, default=WORKER_CLASS, show_default=True, help="Class of the workers")
@preload_options("preload", "preload-nanny")
@click.option("--scheduler-sni", type=str, default=None, help="Server name to ask for in TLS connections")
@version_option
@click.pass_context
def worker(
    context: click.Context,
    /,
    scheduler: str | None,
    pid_path: str,
    scheduler_file: str | None,
    preload: tuple[str, ...],
    preload_argv: tuple[str, ...],
    death_timeout: str | None,
    **given: Any,
) -> None:
    """Launch workers that take work from the scheduler at SCHEDULER, such as tcp://192.168.0.1:8786.

    PRELOAD_ARGV are for the scripts that --preload names.
    """
    if not given["nanny"]:
        run_with_hash_seed("--no-nanny")
    if scheduler is not None and scheduler.startswith("-"):  # the first of the arguments for preload scripts
        preload_argv, scheduler = (scheduler, *preload_argv), None
    check_preload_arguments(preload_argv, preload, "distributed.worker.preload")
    if not scheduler and not scheduler_file:
        scheduler = config.get("scheduler-address") or None
    if not scheduler and not scheduler_file:
        raise click.UsageError(
            "name the scheduler: 'headrace worker tcp://HOST:PORT', --scheduler-file FILE, or DASK_SCHEDULER_ADDRESS "
            "in the environment"
        )
    _check_time("--death-timeout", death_timeout)
    specifications = plan_workers({**given, "preload": list(preload) or None, "preload_argv": list(preload_argv)})
    start_logging()
    nanny = given["nanny"]
    if not nanny:
        tune_allocator()
        tell_dask_of_a_cluster()
    where = {"scheduler_file": scheduler_file, "death_timeout": death_timeout}

    async def start() -> list[Any]:
        if scheduler_file:
            await _found(scheduler_file, death_timeout)
        servers = await _start(scheduler, nanny, [{**where, **one} for one in specifications])
        if not nanny:
            tune_interpreter()
        return servers

    with pid_file(pid_path):
        serve(start, "worker")


def plan_workers(given: dict[str, Any]) -> list[dict[str, Any]]:
    """The keywords of each Worker or Nanny that the options ask for. Starts nothing.

    Raises:
        click.UsageError: options contradict each other, or a value makes no sense; the message says which.
    """
    nanny = given["nanny"]
    count, threads = _sizes(given["nworkers"], given["nthreads"])
    if count > 1 and not nanny:
        raise click.UsageError("--no-nanny runs the worker in this process: there can be only one (--nworkers 1)")
    for option in ("listen_address", "contact_address"):
        if count > 1 and given[option]:
            raise click.UsageError(
                f"--{option.replace('_', '-')} is one worker's: it does not go with --nworkers {count}"
            )
    keywords: dict[str, Any] = {
        name: given[name]
        for name in (
            *("contact_address", "local_directory", "lifetime", "lifetime_stagger", "lifetime_restart"),
            *("preload", "preload_argv"),
        )
        if given[name] is not None
    }
    for option in ("lifetime", "lifetime_stagger"):
        _check_time(f"--{option.replace('_', '-')}", given[option])
    keywords["nthreads"] = threads
    keywords["memory_limit"] = _memory_limit(given["memory_limit"], threads)
    keywords["resources"] = parse_resources(given["resources"])
    keywords["security"] = _security(given)
    keywords.update(_where(given))
    keywords.update(dashboard_keywords(given["dashboard_address"], given["dashboard"], given["dashboard_prefix"]))
    if given["worker_class"] != WORKER_CLASS:
        keywords["worker_class"] = given["worker_class"]
    if given["preload_nanny"]:
        if not nanny:
            raise click.UsageError("--preload-nanny needs a nanny: leave out --no-nanny")
        keywords["preload_nanny"] = list(given["preload_nanny"])
    name = given["name"] or None
    names: list[Any] = (
        [_number_or_text(name)] if count == 1 else [f"{name}-{number}" if name else None for number in range(count)]
    )
    return [{**keywords, "name": one} for one in names]


def _number_or_text(name: str | None) -> int | str | None:
    """A name that is a whole number is that number, as clusters give them: workers are found by it."""
    return int(name) if name is not None and re.fullmatch(r"\s*[+-]?\d+\s*", name) else name


def _check_time(option: str, text: str | None) -> None:
    """Refuse now what the worker would refuse only once its scheduler is there."""
    from headrace.config import parse_seconds

    try:
        if text is not None:
            parse_seconds(text)
    except ValueError as error:
        raise click.BadParameter(f"{option} must be a time such as '60s' or '1 hour', not {text!r}") from error


def _where(given: dict[str, Any]) -> dict[str, Any]:
    """Keywords that say where to listen."""
    nanny = given["nanny"]
    host, protocol, worker_port = given["host"], given["protocol"], given["worker_port"]
    if given["listen_address"]:
        for option in ("host", "interface", "worker_port", "protocol"):
            if given[option]:
                raise click.UsageError(f"--listen-address says where to listen: leave out --{option.replace('_', '-')}")
        protocol, host, worker_port = _parts(given["listen_address"])
    if given["nanny_port"] and not nanny:
        raise click.UsageError("--nanny-port needs a nanny: leave out --no-nanny")
    found = {"host": host, "interface": given["interface"], "protocol": protocol}
    if worker_port is not None:
        found["worker_port" if nanny else "port"] = _port(worker_port)
    if given["nanny_port"] is not None:
        found["port"] = _port(given["nanny_port"])
    return {name: value for name, value in found.items() if value is not None}


def _parts(address: str) -> tuple[str, str | None, str]:
    """Protocol, host and port of an address to listen on."""
    from headrace.comm.addressing import WEB_PORTS, parse_address, parse_host_port, split_path, unparse_host_port

    try:
        protocol, location = parse_address(address)
        host, port = parse_host_port(address, 0)
        path = split_path(location)[1] if protocol in WEB_PORTS else ""
    except ValueError as error:
        raise click.BadParameter(f"--listen-address: {error}") from error
    return protocol, (unparse_host_port(host) + path if path else host) or None, str(port)


def _port(text: str) -> Any:
    """A port as a number, a range as the text that workers and nannies take."""
    ports = parse_ports(text)
    return ports[0] if len(ports) == 1 else text


def _memory_limit(text: str, threads: int) -> Any:
    try:
        parse_memory_limit(text, threads)
    except ValueError as error:
        raise click.BadParameter(f"--memory-limit: {error}") from error
    return text


def _security(given: dict[str, Any]) -> Any:
    found = security(
        "worker",
        given["tls_ca_file"],
        given["tls_cert"],
        given["tls_key"],
        given["token_file"],
        given["no_auth"],
    )
    if given["scheduler_sni"]:
        from headrace.security import Security

        found = found or Security()
        found.extra_conn_args = {**(found.extra_conn_args or {}), "server_hostname": given["scheduler_sni"]}
    return found


def _sizes(nworkers: str | None, nthreads: int) -> tuple[int, int]:
    """Workers and threads each.

    Raises:
        click.BadParameter: the number of workers is none.
    """
    if nthreads < 0:
        raise click.BadParameter(f"--nthreads must be at least 1, or 0 to divide the CPUs, and is {nthreads}")
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


async def _found(scheduler_file: str, death_timeout: str | None) -> None:
    """Wait until the scheduler's file is there, for as long as it takes unless a time limit is given."""
    from headrace.config import parse_seconds
    from headrace.rpc.scheduler_file import wait_for_scheduler_file

    await wait_for_scheduler_file(scheduler_file, None if death_timeout is None else parse_seconds(death_timeout))


async def _start(scheduler: str | None, nanny: bool, specifications: list[dict[str, Any]]) -> list[Any]:
    server_class: Any
    if nanny:
        from headrace import Nanny as server_class
    else:
        from headrace import Worker

        server_class = Worker
    servers = []
    for specification in specifications:
        if not nanny and "worker_class" in specification:
            server_class = import_term(specification.pop("worker_class"))
        servers.append(server_class(scheduler, **specification))
    try:
        await asyncio.gather(*servers)
    except BaseException:
        await asyncio.gather(*[server.close() for server in servers], return_exceptions=True)
        raise
    for server in servers:
        address = getattr(server, "worker_address", None) or server.address
        announce_worker(address, getattr(server, "scheduler_address", None) or str(scheduler))
    return servers


#: The same command by its documented name; a console script.
main = worker


if __name__ == "__main__":
    main()

"""`headrace scheduler`, `dask scheduler`, `dask-scheduler`: a scheduler as the main work of a process."""

from __future__ import annotations

import gc
from typing import Any

import click

from .common_options import (
    PRELOADING,
    check_preload_arguments,
    dashboard_options,
    note_ignored,
    parse_ports,
    preload_options,
    security,
    tls_options,
    version_option,
)
from .process_life import pid_file, serve, start_logging

#: Objects made before the youngest generation is collected, and younger collections before an older one. A scheduler
#: makes many records that live long and hold no cycles: the default thresholds cost it as much as its work.
GC_THRESHOLDS = (100_000, 50, 100)
#: Options that make no difference, because there is no dashboard.
IGNORED = ("dashboard_address", "dashboard", "dashboard_prefix", "show", "use_xheaders")


@click.command(name="scheduler", context_settings=PRELOADING)
@click.option("--host", type=str, default="", help="URI, IP or hostname to listen on (default: all interfaces)")
@click.option("--port", type=str, default=None, help="Port to listen on, or range of ports (default: 8786, else any)")
@click.option("--interface", type=str, default=None, help="Network interface to listen on, such as 'eth0' or 'lo'")
@click.option("--protocol", type=str, default=None, help="tcp or tls")
@tls_options
@dashboard_options(":8787")
@click.option("--jupyter/--no-jupyter", default=False, help="Not offered: start Jupyter beside the scheduler")
@click.option("--show/--no-show", default=False, hidden=True)
@click.option("--use-xheaders", type=bool, default=False, hidden=True)
@click.option("--pid-file", "pid_path", type=str, default="", help="File to write the process id to")
@click.option("--scheduler-file", type=str, default="", help="File to write connection information to")
@click.option("--idle-timeout", type=str, default=None, help="Time without work after which the scheduler closes")
@preload_options("preload")
@version_option
@click.pass_context
def scheduler(
    context: click.Context,
    /,
    host: str,
    port: str | None,
    interface: str | None,
    protocol: str | None,
    tls_ca_file: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    jupyter: bool,
    pid_path: str,
    scheduler_file: str,
    idle_timeout: str | None,
    preload: tuple[str, ...],
    preload_argv: tuple[str, ...],
    **ignored: object,
) -> None:
    """Launch a scheduler. PRELOAD_ARGV are for the scripts that --preload names."""
    check_preload_arguments(preload_argv, preload, "distributed.scheduler.preload")
    if jupyter:
        raise click.UsageError(
            "headrace runs no Jupyter server: start one beside the scheduler and leave out --jupyter"
        )
    ports = parse_ports(port)
    start_logging()
    note_ignored(context, IGNORED)
    keywords: dict[str, Any] = {
        "host": host or None,
        "interface": interface,
        "protocol": protocol,
        "security": security("scheduler", tls_ca_file, tls_cert, tls_key),
        "scheduler_file": scheduler_file or None,
        "idle_timeout": idle_timeout,
        "preload": list(preload) or None,
        "preload_argv": list(preload_argv),
    }

    async def start() -> list[Any]:
        server = await _start(ports, keywords)
        gc.collect()
        gc.freeze()  # the objects of now live as long as the process: no collection needs to look at them
        gc.set_threshold(*GC_THRESHOLDS)
        click.echo(f"Scheduler at: {server.address}", err=True)
        return [server]

    with pid_file(pid_path):
        serve(start, "scheduler")


async def _start(ports: list[int | None], keywords: dict[str, Any]) -> Any:
    """A scheduler that listens on the first free one of these ports.

    Raises:
        RuntimeError: none of the ports is free, or something else prevents the start.
    """
    from headrace import Scheduler
    from headrace.comm.addressing import has_port

    if ports == [None] and not has_port(keywords["host"]):
        ports = [8786, 0]  # another program may have the default port; a port that the user asked for must be had
    for port in ports[:-1]:
        try:
            return await Scheduler(port=port, **keywords)
        except RuntimeError as error:
            if not isinstance(error.__cause__, OSError):
                raise
    return await Scheduler(port=ports[-1], **keywords)


def main() -> None:
    """Run the command; a console script."""
    scheduler()


if __name__ == "__main__":
    main()

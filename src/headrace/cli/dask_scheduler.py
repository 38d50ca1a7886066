"""`headrace scheduler`, `dask scheduler`, `dask-scheduler`: a scheduler as the main work of a process."""

from __future__ import annotations

from typing import Any

import click

from headrace.comm.addressing import has_port

from .common_options import (
    PRELOADING,
    check_preload_arguments,
    dashboard_keywords,
    dashboard_options,
    note_ignored,
    parse_ports,
    preload_options,
    security,
    tls_options,
    version_option,
)
from .process_life import pid_file, serve, start_logging, tune_for_a_scheduler

DEFAULT_PORT = 8786
#: Options of earlier times that are taken and make no difference.
IGNORED = ("show", "use_xheaders")


@click.command(name="scheduler", context_settings=PRELOADING)
@click.option("--host", type=str, default="", help="URI, IP or hostname to listen on (default: all interfaces)")
@click.option(
    "--port",
    type=str,
    default=None,
    help="Port to listen on, range of ports, or one port for each protocol (default: 8786, else any)",
)
@click.option("--interface", type=str, default=None, help="Network interface to listen on, such as 'eth0' or 'lo'")
@click.option("--protocol", type=str, default=None, help="tcp, tls, ws or wss, or several such as tcp,ws")
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
    token_file: str | None,
    no_auth: bool,
    jupyter: bool,
    pid_path: str,
    scheduler_file: str,
    idle_timeout: str | None,
    preload: tuple[str, ...],
    preload_argv: tuple[str, ...],
    dashboard_address: str,
    dashboard: bool,
    dashboard_prefix: str,
    **ignored: object,
) -> None:
    """Launch a scheduler. PRELOAD_ARGV are for the scripts that --preload names."""
    check_preload_arguments(preload_argv, preload, "distributed.scheduler.preload")
    if jupyter:
        raise click.UsageError(
            "headrace runs no Jupyter server: start one beside the scheduler and leave out --jupyter"
        )
    protocols = protocol.split(",") if protocol else []
    ports = ports_to_try(protocols, port, host)
    start_logging()
    note_ignored(context, IGNORED)
    keywords: dict[str, Any] = {
        "host": host or None,
        "interface": interface,
        "protocol": protocols if len(protocols) > 1 else protocol,
        "security": security("scheduler", tls_ca_file, tls_cert, tls_key, token_file, no_auth),
        "scheduler_file": scheduler_file or None,
        "idle_timeout": idle_timeout,
        "preload": list(preload) or None,
        "preload_argv": list(preload_argv),
        **dashboard_keywords(dashboard_address, dashboard, dashboard_prefix),
    }

    async def start() -> list[Any]:
        server = await _start(ports, keywords)
        tune_for_a_scheduler()
        for address in dict.fromkeys(
            [server.address, *(listener.contact_address for listener in server.listeners[1:])]
        ):
            click.echo(f"Scheduler at: {address}", err=True)
        return [server]

    with pid_file(pid_path):
        serve(start, "scheduler")


def ports_to_try(protocols: list[str], port: str | None, host: str) -> list[Any]:
    """Values of the keyword `port` of a Scheduler, to be tried in turn until it can listen.

    >>> ports_to_try([], None, ""), ports_to_try([], None, "localhost:9000"), ports_to_try(["tcp", "tls"], "1,2", "")
    ([8786, 0], [None], [[1, 2]])

    Args:
        protocols: as many as were named.
        port, host: the options.

    Raises:
        click.UsageError: there is not one port for each protocol.
        click.BadParameter: the text is no port.
    """
    listed = port.split(",") if port else []
    if len(protocols) > 1 and listed and len(listed) != len(protocols):
        raise click.UsageError(
            f"give one port for each protocol: --protocol names {len(protocols)}, and --port {len(listed)}"
        )
    if len(listed) > 1:
        return [[_one_port(each) for each in listed]]
    choices = parse_ports(port)
    if choices == [None] and not has_port(host):
        choices = [DEFAULT_PORT, 0]  # another program may have the default port; what the user asked for must be had
    if len(protocols) > 1:
        first = next((place for place, name in enumerate(protocols) if name != "inproc"), 0)
        return [[choice if place == first else 0 for place in range(len(protocols))] for choice in choices]
    return choices


def _one_port(text: str) -> int | None:
    found = parse_ports(text.strip())
    if len(found) > 1:
        raise click.BadParameter(f"--port: {text!r} is a range; among several ports each must be one")
    return found[0]


async def _start(ports: list[Any], keywords: dict[str, Any]) -> Any:
    """A scheduler that listens where it can first.

    Args:
        ports: the values of `port` to try.

    Raises:
        RuntimeError: it can nowhere, or something else prevents the start.
    """
    from headrace import Scheduler

    for port in ports[:-1]:
        try:
            return await Scheduler(port=port, **keywords)
        except RuntimeError as error:
            if not isinstance(error.__cause__, OSError):
                raise
    return await Scheduler(port=ports[-1], **keywords)


#: The same command by its documented name; a console script.
main = scheduler


if __name__ == "__main__":
    main()

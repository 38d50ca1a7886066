"""`headrace scheduler`, `dask scheduler`, `dask-scheduler`: a scheduler as the main work of a process."""

from __future__ import annotations

import gc
from typing import Any

import click

from .lifetime import pid_file, serve, start_logging
from .options import security, tls_options, version_option

#: Objects made before the youngest generation is collected, and younger collections before an older one. A scheduler
#: makes many records that live long and hold no cycles: the default thresholds cost it as much as its work.
GC_THRESHOLDS = (100_000, 50, 100)


@click.command(name="scheduler", context_settings={"ignore_unknown_options": False})
@click.option("--host", type=str, default="", help="URI, IP or hostname to listen on (default: all interfaces)")
@click.option("--port", type=int, default=None, help="Port to listen on (default: 8786, or any if that is taken)")
@click.option("--interface", type=str, default=None, help="Network interface to listen on, such as 'eth0' or 'lo'")
@click.option("--protocol", type=str, default=None, help="tcp or tls")
@tls_options
@click.option(
    "--dashboard-address", type=str, default=":8787", help="Accepted for compatibility: there is no dashboard"
)
@click.option("--dashboard/--no-dashboard", default=True, help="Accepted for compatibility: there is no dashboard")
@click.option("--show/--no-show", default=False, hidden=True)
@click.option("--dashboard-prefix", type=str, default="", hidden=True)
@click.option("--use-xheaders", type=bool, default=False, hidden=True)
@click.option("--pid-file", "pid_path", type=str, default="", help="File to write the process id to")
@click.option("--scheduler-file", type=str, default="", help="File to write connection information to")
@click.option("--idle-timeout", type=str, default=None, help="Time without work after which the scheduler closes")
@version_option
def scheduler(
    host: str,
    port: int | None,
    interface: str | None,
    protocol: str | None,
    tls_ca_file: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    dashboard_address: str,
    dashboard: bool,
    show: bool,
    dashboard_prefix: str,
    use_xheaders: bool,
    pid_path: str,
    scheduler_file: str,
    idle_timeout: str | None,
) -> None:
    """Launch a scheduler."""
    start_logging()
    keywords: dict[str, Any] = {
        "host": host or None,
        "interface": interface,
        "protocol": protocol,
        "security": security("scheduler", tls_ca_file, tls_cert, tls_key),
        "scheduler_file": scheduler_file or None,
        "idle_timeout": idle_timeout,
    }

    async def start() -> list[Any]:
        server = await _start(port, keywords)
        gc.collect()
        gc.freeze()  # what is there now stays: no collection needs to look at it
        gc.set_threshold(*GC_THRESHOLDS)
        click.echo(f"Scheduler at: {server.address}", err=True)
        return [server]

    with pid_file(pid_path):
        serve(start, "scheduler")


async def _start(port: int | None, keywords: dict[str, Any]) -> Any:
    from headrace.scheduler import Scheduler

    if port is not None:
        return await Scheduler(port=port, **keywords)
    try:
        return await Scheduler(port=8786, **keywords)
    except OSError:
        # the default port is somebody else's; one that was asked for would be an error
        return await Scheduler(port=0, **keywords)


def main() -> None:
    """Console script."""
    scheduler()


if __name__ == "__main__":
    main()

"""`headrace ssh`, `dask ssh`, `dask-ssh`: a scheduler and workers on other machines, until Ctrl-C."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .common_options import version_option
from .process_life import serve, start_logging

if TYPE_CHECKING:
    from headrace.deploy.spec import SpecCluster

#: Module that the workers' machines run by default: `headrace.cli.dask_worker`, by its documented name.
WORKER_COMMAND = "distributed.cli.dask_worker"


@click.command(name="ssh")
@click.option("--scheduler", type=str, default=None, help="The scheduler's host; the first of HOSTNAMES by default")
@click.option("--scheduler-port", type=int, default=8786, show_default=True, help="The scheduler's port")
@click.option("--nthreads", type=int, default=0, help="Threads per worker (default: a host's CPUs / its workers)")
@click.option("--nworkers", type=int, default=1, show_default=True, help="Workers per host")
@click.argument("hostnames", nargs=-1, type=str)
@click.option("--hostfile", type=click.Path(exists=True, dir_okay=False), default=None, help="File with a host a line")
@click.option("--ssh-username", type=str, default=None, help="User name for SSH")
@click.option("--ssh-port", type=int, default=22, show_default=True, help="Port for SSH")
@click.option("--ssh-private-key", type=str, default=None, help="File with the private key for SSH")
@click.option("--nohost", is_flag=True, help="Do not tell the workers the host name to listen on")
@click.option("--log-directory", type=click.Path(), default=None, help="Directory of all hosts for what is printed")
@click.option("--local-directory", type=click.Path(), default=None, help="Directory of all hosts for workers' files")
@click.option("--remote-python", type=str, default=None, help="Python of the hosts")
@click.option(
    "--memory-limit", default="auto", show_default=True, help="Bytes per worker: a number, text, 'auto' or 0 for none"
)
@click.option("--worker-port", type=int, default=0, help="Port that the worker listens on (default: any)")
@click.option("--nanny-port", type=int, default=0, help="Port that the nanny listens on (default: any)")
@click.option(
    "--remote-dask-worker", default=WORKER_COMMAND, show_default=True, help="Module to run as the worker on the hosts"
)
@version_option
def ssh(hostnames: tuple[str, ...], hostfile: str | None, scheduler: str | None, **given: Any) -> None:
    """Launch a cluster over SSH: a scheduler on the first of HOSTNAMES, and workers on each of them."""
    hosts = [*hostnames, *(_lines(hostfile) if hostfile else [])]
    if not hosts:
        raise click.UsageError("name the hosts: 'headrace ssh HOST HOST …', or --hostfile FILE")
    start_logging()

    async def start() -> list[Any]:
        cluster = await _start(scheduler or hosts[0], hosts, **given)
        click.echo(f"Scheduler at: {cluster.scheduler_address}", err=True)
        return [_Running(cluster)]

    serve(start, "cluster")


def _lines(file: str) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in Path(file).read_text().splitlines())
    return [line for line in lines if line]


async def _start(scheduler: str, hosts: list[str], **given: Any) -> SpecCluster:
    from headrace.deploy.spec import SpecCluster
    from headrace.deploy.ssh import specifications

    connect: dict[str, Any] = {"port": given["ssh_port"]}
    if given["ssh_username"]:
        connect["username"] = given["ssh_username"]
    if given["ssh_private_key"]:
        connect["client_keys"] = [given["ssh_private_key"]]
    command = given["remote_dask_worker"]
    workers, scheduler_spec = specifications(
        [scheduler, *hosts],
        connect,
        {
            "nthreads": given["nthreads"] or None,
            "n_workers": given["nworkers"],
            "memory_limit": given["memory_limit"],
            "worker_port": given["worker_port"] or None,
            "nanny_port": given["nanny_port"] or None,
            "local_directory": given["local_directory"],
        },
        {"port": given["scheduler_port"]},
        remote_python=given["remote_python"],
        command="headrace.cli.dask_worker" if command == WORKER_COMMAND else command,
        log_directory=given["log_directory"],
        tell_host=not given["nohost"],
    )
    return await SpecCluster(workers, scheduler_spec, asynchronous=True, name="dask-ssh")


class _Running:
    """A cluster as the main work of a process: `finished` waits until `close` was called."""

    def __init__(self, cluster: SpecCluster) -> None:
        self._cluster = cluster
        self._closed = asyncio.Event()

    async def finished(self) -> None:
        """Wait until the cluster was closed."""
        await self._closed.wait()

    async def close(self) -> None:
        """Close the cluster."""
        await self._cluster.close()
        self._closed.set()


#: The same command by its documented name; a console script.
main = ssh


if __name__ == "__main__":
    main()

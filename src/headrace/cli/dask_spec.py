"""`headrace spec`, `dask spec`: servers by specification as the main work of a process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from headrace.config import tell_dask_of_a_cluster

from .common_options import announce_worker, version_option
from .hash_seed import run_with_hash_seed
from .process_life import serve, start_logging, tune_for_a_scheduler


@click.command(name="spec")
@click.argument("args", nargs=-1)
@click.option("--spec", type=str, default="", help="The specification, as JSON or YAML")
@click.option("--spec-file", type=str, default=None, help="File with the specification, in JSON or YAML")
@click.option("--spec-variable", type=str, default=None, help="Variable of the environment with the specification")
@version_option
def spec(args: tuple[str, ...], spec: str, spec_file: str | None, spec_variable: str | None) -> None:
    """Launch servers defined by a specification: {"cls": "headrace.Worker", "opts": {…}}, or several of these by name.

    ARGS are the positional arguments of each class: for workers, the scheduler's address.
    """
    run_with_hash_seed("--spec")
    found = _read(spec, spec_file, spec_variable)
    start_logging()
    tell_dask_of_a_cluster()

    async def start() -> list[Any]:
        from headrace.deploy.spec import run_spec

        servers = list((await run_spec(found, *args)).values())
        if all(getattr(server, "kind", "") == "Scheduler" for server in servers):
            tune_for_a_scheduler()
        for server in servers:
            _announce(server)
        return servers

    serve(start, "server")


def _read(text: str, file: str | None, variable: str | None) -> dict[str, Any]:
    """The specification from the option's text, from a file, or from a variable, which is removed (not for tasks).

    Raises:
        click.UsageError: none or several are given, or the text is no specification.
    """
    if [bool(text), bool(file), bool(variable)].count(True) != 1:
        raise click.UsageError(
            "give the specification as --spec TEXT or --spec-file FILE (or --spec-variable NAME), and only one of these"
        )
    if variable:
        text = os.environ.pop(variable, "")
        if not text:
            raise click.UsageError(f"the environment has no variable {variable} with the specification")
    if file:
        try:
            text = Path(file).read_text()
        except OSError as error:
            raise click.UsageError(f"cannot read the specification: {error}") from error
    try:
        found = json.loads(text)
    except ValueError:
        found = _read_yaml(text)
    several = found if isinstance(found, dict) else {}
    for one in [several] if "cls" in several else several.values() or [None]:
        if not (isinstance(one, dict) and "cls" in one):
            raise click.UsageError('the specification must have the form {"cls": "module.Class", "opts": {…}}')
    return several


def _read_yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise click.UsageError(f"the specification is neither JSON nor YAML: {error}") from error


def _announce(server: Any) -> None:
    scheduler = getattr(server, "scheduler_address", None)
    if scheduler is None:
        click.echo(f"Scheduler at: {server.address}", err=True)
    else:
        announce_worker(getattr(server, "worker_address", None) or server.address, scheduler)


#: The same command by its documented name; a console script.
main = spec


if __name__ == "__main__":
    main()

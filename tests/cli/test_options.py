"""What the options mean, without starting anything."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from headrace.cli.common_options import parse_ports
from headrace.cli.dask_scheduler import ports_to_try
from headrace.cli.dask_worker import plan_workers, worker
from headrace.cli.main import command

SURFACE = json.loads((Path(__file__).parent / "options-2026.8.json").read_text())
SOMEWHERE = "tcp://127.0.0.1:1"


def planned(*arguments: str) -> list[dict[str, Any]]:
    """The keywords of the workers that a command line means."""
    context = worker.make_context("worker", [SOMEWHERE, *arguments])
    return plan_workers({**context.params, "preload": None, "preload_argv": []})


@pytest.mark.parametrize("name", sorted(SURFACE))
def test_every_documented_option_is_there(name: str) -> None:
    ours = command.commands[name]  # type: ignore[attr-defined]
    found = {option for parameter in ours.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert not set(SURFACE[name]) - found


def test_defaults() -> None:
    (only,) = planned("--nthreads", "3")
    assert {name: value for name, value in only.items() if value is not None} == {
        "nthreads": 3,
        "memory_limit": "auto",
        "preload_argv": [],
        "dashboard_address": ":0",
        "dashboard": True,
        "http_prefix": "/",
    }


def test_addresses_and_ports() -> None:
    (only,) = planned("--listen-address", "tcp://127.0.0.1:9000", "--contact-address", "tcp://127.0.0.1:9001")
    assert only["host"] == "127.0.0.1"
    assert only["protocol"] == "tcp"
    assert only["worker_port"] == 9000
    assert only["contact_address"] == "tcp://127.0.0.1:9001"
    (only,) = planned("--worker-port", "9000:9010", "--nanny-port", "9100", "--interface", "lo")
    assert (only["worker_port"], only["port"], only["interface"]) == ("9000:9010", 9100, "lo")
    (only,) = planned("--worker-port", "9000", "--no-nanny")
    assert only["port"] == 9000


def test_several_workers_share_all_but_the_name() -> None:
    several = planned("--nworkers", "3", "--nthreads", "1", "--name", "w", "--memory-limit", "1GB")
    assert [one.pop("name") for one in several] == ["w-0", "w-1", "w-2"]
    assert several[0] == several[1] == several[2]


@pytest.mark.parametrize(("given", "name"), [("123", 123), ("-1", -1), ("a1", "a1"), ("1.5", "1.5"), ("", None)])
def test_a_name_that_is_a_number(given: str, name: object) -> None:
    (only,) = planned("--name", given)
    assert only["name"] == name


@pytest.mark.parametrize(
    ("protocols", "port", "host", "expected"),
    [
        ([], None, "", [8786, 0]),
        ([], None, "127.0.0.1:9000", [None]),
        ([], "0", "", [0]),
        ([], "9000:9001", "", [9000, 9001]),
        ([], "9000,9001", "", [[9000, 9001]]),
        (["tcp", "tls"], "9000,9001", "", [[9000, 9001]]),
        (["tcp", "tls"], None, "", [[8786, 0], [0, 0]]),
        (["inproc", "tcp"], None, "", [[0, 8786], [0, 0]]),
    ],
)
def test_ports_that_a_scheduler_tries(protocols: list[str], port: str | None, host: str, expected: list[Any]) -> None:
    assert ports_to_try(protocols, port, host) == expected


@pytest.mark.parametrize("name", ["scheduler", "spec", "ssh", "worker"])
def test_the_documented_name_of_each_command(name: str) -> None:
    main = importlib.import_module(f"distributed.cli.dask_{name}").main
    assert isinstance(main, click.Command)
    assert CliRunner().invoke(main, ["--help"]).exit_code == 0


def test_the_rest_is_passed_on() -> None:
    (only,) = planned(
        *("--lifetime", "1h", "--lifetime-stagger", "5m", "--lifetime-restart", "--resources", "GPU=2 MEM=1e9"),
        *("--worker-class", "my.Worker", "--local-directory", "/scratch", "--preload-nanny", "mine"),
        *("--scheduler-sni", "front"),
    )
    assert only["lifetime"] == "1h"
    assert only["lifetime_stagger"] == "5m"
    assert only["lifetime_restart"] is True
    assert only["resources"] == {"GPU": 2.0, "MEM": 1e9}
    assert only["worker_class"] == "my.Worker"
    assert only["local_directory"] == "/scratch"
    assert only["preload_nanny"] == ["mine"]
    assert only["security"].extra_conn_args == {"server_hostname": "front"}


def test_ports() -> None:
    assert parse_ports("0") == [0]
    assert parse_ports("") == parse_ports(None) == [None]
    assert parse_ports("10:12") == [10, 11, 12]
    for wrong in ("x", "1:x", "12:10", "-1", "70000", "1:2:3"):
        with pytest.raises(click.BadParameter, match="port"):
            parse_ports(wrong)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["worker"], "name the scheduler"),
        (["worker", SOMEWHERE, "--no-nanny", "--nworkers", "2"], "only one"),
        (["worker", SOMEWHERE, "--nworkers", "many"], "number or 'auto'"),
        (["worker", SOMEWHERE, "--nworkers", "0"], "at least 1"),
        (["worker", SOMEWHERE, "--nthreads", "-1"], "at least 1"),
        (["worker", SOMEWHERE, "--resources", "GPU"], "NAME=NUMBER"),
        (["worker", SOMEWHERE, "--memory-limit", "lots"], "--memory-limit"),
        (["worker", SOMEWHERE, "--worker-port", "x"], "neither a port nor a range"),
        (["worker", SOMEWHERE, "--listen-address", "tcp://:0", "--host", "a"], "leave out --host"),
        (["worker", SOMEWHERE, "--listen-address", "tcp://:0", "--nworkers", "2"], "--listen-address is one worker's"),
        (["worker", SOMEWHERE, "--contact-address", "tcp://a:1", "--nworkers", "2"], "--contact-address is one"),
        (["worker", SOMEWHERE, "--no-nanny", "--nanny-port", "1"], "--nanny-port needs a nanny"),
        (["worker", SOMEWHERE, "--no-nanny", "--preload-nanny", "x"], "--preload-nanny needs a nanny"),
        (["worker", SOMEWHERE, "--nonsense"], "No such option: --nonsense"),
        (["worker", SOMEWHERE, "more"], "unexpected extra argument: more"),
        (["worker", "--nonsense"], "No such option: --nonsense"),
        (["scheduler", "--nonsense"], "No such option: --nonsense"),
        (["scheduler", "--jupyter"], "no Jupyter server"),
        (["scheduler", "--port", "9:1"], "no range of ports"),
        (["scheduler", "--protocol", "tcp,tls", "--port", "9000"], "one port for each protocol"),
        (["scheduler", "--port", "9000:9001,9002"], "among several ports"),
        (["scheduler", "--tls-cert", "/nowhere"], "does not exist"),
        (["spec"], "--spec TEXT or --spec-file FILE"),
        (["spec", "--spec", "{}"], "must have the form"),
        (["spec", "--spec", '{"opts": {}}'], "must have the form"),
        (["spec", "--spec", "[1, 2]"], "must have the form"),
        (["spec", "--spec", "{a: b: c}"], "neither JSON nor YAML"),
        (["spec", "--spec-file", "/nowhere"], "cannot read the specification"),
    ],
)
def test_wrong_usage_is_explained(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("name", ["", "scheduler", "spec", "ssh", "worker"])
@pytest.mark.parametrize("option", ["--version", "--help"])
def test_version_and_help(name: str, option: str) -> None:
    result = CliRunner().invoke(command, [name, option] if name else [option])
    assert result.exit_code == 0
    assert "headrace" in result.output or "Usage" in result.output


@pytest.mark.parametrize("option", ["--lifetime", "--lifetime-stagger", "--death-timeout"])
def test_a_time_that_is_none_is_refused_at_once(option: str) -> None:
    result = CliRunner().invoke(worker, [SOMEWHERE, option, "5 parsecs"])
    assert result.exit_code == 2
    assert f"{option} must be a time such as '60s'" in result.output

"""The command line, as programs."""

from __future__ import annotations

import gc
import json
import re
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import pytest

from headrace import Client
from headrace.cli.common_options import parse_resources
from headrace.cli.process_life import GC_THRESHOLDS
from headrace.common.callables import import_term
from headrace.testing.helpers.log_reading import wait_for_log_line
from headrace.testing.helpers.polling import poll_for
from tests.cli.program import Program

SCHEDULER = ("scheduler", "--host", "127.0.0.1", "--port", "0")


@pytest.mark.parametrize("nanny", ["--nanny", "--no-nanny"])
def test_scheduler_worker_and_client(tmp_path: Path, nanny: str) -> None:
    file = tmp_path / "scheduler.json"
    with Program("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)) as scheduler:
        address = scheduler.line("Scheduler at:").split()[-1]
        assert json.loads(file.read_text())["address"] == address
        with Program("worker", address, nanny, "--nthreads", "1", "--name", "alice", "--resources", "GPU=2") as worker:
            worker.line("Start worker at:")
            assert address in worker.line("Registered with scheduler at:")
            with Client(scheduler_file=str(file)) as client:
                client.wait_for_workers(1, timeout=20)
                assert client.submit(pow, 2, 5).result() == 32
                (info,) = client.scheduler_info()["workers"].values()
                assert info["name"] == "alice"
                assert info["nthreads"] == 1
                assert info["resources"] == {"GPU": 2.0}
            assert worker.stop(signal.SIGINT) == 0
        assert scheduler.stop() == 0
    assert not file.exists()


def test_several_workers(tmp_path: Path) -> None:
    with Program("scheduler", "--host", "127.0.0.1", "--port", "0") as scheduler:
        address = scheduler.line("Scheduler at:").split()[-1]
        with (
            Program("worker", address, "--nworkers", "2", "--nthreads", "1", "--name", "w") as worker,
            Client(address) as client,
        ):
            client.wait_for_workers(2, timeout=20)
            assert {info["name"] for info in client.scheduler_info()["workers"].values()} == {"w-0", "w-1"}
            assert worker.stop() == 0


def test_a_worker_ends_when_its_scheduler_closes() -> None:
    with Program("scheduler", "--host", "127.0.0.1", "--port", "0") as scheduler:
        address = scheduler.line("Scheduler at:").split()[-1]
        with Program("worker", address, "--no-nanny", "--nthreads", "1") as worker:
            worker.line("Registered with scheduler at:")
            assert scheduler.stop() == 0
            poll_for(lambda: worker.process.poll() is not None, 20)


def test_a_worker_gives_up_on_a_scheduler_that_is_not_there() -> None:
    with Program("worker", "tcp://127.0.0.1:1", "--no-nanny", "--nthreads", "1", "--death-timeout", "1s") as worker:
        assert "127.0.0.1:1" in worker.line("Error: the worker did not start")
        assert worker.process.wait(20) == 1


def test_a_nannys_scheduler_that_is_not_there_is_named_once() -> None:
    with Program("worker", "tcp://127.0.0.1:1", "--nthreads", "1", "--death-timeout", "1s") as worker:
        line = worker.line("Error:")
        assert line.strip() == (
            "Error: the worker did not start: no scheduler at tcp://127.0.0.1:1: nothing answered within 1 s"
        )
        assert worker.process.wait(20) == 1


def test_a_scheduler_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "nowhere" / "file.json"
    with Program(*SCHEDULER, "--scheduler-file", str(file)) as scheduler:
        assert (
            scheduler.line("Error:")
            .rstrip()
            .endswith(f"cannot write the scheduler file: No such file or directory: '{file}'")
        )
        assert scheduler.process.wait(20) == 1


def test_the_port_asked_for_or_an_error() -> None:
    with Program("scheduler", "--host", "127.0.0.1", "--port", "0") as scheduler:
        port = scheduler.line("Scheduler at:").rpartition(":")[2].strip()
        with Program("scheduler", "--host", "127.0.0.1", "--port", port) as second:
            second.line("did not start")
            assert second.process.wait(20) == 1


def test_a_pid_file_is_kept_while_it_runs(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with Program("scheduler", "--host", "127.0.0.1", "--port", "0", "--pid-file", str(file)) as scheduler:
        scheduler.line("Scheduler at:")
        assert int(file.read_text()) == scheduler.process.pid
        scheduler.stop()
    assert not file.exists()


def test_a_pid_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "nowhere" / "pid"
    with Program("scheduler", "--host", "127.0.0.1", "--port", "0", "--pid-file", str(file)) as scheduler:
        assert str(file) in scheduler.line("Error: cannot write the file that --pid-file names")
        assert scheduler.process.wait(20) == 1


def test_resources() -> None:
    assert parse_resources(None) is None
    assert parse_resources("A=1, B=2.5") == {"A": 1.0, "B": 2.5}


def test_dask_offers_the_commands() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    offered = {**project["entry-points"]["dask_cli"], **project["scripts"]}
    assert set(project["entry-points"]["dask_cli"]) == {"scheduler", "spec", "ssh", "worker"}
    assert {"dask-scheduler", "dask-spec", "dask-ssh", "dask-worker", "headrace"} <= set(project["scripts"])
    for path in offered.values():
        assert callable(import_term(path.replace(":", ".")))


def test_as_a_module_of_the_peers_name() -> None:
    for name in ("dask_scheduler", "dask_worker", "dask_ssh", "dask_spec"):
        code = (
            f"import headrace, runpy; runpy.run_module('distributed.cli.{name}', run_name='__main__', alter_sys=True)"
        )
        done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert b"Usage" in done.stdout


def test_a_worker_waits_for_the_schedulers_file(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    with Program("worker", "--scheduler-file", str(file), "--no-nanny", "--nthreads", "1") as worker:
        worker.line("Waiting for the scheduler file")
        with Program(*SCHEDULER, "--scheduler-file", str(file)) as scheduler:
            scheduler.line("Scheduler at:")
            worker.line("Registered with scheduler at:")
            assert worker.stop() == 0
            assert scheduler.stop() == 0
    with Program("worker", "--scheduler-file", str(file), "--death-timeout", "0.1s") as worker:
        worker.line("no scheduler wrote its address to")
        assert worker.process.wait(20) == 1


def test_ranges_of_ports() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        first = taken.getsockname()[1]
        last = min(first + 50, 65535)
        with Program("scheduler", "--host", "127.0.0.1", "--port", f"{first}:{last}") as scheduler:
            address = scheduler.line("Scheduler at:").split()[-1]
            assert first < int(address.rpartition(":")[2]) <= last
            ports = ("--worker-port", f"{first}:{last}", "--nanny-port", f"{first}:{last}")
            with Program("worker", address, *ports, "--nthreads", "1", "--nworkers", "2") as worker:
                for _ in range(2):
                    started = worker.line("Start worker at:").split()[-1]
                    assert first < int(started.rpartition(":")[2]) <= last
                assert worker.stop() == 0


def test_where_a_worker_listens_and_what_it_tells_others() -> None:
    with Program(*SCHEDULER) as scheduler:
        address = scheduler.line("Scheduler at:").split()[-1]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        where = ("--listen-address", f"tcp://127.0.0.1:{port}", "--contact-address", f"tcp://localhost:{port}")
        for nanny in ("--nanny", "--no-nanny"):
            with Program("worker", address, *where, nanny, "--nthreads", "1") as worker:
                worker.line("Registered with scheduler at:")
                with Client(address) as client:
                    assert list(client.scheduler_info()["workers"]) == [f"tcp://localhost:{port}"]
                    assert client.submit(pow, 2, 5).result() == 32
                assert worker.stop() == 0


@pytest.mark.parametrize("nanny", ["--nanny", "--no-nanny"])
def test_a_class_of_the_users_own(tmp_path: Path, nanny: str) -> None:
    (tmp_path / "own_worker.py").write_text(
        "from headrace import Worker\n\n\nclass OwnWorker(Worker):\n    mark = 'own'\n"
    )
    with Program(*SCHEDULER) as scheduler:
        address = scheduler.line("Scheduler at:").split()[-1]
        options = (nanny, "--nthreads", "1", "--worker-class", "own_worker.OwnWorker", "--memory-limit", "1 GB")
        with Program("worker", address, *options, modules=tmp_path) as worker, Client(address) as client:
            worker.line("Registered with scheduler at:")
            (mark,) = client.run(lambda dask_worker: (dask_worker.mark, dask_worker.memory_limit)).values()
            assert mark == ("own", 10**9)
            assert worker.stop() == 0


def test_tls(tmp_path: Path) -> None:
    from headrace.security import Security

    temporary = Security.temporary()
    files = []
    for option, text in {
        "--tls-ca-file": temporary.tls_ca_file,
        "--tls-cert": temporary.tls_scheduler_cert,
        "--tls-key": temporary.tls_scheduler_key,
    }.items():
        file = tmp_path / option.strip("-")
        file.write_text(str(text))
        files += [option, str(file)]
    with Program(*SCHEDULER, "--protocol", "tls", *files) as scheduler:
        address = scheduler.line("Scheduler at:").split()[-1]
        assert address.startswith("tls://")
        options = ("--nthreads", "1", "--protocol", "tls", "--host", "127.0.0.1", "--scheduler-sni", "front.example")
        with Program("worker", address, *files, *options) as worker:
            worker.line("Registered with scheduler at:")
            with Client(address, security=temporary) as client:
                assert client.submit(pow, 2, 5).result() == 32
            assert worker.stop() == 0


def http_port(program: Program, words: str) -> int:
    """The port in the line of the log that has these words."""
    found = re.search(r"https?://[^ /]*:(\d+)", program.line(words))
    assert found is not None
    return int(found[1])


def answer(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
        return str(reply.read().decode())


def test_without_a_dashboard_health_stays_as_charts_of_helm_have_it() -> None:
    with Program(*SCHEDULER, "--dashboard-address", ":0", "--no-dashboard", "--show") as scheduler:
        assert "--show" in scheduler.line("Out of date")
        address = scheduler.line("Scheduler at:").split()[-1]
        assert answer(http_port(scheduler, "HTTP at:"), "/health") == "ok"
        options = ("--nthreads", "1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--host", "127.0.0.1")
        with Program("worker", address, *options) as worker, Client(address) as client:
            worker.line("Registered with scheduler at:")
            ((_, info),) = client.scheduler_info()["workers"].items()
            assert answer(info["services"]["dashboard"], "/health") == "ok"
            assert worker.stop() == 0
        assert scheduler.stop(signal.SIGINT) == 0


def test_the_dashboards_address_prefix_and_mistakes_in_it() -> None:
    with Program(*SCHEDULER, "--dashboard-address", "127.0.0.1:0", "--dashboard-prefix", "/a/b") as scheduler:
        port = http_port(scheduler, "dashboard at:")
        assert answer(port, "/a/b/health") == answer(port, "/health") == "ok"
        assert scheduler.stop(signal.SIGINT) == 0
    with Program(*SCHEDULER, "--dashboard-address", "foo:bar") as scheduler:
        assert "'foo:bar'" in scheduler.line("Invalid value")


def test_logging_as_a_file_configures_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "logging.ini"
    file.write_text(
        "[loggers]\nkeys=root\n[logger_root]\nlevel=INFO\nhandlers=err\n[handlers]\nkeys=err\n[formatters]\nkeys=own\n"
        "[handler_err]\nclass=StreamHandler\nformatter=own\nargs=()\n[formatter_own]\nformat=own form: %(message)s\n"
    )
    monkeypatch.setenv("DASK_DISTRIBUTED__LOGGING_FILE_CONFIG", str(file))
    with Program(*SCHEDULER) as scheduler:
        scheduler.line("Scheduler at:")
        scheduler.process.send_signal(signal.SIGINT)
        scheduler.line("own form: Closing scheduler")


def test_an_unknown_level_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__LOGGING__DISTRIBUTED", "loud")
    with Program(*SCHEDULER) as scheduler:
        scheduler.line("logger 'distributed': unknown level 'loud'")
        assert scheduler.process.wait(20) == 2


def test_a_signal_while_it_starts_ends_it() -> None:
    with socket.socket() as silent:  # accepts, and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with Program("worker", address, "--no-nanny", "--nthreads", "1") as worker:
            connection, _ = silent.accept()
            with connection:
                assert worker.stop() == 0


def test_spec_runs_several_servers(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("{cls: headrace.Scheduler, opts: {host: 127.0.0.1, port: 0}}")
    with Program("spec", "--spec-file", str(file)) as scheduler:
        address = scheduler.line("Scheduler at:").split()[-1]
        workers = {name: {"cls": "distributed.Worker", "opts": {"nthreads": 1}} for name in ("a", "b")}
        with Program("spec", "--spec", json.dumps(workers), address) as worker:
            for _ in range(2):
                worker.line("Registered with scheduler at:")
            with Client(address) as client:
                assert {info["name"] for info in client.scheduler_info()["workers"].values()} == {"a", "b"}
                assert client.run_on_scheduler(gc.get_threshold)[0] == GC_THRESHOLDS[0]
                assert GC_THRESHOLDS[0] not in {first for first, *_ in client.run(gc.get_threshold).values()}
            assert worker.stop() == 0
        assert scheduler.stop() == 0
    with Program("spec", "--spec", '{"cls": "nowhere.Worker"}', address) as wrong:
        wrong.line("the server did not start")
        assert wrong.process.wait(20) == 1


STUBBORN = """
import asyncio
from headrace.cli.process_life import serve

class Stubborn:
    async def finished(self):
        await asyncio.Event().wait()
    close = finished

async def start():
    print("up", flush=True)
    return [Stubborn()]

serve(start, "scheduler")
"""


def test_a_second_signal_forces_the_end() -> None:
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_for_log_line(b"up", process.stdout)
        process.send_signal(signal.SIGTERM)
        wait_for_log_line(b"Received SIGTERM", process.stdout)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 1
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("host", ["127.0.0.1:{}", "tcp://127.0.0.1:{}", "localhost:{}", "tcp://127.0.0.1:0"])
def test_a_port_in_the_host_is_the_one_to_listen_on(host: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Program("scheduler", "--host", host.format(port)) as scheduler:
        found = int(scheduler.line("Scheduler at:").split()[-1].rpartition(":")[2])
        assert found == port if "{}" in host else found not in (0, 8786)


def test_two_ports_that_differ_are_refused() -> None:
    with Program("scheduler", "--host", "127.0.0.1:18786", "--port", "18787") as scheduler:
        assert "port number given twice" in scheduler.line("Error:")


def test_a_scheduler_with_several_protocols() -> None:
    with Program("scheduler", "--host", "127.0.0.1", "--protocol", "tcp,tcp", "--port", "0,0") as scheduler:
        addresses = {scheduler.line("Scheduler at:").split()[-1] for _ in range(3)}  # once in the log
        assert len(addresses) == 2
        for address in addresses:
            with Client(address) as client:
                assert client.scheduler_info()["workers"] == {}


def test_a_worker_takes_the_scheduler_that_is_configured() -> None:
    with Program(*SCHEDULER) as scheduler:
        address = scheduler.line("Scheduler at:").split()[-1]
        environment = {"DASK_SCHEDULER_ADDRESS": address}
        with (
            Program("worker", "--nthreads", "1", "--name", "123", env=environment) as worker,
            Client(address) as client,
        ):
            worker.line("Start worker at:")
            client.wait_for_workers(1, timeout=20)
            (info,) = client.scheduler_info()["workers"].values()
            assert info["name"] == 123

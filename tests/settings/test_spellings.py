"""Every setting that has an effect reaches what it is about, however it is spelled.

Variables of the environment have underscores where the documented names have hyphens, and so may files.
"""

from __future__ import annotations

import copy
import inspect
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.config
import pytest
import yaml

from headrace import Client, Scheduler, Worker, config, graphics_cards
from headrace.config import CommOptions
from headrace.deploy.adaptive import Adaptive
from headrace.exceptions import UnknownOperationError
from headrace.http.http_server import configured_tls_files
from headrace.http.route_tables import configured_modules
from headrace.nanny.environment import inherited_configuration, process_environment
from headrace.preloading import configured_preloads
from headrace.rpc import rpc
from headrace.rpc.dashboard_links import format_dashboard_link
from headrace.security import Security
from headrace.system_monitor import SystemMonitor
from headrace.worker.memory.memory_options import MemoryOptions
from headrace.worker.worker_options import WorkerOptions
from tests.settings.test_comments import READ


class _AnyCluster:
    """What `Adaptive` asks of a cluster before it runs."""

    class loop:
        @staticmethod
        def add_callback(callback: Callable[[], None]) -> None:
            """Not run."""


def _state() -> Any:
    from headrace.scheduler.server import state_options

    return state_options(None, None)


def _worker() -> WorkerOptions:
    return WorkerOptions.from_config()


def _memory() -> MemoryOptions:
    return MemoryOptions.from_config()


def _scheduler_memory() -> Any:
    from headrace.scheduler.memory_settings import MemorySettings

    return MemorySettings.from_config()


def _tokens() -> Any:
    """The tokens that are configured, or the name of their file, which is not there."""
    from headrace.auth.token_places import configured_tokens

    try:
        found = configured_tokens()
    except OSError as error:
        return error.filename
    return found and found.valid


def _retry() -> Any:
    from headrace.rpc.connection_retries import RetryOptions

    return RetryOptions.from_config()


def _a_metric() -> str:
    from headrace.http.metrics import SchedulerMetrics

    return SchedulerMetrics(Scheduler(host="127.0.0.1"))._exposition.catalogue.family("scheduler_clients", []).name


def _http_access() -> Any:
    from headrace.auth.access_rules import AccessRules
    from headrace.http.http_access import HttpAccess

    return HttpAccess(AccessRules("scheduler"), str)


def _lock() -> Any:
    from headrace.http.metrics.lock_contention import LockOptions

    return LockOptions.from_config()


def _ticks() -> Any:
    from headrace.rpc.loops.ticks import TickOptions

    return TickOptions.from_config()


def _stealing() -> Any:
    return Scheduler(host="127.0.0.1").extensions["stealing"]


def _memory_manager() -> Any:
    return Scheduler(host="127.0.0.1").extensions["amm"]


def _leases() -> Any:
    from headrace.extensions.leases.scheduler import LeaseKeeper

    return LeaseKeeper.of(Scheduler(host="127.0.0.1"))


def _client() -> Client:
    return Client("tcp://127.0.0.1:1", asynchronous=True, set_as_default=False)


def _task_logs() -> Any:
    from headrace.worker.execution.task_logs import TaskLogs

    return TaskLogs.from_config()


def _preload(kind: str) -> tuple[str, list[str]]:
    (preload,) = configured_preloads(None, kind, None, None)._preloads
    return preload.name, preload.argv


def _argv(kind: str) -> list[str]:
    return _preload_with(kind)[1]


def _preload_with(kind: str) -> tuple[str, list[str]]:
    with dask.config.set({f"distributed.{kind}.preload": ["json"]}):
        return _preload(kind)


async def _refusal(kind: str) -> str:
    async with Scheduler(host="127.0.0.1") as scheduler:
        if kind == "scheduler":
            server: Any = scheduler
        else:
            server = await Worker(scheduler.address)
        try:
            with pytest.raises((ValueError, UnknownOperationError)) as raised:
                await rpc(server.address).echo(data=1)
        finally:
            if server is not scheduler:
                await server.close()
    return str(raised.value)


def _kept_lines() -> Any:
    from headrace.rpc.server_logs import LogLines

    return LogLines("distributed")


def _zstd() -> tuple[int, int]:
    chosen = config.get("distributed.comm.zstd")
    return int(chosen["level"]), int(chosen["threads"])


def _import(name: str) -> str:
    from headrace.compat.protocol.serialize import import_allowed_module

    return import_allowed_module(name).__name__


def _error_length() -> int:
    from headrace.rpc.requests import error_message

    return len(error_message(ValueError("x" * 500))["text"])


def _stream_length() -> Any:
    from headrace.diagnostics.task_stream import TaskStreamPlugin

    return TaskStreamPlugin(None).buffer.maxlen


def _pattern(name: str) -> str:
    from headrace.client.packing.user_frames import _pattern as pattern

    return pattern(name).pattern


def _kind_of_loop() -> str:
    from headrace.rpc import new_event_loop

    loop = new_event_loop()
    loop.close()
    return type(loop).__module__.partition(".")[0]


def _mp_method() -> str | None:
    from headrace.compat.utils.thread_calls import get_mp_context

    return get_mp_context().get_start_method()


def _frames() -> int:
    from headrace.client.packing.user_frames import frames_wanted

    return frames_wanted()


def _loader() -> Any:
    from headrace.client.link.security_loader import loaded_security

    with pytest.raises(ImportError) as raised:
        loaded_security("tcp://127.0.0.1:1")
    return "no.such.loader" in str(raised.value)


def _graph_limit() -> int:
    from headrace.client.api.work import _LargeGraphWarner

    return _LargeGraphWarner()._limit


def _scheme() -> str:
    from headrace.comm.addressing import parse_address

    return parse_address("127.0.0.1:1")[0]


def _locking() -> bool:
    from headrace.directories import is_locking_enabled

    return is_locking_enabled()


def _readings(what: str) -> Callable[[], Any]:
    return lambda: getattr(SystemMonitor(), what)


async def _seconds_between_readings() -> Any:
    async with Scheduler(host="127.0.0.1", port=0) as scheduler:
        assert scheduler.monitor.count == 1
        return scheduler.periodic_callbacks["monitor"].callback_time


async def _cards_are_read() -> bool:
    read: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphics_cards, "_loaded", None)
        patch.setattr(graphics_cards, "_load", lambda: read.append(True))
        graphics_cards.init_once()
    return bool(read)


def _variable(name: str) -> Callable[[], str | None]:
    return lambda: process_environment().get(name)


def _lifetime(name: str) -> Callable[[], Any]:
    return lambda: _worker().life[name]


def _adaptive() -> Adaptive:
    return Adaptive(_AnyCluster())


S, W, C = "distributed.scheduler", "distributed.worker", "distributed.comm"
#: For each key a value as text, what reads it, and what is to be found there.
CASES: dict[str, tuple[str, Callable[[], Any], Any]] = {
    f"{S}.allowed-failures": ("7", lambda: _state().allowed_failures, 7),
    f"{S}.bandwidth": ("5MB", lambda: _state().bandwidth, 5e6),
    f"{S}.blocked-handlers": ("echo", lambda: _refusal("scheduler"), "echo"),
    f"{S}.pickle": ("off", lambda: Scheduler().shell._opens_pickles, False),
    f"{S}.contact-address": ("tcp://1.2.3.4:5", lambda: Scheduler().contact_address, "tcp://1.2.3.4:5"),
    f"{S}.default-data-size": ("2kB", lambda: _state().default_nbytes, 2000),
    f"{S}.events-cleanup-delay": ("7s", lambda: Scheduler().shell.departed.delay, 7),
    f"{S}.idle-timeout": ("8s", lambda: Scheduler().idle_timeout, 8),
    f"{S}.no-workers-timeout": ("9s", lambda: Scheduler().no_workers_timeout, 9),
    f"{S}.work-stealing": ("off", lambda: config.truth(f"{S}.work-stealing"), False),
    f"{S}.work-stealing-interval": ("3s", lambda: _stealing().interval, 3),
    f"{S}.worker-saturation": ("inf", lambda: _state().saturation, float("inf")),
    f"{S}.rootish-taskgroup": ("2", lambda: _state().rootish_groups, 2),
    f"{S}.rootish-taskgroup-dependencies": ("3", lambda: _state().rootish_tasks, 3),
    f"{S}.worker-ttl": ("4s", lambda: Scheduler().worker_ttl, 4),
    f"{S}.client-reconnect-timeout": ("6s", lambda: Scheduler().parts.client_connections._patience, 6),
    f"{S}.preload": ("json", lambda: _preload("scheduler")[0], "json"),
    f"{S}.preload-argv": ("--x", lambda: _argv("scheduler"), ["--x"]),
    f"{S}.unknown-task-duration": ("1s", lambda: _state().unknown_duration, 1),
    **{
        f"{S}.default-task-durations.{name}": ("3s", lambda name=name: _state().default_durations[name], 3)
        for name in ("rechunk-split", "split-shuffle", "split-taskshuffle", "split-stage")
    },
    f"{S}.validate": ("true", lambda: _state().validate, True),
    f"{S}.dashboard.tasks.task-stream-length": ("12", _stream_length, 12),
    **{
        f"{S}.dashboard.tls.{name}": (
            f"{name}.pem",
            lambda name=name: configured_tls_files()[name],
            f"{name}.pem",
        )
        for name in ("ca-file", "key")
    },
    **{
        f"distributed.{kind}.http.routes": ("mine", lambda kind=kind: configured_modules(kind, False), ["mine"])
        for kind in ("scheduler", "worker", "nanny")
    },
    "distributed.nanny.http.address": (":1", lambda: config.get("distributed.nanny.http.address"), ":1"),
    f"{S}.dashboard.tls.cert": ("c.pem", lambda: format_dashboard_link("h", 1)[:5], "https"),
    f"{S}.locks.lease-validation-interval": ("3s", lambda: _leases().interval, 3),
    f"{S}.locks.lease-timeout": ("4s", lambda: _leases().core.timeout, 4),
    f"{S}.allowed-imports": ("json", lambda: _import("json"), "json"),
    f"{S}.active-memory-manager.start": ("false", lambda: _memory_manager()._wanted, False),
    f"{S}.active-memory-manager.interval": ("7s", lambda: _memory_manager().interval, 7),
    f"{S}.active-memory-manager.measure": ("managed", lambda: _memory_manager().measure, "managed"),
    f"{S}.active-memory-manager.policies": ("[]", lambda: len(_memory_manager().policies), 0),
    f"{W}.blocked-handlers": ("echo", lambda: _refusal("worker"), "echo"),
    f"{W}.multiprocessing-method": ("fork", _mp_method, "fork"),
    f"{W}.use-file-locking": ("no", _locking, False),
    f"{W}.transfer.message-bytes-limit": ("1MB", lambda: _worker().message_bytes, 10**6),
    f"{W}.connections.outgoing": ("3", lambda: _worker().outgoing, 3),
    f"{W}.connections.incoming": ("4", lambda: _worker().incoming, 4),
    f"{W}.preload": ("json", _lifetime("preload"), "json"),
    f"{W}.preload-argv": ("--x", _lifetime("preload_argv"), "--x"),
    f"{W}.daemon": ("off", lambda: config.truth(f"{W}.daemon"), False),
    f"{W}.validate": ("true", lambda: _worker().validate, True),
    f"{W}.interrupt-grace": ("5s", lambda: _worker().interrupt_grace, 5),
    f"{W}.resources": ("{'GPU': 2}", lambda: _worker().resources, {"GPU": 2}),
    f"{W}.lifetime.duration": ("5m", _lifetime("lifetime"), "5m"),
    f"{W}.lifetime.stagger": ("6s", _lifetime("lifetime_stagger"), "6s"),
    f"{W}.lifetime.restart": ("true", _lifetime("lifetime_restart"), True),
    f"{W}.profile.enabled": ("false", lambda: _worker().profile_interval, 0),
    f"{W}.profile.interval": ("20ms", lambda: _worker().profile_interval, 0.02),
    f"{W}.profile.cycle": ("2s", lambda: _worker().profile_cycle, 2),
    f"{W}.task-logs.enabled": ("off", _task_logs, None),
    f"{W}.task-logs.task-bytes": ("1kB", lambda: _task_logs()._task_bytes, 1000),
    f"{W}.task-logs.total-bytes": ("2kB", lambda: _task_logs()._total_bytes, 2000),
    f"{W}.memory.recent-to-old-time": ("5s", lambda: _scheduler_memory().recent_to_old_time, 5),
    f"{W}.memory.rebalance.measure": ("managed", lambda: _scheduler_memory().measure, "managed"),
    f"{W}.memory.rebalance.sender-min": ("0.2", lambda: _scheduler_memory().sender_min, 0.2),
    f"{W}.memory.rebalance.recipient-max": ("0.5", lambda: _scheduler_memory().recipient_max, 0.5),
    f"{W}.memory.rebalance.sender-recipient-gap": ("0.4", lambda: _scheduler_memory().half_gap, 0.2),
    f"{W}.memory.transfer": ("0.3", lambda: _worker().incoming_fraction, 0.3),
    f"{W}.memory.target": ("0.51", lambda: _memory().target, 0.51),
    f"{W}.memory.spill": ("0.52", lambda: _memory().spill, 0.52),
    f"{W}.memory.pause": ("false", lambda: _memory().pause, False),
    f"{W}.memory.terminate": ("0.9", lambda: _memory().terminate, 0.9),
    f"{W}.memory.max-spill": ("1GB", lambda: _memory().max_spill, 10**9),
    f"{W}.memory.spill-compression": ("false", lambda: _memory().compression, False),
    f"{W}.memory.monitor-interval": ("1s", lambda: _memory().monitor_interval, 1),
    "distributed.nanny.preload": ("json", lambda: _preload("nanny")[0], "json"),
    "distributed.nanny.preload-argv": ("--x", lambda: _argv("nanny"), ["--x"]),
    "distributed.nanny.fork-server": ("no", lambda: config.truth("distributed.nanny.fork-server"), False),
    "distributed.nanny.environ": ("{'OF_MINE': 3}", _variable("OF_MINE"), "3"),
    **{
        f"distributed.nanny.pre-spawn-environ.{name}": ("12", _variable(name), "12")
        for name in config.defaults()["distributed"]["nanny"]["pre-spawn-environ"]
    },
    "distributed.client.direct-to-workers": ("false", lambda: _client().direct_to_workers, False),
    "distributed.client.heartbeat": ("2s", lambda: _client()._heartbeat_seconds, 2),
    "distributed.client.scheduler-info-interval": ("8s", lambda: _latest()._interval, 8),
    "distributed.client.security-loader": ("no.such.loader", _loader, True),
    "distributed.client.preload": ("json", lambda: _preload("client")[0], "json"),
    "distributed.client.preload-argv": ("--x", lambda: _argv("client"), ["--x"]),
    "distributed.deploy.lost-worker-timeout": (
        "3s",
        lambda: config.get("distributed.deploy.lost-worker-timeout"),
        "3s",
    ),
    "distributed.deploy.cluster-repr-interval": (
        "4s",
        lambda: config.get("distributed.deploy.cluster-repr-interval"),
        "4s",
    ),
    "distributed.adaptive.interval": ("0s", lambda: _adaptive().interval, 0),
    "distributed.adaptive.target-duration": ("7s", lambda: _adaptive().target_duration, 7),
    "distributed.adaptive.minimum": ("2", lambda: _adaptive().minimum, 2),
    "distributed.adaptive.maximum": ("inf", lambda: _adaptive().maximum, float("inf")),
    "distributed.adaptive.wait-count": ("9", lambda: _adaptive().wait_count, 9),
    f"{C}.retry.count": ("2", lambda: _retry().count, 2),
    f"{C}.retry.delay.min": ("3s", lambda: _retry().delay_min, 3),
    f"{C}.retry.delay.max": ("4s", lambda: _retry().delay_max, 4),
    f"{C}.compression": ("auto", lambda: CommOptions.from_config().compression, "auto"),
    f"{C}.default-scheme": ("tls", _scheme, "tls"),
    f"{C}.socket-backlog": ("99", lambda: CommOptions.from_config().socket_backlog, 99),
    f"{C}.zstd.level": ("7", lambda: _zstd()[0], 7),
    f"{C}.zstd.threads": ("2", lambda: _zstd()[1], 2),
    f"{C}.timeouts.connect": ("11s", lambda: CommOptions.from_config().connect_timeout, 11),
    f"{C}.timeouts.tcp": ("12s", lambda: CommOptions.from_config().tcp_timeout, 12),
    f"{C}.auth": ("none", lambda: Security().access_rules("client").auth, "none"),
    f"{C}.token": ("a-token-that-is-long-enough", _tokens, ("a-token-that-is-long-enough",)),
    f"{C}.token-file": ("/nowhere/token", _tokens, "/nowhere/token"),
    f"{C}.encryption": ("required", lambda: Security().access_rules("client").encryption, "required"),
    f"{C}.require-encryption": ("true", lambda: Security().require_encryption, True),
    f"{C}.tls.ciphers": ("ABC", lambda: Security().tls_ciphers, "ABC"),
    f"{C}.tls.min-version": ("1.3", lambda: Security().tls_min_version, ssl.TLSVersion.TLSv1_3),
    f"{C}.tls.max-version": ("1.2", lambda: Security().tls_max_version, ssl.TLSVersion.TLSv1_2),
    f"{C}.tls.ca-file": ("ca.pem", lambda: Security().tls_ca_file, "ca.pem"),
    **{
        f"{C}.tls.{role}.{part}": (
            f"{part}.pem",
            lambda name=f"tls_{role}_{part}": getattr(Security(), name),
            f"{part}.pem",
        )
        for role in ("scheduler", "worker", "client")
        for part in ("key", "cert")
    },
    f"{C}.max-frame-bytes": ("1MiB", lambda: CommOptions.from_config().max_frame_bytes, 1 << 20),
    f"{C}.websockets.shard": ("10kiB", lambda: CommOptions.from_config().websocket_message_bytes, 10 << 10),
    f"{C}.same-machine-memory": ("false", lambda: CommOptions.from_config().share_memory, False),
    "distributed.diagnostics.computations.max-history": ("5", lambda: _state().computations_kept, 5),
    "distributed.diagnostics.computations.nframes": ("3", _frames, 3),
    "distributed.diagnostics.computations.ignore-modules": (
        "['mine']",
        lambda: "mine" in _pattern("ignore-modules"),
        True,
    ),
    "distributed.diagnostics.computations.ignore-files": ("['mine']", lambda: _pattern("ignore-files"), "(?:mine)"),
    "distributed.diagnostics.erred-tasks.max-history": ("6", lambda: _state().erred_kept, 6),
    "distributed.dashboard.prometheus.namespace": ("mine", lambda: _a_metric().partition("_")[0], "mine"),
    "distributed.dashboard.open-metrics": ("false", lambda: _http_access().open_metrics, False),
    "distributed.dashboard.allowed-hosts": ("['Mine']", lambda: "mine" in _http_access().allowed_hosts, True),
    "distributed.dashboard.link": ("{host}!", lambda: format_dashboard_link("h", 1), "h!"),
    "distributed.admin.large-graph-warning-threshold": ("1kB", _graph_limit, 1000),
    "distributed.admin.tick.interval": ("1s", lambda: _ticks().interval, 1),
    "distributed.admin.tick.limit": ("30s", lambda: _ticks().limit, 30),
    "distributed.admin.tick.cycle": ("4s", lambda: _ticks().cycle, 4),
    "distributed.admin.max-error-length": ("100", lambda: _error_length() < 200, True),
    "distributed.admin.log-length": ("3", lambda: _kept_lines().records.maxlen, 3),
    "distributed.admin.log-format": ("%(message)s", lambda: _kept_lines()._formatter._fmt, "%(message)s"),
    "distributed.admin.low-level-log-length": ("13", lambda: _state().log_length, 13),
    "distributed.admin.system-monitor.log-length": ("14", _readings("maxlen"), 14),
    "distributed.admin.system-monitor.interval": ("70ms", _seconds_between_readings, 70),
    "distributed.admin.system-monitor.disk": ("off", _readings("monitor_disk_io"), False),
    "distributed.admin.system-monitor.host-cpu": ("on", _readings("monitor_host_cpu"), True),
    "distributed.admin.system-monitor.gil.enabled": ("off", lambda: _lock().enabled, False),
    "distributed.admin.system-monitor.gil.interval": ("3ms", lambda: _lock().interval, 0.003),
    "distributed.diagnostics.nvml": ("off", _cards_are_read, False),
    "distributed.admin.event-loop": ("asyncio", _kind_of_loop, "asyncio"),
}


def _latest() -> Any:
    from headrace.client.link.latest_info import LatestInfo

    return LatestInfo(None)  # type: ignore[arg-type]


def variable_of(key: str) -> str:
    return "DASK_" + key.replace(".", "__").replace("-", "_").upper()


def from_environment(key: str, text: str) -> dict[str, Any]:
    return dict(dask.config.collect_env({variable_of(key): text}))


def from_file(key: str, text: str) -> dict[str, Any]:
    """As YAML gives it, with underscores throughout."""
    value = yaml.safe_load(text) if text not in ("inf", "{host}!", "%(message)s") else text
    for part in reversed(key.replace("-", "_").split(".")):
        value = {part: value}
    return dict(value)


@pytest.fixture
def configure() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Have dask know what a user configured, and then our defaults, as when a process starts."""
    before = copy.deepcopy(dask.config.config)

    def use(values: dict[str, Any]) -> None:
        dask.config.config.clear()
        dask.config.config.update(copy.deepcopy(values))
        for known in dask.config.defaults:
            dask.config.update(dask.config.config, known, priority="old")

    config.register_defaults()
    yield use
    dask.config.config.clear()
    dask.config.config.update(before)


@pytest.mark.parametrize("spelling", [from_environment, from_file])
@pytest.mark.parametrize("key", sorted(READ))
async def test_a_setting_reaches_what_it_is_about(
    key: str,
    spelling: Callable[[str, str], dict[str, Any]],
    configure: Callable[[dict[str, Any]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text, read, expected = CASES[key]
    if key.startswith("distributed.nanny.pre-spawn-environ."):
        monkeypatch.delenv(key.rpartition(".")[2], raising=False)
    configure({})
    usual = None if key.endswith(LATE) else read()
    if inspect.isawaitable(usual):
        usual = await usual
    configure(spelling(key, text))
    found = read()
    if inspect.isawaitable(found):
        found = await found
    if key.endswith("blocked-handlers"):
        assert expected in found
        return
    if key != "distributed.adaptive.maximum":
        assert usual != expected, "a value that differs from the default tells more"
    assert found == expected


#: Readers that fail where nothing is configured.
LATE = ("blocked-handlers", "security-loader", "allowed-imports", "preload")


def test_no_case_without_a_setting() -> None:
    assert set(CASES) == set(READ)


@pytest.mark.parametrize("text", ["mayb", "2 minutes"])
def test_what_is_neither_on_nor_off(text: str) -> None:
    with dask.config.set({"distributed.worker.daemon": text}), pytest.raises(ValueError, match=f"daemon must.*{text}"):
        config.truth("distributed.worker.daemon")


def test_a_section_that_was_replaced_keeps_our_defaults() -> None:
    with dask.config.set({"distributed.comm": {"socket_backlog": 5}, "distributed.nanny.pre-spawn-environ": {}}):
        options = CommOptions.from_config()
        assert (options.socket_backlog, options.connect_timeout) == (5, 30)
        assert config.get("distributed.nanny.pre-spawn-environ") == {}, "what the user names is only his"
        assert config.get("distributed.comm.timeouts.tcp") == "30s"


def test_names_of_variables_keep_their_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__NANNY__ENVIRON__Mixed_Case", "1")
    with dask.config.set(dask.config.collect_env(dict(os.environ))):
        assert process_environment()["Mixed_Case"] == "1"


def test_a_process_that_is_given_its_settings_by_variables() -> None:
    """Without dask, which is not imported before a task needs it, and after that."""
    chosen = {"DASK_DISTRIBUTED__WORKER__INTERRUPT_GRACE": "77s"}
    code = (
        "import sys; from headrace.worker.worker_options import WorkerOptions\n"
        "print(WorkerOptions.from_config().interrupt_grace, 'dask' in sys.modules)\n"
        "import dask; print(WorkerOptions.from_config().interrupt_grace)"
    )
    environment = process_environment(chosen)
    assert environment["DASK_INTERNAL_INHERIT_CONFIG"] == inherited_configuration(chosen)
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["77.0", "False", "77.0"]


def test_defaults_are_read_whatever_the_locale_makes_of_files(tmp_path: Path) -> None:
    code = "from headrace import config; print(config.get('distributed.worker.memory.rebalance.measure'))"
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "DASK_CONFIG": "", "HOME": str(tmp_path)}
    said = subprocess.run([sys.executable, "-c", code], env={**os.environ, **plain}, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "optimistic\n"), said.stderr


def test_a_scheduler_that_a_variable_tells_to_encrypt(tmp_path: Path) -> None:
    environment = {**os.environ, "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true"}
    command = [sys.executable, "-m", "headrace.cli", "scheduler", "--host", "127.0.0.1", "--port", "0"]
    ended = subprocess.run(
        [*command, "--scheduler-file", str(tmp_path / "file")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "configure distributed.comm.tls" in ended.stderr
    assert "KeyError" not in ended.stderr

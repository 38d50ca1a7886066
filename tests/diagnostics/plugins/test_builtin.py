"""The plugins that come with headrace."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace import Client, Environ, LocalCluster, PipInstall, UploadDirectory, UploadFile, Worker
from headrace.diagnostics.plugin import ForwardOutput
from headrace.diagnostics.plugins.install import InstallPlugin, _PipInstall
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for, poll_for


@pytest.fixture(autouse=True)
def own_temporary_directory(tmp_path: Path, monkeypatch: Any) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def module(tmp_path: Path) -> Any:
    path = tmp_path / "brought_by_plugin.py"
    path.write_text("VALUE = 5\n")
    yield path
    sys.modules.pop("brought_by_plugin", None)


def imported() -> int:
    import brought_by_plugin

    return brought_by_plugin.VALUE  # type: ignore[no-any-return]


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_upload_file(c: Client, s: Any, a: Worker, module: Path) -> None:
    await c.upload_file(str(module))
    assert await c.submit(imported) == 5
    assert await c.run_on_scheduler(imported) == 5
    async with Worker(s.address, name="later") as later:
        assert os.path.exists(os.path.join(later.local_directory, module.name))


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_a_file_that_cannot_be_imported_is_an_error(c: Client, s: Any, a: Worker, module: Path) -> None:
    module.write_text("raise ValueError('in the file')\n")
    with pytest.raises(ValueError, match="in the file"):
        await c.register_plugin(UploadFile(str(module)))
    await c.register_plugin(UploadFile(str(module), load=False))
    with pytest.raises(FileNotFoundError):
        UploadFile("/no/such/file.py")


def file_beside(name: str, worker: Any) -> bool:
    return os.path.exists(os.path.join(worker.local_directory, name))


@pytest.mark.parametrize("mode", ["workers", "scheduler", "all"])
def test_upload_directory(mode: str, module: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / "tests").mkdir(parents=True)
    (folder / "inner").mkdir()
    (folder / "tests" / "skipped.py").write_text("")
    (folder / "inner" / "data.txt").write_text("data")
    module.rename(folder / module.name)

    @gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
    async def run(c: Client, s: Any, a: Worker) -> None:
        await c.register_plugin(UploadDirectory(str(folder), update_path=True, mode=mode))
        root = Path(a.local_directory) / "project"
        assert (root / "inner" / "data.txt").exists() == (mode != "scheduler")
        assert not (root / "tests").exists()
        assert await c.run_on_scheduler(imported) == 5  # one process here

    before = list(sys.path)
    run()
    assert sys.path == before


def test_upload_directory_restarts_workers_that_have_imported_it_before(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    module = folder / "brought_by_plugin.py"
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        pids = client.run(os.getpid)
        for value in (1, 2):
            module.write_text(f"VALUE = {value}\n")
            client.register_plugin(UploadDirectory(str(folder), restart_workers=True, update_path=True))
            assert set(client.run(imported).values()) == {value}
        assert not set(pids.values()) & set(client.run(os.getpid).values())


def test_upload_directory_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="nowhere"):
        UploadDirectory(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="mode"):
        UploadDirectory(str(tmp_path), mode="client")


class Install:
    def __init__(self, path: str, fail: bool = False) -> None:
        self.path, self.fail = path, fail

    def __call__(self) -> None:
        if self.fail:
            raise RuntimeError("cannot be installed")
        with open(self.path, "a") as file:
            file.write("installed\n")


@gen_cluster(client=True)
async def test_installs_once_on_a_machine(c: Client, s: Any, a: Worker, b: Worker, tmp_path: Path) -> None:
    target = tmp_path / "installed.txt"
    plugin = InstallPlugin(Install(str(target)), restart_workers=False)
    await c.register_plugin(plugin)
    async with Worker(s.address, name="later"):
        assert target.read_text() == "installed\n"
    await c.register_plugin(plugin)
    assert target.read_text() == "installed\n"
    with pytest.raises(RuntimeError, match="cannot be installed"):
        await c.register_plugin(InstallPlugin(Install(str(target), fail=True), restart_workers=False))


def test_workers_restart_once_after_an_installation(tmp_path: Path) -> None:
    target = tmp_path / "installed.txt"
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        before = set(client.run(os.getpid).values())
        client.register_plugin(InstallPlugin(Install(str(target)), restart_workers=True))
        seen: set[int] = set()

        def restarted() -> bool:
            pids = set(client.run(os.getpid, on_error="ignore").values())
            seen.update(pids)
            return len(pids) == 2 and not pids & before

        poll_for(restarted, timeout=40)
        assert target.read_text() == "installed\n"
        assert client.submit(os.getpid, pure=False).result(timeout=30) not in before
        assert len(seen - before) == 2


def test_pip_install_says_what_pip_said(tmp_path: Path) -> None:
    missing = tmp_path / "no-such-project"
    plugin = PipInstall([str(missing)], pip_options=["--no-index"])
    assert plugin.packages == [str(missing)]
    command = _PipInstall(["a", "b"], ["--upgrade"]).command()
    assert command == [sys.executable, "-m", "pip", "install", "--upgrade", "a", "b"]
    with pytest.raises(RuntimeError, match=r"pip install of .*no-such-project.* failed: .+"):
        plugin._install_fn()


def variable(name: str) -> str | None:
    return os.environ.get(name)


def test_environ_restarts_workers_with_the_variables() -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        before = client.submit(os.getpid, pure=False).result(timeout=30)
        client.register_plugin(Environ({"HEADRACE_TEST": 5}))
        client.wait_for_workers(1, timeout=30)
        assert client.submit(variable, "HEADRACE_TEST", pure=False).result(timeout=30) == "5"
        assert client.submit(os.getpid, pure=False).result(timeout=30) != before
        cluster.scale(2)
        client.wait_for_workers(2, timeout=30)
        assert set(client.run(variable, "HEADRACE_TEST").values()) == {"5"}


def log_something() -> None:
    logger = logging.getLogger("brought.back")
    logger.info("quiet %d", 1)
    logger.warning("loud %d", 2)
    try:
        raise ValueError("in a task")
    except ValueError:
        logger.exception("failed")


def test_logs_are_forwarded(caplog: Any) -> None:
    with Client(n_workers=1, threads_per_worker=1, processes=True) as client:
        client.forward_logging("brought.back", level=logging.WARNING)
        client.submit(log_something).result(timeout=30)
        poll_for(lambda: "failed" in caplog.text, timeout=20)
        assert [record.getMessage() for record in caplog.records if record.name == "brought.back"] == [
            "loud 2",
            "failed",
        ]
        assert "in a task" in caplog.text
        client.unforward_logging("brought.back")
        with pytest.raises(ValueError, match="nothing is forwarded"):
            client.unforward_logging("brought.back")


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_output_is_forwarded(c: Client, s: Any, a: Worker, capsys: Any) -> None:
    heard: list[Any] = []
    s.add_plugin(Listener(heard), name="listener")
    await c.register_plugin(ForwardOutput(), name="forward")
    await c.submit(print, "from a task")
    await async_poll_for(lambda: any("from a task" in str(event) for event in heard), timeout=10)
    await c.unregister_worker_plugin("forward")
    assert type(sys.stdout).__name__ != "_Forwarding"


class Listener:
    def __init__(self, heard: list[Any]) -> None:
        self.heard = heard

    def log_event(self, topic: str, msg: Any) -> None:
        if topic == "print":
            self.heard.append(msg)

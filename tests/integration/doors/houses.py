"""Schedulers and workers by command, for tests of who gets in: each with a home of its own, in a network of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from headrace.auth.token_places import VARIABLE
from headrace.testing.helpers.polling import poll_for

#: The token of the clusters in these tests, and one that a stranger guesses.
TOKEN, WRONG = "the-token-of-this-cluster-of-tests", "what-a-stranger-guesses-to-be-it"
ROOT = Path(__file__).parents[3]
#: Starts the command line.
HEADRACE = [sys.executable, "-m", "headrace.cli.main"]


def environment(home: Path, **more: str) -> dict[str, str]:
    """Variables of a process that has this home, and none of the settings around it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DASK_", "XDG_"))}
    return {**kept, "HOME": str(home), "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", **more}


class Process:
    """A process whose output goes to a file.

    Attributes:
        address: of a scheduler.
        pid: its number.
    """

    def __init__(self, command: Sequence[str], log: Path, env: dict[str, str]) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env)
        self.pid = self.process.pid
        self.address = ""

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, pattern: str) -> str:
        """Wait until it has said something; returns the first group."""

        def said() -> bool:
            assert self.process.poll() is None, self.log
            return re.search(pattern, self.log) is not None

        poll_for(said, 30, lambda: pytest.fail(f"{pattern!r} is not in\n{self.log}"))
        found = re.search(pattern, self.log)
        assert found is not None
        return found[1]

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def scheduler(folder: Path, *options: str, inside: Sequence[str] = (), **env: str) -> Iterator[Process]:
    """A scheduler with a home in a folder.

    Args:
        inside: a command that runs another, as `ip netns exec` does.
    """
    home = folder / "scheduler"
    home.mkdir(exist_ok=True)
    command = [*inside, *HEADRACE, "scheduler", "--port", "0", "--no-dashboard", *options]
    process = Process(command, folder / "scheduler.log", environment(home, **env))
    try:
        process.address = process.wait_for(r"Scheduler at:\s+(tcp://\S+)")
        yield process
    finally:
        process.end()


@contextlib.contextmanager
def worker(folder: Path, address: str, *options: str, inside: Sequence[str] = (), **env: str) -> Iterator[Process]:
    """A worker with a home in a folder, as soon as the scheduler has it."""
    home = folder / "worker"
    home.mkdir(exist_ok=True)
    command = [*inside, *HEADRACE, "worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard", *options]
    command += ["--local-directory", str(home)]
    process = Process(command, folder / "worker.log", environment(home, **env))
    try:
        process.wait_for(r"(Registered to)")
        yield process
    finally:
        process.end()


def with_token(token: str = TOKEN) -> dict[str, str]:
    """The variable that gives a process a token."""
    return {VARIABLE: token}


class Networks:
    """Two networks with a cable between them: the cluster's and a stranger's.

    Attributes:
        own, other: commands that run another in each.
        own_host, other_host: their addresses.
        own_interface: the cable's end in the cluster's network.
    """

    def __init__(self) -> None:
        pid = os.getpid()
        self._names = f"headrace-a-{pid}", f"headrace-b-{pid}"
        self.own, self.other = ([IP, "netns", "exec", name] for name in self._names)
        self.own_host, self.other_host = "10.211.77.1", "10.211.77.2"
        self.own_interface = "cable"

    def __enter__(self) -> Networks:
        try:
            for name in self._names:
                _ip("netns", "add", name)
            first, second = self._names
            _ip("link", "add", "cable", "netns", first, "type", "veth", "peer", "name", "cable", "netns", second)
            for name, host in zip(self._names, (self.own_host, self.other_host), strict=True):
                _ip("-n", name, "address", "add", f"{host}/24", "dev", "cable")
                _ip("-n", name, "link", "set", "cable", "up")
                _ip("-n", name, "link", "set", "lo", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._names:
            subprocess.run([IP, "netns", "delete", name], capture_output=True, check=False)


IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or ""


def _ip(*arguments: str) -> None:
    done = subprocess.run([IP, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@contextlib.contextmanager
def networks() -> Iterator[Networks]:
    """Two networks; skips the test where none can be made."""
    if not sys.platform.startswith("linux") or os.getuid() != 0 or not IP:
        pytest.skip("needs Linux, root and ip (Debian: iproute2)")
    made = Networks()
    try:
        made.__enter__()
    except OSError as error:
        pytest.skip(f"needs network namespaces: {error}")
    try:
        yield made
    finally:
        made.__exit__()


def run_python(source: str, *arguments: str, inside: Sequence[str] = (), env: dict[str, str], seconds: int = 90) -> str:
    """What a program of Python prints that ends well."""
    done = subprocess.run(
        [*inside, sys.executable, "-c", source, *arguments],
        capture_output=True, text=True, env=env, timeout=seconds, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()

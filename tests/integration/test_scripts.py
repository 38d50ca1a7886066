"""Scripts as users write them: without a guard, without closing, interrupted, forked; each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT = 60


def run(*arguments: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python with warnings shown, on this checkout."""
    return subprocess.run(
        [sys.executable, "-W", "default", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def printed(code: str) -> list[str]:
    """Lines that a program prints, which must end well and without a word on standard error."""
    done = run("-c", code)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


MAIN = """
from headrace import Client
client = Client(n_workers=1, threads_per_worker=1, dashboard_address=None)

class Point:
    def __init__(self, x):
        self.x = x

class Problem(Exception):
    def __init__(self, code, where):
        super().__init__(code, where)
        self.code = code

def move(point):
    return Point(point.x + 1)

def fail():
    raise Problem(5, "here")

print(client.submit(move, Point(1)).result(timeout=30).x)
print(client.submit(fail).exception(timeout=30).code)
"""


def test_functions_and_classes_of_main_and_nothing_closed() -> None:
    assert printed(MAIN) == ["2", "5"]


def test_standard_input() -> None:
    done = run("-", stdin=MAIN)
    assert (done.stdout, done.stderr) == ("2\n5\n", "")


def test_sibling_modules(tmp_path: Path) -> None:
    (tmp_path / "sibling.py").write_text("def double(x):\n    return 2 * x\n")
    (tmp_path / "script.py").write_text(
        "import sibling\n" + MAIN + "print(client.submit(sibling.double, 4).result(timeout=30))\n"
    )
    done = run(str(tmp_path / "script.py"), cwd=Path("/"))
    assert (done.stdout, done.stderr) == ("2\n5\n8\n", "")


@pytest.mark.parametrize("processes", [True, False])
def test_script_ends_while_a_task_runs(processes: bool) -> None:
    assert printed(
        "import time\n"
        "from headrace import Client\n"
        f"client = Client(n_workers=1, processes={processes}, dashboard_address=None)\n"
        "future = client.submit(time.sleep, 600)\n"
        "print('end')\n"
    ) == ["end"]


def test_error_in_the_script() -> None:
    done = run("-c", MAIN + "raise SystemError('mine')")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "SystemError: mine"
    assert done.stderr.count("Traceback") == 1


INTERRUPTED = """
import os, signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # background processes ignore it
from headrace import Client, as_completed, wait

def slow():
    import time
    time.sleep(600)

client = Client(n_workers=1, threads_per_worker=3, dashboard_address=None)
future = client.submit(slow)
ways = {
    "result": future.result,
    "exception": future.exception,
    "gather": lambda: client.gather([future]),
    "wait": lambda: wait(future),
    "as_completed": lambda: list(as_completed([future])),
    "get": lambda: client.get({"a": (slow,)}, "a"),
    "wait_for_workers": lambda: client.wait_for_workers(5),
}
for name, way in ways.items():
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        way()
    except KeyboardInterrupt:
        print(name, client.submit(abs, -1, pure=False).result(timeout=30))
"""


def test_interrupt_leaves_the_client_usable() -> None:
    ways = ["result", "exception", "gather", "wait", "as_completed", "get", "wait_for_workers"]
    assert printed(INTERRUPTED) == [f"{way} 1" for way in ways]


FORKED = """
import os, sys
from headrace import Client
client = Client(n_workers=1, threads_per_worker=1, dashboard_address=None)
pending = client.submit(lambda: __import__("time").sleep(600))
pid = os.fork()
if pid == 0:
    try:
        client.submit(abs, -1)
    except Exception as error:
        print(error)
    try:
        pending.result()
    except Exception as error:
        print(error.reason)
    with Client(client.cluster.scheduler_address, timeout=30) as own:
        print(own.scheduler_info()["type"])
    client.close()
    client.cluster.close()
    sys.stdout.flush()
    os._exit(0)
os.waitpid(pid, 0)
pending.cancel()
print(client.run(abs, -1).popitem()[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_leaves_the_parent_s_client_alone() -> None:
    done = run("-c", FORKED)
    assert done.stdout.splitlines() == [
        "this client is that of the process from which this one was forked: make a new Client here",
        "it belongs to a client of the process from which this one was forked",
        "Scheduler",
        "1",
    ]
    assert "Traceback" not in done.stderr

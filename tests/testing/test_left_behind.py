"""The lookout of the suite sees what is left behind, names the test, and is content with what ends in time."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.left_behind import Lookout


@pytest.fixture
def lookout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lookout:
    """A lookout that starts in an empty directory."""
    monkeypatch.chdir(tmp_path)
    lookout = Lookout()
    lookout.start()
    return lookout


def test_nothing_is_left(lookout: Lookout) -> None:
    assert lookout.remains(0) == []


def test_a_thread(lookout: Lookout) -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="forgotten")
    thread.start()
    lookout.note("test_that_forgets")
    (line,) = lookout.remains(0)
    assert line.startswith("thread ")
    assert "forgotten" in line
    assert line.endswith("first seen after test_that_forgets")
    end.set()
    assert lookout.remains() == []


def test_a_process(lookout: Lookout) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (line,) = lookout.remains(0)
    assert line.startswith(f"process {process.pid} ")
    process.communicate(b"\n")
    assert lookout.remains() == []


def test_a_process_that_nobody_has_waited_for(lookout: Lookout) -> None:
    process = subprocess.Popen([sys.executable, "-c", "print(1)"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read()
    assert lookout.remains(0) != []
    process.communicate()
    assert lookout.remains() == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_listening_socket(lookout: Lookout, host: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        try:
            server.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        assert lookout.remains(0) == []
        server.listen()
        (line,) = lookout.remains(0)
        assert line.startswith("listening socket ")
    assert lookout.remains(0) == []


def test_a_file(lookout: Lookout, tmp_path: Path) -> None:
    (tmp_path / "report.html").touch()
    (tmp_path / ".pytest_cache").mkdir()
    assert lookout.remains(0) == [f"file {tmp_path / 'report.html'}, first seen after the last test"]


def test_what_was_there_before_may_stay(lookout: Lookout, tmp_path: Path) -> None:
    (tmp_path / "before").touch()
    lookout.start()
    assert lookout.remains(0) == []

"""A cluster in one network, and a stranger in another at the end of a cable."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace.comm.opening.handshake import MAGIC
from headrace.comm.opening.opening_states import GREETING_BYTES
from tests.integration.doors.houses import (
    TOKEN,
    WRONG,
    Networks,
    environment,
    networks,
    run_python,
    scheduler,
    with_token,
    worker,
)
from tests.integration.doors.stranger import VERDICT_BYTES

pytestmark = pytest.mark.slow

MARKER = "what-goes-over-the-cable"
CLIENT = f"""
import sys
from headrace import Client
try:
    with Client(sys.argv[1], timeout=10) as client:
        print(client.submit(str.upper, "{MARKER}").result(timeout=30))
except OSError as error:
    print(type(error).__name__, error)
"""
#: Has the scheduler make a file, as only its users may.
MAKES_FILE = """
import sys
from headrace import Client
def make(path):
    open(path, "w").close()
with Client(sys.argv[1], timeout=10) as client:
    client.run_on_scheduler(make, sys.argv[2])
"""
#: Writes all that passes an interface to a file.
CAPTURE = """
import selectors, socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
sock.bind((sys.argv[1], 0))
sock.setblocking(False)
print("ready", flush=True)
waiting = selectors.DefaultSelector()
waiting.register(sock, selectors.EVENT_READ)
waiting.register(sys.stdin, selectors.EVENT_READ)
ended = False
with open(sys.argv[2], "wb") as file:
    while not ended:
        ended = any(key.fileobj is sys.stdin for key, _ in waiting.select())
        while True:
            try:
                file.write(sock.recv(1 << 17))
            except BlockingIOError:
                break
"""
OFF = {"DASK_DISTRIBUTED__COMM__ENCRYPTION": "off"}


@pytest.fixture(scope="module")
def cable() -> Iterator[Networks]:
    with networks() as made:
        yield made


@contextmanager
def captured(cable: Networks, path: Path) -> Iterator[list[bytes]]:
    """All that passes the cable during the block."""
    command = [*cable.own, sys.executable, "-c", CAPTURE, cable.own_interface, str(path)]
    found: list[bytes] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield found
        finally:
            process.communicate(timeout=30)
            found.append(path.read_bytes())


@pytest.mark.parametrize("encryption", ["auto", "off"])
def test_what_goes_over_the_cable(cable: Networks, tmp_path: Path, encryption: str) -> None:
    """Worker and client there need the token, which nobody sees; what they say can be read only with encryption off."""
    env = {**with_token(), "DASK_DISTRIBUTED__COMM__ENCRYPTION": encryption}
    home = tmp_path / "client"
    home.mkdir()
    with (
        captured(cable, tmp_path / "captured") as found,
        scheduler(tmp_path, "--host", cable.own_host, inside=cable.own, **env) as process,
        worker(tmp_path, process.address, inside=cable.other, **env),
    ):
        printed = run_python(CLIENT, process.address, inside=cable.other, env=environment(home, **env))
        assert printed == MARKER.upper()
    (data,) = found
    assert data.count(MAGIC) >= 4
    assert TOKEN.encode() not in data
    for text in (MARKER, MARKER.upper()):
        assert (text.encode() in data) is (encryption == "off")


def test_strangers_there(cable: Networks, tmp_path: Path) -> None:
    """Nothing of a stranger is unpickled, whatever he has recorded; the cluster goes on."""
    planted, recorded, home = tmp_path / "planted", tmp_path / "recorded", tmp_path / "client"
    home.mkdir()
    stranger = [*cable.other, sys.executable, "-m", "tests.integration.doors.stranger"]
    with (
        scheduler(tmp_path, "--host", cable.own_host, inside=cable.own, **with_token()) as process,
        worker(tmp_path, process.address, inside=cable.other, **with_token()),
    ):
        host, port = process.address.removeprefix("tcp://").split(":")
        # He has listened to a client that does not encrypt, as it had the scheduler do something.
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [*stranger, "record", host, port, str(recorded)]
        with subprocess.Popen(command, env=environment(home), text=True, **pipes) as recorder:  # type: ignore[call-overload]
            address = f"tcp://127.0.0.1:{recorder.stdout.readline().strip()}"
            env = environment(home, **with_token(), **OFF)
            run_python(MAKES_FILE, address, str(planted), inside=cable.other, env=env)
            recorder.communicate(timeout=30)
        assert planted.exists()
        planted.unlink()
        sessions = [bytes.fromhex(text) for text in json.loads(recorded.read_text())]
        assert any(str(planted).encode() in session for session in sessions)

        done = subprocess.run(
            [*stranger, "attack", host, port, str(recorded), str(planted)],
            env=environment(home), capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        answers = {name: bytes.fromhex(text) for name, text in json.loads(done.stdout).items()}
        assert len(answers) > 10
        for name, answer in answers.items():
            after = answer[GREETING_BYTES:]
            assert not after or (len(after) == VERDICT_BYTES and after[0] != 0), (name, answer)
        assert not planted.exists()
        for token, text in ((WRONG, "is not that of its cluster"), (None, "NotAdmittedError")):
            env = environment(home, **({} if token is None else with_token(token)))
            printed = run_python(CLIENT, process.address, inside=cable.other, env=env)
            assert text in printed
        assert not planted.exists()
        assert "Traceback" not in process.log
        assert TOKEN not in process.log
        env = environment(home, **with_token())
        assert run_python(CLIENT, process.address, inside=cable.other, env=env) == MARKER.upper()
        assert not planted.exists()

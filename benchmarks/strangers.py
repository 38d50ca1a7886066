"""What a flood of strangers costs a cluster: `python -m benchmarks.strangers --connections 100000 --seconds 60`.

A scheduler with two workers runs one task after another for this process, at rest, then while a stranger floods the
scheduler with connections of all kinds, then at rest again. Since the stranger needs processor time as well, he floods
an idle server at the same rate in between: `other server` is what counts as the cost of his mere presence. As root, he
is another user of this machine (`--user`); else he is this user, whom a scheduler lets in, and the figures mean little.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headrace import Client

ROOT = Path(__file__).parents[1]
KINDS = (
    "garbage",
    "nothing",
    "half a greeting",
    "greeting, then silence",
    "replay",
    "reflection",
    "wrong token",
    "tls",
)
#: Connections that the stranger leaves open.
MOST_OPEN = 1000


def flood(host: str, port: int, connections: int, seconds: float, kinds: list[str]) -> dict[str, Any]:
    """Make so many connections, evenly in so many seconds; returns how many came about."""
    from headrace.auth.access_rules import AccessRules
    from headrace.auth.own_certificate import connecting
    from headrace.auth.tokens import Tokens
    from headrace.comm.opening.opening_states import Opening, OpeningChannel

    rules = AccessRules("client", encryption="off", tokens=lambda: Tokens(("a-stranger's-guess-of-it",), "nothing"))
    plain = Opening(listens=False, rules=rules, info={}, channel=OpeningChannel("there")).greeting
    rules = AccessRules("client", tokens=rules.tokens)
    channel = OpeningChannel("there", can_encrypt=True)
    encrypts = Opening(listens=False, rules=rules, info={}, channel=channel).greeting
    proofs = b"\2\1" + os.urandom(64)
    rest = os.urandom(400)
    open_ones: deque[socket.socket] = deque()
    begin, made, failed = time.monotonic(), 0, 0
    for number, kind in zip(range(connections), itertools.cycle(kinds), strict=False):
        if (ahead := begin + number * seconds / connections - time.monotonic()) > 0.002:
            time.sleep(ahead)
        if time.monotonic() > begin + 2 * seconds:
            break
        sock = socket.socket()
        sock.settimeout(5)
        try:
            sock.connect((host, port))
            made += 1
            match kind:
                case "garbage":
                    sock.sendall(random.randbytes(200))
                case "half a greeting":
                    sock.sendall(plain[:50])
                case "greeting, then silence":
                    sock.sendall(plain)
                case "replay" | "wrong token":
                    sock.sendall(plain + proofs + rest)
                case "reflection":
                    sock.sendall(sock.recv(4096) + proofs)
                case "tls":
                    sock.sendall(encrypts)
                    sock.recv(len(encrypts))
                    sock = connecting().wrap_socket(sock)
                    sock.sendall(proofs + rest)
            if kind in ("nothing", "half a greeting", "greeting, then silence"):
                open_ones.append(sock)
                if len(open_ones) > MOST_OPEN:
                    open_ones.popleft().close()
                continue
        except (OSError, ssl.SSLError):
            failed += 1
        sock.close()
    for sock in open_ones:
        sock.close()
    return {"made": made, "failed": failed, "seconds": time.monotonic() - begin}


def serve_idly() -> None:
    """Accept connections and close them, for the stranger to flood."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            accepted, _ = server.accept()
            accepted.close()


def measure(client: Client, seconds: float) -> list[float]:
    """Milliseconds of one task after another."""
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.perf_counter()
        client.submit(abs, len(times), pure=False).result()
        times.append((time.perf_counter() - begin) * 1e3)
    return times


def summary(times: list[float]) -> dict[str, float]:
    """Percentiles, in milliseconds."""
    points = statistics.quantiles(times, n=100)
    found = {
        "tasks": len(times),
        "mean": statistics.fmean(times),
        "p50": points[49],
        "p90": points[89],
        "p99": points[98],
    }
    return {**found, "most": max(times)}


def state_of(pid: int, log: Path) -> dict[str, float]:
    """Memory (MiB) and descriptors of a process, and lines of its log."""
    status = Path(f"/proc/{pid}/status").read_text()
    memory = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    return {"memory": memory, "descriptors": descriptors, "lines": log.read_bytes().count(b"\n")}


@contextlib.contextmanager
def started(folder: Path, *arguments: str, wait: str) -> Iterator[tuple[subprocess.Popen[bytes], Path, str]]:
    """A command of headrace, once its log has a text: process, log, and the line with the text."""
    log = folder / f"{arguments[0]}-{len(list(folder.iterdir()))}.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "headrace.cli.main", *arguments]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while not (lines := [line for line in log.read_text().splitlines() if wait in line]):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text())
            time.sleep(0.05)
        yield process, log, lines[0]
    finally:
        process.terminate()
        process.wait()


def stranger(options: argparse.Namespace, port: int) -> subprocess.Popen[str]:
    """A process that floods a port."""
    command = [sys.executable, "-m", "benchmarks.strangers", "--flood", str(port)]
    command += ["--connections", str(options.connections), "--seconds", str(options.seconds), "--kinds", options.kinds]
    if os.geteuid() == 0:
        ids = [f"--reuid={options.user}", f"--regid={options.user}", "--clear-groups"]
        command = ["setpriv", *ids, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", *command]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All parts of the measurement, one after the other."""
    found: dict[str, Any] = {}
    worker = ("worker", "--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder / "local"))
    with contextlib.ExitStack() as stack:
        scheduler = ("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        process, log, line = stack.enter_context(started(folder, *scheduler, wait="Scheduler at:"))
        address = line.split()[-1]
        for _ in range(2):
            stack.enter_context(started(folder, worker[0], address, *worker[1:], wait="Registered to"))
        idle = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.strangers", "--idle"], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        stack.callback(idle.wait)
        stack.callback(idle.kill)
        assert idle.stdout is not None
        ports = {"other server": int(idle.stdout.readline()), "flood": int(address.rpartition(":")[2])}
        client = stack.enter_context(Client(address))
        measure(client, 3)
        for name in ("rest", "other server", "flood", "rest afterwards"):
            before = state_of(process.pid, log)
            flooding = stranger(options, ports[name]) if name in ports else None
            times = measure(client, options.seconds if flooding else min(options.seconds, 15))
            part: dict[str, Any] = {"milliseconds": summary(times), "scheduler, during": state_of(process.pid, log)}
            if flooding is not None:
                part["stranger"] = json.loads(flooding.communicate()[0])
            deadline = time.monotonic() + 60
            while (after := state_of(process.pid, log))["descriptors"] > before["descriptors"]:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.5)
            part |= {"scheduler, before": before, "scheduler, after": after}
            part["log lines a second"] = (after["lines"] - before["lines"]) / options.seconds
            found[name] = part
            print(name, json.dumps(part, indent=1), flush=True)
    with_him, flooded = (found[name]["milliseconds"] for name in ("other server", "flood"))
    for what in ("mean", "p50", "p90", "p99"):
        print(f"{what}: {flooded[what] / with_him[what] - 1:+.1%} beside the same flood of another server")
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strangers", description=__doc__)
    parser.add_argument("--connections", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kinds", default=",".join(KINDS), help="with commas")
    parser.add_argument("--user", type=int, default=23456, help="number of the stranger's user, if this is root")
    parser.add_argument("--flood", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--idle", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.idle:
        serve_idly()
    elif options.flood:
        kinds = options.kinds.split(",")
        print(json.dumps(flood("127.0.0.1", options.flood, options.connections, options.seconds, kinds)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            run(options, Path(folder))


if __name__ == "__main__":
    main()

"""What Kubernetes' operator, helm's charts, gateways and Jupyter's extension ask of a cluster, as they ask it."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from headrace import Client, LocalCluster
from headrace.compat.utils import open_port
from headrace.testing.helpers.log_reading import wait_for_log_line
from headrace.testing.helpers.polling import poll_for
from tests.cli.program import Program

pytestmark = pytest.mark.slow


def fetch(port: int, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and text of an answer; a body is sent as JSON."""
    data = None if body is None else json.dumps(body).encode()
    kind = {} if body is None else {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {**kind, **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def is_healthy(port: int) -> bool:
    try:
        return fetch(port, "/health") == (200, "ok")
    except OSError:
        return False


@contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of headrace, which ends well when it is told to."""
    with Program(*arguments) as running:
        yield running.process
        assert (running.stop() if running.process.poll() is None else running.process.returncode) == 0


def test_kubernetes_operator() -> None:
    """The operator's own commands: the pod is ready once /health answers; then it scales by /api/v1."""
    port, http, worker_http = open_port("127.0.0.1"), open_port("127.0.0.1"), open_port("127.0.0.1")
    where = ("--host", "0.0.0.0", "--port", str(port), "--dashboard-address", f":{http}")
    with program("scheduler", *where) as scheduler:
        poll_for(lambda: is_healthy(http), timeout=60)  # the readiness and liveness probes
        names = ["default-worker-1", "default-worker-2"]
        # the operator writes the worker's port without a colon
        first = ("--name", names[0], "--dashboard", "--dashboard-address", str(worker_http))
        second = ("--name", names[1], "--dashboard", "--dashboard-address", "0")
        address = f"tcp://127.0.0.1:{port}"
        with (
            program("worker", address, "--nthreads", "1", *first) as one,
            program("worker", address, "--nthreads", "1", *second) as other,
            Client(address) as client,
        ):
            client.wait_for_workers(2, timeout=60)
            assert is_healthy(worker_http)
            for metrics in (http, worker_http):  # ServiceMonitor and PodMonitor
                status, text = fetch(metrics, "/metrics")
                assert status == 200
                assert re.search(r"^dask_(scheduler|worker)_", text, re.MULTILINE)
            assert fetch(http, "/api/v1/adaptive_target") == (200, json.dumps({"workers": 0}))
            status, text = fetch(http, "/api/v1/get_workers")
            assert {worker["name"] for worker in json.loads(text)["workers"]} == set(names)
            status, text = fetch(http, "/api/v1/check_idle")
            assert (status, set(json.loads(text))) == (200, {"idle_since"})
            status, text = fetch(http, "/api/v1/retire_workers", {"n": 1})
            assert status == 200
            (retired,) = [each["name"] for each in json.loads(text).values()]
            assert retired in names
            poll_for(lambda: len(client.scheduler_info()["workers"]) == 1, timeout=30)
            poll_for(lambda: [one.poll(), other.poll()].count(None) == 1, timeout=30)  # it ends by itself
            assert {one.poll(), other.poll()} == {None, 0}
        assert scheduler.poll() is None


def test_helm_chart() -> None:
    """The charts: workers without a dashboard have a port of metrics all the same."""
    http, worker_http = open_port("127.0.0.1"), open_port("127.0.0.1")
    where = ("--host", "127.0.0.1", "--port", "0", f"--dashboard-address=:{http}")
    with program("scheduler", *where) as scheduler:
        address = wait_for_log_line(b"Scheduler at:", scheduler.stdout, 50).decode().split()[-1]
        options = ("--no-dashboard", "--dashboard-address", f"127.0.0.1:{worker_http}", "--nthreads", "1")
        with program("worker", address, *options) as worker:
            wait_for_log_line(b"Registered to:", worker.stdout, 50)
            assert is_healthy(worker_http)
            assert "dask_worker_threads 1.0" in fetch(worker_http, "/metrics")[1]
            assert fetch(worker_http, "/status")[0] == 404
            status, text = fetch(http, "/metrics?workers=1")
            assert status == 200
            assert "dask_worker_threads{" in text
            targets = json.loads(fetch(http, "/api/v2/prometheus-targets")[1])
            assert [one["targets"] for one in targets] == [[f"127.0.0.1:{http}"], [f"127.0.0.1:{worker_http}"]]


def test_gateway() -> None:
    """A gateway's proxy strips the path of the cluster and rewrites the host."""
    with LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        port = cluster.scheduler.services["dashboard"].port
        assert cluster.scheduler.address.startswith("inproc://")
        elsewhere = {"Host": "gateway.example", "Origin": "https://hub.example", "Sec-Fetch-Site": "same-origin"}
        assert fetch(port, "/status", headers=elsewhere)[0] == 200
        assert fetch(port, "/api/v1/retire_workers", {"n": 0}, elsewhere)[0] == 200


def test_labextension() -> None:
    """The extension tests an address by its list of panels, and puts each into a frame."""
    with LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster, Client(cluster) as client:
        link = client.dashboard_link
        assert link == cluster.dashboard_link
        assert link.endswith("/status")
        base = link.removesuffix("/status")
        with urllib.request.urlopen(f"{base}/individual-plots.json", timeout=10) as answer:
            panels = json.loads(answer.read())
            assert answer.headers["Content-Type"].startswith("application/json")
        assert isinstance(panels, dict)
        for path in panels.values():
            with urllib.request.urlopen(base + path, timeout=10) as page:
                assert page.status == 200
                assert "X-Frame-Options" not in page.headers
        with urllib.request.urlopen(link, timeout=10) as page:
            assert page.status == 200

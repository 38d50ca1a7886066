"""The examples for containers: what they mount and set is what headrace reads, and their commands are headrace's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.config
import pytest
import yaml

from headrace.auth.token_places import FILE_SETTING, SETTING, VARIABLE, configured_tokens
from headrace.cli.main import command as headrace_command

PACKAGING = Path(__file__).parents[2] / "packaging"
FILE_VARIABLE = f"{VARIABLE}_FILE"
TOKEN = "a-token-that-is-long-enough"


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((PACKAGING / name).read_text()))


def containers(found: Any) -> Iterator[dict[str, Any]]:
    """All containers of a manifest."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name == "containers":
                yield from value
            else:
                yield from containers(value)


def variables(container: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def assert_command(words: list[str]) -> None:
    """That a command line is one of headrace's commands, with options that it has."""
    if words[0] == "headrace":
        words = words[1:]
    else:
        assert words[0].startswith("dask-")
        assert shutil.which(words[0], path=os.path.dirname(sys.executable)), f"{words[0]} is installed"
        words = [words[0].removeprefix("dask-"), *words[1:]]
    command = headrace_command.commands[words[0]]
    command.make_context(words[0], words[1:])


def assert_reads(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """That a variable gives the token."""
    monkeypatch.setenv(name, value)
    with dask.config.set(dask.config.collect_env(os.environ)):
        found = configured_tokens()
    assert found is not None
    assert found.valid == (TOKEN,)


def test_the_variables_are_those_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (SETTING, FILE_SETTING) == ("distributed.comm.token", "distributed.comm.token-file")
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o400)
    with monkeypatch.context() as patch:
        assert_reads(patch, VARIABLE, TOKEN)
    assert_reads(monkeypatch, FILE_VARIABLE, str(file))


def test_compose() -> None:
    (compose,) = documents("compose.yaml")
    assert set(compose["services"]) == {"scheduler", "worker"}
    for service in compose["services"].values():
        (secret,) = service["secrets"]
        assert compose["secrets"][secret] == {"file": secret}
        assert service["environment"] == {FILE_VARIABLE: f"/run/secrets/{secret}"}
        assert_command(service["command"])
    scheduler, worker = compose["services"]["scheduler"], compose["services"]["worker"]
    assert worker["command"][-1] == f"tcp://scheduler:{scheduler['command'][3]}"
    assert all(port.startswith("127.0.0.1:") for port in scheduler["ports"])
    code = scheduler["healthcheck"]["test"]
    assert code[:3] == ["CMD", "python", "-c"]
    compile(code[3], "healthcheck", "exec")


def test_kubernetes() -> None:
    (secret,) = documents("kubernetes/secret.yaml")
    assert secret["kind"] == "Secret"
    reference = {"secretKeyRef": {"name": secret["metadata"]["name"], "key": "token"}}
    assert set(secret["stringData"]) == {"token"}
    (cluster,) = documents("kubernetes/cluster.yaml")
    assert (cluster["apiVersion"], cluster["kind"]) == ("kubernetes.dask.org/v1", "DaskCluster")
    assert set(cluster["spec"]) == {"worker", "scheduler"}
    found = list(containers(cluster))
    assert [container["name"] for container in found] == ["worker", "scheduler"]
    for container in found:
        assert variables(container) == {VARIABLE: reference}
        assert_command(container["args"])
    scheduler = cluster["spec"]["scheduler"]
    ports = {port["name"] for port in found[1]["ports"]}
    assert {port["targetPort"] for port in scheduler["service"]["ports"]} == ports
    for probe in ("readinessProbe", "livenessProbe"):
        assert found[1][probe]["httpGet"]["path"] == "/health"
        assert found[1][probe]["httpGet"]["port"] in ports


def test_a_mounted_secret() -> None:
    (pod,) = documents("kubernetes/mounted-token.yaml")
    (container,) = containers(pod)
    (mount,) = container["volumeMounts"]
    (volume,) = pod["spec"]["volumes"]
    assert mount["name"] == volume["name"]
    assert variables(container)[FILE_VARIABLE] == f"{mount['mountPath']}/token"
    assert volume["secret"] == {
        "secretName": documents("kubernetes/secret.yaml")[0]["metadata"]["name"],
        "defaultMode": 0o440,
    }
    assert pod["spec"]["securityContext"]["fsGroup"]
    assert container["command"][:2] == ["python", "-c"]
    compile(container["command"][2], "command", "exec")


def test_helm() -> None:
    (values,) = documents("helm/values.yaml")
    (secret,) = documents("kubernetes/secret.yaml")
    assert set(values) == {"scheduler", "worker", "jupyter"}
    for part in values.values():
        assert variables(part) == {VARIABLE: {"secretKeyRef": {"name": secret["metadata"]["name"], "key": "token"}}}


def test_the_placeholder_is_no_token() -> None:
    """Whoever applies the example as it is must not get a cluster with a secret that everybody knows."""
    text = documents("kubernetes/secret.yaml")[0]["stringData"]["token"]
    done = subprocess.run(
        [sys.executable, "-c", "from headrace.auth.token_places import configured_tokens; configured_tokens()"],
        env={**os.environ, VARIABLE: text},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "holds a token with spaces" in done.stderr
    assert text not in done.stderr

"""Every class, member and function of `api-2026.8.json` is here and takes what it takes there.

Deviations stand in `exceptions.toml` (`path = "reason"`): what is so on purpose. `not_yet.txt` lists what is to come.
The test fails on a deviation that neither lists, and on an entry that is no longer needed.
`PYTHONPATH=src:. python tests/public_paths/test_signatures.py [distributed.worker …]` writes `not_yet.txt` and
`missing.txt` anew and shows what differs where.
"""

from __future__ import annotations

import asyncio
import sys
import tomllib
from inspect import Parameter
from pathlib import Path

import pytest

from tests.public_paths.comparing import API, deviations, parsed
from tests.public_paths.test_public_paths import write_missing

HERE = Path(__file__).parent
NOT_YET = HERE / "not_yet.txt"
EXCEPTIONS = HERE / "exceptions.toml"


def accepted() -> dict[str, str]:
    """Path and reason."""
    return tomllib.loads(EXCEPTIONS.read_text())


def inherited(path: str) -> bool:
    """Whether a member comes from a class for which it is accepted."""
    owner, _, member = path.rpartition(".")
    module, _, name = owner.rpartition(".")
    bases = API.get(module, {}).get(name, {}).get("bases", ())
    return any(f"{base}.{member}" in accepted() or inherited(f"{base}.{member}") for base in bases)


def not_yet() -> set[str]:
    return set(NOT_YET.read_text().split())


async def compare() -> dict[str, str]:
    """All deviations, with live servers and a client to look at."""
    from headrace import Nanny, Scheduler, Worker
    from headrace.client import Client

    async with (
        Scheduler(host="127.0.0.1", port=0, dashboard_address=":0") as scheduler,
        Worker(scheduler.address, nthreads=1, host="127.0.0.1") as worker,
        Nanny(scheduler.address, nthreads=1, host="127.0.0.1") as nanny,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        servers = [scheduler, worker, nanny, client, scheduler.state, worker.state]
        return deviations({type(one): one for one in servers})


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    return asyncio.run(compare())


def test_all_is_there_and_takes_what_it_takes_there(found: dict[str, str]) -> None:
    unknown = {
        path: text for path, text in found.items() if not (path in accepted() or path in not_yet() or inherited(path))
    }
    assert not unknown, "\n".join(f"{path}: {text}" for path, text in unknown.items())


def test_nothing_is_listed_without_need(found: dict[str, str]) -> None:
    assert not not_yet() - set(found), "there now: run this file to write not_yet.txt anew"
    assert not set(accepted()) - set(found), "as it is there now: take it off exceptions.toml"
    assert not set(accepted()) & not_yet(), "is in both lists"
    assert all(len(reason.split()) > 3 for reason in accepted().values()), "an exception needs a reason"


def test_a_parameter_by_name_only_is_told_from_one_by_position() -> None:
    first, second, rest = parsed("(self, a=[1, 'x,y'], **kwargs)".replace("self, ", ""), []) + parsed(
        "(b=<no_default>)", ["b"]
    )
    assert (first.name, first.default, first.kind) == ("a", [1, "x,y"], Parameter.POSITIONAL_OR_KEYWORD)
    assert (second.name, second.kind) == ("kwargs", Parameter.VAR_KEYWORD)
    assert (rest.name, rest.kind) == ("b", Parameter.KEYWORD_ONLY)
    assert rest.default is not Parameter.empty


def test_what_differs_is_seen() -> None:
    facts = {
        "headrace.testing.helpers.sample_functions": {
            "inc": {"kind": "function", "signature": "(x)"},
            "slowinc": {"kind": "function", "signature": "(delay, x=1)"},
            "asyncinc": {"kind": "function", "signature": "(x, delay=0.5)"},
            "nowhere": {"kind": "function", "signature": "()"},
        }
    }
    found = deviations({}, facts)
    prefix = "headrace.testing.helpers.sample_functions."
    assert set(found) == {f"{prefix}slowinc", f"{prefix}asyncinc", f"{prefix}nowhere"}
    assert "by position" in found[f"{prefix}slowinc"]
    assert "awaited" in found[f"{prefix}asyncinc"]
    assert found[f"{prefix}nowhere"] == "missing"


def main() -> None:
    """Write what is still to come."""
    found = asyncio.run(compare())
    left = {path: text for path, text in found.items() if path not in accepted() and not inherited(path)}
    write_missing()
    NOT_YET.write_text("".join(f"{path}\n" for path in sorted(left)))
    chosen = tuple(sys.argv[1:])
    for path, text in sorted(left.items()):
        if not chosen or path.startswith(chosen):
            print(f"{path}: {text}")
    modules = len(API)
    print(f"{len(left)} still to come, {len(accepted())} on purpose, in {modules} modules")


if __name__ == "__main__":
    main()

"""The work: a random graph of calls, what each does when it runs, and what it gives in a serial run.

A key stands for the same call all the time, whoever submits it.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from headrace.messages.base import NO_OPTIONS, TaskOptions

#: What a call can do; of those with a number, so many runs do it and later ones return.
KINDS = ("fine", "fails", "flaky", "overruns", "reschedules", "secedes", "kills", "leaves", "closes")
#: What ends the worker that it runs on: by death, by making it leave in good order without a word of the task, and so
#: that the worker says which task it was.
ENDS = ("kills", "leaves", "closes")
FOREVER = 10**9


@dataclass
class Call:
    """A task of the universe.

    Attributes:
        kind: one of `KINDS`, or "data" for what clients scatter.
        times: how many runs fail, last longer than they may, reschedule, or end the worker.
        limit: how long a run of one that overruns may take.
        final: whether its failures are none that its retry policy names.
        seconds: how long a run takes.
        ridden: whether a small result rides on the answer.
    """

    key: str
    kind: str
    dependencies: list[str]
    options: TaskOptions = NO_OPTIONS
    times: int = 0
    seconds: float = 0.0
    limit: float = 0.0
    final: bool = False
    nbytes: int = 8
    ridden: bool = True
    value: int = 0
    #: with itself
    ancestors: set[str] = field(default_factory=set)
    runs: int = 0
    #: real deaths of processes while it ran there; departures, of whatever kind, that the scheduler saw while it was
    #: assigned there
    deaths: int = 0
    departures: int = 0

    def misbehaves(self) -> bool:
        """Whether the next run does what `kind` says; counts the runs."""
        self.runs += 1
        return self.runs <= self.times

    def may_err(self) -> bool:
        """Whether it can end as an error of its own, deaths aside."""
        retries = 0 if self.final else self.options.retries
        return self.kind == "fails" or (self.kind in ("flaky", "overruns") and self.times > retries)

    def must_err(self) -> bool:
        return self.kind == "fails" or (self.kind in ENDS and self.times == FOREVER)


def arguments_of(call: Call) -> bytes:
    """The call as it travels."""
    return f"arguments of {call.key}".encode()


def result_of(call: Call, values: dict[str, int]) -> int:
    """What a run of a call returns, given the values of its dependencies."""
    return zlib.crc32(repr((call.key, [values[key] for key in call.dependencies])).encode())


class Universe:
    """All calls that clients may submit, dependencies before dependents."""

    def __init__(
        self, random: random.Random, size: int, faults: set[str], workers: list[str], names: list[str]
    ) -> None:
        self.random = random
        self.faults = faults
        self.calls: dict[str, Call] = {}
        self.data = [f"data-{number}" for number in range(random.choice([0, 0, 1, 3]) if "scatter" in faults else 0)]
        for key in self.data:
            self._add(Call(key, "data", [], nbytes=random.choice([8, 1000])))
        shape = random.choice(["mixed", "mixed", "wide", "chain", "lines"])
        self.quick = random.random() < 0.4
        for number in range(size):
            self._add(self._draw(number, shape, workers, names))

    def _add(self, call: Call) -> None:
        call.value = result_of(call, {key: self.calls[key].value for key in call.dependencies})
        call.ancestors = {call.key}.union(*(self.calls[key].ancestors for key in call.dependencies))
        self.calls[call.key] = call

    def _draw(self, number: int, shape: str, workers: list[str], names: list[str]) -> Call:
        draw = self.random
        known = list(self.calls)
        degree = {
            "mixed": draw.choice([0, 1, 1, 2, 3]),
            "wide": draw.choice([0, 0, 0, 0, 1]) if draw.random() < 0.9 else 8,
            "chain": 1,
            "lines": 1,
        }[shape]
        if shape == "lines":  # few, of tasks that each need the one before
            known = known[-3:-2] or known[-1:] if draw.random() < 0.1 else known[-1:]
        needed = draw.sample(known[-12:], min(degree, len(known[-12:])))
        kind, times = "fine", 0
        if draw.random() < 0.3:
            kind = draw.choice((*KINDS, *(["flaky", "overruns"] if "delays" in self.faults else [])))
            if kind not in self.faults:
                kind = "fine"
            ends = dict.fromkeys(ENDS, draw.choice([1, 1, 2, FOREVER]))
            times = {"fails": FOREVER, **ends}.get(kind, draw.choice([1, 2, 4]))
        prefix = draw.choice(["inc", "add", "sum"]) if shape != "wide" or needed else "root"
        options = self._options(workers, names)
        if "delays" in self.faults and kind in ("fails", "flaky", "overruns") and draw.random() < 0.8:
            options = self._with_policy(options)
        return Call(
            f"{prefix}-{number}",
            kind,
            needed,
            options,
            times,
            self._seconds(),
            draw.choice([0.001, 0.5]),
            bool(options.annotations) and draw.random() < 0.2,
            draw.choice([8, 8, 500, 100_000]),
            draw.random() < 0.5,
        )

    def _seconds(self) -> float:
        if self.quick and self.random.random() < 0.9:
            return self.random.choice([0.0, 0.001, 0.001, 0.02])
        return self.random.choice([0.0, 0.001, 0.001, 0.02, 0.3, *([0.3, 1.0] if "interrupt" in self.faults else [])])

    def _options(self, workers: list[str], names: list[str]) -> TaskOptions:
        draw = self.random
        if draw.random() < 0.7:
            return NO_OPTIONS
        restrictions: list[str] = []
        if "restrictions" in self.faults and draw.random() < 0.5:
            restrictions = draw.sample([*workers, *names], draw.choice([1, 1, 2]))
        return TaskOptions(
            priority=draw.choice([0, 0, 1, -1]),
            retries=draw.choice([0, 0, 1, 3]),
            workers=restrictions,
            allow_other_workers=bool(restrictions) and draw.random() < 0.3,
            resources={"GPU": draw.choice([1.0, 2.0])} if "resources" in self.faults and draw.random() < 0.5 else {},
        )

    def _with_policy(self, options: TaskOptions) -> TaskOptions:
        """With delays before the retries."""
        draw = self.random
        retries = draw.choice([1, 2, 4])
        policy = {"count": retries, "delay": draw.choice([0, 0.001, 0.5, 2, 5]), "backoff": draw.choice([1, 2])}
        policy = {**policy, "maximum_delay": draw.choice([None, 1]), "jitter": 0.5, "on": []}
        return replace(options, retries=retries, annotations={"retries": policy})

    def closure(self, keys: list[str], have: set[str]) -> list[str]:
        """These and what they need, dependencies first, stopping at what the client has already."""
        found: set[str] = set()
        pending = list(keys)
        while pending:
            key = pending.pop()
            if key not in found:
                found.add(key)
                pending.extend(needed for needed in self.calls[key].dependencies if needed not in have)
        return [key for key in self.calls if key in found]

    def descendants(self, key: str) -> set[str]:
        """These and all that needs them."""
        return {other for other, call in self.calls.items() if key in call.ancestors}

    def needs(self, key: str) -> list[Call]:
        """The calls that a key stands on, itself among them."""
        return [self.calls[name] for name in self.calls[key].ancestors]


def payload(value: int) -> bytes:
    """A result that rides."""
    return str(value).encode()


def opened(result: Any) -> int:
    return int(bytes(result))

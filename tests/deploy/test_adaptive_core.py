"""Decisions about scaling, without a cluster."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest

from headrace.deploy.adaptive_core import AdaptiveCore


class Model(AdaptiveCore):
    """Workers are numbers; what is planned is there when `arrive` was called."""

    def __init__(self, plan: int = 0, **bounds: Any) -> None:
        super().__init__(**bounds)
        self.planned = set(range(plan))
        self.there = set(self.planned)
        self.wanted = plan
        self.asked: list[int] = []

    @property
    def plan(self) -> set[Any]:
        return self.planned

    @property
    def requested(self) -> set[Any]:
        return self.planned

    @property
    def observed(self) -> set[Any]:
        return self.there

    async def target(self) -> int:
        return self.wanted

    async def workers_to_close(self, target: int) -> list[Any]:
        self.asked.append(target)
        return sorted(self.there)[target:]

    async def scale_up(self, n: int) -> None:
        self.planned = self.planned | set(range(n))

    async def scale_down(self, workers: Iterable[Any]) -> None:
        self.planned = self.planned - set(workers)
        self.there = self.there & self.planned


class Indifferent(Model):
    """Leaves it to the base which workers are closed."""

    workers_to_close = AdaptiveCore.workers_to_close


async def test_any_workers_are_closed_if_the_subclass_does_not_choose() -> None:
    model = Indifferent(4, wait_count=1)
    model.wanted = 2
    await model.adapt()
    assert len(model.plan) == 2


async def test_up_at_once_and_within_the_maximum() -> None:
    model = Model(maximum=5)
    model.wanted = 100
    await model.adapt()
    assert len(model.plan) == 5
    assert model.log[-1][1] == {"status": "up", "n": 5}
    await model.adapt()
    assert len(model.log) == 1


async def test_down_only_after_the_suggestion_was_repeated() -> None:
    model = Model(4, wait_count=3, minimum=1)
    model.wanted = 0
    for _ in range(2):
        await model.adapt()
        assert len(model.plan) == 4
    await model.adapt()
    assert model.plan == {0}
    assert set(model.asked) == {1}


async def test_a_suggestion_that_is_not_repeated_in_a_row_is_forgotten() -> None:
    model = Model(2, wait_count=2)
    for wanted in (1, 2, 1, 2, 1):
        model.wanted = wanted
        await model.adapt()
        assert len(model.plan) == 2
    await model.adapt()
    assert len(model.plan) == 1


async def test_workers_that_have_not_come_go_first() -> None:
    model = Model(2, wait_count=1)
    model.wanted = 5
    await model.adapt()
    assert model.observed == {0, 1}
    model.wanted = 2
    await model.adapt()
    assert model.plan == {0, 1}
    assert not model.asked


async def test_of_those_that_came_only_as_many_as_needed() -> None:
    model = Model(3, wait_count=1)
    model.wanted = 5
    await model.adapt()
    model.wanted = 2
    await model.adapt()
    assert model.plan == {0, 1}
    assert model.asked == [2]


@pytest.mark.parametrize(
    ("bounds", "error", "message"),
    [
        ({"minimum": 3, "maximum": 1}, ValueError, r"maximum \(1\) must not be less than minimum \(3\)"),
        ({"minimum": -1}, ValueError, "minimum must not be negative"),
        ({"minimum": 1.5}, TypeError, "minimum must be an integer"),
        ({"minimum": "2"}, TypeError, "minimum must be an integer"),
        ({"maximum": 2.5}, ValueError, "maximum must be an integer or math.inf"),
        ({"maximum": -1}, ValueError, "maximum must not be negative"),
        ({"wait_count": None}, TypeError, "wait_count must be an integer"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(bounds: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Model(**bounds)


async def test_bounds_apply_to_the_target() -> None:
    model = Model(minimum=2, maximum=math.inf)
    assert await model.safe_target() == 2
    model.wanted = 1000
    assert await model.safe_target() == 1000

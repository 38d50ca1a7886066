"""Names that other packages import from the modules of clusters."""

from __future__ import annotations

import distributed.deploy.local as local_module
import distributed.deploy.spec as spec_module
from headrace import LocalCluster, Scheduler, SpecCluster


async def test_what_does_nothing_can_be_awaited() -> None:
    assert await spec_module.NoOpAwaitable() is None


def test_names_of_the_modules_of_clusters() -> None:
    assert local_module.Scheduler is spec_module.Scheduler is Scheduler
    assert local_module.LocalCluster is LocalCluster
    assert spec_module.SpecCluster is SpecCluster
    assert local_module.nprocesses_nthreads(8) == local_module.split_cpus(8) == (4, 2)

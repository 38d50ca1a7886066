"""A few rounds of chaos, with fixed seeds; `make chaos` runs more."""

from __future__ import annotations

import signal

import dask
import pytest

from headrace.testing.leaks import clean
from tests.integration.chaos import Cluster, run_round

pytestmark = [
    pytest.mark.filterwarnings("ignore:the package 'distributed'"),
    pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals"),
]


@pytest.mark.timeout(150)
def test_values_are_right_whatever_is_killed_stopped_or_cut() -> None:
    with clean(), dask.config.set({"distributed.comm.timeouts.connect": "60s"}), Cluster() as cluster:
        faults = [fault for seed in (1, 2, 3) for fault in run_round(seed, cluster, seconds=2.0)]
        assert faults

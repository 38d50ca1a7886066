"""Defaults, and the options that are read from them."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dask.config
import pytest

from headrace import config
from headrace.common.renamed_settings import RENAMED


def test_defaults_have_the_documented_names() -> None:
    assert config.get("distributed.comm.timeouts.connect") == "30s"
    assert config.get("distributed.scheduler.worker-saturation") == 1.1
    assert config.get("distributed.no-such-key", 3) == 3


def test_options_follow_the_configuration() -> None:
    with dask.config.set({"distributed.comm.timeouts.connect": "5s", "distributed.comm.max-frame-bytes": "1MiB"}):
        options = config.CommOptions.from_config()
    assert options.connect_timeout == 5
    assert options.max_frame_bytes == 1 << 20
    assert options.compression is None


@pytest.fixture
def nothing_configured() -> Iterator[None]:
    before = copy.deepcopy(dask.config.config)
    dask.config.config.clear()
    yield
    dask.config.config.update(before)


@pytest.mark.usefixtures("nothing_configured")
def test_defaults_survive_a_setting_that_began_before_them() -> None:
    with dask.config.set({"distributed.comm.timeouts.connect": "7s"}):
        assert config.CommOptions.from_config().connect_timeout == 7
    assert config.CommOptions.from_config().connect_timeout == 30


def test_times_and_sizes() -> None:
    assert config.parse_seconds("500ms") == 0.5
    assert config.parse_seconds(3) == 3
    assert config.parse_seconds(None, 2) == 2
    assert config.seconds_of(timedelta(minutes=1)) == 60
    assert config.seconds_of("500ms") == 0.5
    assert config.seconds_of(None) is None
    assert config.parse_bytes("64MiB") == 64 << 20
    assert config.parse_bytes(7.0) == 7
    with pytest.raises(ValueError, match="missing"):
        config.parse_seconds(None)
    for wrong in ("abc", "3 fortnights", ""):
        with pytest.raises(ValueError, match=f"'{wrong}' is no time: give"):
            config.parse_seconds(wrong)


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ("allowed-failures", "distributed.scheduler.allowed-failures", 77),
        ("worker-memory-target", "distributed.worker.memory.target", 0.5),
        ("distributed.p2p.disk", "distributed.p2p.storage.disk", False),
    ],
)
def test_old_names_of_settings_stand_for_the_new_ones(old: str, new: str, value: object) -> None:
    config.register_defaults()
    with pytest.warns(FutureWarning, match=old), dask.config.set({old: value}):
        assert dask.config.get(new) == config.get(new) == value


def test_every_renamed_setting_is_a_known_one() -> None:
    gone = {"distributed.comm.ucx"}
    assert {new for new in RENAMED.values() if config._find(config.defaults(), new) is config.MISSING} == gone


def test_old_names_in_files(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("allowed-failures: 78\n")
    program = "import dask.config, distributed; print(dask.config.get('distributed.scheduler.allowed-failures'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "DASK_CONFIG": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "78"

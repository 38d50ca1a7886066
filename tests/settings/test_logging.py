"""The settings of logging, in programs that import `distributed`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LEVELS = """
logging:
  tests.shown: info
  tests.hidden: error
"""
SPEAK = (
    "import logging; logging.getLogger('tests.shown').info('MARK'); logging.getLogger('tests.hidden').warning('NOT')"
)
FILE = """
[handlers]
keys=stream
[formatters]
keys=plain
[loggers]
keys=root, tests
[handler_stream]
class=StreamHandler
formatter=plain
args=(sys.stderr,)
[formatter_plain]
format=said: %(message)s
[logger_root]
level=WARNING
handlers=stream
[logger_tests]
level=INFO
handlers=stream
qualname=tests.shown
"""
CLUSTER = """
from distributed import Client, LocalCluster
def speak():
    import logging
    logging.getLogger("tests.shown").info("MARK")
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1) as cluster, Client(cluster) as client:
        client.submit(speak).result()
"""


def run(program: str, folder: Path, settings: str) -> subprocess.CompletedProcess[str]:
    (folder / "settings.yaml").write_text(settings)
    environment = {**os.environ, "DASK_CONFIG": str(folder)}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)


def test_levels_by_logger(tmp_path: Path) -> None:
    said = run(f"import distributed; {SPEAK}", tmp_path, LEVELS).stderr
    assert "tests.shown - INFO - MARK" in said
    assert "NOT" not in said


def test_a_file_for_the_standard_library(tmp_path: Path) -> None:
    (tmp_path / "logging.ini").write_text(FILE)
    said = run(f"import distributed; {SPEAK}", tmp_path, f"logging-file-config: {tmp_path}/logging.ini").stderr
    assert "said: MARK" in said


def test_both_at_once_are_refused(tmp_path: Path) -> None:
    done = run("import distributed", tmp_path, f"{LEVELS}\nlogging-file-config: /nowhere.ini")
    assert done.returncode == 1
    assert "both 'logging-file-config' and 'logging'" in done.stderr


def test_loggers_are_the_program_s_where_nothing_is_configured(tmp_path: Path) -> None:
    program = "import logging, distributed; print(logging.getLogger('distributed').handlers)"
    assert run(program, tmp_path, "").stdout.strip() == "[]"


@pytest.mark.slow
def test_processes_of_workers_log_as_configured(tmp_path: Path) -> None:
    assert "tests.shown - INFO - MARK" in run(CLUSTER, tmp_path, LEVELS).stderr

"""Where the two sides live, and how a sample is run there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PEER_ENVIRONMENT = ROOT / ".venv-peer"
PEER = ["distributed==2026.8.0", "dask[array,dataframe]==2026.8.0", "pandas>=2", "pyarrow>=16", "psutil"]
#: No sample takes longer than this, in seconds; the peer's 100 k tasks are the longest.
LIMIT = 600


def peer_python() -> str:
    """The interpreter of the peer's environment, which is made when it is not there."""
    python = PEER_ENVIRONMENT / "bin" / "python"
    stamp = PEER_ENVIRONMENT / ".installed"
    if not stamp.exists() or stamp.read_text() != "\n".join(PEER):
        print(f"Making an environment with {PEER[0]} in {PEER_ENVIRONMENT.name}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(PEER_ENVIRONMENT)], check=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, *PEER], check=True)
        stamp.write_text("\n".join(PEER))
    return str(python)


def run_sample(
    python: str, row: str, arrangement: str, side: str, quick: bool, functions: str = "module"
) -> dict[str, float]:
    """One sample in a process of its own.

    Raises:
        RuntimeError: the process failed or took too long; says which, with the end of its output.
    """
    command = [python, "-m", "benchmarks.runner", row, "--arrangement", arrangement, "--side", side]
    command += ["--functions", functions]
    if quick:
        command.append("--quick")
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment(side), capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no result within {LIMIT} s") from None
    for line in reversed(done.stdout.splitlines()):
        if line.startswith("{"):
            found: dict[str, float] = json.loads(line)
            return found
    raise RuntimeError(f"exit status {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")


def environment(side: str) -> dict[str, str]:
    """The same variables for both sides; the checkout's own package is visible to ours only."""
    variables = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        variables[name] = "1"
    # the rows' functions are imported by the workers
    paths = [str(ROOT)] if side == "peer" else [str(ROOT / "src"), str(ROOT)]
    variables["PYTHONPATH"] = os.pathsep.join(paths)
    return variables

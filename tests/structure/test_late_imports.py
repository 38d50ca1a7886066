"""Nothing on the way of work is imported late: a process that has used up its descriptors could not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_first_round_of_work_imports_nothing() -> None:
    script = Path(__file__).with_name("late_imports.py")
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == []

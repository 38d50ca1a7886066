"""A task that runs, in a worker of this process, until the test lets it go."""

from __future__ import annotations

import threading
from typing import Any


class Gate:
    """Holds a task that runs in a worker of this process."""

    entered, opened = threading.Event(), threading.Event()

    @classmethod
    def close(cls) -> None:
        cls.entered.clear()
        cls.opened.clear()


def hold(*_: Any) -> int:
    Gate.entered.set()
    assert Gate.opened.wait(30)
    return threading.get_ident()

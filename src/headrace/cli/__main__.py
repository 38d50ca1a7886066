"""The command `python -m headrace.cli`."""

from __future__ import annotations

from .main import main

main()

"""What the test of `distributed.client.security-loader` names: functions that give credentials."""

from __future__ import annotations

from typing import Any

from headrace.security import Security

ASKED: list[Any] = []


def load(info: dict[str, Any]) -> Security:
    ASKED.append(info)
    return Security(require_encryption=False)


def load_nothing(info: dict[str, Any]) -> str:
    return "secret"

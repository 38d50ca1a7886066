"""The rules that each end has: what may be configured, and what YAML makes of it."""

from __future__ import annotations

import dask
import pytest

from headrace.auth.access_rules import AUTO, NONE, OFF, REQUIRED, ROLES, TOKEN, AccessRules, configured
from headrace.auth.tokens import Tokens


def test_tokens_are_looked_for_when_they_are_needed() -> None:
    def tokens() -> Tokens:
        raise AssertionError("nobody has asked")

    rules = AccessRules("client", tokens=tokens)
    assert rules.asks
    assert not AccessRules("client", auth="none", tokens=tokens).asks
    with pytest.raises(AssertionError, match="nobody has asked"):
        rules.tokens()


@pytest.mark.parametrize(("value", "auth"), [("token", TOKEN), ("none", NONE), (None, NONE), (False, NONE)])
def test_auth_as_yaml_reads_it(value: object, auth: str) -> None:
    with dask.config.set({"distributed.comm.auth": value}):
        assert configured("worker").auth == auth


@pytest.mark.parametrize(
    ("value", "encryption"), [("auto", AUTO), ("off", OFF), (False, OFF), (None, OFF), ("required", REQUIRED)]
)
def test_encryption_as_yaml_reads_it(value: object, encryption: str) -> None:
    with dask.config.set({"distributed.comm.encryption": value}):
        assert configured("worker").encryption == encryption


@pytest.mark.parametrize("value", ["tokens", "", "TOKEN", True, 0, []])
def test_a_typing_error_opens_nothing(value: object) -> None:
    with dask.config.set({"distributed.comm.auth": value}), pytest.raises(ValueError, match=r"distributed\.comm\.auth"):
        configured("worker")


def test_other_values() -> None:
    with pytest.raises(ValueError, match=r"distributed\.comm\.encryption is one of auto, off, required, not 'on'"):
        AccessRules("client", encryption="on")
    with pytest.raises(ValueError, match="role is one of"):
        AccessRules("peer")
    for role in ROLES:
        assert AccessRules(role).role == role

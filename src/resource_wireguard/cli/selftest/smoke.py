"""Is it alive? The service answers, it is healthy, and keys can be made."""

from resource_wireguard.cli.client import call
from resource_wireguard.cli.selftest.runner import Outcome, expect, run_checks
from resource_wireguard.model.counts import counted

ANSWERS_WITHIN = 10.0
"""Seconds: what the contract grants status."""


def smoke_phase() -> list[Outcome]:
    """The checks of 'test smoke'."""
    return run_checks([("service", _answers), ("health", _healthy), ("keys", _keys)])


def _answers() -> str:
    found = call("agent.info", within=ANSWERS_WITHIN)
    return f"the agent answers (pid {found['pid']}, version {found['version']})"


def _healthy() -> str:
    found = call("status", within=ANSWERS_WITHIN)
    failed = [check for check in found["service"]["checks"] if not check["ok"]]
    for check in failed[:1]:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        expect(False, f"{check['code']}: {check['message']}{more}", check["hint"])
    return f"healthy, with {counted(len(found['tunnels']), 'tunnel')}"


def _keys() -> str:
    """A fresh pair; its public half must be one that parsing accepts."""
    import os

    from resource_wireguard.model.keys import PrivateKey, parse_public_key

    private = PrivateKey(os.urandom(32))
    expect(private.public() == parse_public_key(str(private.public())), "a fresh public key is not accepted")
    return "a key pair can be made"

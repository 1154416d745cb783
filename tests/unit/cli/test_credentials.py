"""credentials: what another program needs, with keys only when they are asked for."""

import json
import subprocess

from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_agent import KEY, TUNNEL, FakeAgent

SECRET = "A" * 43 + "="


def test_everything_but_the_key_is_shown(run: Run, agent: FakeAgent) -> None:
    (shown,) = json.loads(run("credentials", "--format", "json").stdout)["tunnels"]
    assert shown["name"] == "home"
    assert (shown["interface"], shown["endpoint"], shown["listen_port"]) == (
        "wg-home",
        "vpn.example.org:51820",
        51820,
    )
    assert (shown["public_key"], shown["networks"]) == (KEY, ["10.13.13.0/24", "fd00:1::/64"])
    assert shown["private_key"].startswith("(hidden")
    assert [command for command, _ in agent.asked] == ["tunnel.list"], (
        "a key that is not asked for is not sent"
    )


def test_the_key_is_shown_when_asked_for(run: Run, agent: FakeAgent) -> None:
    for format_ in ("text", "json", "env"):
        assert SECRET not in run("credentials", "--format", format_).stdout
        assert SECRET in run("credentials", "--format", format_, "--show-secrets").stdout


def test_a_shell_reads_the_variables(run: Run, agent: FakeAgent) -> None:
    """Also names that are the same when written in capitals, and values that would be more to a shell."""
    names = ("site-a", "site.a", "b")
    agent.result("tunnel.list", [{**TUNNEL, "name": name, "endpoint": "$(reboot):1"} for name in names])
    text = run("credentials", "--format", "env").stdout
    names_of = ("TUNNELS", "SITE_A_NAME", "SITE_A_2_NAME", "B_ENDPOINT")
    script = text + "".join(f'echo "$WIREGUARD_{name}"\n' for name in names_of)
    read = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, timeout=60)
    assert read.stdout.splitlines() == [" ".join(names), "site-a", "site.a", "$(reboot):1"], read.stderr
    assert "PRIVATE" not in text


def test_without_tunnels_there_is_nothing_to_tell(run: Run, agent: FakeAgent) -> None:
    agent.result("tunnel.list", [])
    nothing = run("credentials", "--format", "json")
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert "hint: make a tunnel" in nothing.stderr


def test_without_a_service_it_is_not_known(run: Run) -> None:
    assert run("credentials").returncode == 1

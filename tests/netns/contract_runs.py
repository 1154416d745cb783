"""For every command of the contract a run that succeeds, and for every other exit code a run that ends so.

Entered in tables by decorators, which test_contract.py looks up for what it finds in the contract: an entry
of the contract that nobody has entered here is a test that fails.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.netns.contract_host import Done, Host, paused, without_namespaces

Words = tuple[str, ...]


@dataclass(frozen=True)
class Success:
    """prepare makes the host ready and returns the words to type; shared ones leave the host as it was."""

    prepare: Callable[[Host], Words]
    shared: bool


SUCCESS: dict[str, Success] = {}
ENDS: dict[tuple[str, int], Callable[[Host], Done]] = {}

Prepare = Callable[[Host], Words]
Run = Callable[[Host], Done]


def succeeds(command: str, *, shared: bool = False) -> Callable[[Prepare], Prepare]:
    """Enter how a command succeeds."""

    def enter(prepare: Prepare) -> Prepare:
        SUCCESS[command] = Success(prepare, shared)
        return prepare

    return enter


def ends(command: str, code: int) -> Callable[[Run], Run]:
    """Enter how a command comes to an exit code other than 0."""

    def enter(run: Run) -> Run:
        ENDS[command, code] = run
        return run

    return enter


# -- what succeeds --


@succeeds("help", shared=True)
def _(_host: Host) -> Words:
    return ("help",)


@succeeds("info", shared=True)
def _(_host: Host) -> Words:
    return ("info",)


@succeeds("manage install")
def _(_host: Host) -> Words:
    return ("manage", "install")


@succeeds("manage uninstall")
def _(host: Host) -> Words:
    host.tunnel()
    return ("manage", "uninstall", "--force")


@succeeds("manage start")
def _(host: Host) -> Words:
    host.installed()
    return ("manage", "start")


@succeeds("manage stop")
def _(host: Host) -> Words:
    host.started()
    return ("manage", "stop")


@succeeds("manage restart")
def _(host: Host) -> Words:
    host.started()
    return ("manage", "restart")


@succeeds("test all", shared=True)
def _(host: Host) -> Words:
    host.started()
    return ("test", "all")


@succeeds("test integration", shared=True)
def _(_host: Host) -> Words:
    return ("test", "integration")


@succeeds("test unit", shared=True)
def _(_host: Host) -> Words:
    return ("test", "unit")


@succeeds("test smoke", shared=True)
def _(host: Host) -> Words:
    host.started()
    return ("test", "smoke")


@succeeds("content add")
def _(host: Host) -> Words:
    host.started()
    return ("content", "add", "--name", host.tunnel_name)


@succeeds("content list", shared=True)
def _(host: Host) -> Words:
    host.tunnel()
    return ("content", "list")


@succeeds("content get", shared=True)
def _(host: Host) -> Words:
    return ("content", "get", "--name", host.tunnel())


@succeeds("content remove")
def _(host: Host) -> Words:
    return ("content", "remove", "--name", host.tunnel(), "--force")


@succeeds("content execute")
def _(host: Host) -> Words:
    host.started()
    host.done("content", "add", host.tunnel_name)
    return ("content", "execute", "--name", host.tunnel_name)


@succeeds("status", shared=True)
def _(host: Host) -> Words:
    host.tunnel()
    return ("status",)


@succeeds("logs", shared=True)
def _(host: Host) -> Words:
    host.tunnel()
    return ("logs",)


@succeeds("credentials", shared=True)
def _(host: Host) -> Words:
    host.tunnel()
    return ("credentials",)


# -- what fails, and what there is nothing to do for --


@ends("manage install", 1)
def _(host: Host) -> Done:
    return host.run("manage", "install", WIREGUARD_ENGINE="/nonexistent/engine")


@ends("manage install", 2)
def _(host: Host) -> Done:
    host.installed()
    return host.run("manage", "install")


@ends("manage uninstall", 1)
def _(host: Host) -> Done:
    """Nobody can be asked, and --force was not given."""
    host.installed()
    return host.run("manage", "uninstall")


@ends("manage uninstall", 2)
def _(host: Host) -> Done:
    return host.run("manage", "uninstall", "--force")


@ends("manage start", 1)
def _(host: Host) -> Done:
    host.installed()
    return host.run("manage", "start", WIREGUARD_NETWORK="none")


@ends("manage start", 2)
def _(host: Host) -> Done:
    host.started()
    return host.run("manage", "start")


@ends("manage stop", 1)
def _(host: Host) -> Done:
    host.started()
    with paused(host.pid()):
        return host.run("manage", "stop", "--timeout", "1")


@ends("manage stop", 2)
def _(host: Host) -> Done:
    host.stopped()
    return host.run("manage", "stop")


@ends("manage restart", 1)
def _(host: Host) -> Done:
    host.started()
    done = host.run("manage", "restart", WIREGUARD_NETWORK="none")
    assert host.run("status").code == 0, "the old agent stays"
    return done


@ends("test all", 1)
def _(host: Host) -> Done:
    host.stopped()
    return host.run("test", "all", before=without_namespaces())


@ends("test all", 2)
def _(host: Host) -> Done:
    host.started()
    return host.run("test", "all", before=without_namespaces())


@ends("test integration", 1)
def _(host: Host) -> Done:
    return host.run("test", "integration", WIREGUARD_ENGINE="/bin/false")


@ends("test integration", 2)
def _(host: Host) -> Done:
    return host.run("test", "integration", before=without_namespaces())


@ends("test unit", 1)
def _(host: Host) -> Done:
    """Another opinion of wg(8) on what the public half of a key is."""
    (host.folder / "wg").write_text("#!/bin/sh\necho another key\n")
    (host.folder / "wg").chmod(0o755)
    return host.run("test", "unit", PATH=f"{host.folder}:{host.agent.environment()['PATH']}")


@ends("test unit", 2)
def _(host: Host) -> Done:
    return host.run("test", "unit", TMPDIR="/nonexistent")


@ends("test smoke", 1)
def _(host: Host) -> Done:
    host.stopped()
    return host.run("test", "smoke")


@ends("content add", 2)
def _(host: Host) -> Done:
    return host.run("content", "add", host.tunnel())


@ends("content get", 2)
def _(host: Host) -> Done:
    host.started()
    return host.run("content", "get", "--name", "nobody")


@ends("content remove", 2)
def _(host: Host) -> Done:
    host.started()
    return host.run("content", "remove", "--name", "nobody", "--force")


@ends("content execute", 2)
def _(host: Host) -> Done:
    host.started()
    return host.run("content", "execute", "--name", "nobody")


def _fails_without_a_service(*words: str) -> None:
    """2 would say that there is nothing to do, or nothing of that name; but that is not known."""

    @ends(" ".join(words[:2]), 1)
    def _(host: Host) -> Done:
        host.stopped()
        return host.run(*words)


_fails_without_a_service("content", "add", "home")
_fails_without_a_service("content", "list")
_fails_without_a_service("content", "get", "home")
_fails_without_a_service("content", "remove", "home", "--force")
_fails_without_a_service("content", "execute", "home")
_fails_without_a_service("credentials")


@ends("status", 1)
def _(host: Host) -> Done:
    """A tunnel that cannot come up."""
    host.installed()
    host.done("manage", "start", WIREGUARD_ENGINE="/bin/false")
    host.run("interface", "create", host.tunnel_name)
    return host.run("status")


@ends("status", 2)
def _(host: Host) -> Done:
    host.stopped()
    return host.run("status")


@ends("logs", 1)
def _(host: Host) -> Done:
    (host.config_dir / "run" / "agent.log").mkdir(parents=True)
    return host.run("logs")


@ends("logs", 2)
def _(host: Host) -> Done:
    return host.run("logs")


@ends("credentials", 2)
def _(host: Host) -> Done:
    host.started()
    return host.run("credentials")


# -- values of flags that take any --

SAMPLES: dict[tuple[str, str], Callable[[Host], str]] = {
    ("content add", "--file"): lambda host: str(host.config_file()),
    ("content add", "--type"): lambda _: "tunnel",
    ("content list", "--filter"): lambda _: "c*",
    ("content get", "--output"): lambda host: str(host.folder / "out.conf"),
    ("content execute", "--options"): lambda _: "mtu=1380",
    ("logs", "--since"): lambda _: "1h",
}

ENDLESS = {("logs", "--follow")}
"""Runs until Ctrl-C, and then ends with 130."""

"""The Vrooli contract, walked: every command, flag, exit code and time in it is tried on a real agent."""

import re
from collections.abc import Iterator

import pytest
from tests import contract
from tests.netns.contract_host import Host, host_in, without_namespaces
from tests.netns.contract_runs import ENDLESS, ENDS, SAMPLES, SUCCESS
from tests.netns.harness import Lab

pytestmark = [pytest.mark.any_engine, pytest.mark.timeout(300)]


def flag_values() -> Iterator[tuple[str, str, object]]:
    """Every flag with each of its values, else with its default, else with a value of ours (None)."""
    for name, flag in contract.flags():
        entry = contract.flag(name, flag)
        given = [None] if entry["type"] == "boolean" else [entry.get("default")]
        for value in entry.get("values", given):
            yield name, flag, value


FLAG_VALUES = list(flag_values())


@pytest.fixture
def host(lab: Lab) -> Iterator[Host]:
    with host_in(lab) as host:
        yield host


@pytest.fixture(scope="module")
def running(lab: Lab) -> Iterator[Host]:
    """A host that commands share which leave it as it was."""
    with host_in(lab) as host:
        yield host


def host_for(name: str, request: pytest.FixtureRequest) -> Host:
    assert name in SUCCESS, f"nobody has entered how '{name}' succeeds"
    return request.getfixturevalue("running" if SUCCESS[name].shared else "host")


@pytest.mark.parametrize(("name", "code"), contract.exit_codes())
def test_an_exit_code(name: str, code: int, request: pytest.FixtureRequest) -> None:
    if code == 0:
        host = host_for(name, request)
        done = host.run(*SUCCESS[name].prepare(host))
    else:
        assert (name, code) in ENDS, f"nobody has entered how '{name}' ends with {code}"
        done = ENDS[name, code](request.getfixturevalue("host"))
    assert done.code == code, done.stderr or done.stdout
    assert done.seconds <= contract.seconds(name)
    if code:
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith(("error: ", "running ")) or name.startswith(("test", "status"))


@pytest.mark.parametrize(("name", "flag", "value"), FLAG_VALUES)
def test_a_flag(name: str, flag: str, value: object, request: pytest.FixtureRequest) -> None:
    host = host_for(name, request)
    words = SUCCESS[name].prepare(host)
    if flag not in words:
        words = (*words, *flag_words(host, name, flag, value))
    done = host.endless(*words) if (name, flag) in ENDLESS else host.run(*words)
    assert done.code == (130 if (name, flag) in ENDLESS else 0), done.stderr
    assert done.seconds <= contract.seconds(name)


def flag_words(host: Host, name: str, flag: str, value: object) -> tuple[str, ...]:
    """A flag as it is typed."""
    if contract.flag(name, flag)["type"] == "boolean":
        return (flag,)
    if value is None:
        assert (name, flag) in SAMPLES, f"nobody has entered a value for {flag} of '{name}'"
        value = SAMPLES[name, flag](host)
    return flag, str(value)


STATUS_LINES = {
    "Service state (running/stopped)": r"service:\s+(running|stopped)",
    "Health status": r"health:\s+(healthy|unhealthy|unknown)",
    "Port/endpoint information": r"PORT\s+ENDPOINT(.*\n)+?.*\b51\d\d\d\b",
}
"""What the contract describes in words; of other commands it gives the words themselves."""


@pytest.mark.parametrize(("name", "part"), contract.outputs())
def test_the_output_includes(name: str, part: str, request: pytest.FixtureRequest) -> None:
    host = host_for(name, request)
    done = host.run(*SUCCESS[name].prepare(host))
    assert re.search(STATUS_LINES.get(part, re.escape(part)), done.stdout), done.stdout


PHASES = contract.contract()["file_structure"]["optional"]["test/"]["validation_requirements"]

OBSTACLES = {
    "smoke_test": {"CONFIG_DIR": "/nonexistent"},
    "unit_test": {"TMPDIR": "/nonexistent"},
    "integration_test": {},
}
"""What keeps a phase from passing; the integration test may not make namespaces then."""


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_keeps_its_time_and_codes(phase: str, running: Host) -> None:
    running.started()
    script = f"test/phases/test-{phase.removesuffix('_test')}.sh"
    done = running.script(script)
    assert (done.code, done.seconds <= PHASES[phase]["max_duration"]) == (0, True), done.stdout
    before = without_namespaces() if phase == "integration_test" else ()
    assert running.script(script, before=before, **OBSTACLES[phase]).code == 1
    assert PHASES[phase]["exit_codes"] == [0, 1]


def test_a_whole_life(host: Host) -> None:
    """As a Vrooli host does it, through cli.sh; a second time each, as supervisors do."""
    name = host.tunnel_name
    life = [
        (0, "manage install --verbose"),
        (2, "manage install"),
        (2, "status"),
        (0, "manage start --force"),
        (2, "manage start"),
        (0, "status --format json --fast"),
        (0, f"content add --name {name}"),
        (0, f"content execute --name {name}"),
        (0, "test smoke"),
        (0, "manage restart"),
        (0, "status"),
        (0, "manage stop"),
        (2, "manage stop"),
        (0, "manage start --wait"),
        (0, "status"),
        (0, "manage uninstall --force --keep-data"),
        (2, "manage uninstall --force"),
        (0, "manage install"),
        (0, "manage start --wait"),
        (0, f"content get --name {name}"),
        (0, "manage uninstall --force"),
        (2, "status"),
    ]
    for code, words in life:
        done = host.script("cli.sh", *words.split())
        assert done.code == code, f"{words}: {done.stdout}{done.stderr}"
        assert done.seconds <= contract.contract()["performance"]["command_response_time"]["other"]
    assert not host.config_dir.exists()
    assert not [link for link in host.namespace.ip_json("link show") if name in str(link.get("ifalias"))]


def test_secrets_stay_secret(running: Host) -> None:
    """Not in the log, masked in output unless asked for, and sealed in the files."""
    name = running.tunnel()
    running.run("peer", "add", name, "phone")
    whole = running.run("content", "get", "--name", name, "--show-secrets").stdout
    keys = re.findall(r"(?:PrivateKey|PresharedKey) = (\S+)", whole)
    assert len(keys) == 2
    asked = running.run("credentials", "--show-secrets", "--format", "env").stdout
    assert keys[0] in asked
    shown = [running.run(*words.split()).stdout for words in OPEN_COMMANDS.format(name=name).split("; ")]
    for text in [*shown, (running.config_dir / "run" / "agent.log").read_text()]:
        assert text
        assert not [key for key in keys if key in text]


OPEN_COMMANDS = (
    "credentials; credentials --format json; credentials --format env; content get --name {name}; "
    "content list --format json; status --verbose --format json; peer list {name} --format json"
)

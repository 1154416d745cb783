"""systemd beside the command line: a systemctl that remembers, and starts a real agent when told to."""

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.cli import fake_compose
from tests.unit.cli.conftest import Run

SYSTEMCTL = """\
#!/bin/sh
echo "$*" >>"$STAGE/systemctl"
case "$1 $FAKE" in
start*crashes) ;;
start*) setsid "$PYTHON" -m resource_wireguard agent >>"$CONFIG_DIR/run/agent.log" 2>&1 & ;;
show*crashes) printf 'Job=7\\nActiveState=activating\\nSubState=auto-restart\\n' ;;
show*) printf 'Job=7\\nActiveState=inactive\\nSubState=dead\\n' ;; # for a moment, while the start is queued
esac
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root writes units")


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A machine's /run/systemd and /etc/systemd, a systemctl, and the fakes in place of the real parts."""
    folder = tmp_path / "stage"
    for name in ("system", "units", "bin", "site"):
        (folder / name).mkdir(parents=True)
    for name in ("wireguard-go", "nft", "systemctl"):
        (folder / "bin" / name).write_text(SYSTEMCTL if name == "systemctl" else "#!/bin/sh\n")
        (folder / "bin" / name).chmod(0o755)
    (folder / "site" / "fake_compose.py").write_text(Path(fake_compose.__file__).read_text())
    (folder / "site" / "sitecustomize.py").write_text(
        "import sys, fake_compose\n"
        "sys.modules['resource_wireguard.cli.compose'] = fake_compose\n"
        "from resource_wireguard.cli import supervisor\n"
        f"supervisor.BOOTED, supervisor.FOLDER = {str(folder / 'system')!r}, {str(folder / 'units')!r}\n"
    )
    return folder


@pytest.fixture
def environment(environment: dict[str, str], stage: Path) -> dict[str, str]:
    return {
        **environment,
        "STAGE": str(stage),
        "PYTHON": sys.executable,
        "PATH": f"{stage / 'bin'}{os.pathsep}{environment['PATH']}",
        "PYTHONPATH": f"{environment['PYTHONPATH']}{os.pathsep}{stage / 'site'}",
    }


@pytest.fixture(autouse=True)
def _ended(run: Run) -> Iterator[None]:
    """Whatever a test leaves running is ended."""
    yield
    run("manage", "stop", "--force", "--timeout", "5")


def told(stage: Path) -> list[str]:
    """The verbs that systemctl was given, looks left out."""
    path = stage / "systemctl"
    words = [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []
    return [word for word in words if word not in ("show", "reset-failed")]


def unit_of(stage: Path) -> Path:
    return stage / "units" / "resource-wireguard.service"


def test_install_writes_and_enables_a_unit_once(run: Run, stage: Path, config_dir: Path) -> None:
    assert run("manage", "install", WIREGUARD_PORT="4000").returncode == 0
    assert told(stage) == ["daemon-reload", "enable"]
    assert f'"CONFIG_DIR={config_dir}"' in unit_of(stage).read_text()
    settings = config_dir / "service.env"
    assert 'WIREGUARD_PORT="4000"\n' in settings.read_text()
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    assert run("manage", "install").returncode == 2
    assert run("manage", "install", WIREGUARD_PORT="4001").returncode == 0
    assert 'WIREGUARD_PORT="4001"\n' in settings.read_text()


def test_a_unit_of_another_config_dir_stays(run: Run, stage: Path, config_dir: Path) -> None:
    run("manage", "install")
    before = unit_of(stage).read_text()
    assert run("manage", "install", CONFIG_DIR=f"{config_dir}2").returncode == 0
    assert unit_of(stage).read_text() == before
    assert run("manage", "uninstall", "--force", CONFIG_DIR=f"{config_dir}2").returncode == 0
    assert unit_of(stage).read_text() == before


def test_a_life_under_systemd(run: Run, stage: Path, config_dir: Path) -> None:
    run("manage", "install")
    started = run("manage", "start", "--wait", FAKE="slow")  # long enough to ask systemd in between
    assert started.returncode == 0, started.stderr
    assert run("manage", "start").returncode == 2
    assert run("manage", "restart").returncode == 0
    assert run("manage", "stop").returncode == 0
    assert told(stage)[2:] == ["start", "start", "stop"]
    assert run("manage", "uninstall", "--force").returncode == 0
    assert told(stage)[5:] == ["stop", "disable", "daemon-reload"]
    assert list((stage / "units").iterdir()) == []
    assert not (config_dir / "service.env").exists()


def test_the_settings_of_the_unit_are_those_that_are_checked(run: Run, stage: Path, config_dir: Path) -> None:
    run("manage", "install", WIREGUARD_PORT="4000")
    assert run("manage", "start").returncode == 0
    settings = config_dir / "service.env"
    good = settings.read_text()
    settings.write_text(good.replace('"4000"', "port"))
    before = len(told(stage))
    refused = run("manage", "restart")
    assert (refused.returncode, len(told(stage))) == (1, before)
    assert refused.stderr.startswith(
        f"error: WIREGUARD_PORT 'port' is not a UDP port (in {settings})\nhint: "
    )
    assert run("manage", "start").returncode == 2, "the old agent runs on"
    again = run("manage", "install")
    assert (again.returncode, "not a UDP port" in again.stderr) == (1, True)
    assert run("manage", "install", WIREGUARD_PORT="4001").returncode == 0
    assert run("manage", "restart", WIREGUARD_PORT="bad here, and not asked for").returncode == 0


def test_keeping_data_keeps_no_unit(run: Run, stage: Path, config_dir: Path) -> None:
    run("manage", "install")
    (config_dir / "state.db").write_text("x")
    assert run("manage", "uninstall", "--force", "--keep-data").returncode == 0
    assert list((stage / "units").iterdir()) == []
    assert (config_dir / "state.db").exists()


def test_a_unit_that_fails_is_said_at_once_and_not_tried_for_ever(run: Run, stage: Path) -> None:
    run("manage", "install")
    begun = time.monotonic()
    failed = run("manage", "start", "--wait", FAKE="crashes")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: the agent ended at once: it wrote nothing\n")
    assert time.monotonic() - begun < 5
    assert told(stage)[-1] == "stop"


@pytest.mark.parametrize(("mode", "needed"), [(0o755, False), (0o700, True)])
def test_a_home_that_root_may_not_enter_needs_a_capability(
    run: Run, stage: Path, tmp_path: Path, mode: int, needed: bool
) -> None:
    home = tmp_path / "somebody"
    home.mkdir()
    os.chown(home, 12345, 12345)
    home.chmod(mode)
    assert run("manage", "install", CONFIG_DIR=str(home / "wireguard")).returncode == 0
    assert ("CAP_DAC_READ_SEARCH" in unit_of(stage).read_text()) == needed


def test_without_systemd_there_is_no_unit(run: Run, stage: Path) -> None:
    (stage / "system").rmdir()
    assert run("manage", "install").returncode == 0
    assert told(stage) == []
    assert list((stage / "units").iterdir()) == []


@pytest.fixture
def systemctl_fails(stage: Path) -> Callable[[], None]:
    def fail() -> None:
        (stage / "bin" / "systemctl").write_text("#!/bin/sh\necho 'Access denied' >&2\nexit 4\n")

    return fail


def test_a_systemctl_that_refuses_is_one_clear_line(run: Run, systemctl_fails: Callable[[], None]) -> None:
    systemctl_fails()
    refused = run("manage", "install")
    assert (refused.returncode, refused.stderr) == (1, "error: systemctl failed: Access denied\n")

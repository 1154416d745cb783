"""The systemd unit of the agent, and its environment file, as text. Pure: others write it.

Every restriction is named in docs/security.md with its reason; what is left open is said here.
"""

from collections.abc import Iterable, Mapping

NAME = "resource-wireguard.service"

WATCHDOG_SECONDS = 60
"""Twice the time between two passes of an agent at rest."""

CAPABILITIES = ("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE")
"""Configure networks; send probes; speak to the agents of peers, from a port below 1024."""

NETNS_CAPABILITIES = ("CAP_SYS_ADMIN", "CAP_SYS_PTRACE")
"""Make and enter network namespaces; see who is in them. Only where it was asked for: it is nearly root."""

READ_ANY_FOLDER = "CAP_DAC_READ_SEARCH"
"""Only where CONFIG_DIR or Python lies where root may not enter by ownership alone, as in a user's home."""

SETTINGS = (
    "WIREGUARD_ALLOWED_IPS",
    "WIREGUARD_DNS",
    "WIREGUARD_ENGINE",
    "WIREGUARD_KEEPALIVE",
    "WIREGUARD_LOG_LEVEL",
    "WIREGUARD_MTU",
    "WIREGUARD_NETWORK",
    "WIREGUARD_PEERS_MAX",
    "WIREGUARD_PORT",
    "APP_ROOT",
    "VROOLI_ROOT",
)
"""What the agent reads from its environment, beside CONFIG_DIR; none of it is a secret."""

SURROUNDINGS = ("PATH", "PYTHONPATH")
"""Where engine, nft and this program were found when the unit was written."""

_TEMPLATE = """\
# Written by 'resource-wireguard manage install', which overwrites it; use 'systemctl edit' for your changes.
[Unit]
Description=WireGuard networking of this host
After=network.target
Before=docker.service

[Service]
Type=notify
NotifyAccess=main
ExecStart={python} -P -m resource_wireguard agent
Environment={config_dir_setting}
EnvironmentFile=-{config_dir_path}/service.env
WorkingDirectory=/
StandardOutput=append:{config_dir_path}/run/agent.log
StandardError=inherit
UMask=0077

# The agent ends, the tunnels stay: engines in user space are its children, and live on.
KillMode=process
OOMPolicy=continue
TimeoutStartSec=120
TimeoutStopSec=30
WatchdogSec={watchdog}
Restart=on-failure
RestartSec=2
RestartPreventExitStatus=2

# What it may do.
CapabilityBoundingSet={capabilities}
NoNewPrivileges=yes
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6
DevicePolicy=closed
DeviceAllow=/dev/net/tun rw
SystemCallFilter={system_calls}
SystemCallArchitectures=native
MemoryDenyWriteExecute=yes
LockPersonality=yes
RestrictNamespaces={namespaces}
RestrictRealtime=yes
RestrictSUIDSGID=yes

{view}
RuntimeDirectory=wireguard
RuntimeDirectoryMode=0755
RuntimeDirectoryPreserve=yes
ProtectClock=yes
ProtectHostname=yes

# What it may use, its engines included. A core of it would hold keys.
LimitCORE=0
MemoryMax=2G
TasksMax=4096

[Install]
WantedBy=multi-user.target
"""


_OWN_VIEW = """\
# What it sees. ProtectKernelTunables stays off: exit tunnels switch forwarding on under /proc/sys/net.
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={config_dir_word}
PrivateTmp={private_tmp}
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes"""

_HOSTS_VIEW = """\
# It sees what the host sees, as the host is to see the network namespaces that it mounts under /run/netns."""


def unit_text(
    python: str, config_dir: str, more_capabilities: Iterable[str] = (), *, netns: bool = False
) -> str:
    """The unit for one interpreter (absolute) and one CONFIG_DIR (absolute, without line ends).

    netns takes back what keeps an agent from making network namespaces.
    """
    view = _OWN_VIEW.format(
        config_dir_word=_word(config_dir),
        private_tmp="no" if any(map(_is_temporary, (python, config_dir))) else "yes",
    )
    return _TEMPLATE.format(
        python=_word(python, "$"),
        config_dir_setting=_config_dir_setting(config_dir),
        config_dir_path=config_dir.replace("%", "%%"),
        capabilities=" ".join([*CAPABILITIES, *(NETNS_CAPABILITIES if netns else ()), *more_capabilities]),
        system_calls="@system-service @mount" if netns else "@system-service",
        namespaces="net" if netns else "yes",
        view=_HOSTS_VIEW if netns else view,
        watchdog=WATCHDOG_SECONDS,
    )


def _is_temporary(path: str) -> bool:
    """Whether a path lies where PrivateTmp would hide it, as that of a trial from a checkout in /tmp does."""
    return path.startswith(("/tmp/", "/var/tmp/"))  # noqa: S108


def is_for(text: str, config_dir: str) -> bool:
    """Whether a unit is that of a CONFIG_DIR."""
    return f"\nEnvironment={_config_dir_setting(config_dir)}\n" in text


def allows_netns(text: str) -> bool:
    """Whether an agent under a unit can make network namespaces."""
    return "\nRestrictNamespaces=net\n" in text


def environment_text(environment: Mapping[str, str], before: str = "") -> str:
    """The settings among some variables as an EnvironmentFile (systemd.exec(5)), in double quotes.

    before is the file as it is: what is not set any more stays, as an upgrade may be run from another shell.
    """
    lines = {line.partition("=")[0]: line for line in before.splitlines()}
    for name in (*SETTINGS, *SURROUNDINGS):
        if value := environment.get(name, "").replace("\n", " "):
            lines[name] = f'{name}="{_quoted(value)}"'
    return "".join(f"{line}\n" for _, line in sorted(lines.items()))


def settings_of(text: str) -> list[str]:
    """The lines of an environment file that are settings; where programs lie may differ from call to call."""
    return [line for line in text.splitlines() if line.partition("=")[0] in SETTINGS]


def _quoted(value: str) -> str:
    return "".join(f"\\{sign}" if sign in '\\"`$' else sign for sign in value)


def _config_dir_setting(config_dir: str) -> str:
    return _word(f"CONFIG_DIR={config_dir}")


def _word(text: str, also_doubled: str = "") -> str:
    """One word of a unit file: quoted, % and (in a command line) $ stand for themselves (systemd.unit(5))."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    for sign in f"%{also_doubled}":
        escaped = escaped.replace(sign, sign * 2)
    return f'"{escaped}"'

"""How our objects are marked in the kernel: nothing is remembered, and nothing foreign is touched."""

ALIAS_PREFIX = "resource-wireguard:"
"""A link whose IFLA_IFALIAS is 'resource-wireguard:<tunnel>' is ours."""

NAMESPACE_PREFIX = "resource-wireguard-namespace:"
"""A network namespace whose loopback's alias is 'resource-wireguard-namespace:<namespace>@<home>' is ours.
home is the inode of the network namespace whose agent made it: another one's agent sees it under /run/netns
too, and leaves it alone."""

LINK_GROUP = 15_751
"""The group a link is born with: the kernel takes a group, but no alias, in the message that creates a link.
A link of this group without an alias is one whose making was cut off, and is ours too."""

ENGINE_VARIABLE = "RESOURCE_WIREGUARD_TUNNEL"
"""Names the tunnel in the environment of a userspace engine: its mark from the first instruction on."""

PROTOCOL = 157
"""The rtnetlink protocol number of our routes and rules (rtnetlink(7): 4–255 are for administrators)."""

RULE_PRIORITY_FIRST, RULE_PRIORITY_LAST = 15_700, 15_799
"""Our rules lie in this range, before the main table's rule at 32766."""

MARK_BASE = 15_700_000
"""A tunnel's firewall mark and its routing table are MARK_BASE + its number."""

NAMESPACE_TABLE_BASE = 15_800_000
"""A namespace's routing table is this + its number."""

DOCKER_LABEL, NAMESPACE_LABEL = "wireguard.network", "wireguard.namespace"
"""A Docker network whose first label is 'true' is ours; the second names the namespace."""

BRIDGE_PREFIX = "wgn-"
"""The bridges of our Docker networks are named so: seen without asking Docker, and while it does not run."""

NFT_TABLE = "resource-wireguard"
"""The name of our one nftables table in each family."""


def alias_of(tunnel: str) -> str:
    """The mark of a tunnel's link."""
    return f"{ALIAS_PREFIX}{tunnel}"


def tunnel_of(alias: str | None) -> str | None:
    """The tunnel that a link's alias names, or None where the link is not ours."""
    return alias.removeprefix(ALIAS_PREFIX) if alias and alias.startswith(ALIAS_PREFIX) else None


def namespace_alias(mark: str, home: int) -> str:
    """What the loopback of a network namespace carries; mark is the name of the namespace it serves."""
    return f"{NAMESPACE_PREFIX}{mark}@{home}"


def namespace_of(alias: str | None, home: int) -> str | None:
    """The namespace that a loopback's alias names, or None where it was not made from that home."""
    whole = alias.removeprefix(NAMESPACE_PREFIX) if alias and alias.startswith(NAMESPACE_PREFIX) else ""
    mark, _, its_home = whole.rpartition("@")
    return mark if mark and its_home == str(home) else None


def mark_of(number: int) -> int:
    """The firewall mark, and the routing table, of the tunnel with this number."""
    return MARK_BASE + number


def is_our_bridge(name: str, kind: str) -> bool:
    """Whether a link is the bridge of a Docker network of ours."""
    return kind == "bridge" and name.startswith(BRIDGE_PREFIX)

"""The words for a plan: the same in 'plan', in the journal and in 'status'."""

from collections import Counter
from collections.abc import Sequence

from resource_wireguard.host.diff import Action
from resource_wireguard.host.state import (
    Address,
    Attachment,
    Device,
    DockerNetwork,
    Link,
    NetNamespace,
    Peer,
    PeerEndpoint,
    Record,
    Route,
    Rule,
    Sysctl,
    Table,
)

FOLD_ABOVE = 10
"""More actions than this of one verb and kind on one interface are told as a number."""


def lines_of(plan: Sequence[Action]) -> list[str]:
    """One line an action, long runs of the same folded into one."""
    counts = Counter(_group(action) for action in plan)
    lines: dict[str, None] = {}
    for action in plan:
        group = _group(action)
        if counts[group] > FOLD_ABOVE:
            verb, kind, interface = group
            lines[f"{verb} {counts[group]} {_plural(kind)}" + (f" on {interface}" if interface else "")] = (
                None
            )
        else:
            lines[line_of(action)] = None
    return list(lines)


def line_of(action: Action) -> str:
    """'create peer xTIBA5rb… on wg-home: 10.13.13.2/32'."""
    if action.verb == "change" and action.before and action.after:
        return f"change {noun_of(action.after)}: {_difference(action.before, action.after)}"
    details = _details(action.record) if action.verb == "create" else ""
    return f"{action.verb} {noun_of(action.record)}" + (f": {details}" if details else "")


def noun_of(record: Record) -> str:
    """The object's kind and name: 'peer xTIBA5rb… on wg-home'."""
    match record:
        case NetNamespace():
            return f"network namespace {record.name}"
        case Link():
            return f"interface {record.name}"
        case Device():
            return f"device {record.interface}"
        case Peer():
            return f"peer {record.public_key.short} on {record.interface}"
        case PeerEndpoint():
            return f"endpoint of peer {record.public_key.short} on {record.interface}"
        case Address():
            return f"address {record.address} on {record.interface}"
        case Route():
            way = f"dev {record.interface}" if record.interface else "unreachable"
            table = f" table {record.table}" if record.table != 254 else ""
            return f"route {record.prefix} {way}{table}" + (f" in {record.netns}" if record.netns else "")
        case Rule():
            return f"rule {_rule_words(record)}"
        case Sysctl():
            return f"sysctl {record.name}"
        case Table():
            return f"nft table {record.family} resource-wireguard"
        case DockerNetwork():
            return f"Docker network {record.name}"
        case Attachment():
            return f"container {record.container}"
    return type(record).__name__.lower()


def _group(action: Action) -> tuple[str, str, str | None]:
    return action.verb, type(action.record).__name__, action.record.interface


def _plural(kind: str) -> str:
    irregular = {
        "PeerEndpoint": "endpoints",
        "Address": "addresses",
        "DockerNetwork": "Docker networks",
        "NetNamespace": "network namespaces",
    }
    return irregular.get(kind, f"{kind.lower()}s")


def _details(record: Record) -> str:
    match record:
        case Link():
            place = f", in {record.netns}" if record.netns else ""
            return f"{record.engine}, mtu {record.mtu}, {'up' if record.up else 'down'}{place}"
        case Device():
            return f"port {record.listen_port}" + (f", fwmark {record.fwmark}" if record.fwmark else "")
        case Peer():
            return ", ".join(sorted(record.allowed_ips)) or "no allowed IPs"
        case PeerEndpoint():
            return record.endpoint
        case Sysctl():
            return record.value
        case Table():
            return f"{sum(len(rules) for _, rules in record.chains)} rules"
        case DockerNetwork():
            return ", ".join(record.prefixes)
        case Attachment():
            return f"networks {_value(record.networks)}"
    return ""


def _difference(before: Record, after: Record) -> str:
    """The fields that differ, old → new; key material shows only that it changed."""
    parts = []
    for field in after.__struct_fields__:
        old, new = getattr(before, field), getattr(after, field)
        if old != new:
            parts.append(f"{field.replace('_', ' ')} {_value(old)} → {_value(new)}")
    return ", ".join(parts)


def _value(value: object) -> str:
    if isinstance(value, frozenset):
        return ",".join(sorted(value)) or "none"
    if isinstance(value, tuple) and value and isinstance(value[0], str):
        return ",".join(value)
    if isinstance(value, tuple):
        return f"{sum(len(rules) for _, rules in value)} rules"
    return "none" if value is None else str(value)


def _rule_words(rule: Rule) -> str:
    words = [f"{rule.priority}:", f"inet{'6' if rule.family == 6 else ''}"]
    if rule.source:
        words.append(f"from {rule.source}")
    if rule.input_interface:
        words.append(f"iif {rule.input_interface}")
    if rule.fwmark:
        words.append(f"{'not ' if rule.invert else ''}fwmark {rule.fwmark}")
    words.append(f"lookup {'main' if rule.table == 254 else rule.table}")
    if rule.suppress_prefixlength is not None:
        words.append(f"suppress_prefixlength {rule.suppress_prefixlength}")
    return " ".join(words)

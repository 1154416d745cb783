"""Our nftables tables (nft(8)): seen by one netlink question, listed and replaced by the program nft.

A record's texts are compared with what 'nft -s -y -p list table' prints, so they must be written that way:

- names for what has names, but numbers for protocols (a minimal Debian lacks /etc/protocols) and for
  priorities: 'ct state established,related', 'tcp flags syn', 'meta l4proto 17',
  'type filter hook forward priority -10; policy accept;'
- interface names in quotes, marks as eight digits: 'meta mark 0x00000010', no counters
- no match that another implies: 'tcp dport 22', not 'meta l4proto tcp tcp dport 22';
  'ip6 saddr fd00::/64', not 'meta nfproto ipv6 ip6 saddr fd00::/64'
- flags in the order of their bits ('established,related'), sets sorted ('{ 53, 67 }')

What stands in our table besides base chains with rules makes it differ, and so has it replaced.
"""

import errno
import re
import shutil
import struct
from collections.abc import Iterable, Iterator

from resource_wireguard.errors import HostError
from resource_wireguard.host.diff import Action
from resource_wireguard.host.ownership import NFT_TABLE
from resource_wireguard.host.state import Chain, Table
from resource_wireguard.system import process
from resource_wireguard.system.messages import KernelRefused, NetlinkSocket, attributes, word

NETLINK_NETFILTER = 12

_GET_TABLE, _GET_GENERATION = 10 << 8 | 1, 10 << 8 | 16
_TABLE_NAME, _GENERATION_ID = 1, 1
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_nfgenmsg = struct.Struct("=BBH")
_NO_NFTABLES = (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT)
_TABLE = re.compile(r"^table (\S+) [^\n]*\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^\t(\S[^\n]*?) \{\n(.*?)^\t\}|^\t(\S[^\n]*)$", re.MULTILINE | re.DOTALL)
_CONTINUATION = re.compile(r"\n\t\t\t\s*")
_NFT = ("nft", "-s", "-y", "-p")
_INSTALL = "install nftables, for example: apt install nftables"


class Nftables:
    """Our tables of this network namespace.

    The kernel numbers the generations of a namespace's rules: as long as the number stays, so does what
    nft last printed, and it is not asked again.
    """

    def __init__(self) -> None:
        self._kernel: NetlinkSocket | None = None
        self._generation: bytes = b""
        self._tables: tuple[Table, ...] = ()

    def close(self) -> None:
        """End the conversation with the kernel."""
        if self._kernel is not None:
            self._kernel.close()

    def observe(self) -> tuple[Table, ...]:
        """Our tables; nft runs only if there are some, and something changed in this namespace's rules."""
        generation, families = self._look()
        if not families:
            return ()
        # A netdev chain goes with its device, which is no change of rules and has no new number.
        if generation != self._generation or "netdev" in families:
            listed = "".join(_nft("list", "table", family, NFT_TABLE) for family in families)
            self._tables, self._generation = parse(listed), generation
        return self._tables

    def apply(self, actions: Iterable[Action]) -> None:
        """Make, replace and delete tables, all in one transaction of the kernel's."""
        _nft("-f", "-", script="".join(line for action in actions for line in _lines(action)))

    def _look(self) -> tuple[bytes, list[str]]:
        """The generation of the rules, and the families in which we have a table."""
        try:
            if self._kernel is None:
                self._kernel = NetlinkSocket(NETLINK_NETFILTER)
            everywhere = _nfgenmsg.pack(0, 0, 0)
            answer = self._kernel.ask(_GET_GENERATION, everywhere)
            tables = self._kernel.dump(_GET_TABLE, everywhere)
        except KernelRefused as refusal:
            if refusal.number in _NO_NFTABLES:
                return b"", []
            raise
        generation = attributes(answer, _nfgenmsg.size).get(_GENERATION_ID, b"")
        ours = [body for body in tables if word(attributes(body, _nfgenmsg.size)[_TABLE_NAME]) == NFT_TABLE]
        return generation, [_FAMILIES[body[0]] for body in ours]


def parse(listing: str) -> tuple[Table, ...]:
    """The tables in what 'nft list' printed."""
    return tuple(
        Table(family, tuple(sorted(map(_chain, _BLOCK.findall(body)), key=lambda entry: entry[0].name)))
        for family, body in _TABLE.findall(listing)
    )


def _chain(block: tuple[str, str, str]) -> tuple[Chain, tuple[str, ...]]:
    """A chain with its rules; anything else in a table is a chain of a name that nobody wants."""
    head, body, other = block
    if not head.startswith("chain "):
        return Chain(head or other, ""), ()
    lines = [line.strip() for line in _CONTINUATION.sub(" ", body).splitlines()]
    hook = lines.pop(0) if lines and lines[0].startswith("type ") else ""
    return Chain(head.removeprefix("chain "), hook), tuple(lines)


def _lines(action: Action) -> Iterator[str]:
    """A table is emptied and filled again in one transaction: no packet sees it half done.

    A new one is not deleted first, for which the kernel would wait a grace period of some 15 ms.
    """
    record = action.record
    assert isinstance(record, Table)
    if action.verb == "create":
        yield f"create table {record.family} {NFT_TABLE}\n"
    else:
        yield f"add table {record.family} {NFT_TABLE}\n"  # so that the deletion of a vanished one is no error
        yield f"delete table {record.family} {NFT_TABLE}\n"
    if action.verb == "delete":
        return
    yield f"table {record.family} {NFT_TABLE} {{\n"
    for chain, rules in record.chains:
        yield f"\tchain {chain.name} {{\n\t\t{chain.hook}\n"
        yield from (f"\t\t{rule}\n" for rule in rules)
        yield "\t}\n"
    yield "}\n"


def _nft(*arguments: str, script: str = "") -> str:
    if shutil.which(_NFT[0]) is None:
        raise HostError("the program nft is missing", _INSTALL)
    return process.run((*_NFT, *arguments), script).stdout

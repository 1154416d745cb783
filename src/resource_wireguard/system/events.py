"""A file that becomes readable when something changed on the host; what it was, a pass finds out."""

import os
import select
import socket
from collections.abc import Iterable
from contextlib import suppress

from resource_wireguard.system import syscalls
from resource_wireguard.system.places import FOLDER, Place

_ROUTE_GROUPS = (1, 5, 7, 8, 9, 11, 19)
"""RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE (rtnetlink.h)."""

_GROUPS_INSIDE = (1, 5, 7, 9, 11)
"""The same without rules, for namespaces of ours."""

_NFTABLES_GROUPS = (7,)
"""NFNLGRP_NFTABLES (nfnetlink.h)."""

_NETLINK_ROUTE, _NETLINK_NETFILTER = 0, 12
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_RECEIVE_BYTES = 1 << 16


class NetlinkEvents:
    """Subscriptions to rtnetlink and nftables behind one epoll descriptor."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sockets = [_subscribe(_NETLINK_ROUTE, _ROUTE_GROUPS)]
        with suppress(OSError):  # a kernel without nftables has no changes of it
            self._sockets.append(_subscribe(_NETLINK_NETFILTER, _NFTABLES_GROUPS))
        for subscription in self._sockets:
            self._epoll.register(subscription, select.EPOLLIN)
        self._inside: dict[int, socket.socket] = {}
        self._deletions: int | None = None

    def fileno(self) -> int:
        """For select(2)."""
        return self._epoll.fileno()

    def follow(self, places: Iterable[Place]) -> None:
        """Hear from these network namespaces too, and of names that are taken away; no more of others."""
        wanted = {place.inode: place for place in places}
        for inode in self._inside.keys() - wanted.keys():
            self._inside.pop(inode).close()
        for inode in wanted.keys() - self._inside.keys():
            subscription = syscalls.in_network(
                wanted[inode].descriptor, lambda: _subscribe(_NETLINK_ROUTE, _GROUPS_INSIDE)
            )
            self._inside[inode] = subscription
            self._epoll.register(subscription, select.EPOLLIN)
        if wanted and self._deletions is None:
            self._deletions = syscalls.watch_deletions(str(FOLDER))
            self._epoll.register(self._deletions, select.EPOLLIN)

    def drain(self) -> int:
        """Read and forget what is queued; how many datagrams there were. Lost ones (ENOBUFS) count as one."""
        if self._deletions is not None:
            with suppress(BlockingIOError):
                os.read(self._deletions, _RECEIVE_BYTES)
        return sum(map(_drain, [*self._sockets, *self._inside.values()]))

    def close(self) -> None:
        """End the subscriptions."""
        self._epoll.close()
        for subscription in [*self._sockets, *self._inside.values()]:
            subscription.close()
        if self._deletions is not None:
            os.close(self._deletions)


def _subscribe(protocol: int, groups: tuple[int, ...]) -> socket.socket:
    subscription = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
    )
    try:
        subscription.bind((0, 0))
        for group in groups:
            subscription.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    except OSError:
        subscription.close()
        raise
    return subscription


def _drain(subscription: socket.socket) -> int:
    count = 0
    while True:
        try:
            subscription.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return count
        except OSError:
            pass  # ENOBUFS: more came than fits, which says all the same that something changed
        count += 1

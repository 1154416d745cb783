"""A file that becomes readable when something changed on the host; what it was, a pass finds out."""

import select
import socket
from contextlib import suppress

_ROUTE_GROUPS = (1, 5, 7, 8, 9, 11, 19)
"""RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE (rtnetlink.h)."""

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

    def fileno(self) -> int:
        """For select(2)."""
        return self._epoll.fileno()

    def drain(self) -> int:
        """Read and forget what is queued; how many datagrams there were. Lost ones (ENOBUFS) count as one."""
        return sum(_drain(subscription) for subscription in self._sockets)

    def close(self) -> None:
        """End the subscriptions."""
        self._epoll.close()
        for subscription in self._sockets:
            subscription.close()


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

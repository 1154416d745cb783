"""The cable of the stage: a veth pair between two network namespaces (veth(4)), through our own netlink."""

import struct
import sys
from contextlib import closing

from resource_wireguard.errors import HostError
from resource_wireguard.system import netlink
from resource_wireguard.system.messages import F_CREATE, F_EXCL, NetlinkSocket, nested, text, u32

NAME = "cable"

_NEWLINK, _SETLINK = 16, 19
_IFNAME, _LINKINFO, _NET_NS_PID = 3, 18, 19
_INFO_KIND, _INFO_DATA = 1, 2
_VETH_INFO_PEER = 1
_IFF_UP = 1
"""include/uapi/linux/rtnetlink.h, if_link.h, veth.h."""

_ifinfomsg = struct.Struct("=BxHiII")


def lay(pid: int) -> None:
    """Lay a cable from this network namespace to that of a process; both ends have one name."""
    other_end = _ifinfomsg.pack(0, 0, 0, 0, 0) + text(_IFNAME, NAME) + u32(_NET_NS_PID, pid)
    data = nested(_INFO_DATA, [nested(_VETH_INFO_PEER, [other_end])])
    parts = [text(_IFNAME, NAME), nested(_LINKINFO, [text(_INFO_KIND, "veth"), data])]
    with closing(NetlinkSocket(netlink.NETLINK_ROUTE)) as kernel:
        kernel.change(_NEWLINK, _ifinfomsg.pack(0, 0, 0, 0, 0) + b"".join(parts), F_CREATE | F_EXCL)


def connect(address: str) -> None:
    """Give this namespace's end of the cable an address ('192.0.2.1/24'), and switch it on."""
    with closing(NetlinkSocket(netlink.NETLINK_ROUTE)) as kernel:
        end = netlink.link(kernel, NAME)
        if end is None:
            raise HostError("there is no cable to connect to")
        netlink.add_address(kernel, end.index, address)
        kernel.change(_SETLINK, _ifinfomsg.pack(0, 0, end.index, _IFF_UP, _IFF_UP))


if __name__ == "__main__":
    connect(sys.argv[1])

"""UDP sockets that hear one device only, in the network namespace in which it lies."""

import errno
import socket

from resource_wireguard.errors import HostError
from resource_wireguard.model.net import is_v6
from resource_wireguard.system.places import Place


def open_socket(place: Place, interface: str, address: str, port: int) -> socket.socket | None:
    """Bound to a device and an address; None where there is no such device, HostError for all else."""
    try:
        return place.inside(lambda: _bound(interface, address, port))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise HostError(error.strerror or str(error)) from None


def _bound(interface: str, address: str, port: int) -> socket.socket:
    """To the device by its index (socket(7), SO_BINDTODEVICE): another one of that name is not heard."""
    sock = socket.socket(socket.AF_INET6 if is_v6(address) else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock

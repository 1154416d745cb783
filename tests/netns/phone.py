"""The other end as a phone has it: a WireGuard that is none of ours (boringtun with a TCP stack).

Called with a config file, an address and a port; says on stdout what a TCP server there answers to 'ping'.
"""

import sys

from wireguard_requests import WireGuardConfig, WireGuardSocket
from wireguard_requests._native import WgTunnel

path, address, port = sys.argv[1:]
tunnel = WgTunnel(WireGuardConfig.from_file(path).to_native())
try:
    with WireGuardSocket(tunnel) as connection:
        connection.settimeout(10)
        connection.connect((address, int(port)))
        connection.sendall(b"ping\n")
        print(connection.recv(100).decode(), end="")
finally:
    tunnel.close()

"""Config files of the WireGuard world, read and written as values: wg-quick, networkd, NetworkManager."""

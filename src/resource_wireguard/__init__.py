"""The program that owns the WireGuard networking of a host."""

__version__ = "0.1.0"

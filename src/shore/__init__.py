"""Shore: a self-healing network layer around userspace WireGuard."""

__version__ = "0.1.0"

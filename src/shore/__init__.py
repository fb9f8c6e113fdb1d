"""Shore: a self-healing network layer around userspace WireGuard."""

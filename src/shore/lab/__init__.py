"""Floor 5: networks of namespaces, WireGuard ends of every make, and faults; for tests, demo, benchmarks."""

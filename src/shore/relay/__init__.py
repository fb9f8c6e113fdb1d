"""Floor 5: the relay, a process of its own (docs/protocol/relay.md)."""

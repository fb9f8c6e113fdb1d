"""Floor 5: the coordination server (docs/protocol/control.md)."""

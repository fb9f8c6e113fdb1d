"""Floor 5: the host process of the native threads."""

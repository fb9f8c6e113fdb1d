"""Floor 2: bytes to messages and back, pure, one protocol per file."""

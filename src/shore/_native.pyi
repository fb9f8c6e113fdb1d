"""The Rust crates, in Python's words."""

__all__ = ["confine", "public_key", "run"]

def run(listener: int, user: int, seed: int) -> None:
    """Run the data plane: serve brains on the listening socket until one says `stop`.

    Takes the descriptor `listener` over, releases the GIL, and lets `user` (beside root) command.
    `seed` feeds jitter, never keys. Raises OSError where a thread cannot start, ValueError for a
    standard descriptor.
    """

def confine(user: int, group: int) -> None:
    """Give up every right: user, groups, capabilities, new privileges, core dumps.

    Where the ids do not exist in this user namespace they are kept. Raises OSError.
    """

def public_key(private_key: bytes) -> bytes:
    """X25519 of the base point (RFC 7748): 32 bytes to 32 bytes. Raises ValueError on another length."""

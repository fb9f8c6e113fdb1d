"""Who belongs to the network, as far as policy asks."""

import msgspec


class Member(msgspec.Struct, frozen=True):
    """A node that was let in. A node with tags acts for nobody: its `user` counts only while it has none."""

    id: int
    name: str
    user: str
    tags: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()

"""Who belongs to the network, as far as policy asks."""

import msgspec


class Member(msgspec.Struct, frozen=True):
    """A node that was let in. A node with tags acts for nobody: its `user` counts only while it has none.

    `prefixes` are beyond its addresses: it leads to them, and somebody approved that.
    """

    id: int
    name: str
    user: str
    tags: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()

"""What one rule of a policy says: some members may reach others at some ports."""

import msgspec

from shore.coordination.members import Member
from shore.coordination.policy.terms import Selector, bare_user
from shore.model.filter import Ports


class Line(msgspec.Struct, frozen=True):
    """What one rule of the file says of one list of destinations; `words` is its beginning there."""

    number: int
    words: str
    sources: tuple[Selector, ...]
    destinations: tuple[Selector, ...]
    ports: tuple[Ports, ...]

    def lets(self, source: Member, destination: Member) -> bool:
        """Whether it is about these two at all."""
        if not any(selector.holds(source) for selector in self.sources):
            return False
        return any(
            _same_user(source, destination) if selector.kind == "self" else selector.holds(destination)
            for selector in self.destinations
        )


def _same_user(one: Member, other: Member) -> bool:
    return not one.tags and not other.tags and bare_user(one.user) == bare_user(other.user)

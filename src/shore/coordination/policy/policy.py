"""A compiled policy, and what is asked of it for the members that there are."""

from shore.coordination.members import Member
from shore.coordination.policy.lines import Line
from shore.coordination.policy.ports import cover
from shore.coordination.policy.reach import MEMBERS, Reach
from shore.model.filter import Protocol, Rule


class Policy:
    """The whole file. Members are given with each question, as they come and go without it."""

    def __init__(self, lines: tuple[Line, ...], notes: tuple[str, ...]) -> None:
        self.lines = lines
        self.notes = notes
        self._latest: tuple[tuple[Member, ...], Reach] | None = None

    def rules_for(self, node: Member, members: tuple[Member, ...]) -> tuple[Rule, ...]:
        """What the node's data plane lets in; the same for equal members, whatever their order."""
        return self._reach(members).rules_for(node)

    def peers_of(self, node: Member, members: tuple[Member, ...]) -> set[int]:
        """The ids of those that may reach the node, and of those that it may reach; never its own."""
        return self._reach(members).peers_of(node)

    def reach(self, members: tuple[Member, ...] = (), everybody: tuple[str, ...] = MEMBERS) -> Reach:
        """Who reaches whom, for a caller that says who comes and goes; `everybody` are the mesh's ranges."""
        return Reach(self.lines, members, everybody)

    def line_for(
        self, source: Member, destination: Member, protocol: Protocol, port: int | None
    ) -> Line | None:
        """The first line that lets a conversation begin."""
        fitting = (
            line
            for line in self.lines
            if cover(line.ports, protocol, port) and line.lets(source, destination)
        )
        return next(fitting, None)

    def _reach(self, members: tuple[Member, ...]) -> Reach:
        if self._latest is None or self._latest[0] is not members:
            self._latest = members, self.reach(members)
        return self._latest[1]

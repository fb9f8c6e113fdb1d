"""Who reaches whom, for one set of members.

Each selector is asked about each member once, and each line's sources become prefixes once, whoever its
destinations are. So what a node needs costs a look at each line, and a thousand nodes cost a thousand times
that. Where a source is everything, the rule says so and does not name addresses: it stays as it is
when members come and go.
"""

import ipaddress
from collections.abc import Iterable

from shore.coordination.members import Member
from shore.coordination.policy.lines import Line
from shore.coordination.policy.ports import united
from shore.coordination.policy.terms import Network, Selector, bare_user, collapsed
from shore.model.filter import Ports, Rule

EVERYWHERE = ("0.0.0.0/0", "::/0")


class Reach:
    """For these members only: others, or one that changed, make another one."""

    def __init__(self, lines: tuple[Line, ...], members: tuple[Member, ...]) -> None:
        self.members = members
        self._lines = lines
        self._held: dict[Selector, frozenset[int]] = {}
        self._united: dict[tuple[Selector, ...], frozenset[int]] = {}
        self._prefixes: dict[tuple[Selector, ...], tuple[str, ...]] = {}
        self._collapsed: dict[frozenset[int], tuple[str, ...]] = {}
        self._by_id = {member.id: member for member in members}
        self._own: dict[str, frozenset[int]] = {}
        for member in members:
            if not member.tags:
                user = bare_user(member.user)
                self._own[user] = self._own.get(user, frozenset()) | {member.id}

    def rules_for(self, node: Member) -> tuple[Rule, ...]:
        """Rules with equal ends are one."""
        merged: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Ports]] = {}
        for line in self._lines:
            for sources, destinations in self._ends(line, node):
                if sources and destinations:
                    merged.setdefault((sources, destinations), []).extend(line.ports)
        return tuple(
            Rule(sources, destinations, united(ports)) for (sources, destinations), ports in merged.items()
        )

    def peers_of(self, node: Member) -> set[int]:
        """Both directions."""
        peers: set[int] = set()
        for line in self._lines:
            sources, destinations = self._ids(line.sources), self._ids(line.destinations)
            own = self._own_nodes(line, node)
            if node.id in destinations:
                peers |= sources
            peers |= sources & own
            if node.id in sources:
                peers |= destinations | own
        return peers - {node.id}

    def _ends(self, line: Line, node: Member) -> Iterable[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Sources and destinations of the rules that a line makes for the node."""
        yield self._sources(line.sources), _destinations(line.destinations, node)
        mates = self._own_nodes(line, node) & self._ids(line.sources)
        if mates:
            yield self._addresses(mates), _prefixes(node.addresses)

    def _own_nodes(self, line: Line, node: Member) -> frozenset[int]:
        """Where the line says `self`: the nodes of this node's user."""
        if node.tags or not any(selector.kind == "self" for selector in line.destinations):
            return frozenset()
        return self._own.get(bare_user(node.user), frozenset())

    def _ids(self, selectors: tuple[Selector, ...]) -> frozenset[int]:
        if selectors not in self._united:
            self._united[selectors] = frozenset().union(*(self._holders(each) for each in selectors))
        return self._united[selectors]

    def _holders(self, selector: Selector) -> frozenset[int]:
        if selector not in self._held:
            self._held[selector] = frozenset(each.id for each in self.members if selector.holds(each))
        return self._held[selector]

    def _sources(self, selectors: tuple[Selector, ...]) -> tuple[str, ...]:
        if selectors not in self._prefixes:
            self._prefixes[selectors] = self._source_prefixes(selectors)
        return self._prefixes[selectors]

    def _source_prefixes(self, selectors: tuple[Selector, ...]) -> tuple[str, ...]:
        if any(selector.kind == "everything" for selector in selectors):
            return EVERYWHERE
        named: list[Network] = []
        for selector in selectors:
            named += [ipaddress.ip_network(network) for network in selector.networks]
        whole = tuple(selector for selector in selectors if selector.kind != "networks")
        return collapsed(named + self._networks(self._ids(whole)))

    def _addresses(self, ids: frozenset[int]) -> tuple[str, ...]:
        if ids not in self._collapsed:
            self._collapsed[ids] = collapsed(self._networks(ids))
        return self._collapsed[ids]

    def _networks(self, ids: frozenset[int]) -> list[Network]:
        return [ipaddress.ip_network(address) for each in ids for address in self._by_id[each].addresses]


def _destinations(selectors: tuple[Selector, ...], node: Member) -> tuple[str, ...]:
    """Of the node's addresses those that are meant."""
    if any(selector.kind == "everything" for selector in selectors):
        return EVERYWHERE
    whole = [selector for selector in selectors if selector.kind != "networks"]
    if any(selector.holds(node) for selector in whole):
        return _prefixes(node.addresses)
    named = [selector for selector in selectors if selector.kind == "networks"]
    return _prefixes(
        tuple(each for each in node.addresses if any(selector.contains(each) for selector in named))
    )


def _prefixes(addresses: tuple[str, ...]) -> tuple[str, ...]:
    return collapsed([ipaddress.ip_network(address) for address in addresses])

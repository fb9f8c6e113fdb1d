"""Who reaches whom, for the members that there are now.

Whether two members reach each other hangs on these two and on nobody else, so one that comes, changes or goes
costs a look at its own edges. Each selector is asked about a member once, when it comes, and each line's
sources become prefixes once, whoever its destinations are, until somebody comes or goes whom they mean.
Where a source is everybody, the rule names the mesh's ranges and not addresses: it stays as it is when
members come and go, and lets in nobody from behind a member. Such hosts are let in where a line names their
prefix. As a destination everybody is each member with what it leads to, and not a packet further.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from shore.coordination.members import Member
from shore.coordination.policy.lines import Line
from shore.coordination.policy.ports import united
from shore.coordination.policy.terms import Network, Selector, bare_user, collapsed
from shore.core.consent import overlap
from shore.model.filter import Ports, Rule
from shore.model.netmap import NODE_RANGE_V4

# Where no network has its range yet.
MEMBERS = (NODE_RANGE_V4, "fd00::/8")
_Selectors = tuple[Selector, ...]


class Reach:
    """Of some lines. Members are put and removed one by one; one that changed is put again."""

    def __init__(
        self, lines: tuple[Line, ...], members: Iterable[Member] = (), everybody: tuple[str, ...] = MEMBERS
    ) -> None:
        self._lines, self._everybody = lines, everybody
        self._members: dict[int, Member] = {}
        self._networks: dict[int, tuple[Network, ...]] = {}
        ends = (selectors for line in lines for selectors in (line.sources, line.destinations))
        self._held: dict[Selector, set[int]] = {each: set() for selectors in ends for each in selectors}
        self._own: dict[str, set[int]] = {}
        self._united: dict[_Selectors, frozenset[int]] = {}
        self._prefixes: dict[_Selectors, tuple[str, ...]] = {}
        self._mates: dict[frozenset[int], tuple[str, ...]] = {}
        for member in members:
            self.put(member)

    def put(self, member: Member) -> None:
        """A member came, or is another than before."""
        self.remove(member.id)
        self._members[member.id] = member
        self._networks[member.id] = tuple(map(ipaddress.ip_network, member.addresses))
        if not member.tags:
            self._own.setdefault(bare_user(member.user), set()).add(member.id)
        about = {each for each in self._held if each.holds(member) or each.is_behind(member)}
        self._forget(about, member.id)

    def remove(self, number: int) -> None:
        """A member went."""
        member = self._members.pop(number, None)
        if member is None:
            return
        del self._networks[number]
        if not member.tags:
            self._own[bare_user(member.user)].discard(number)
        self._forget({selector for selector, held in self._held.items() if number in held}, number)

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

    def _forget(self, selectors: set[Selector], number: int) -> None:
        """These selectors hold the member from now, or do not any more: what was made of them is stale."""
        for selector in selectors:
            self._held[selector] ^= {number}
        for stale in [each for each in self._united if not selectors.isdisjoint(each)]:
            del self._united[stale]
        for stale in [each for each in self._prefixes if not selectors.isdisjoint(each)]:
            del self._prefixes[stale]
        self._mates.clear()

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
        return frozenset(self._own.get(bare_user(node.user), ()))

    def _ids(self, selectors: _Selectors) -> frozenset[int]:
        if selectors not in self._united:
            self._united[selectors] = frozenset().union(*(self._held[each] for each in selectors))
        return self._united[selectors]

    def _sources(self, selectors: _Selectors) -> tuple[str, ...]:
        if selectors not in self._prefixes:
            self._prefixes[selectors] = self._source_prefixes(selectors)
        return self._prefixes[selectors]

    def _source_prefixes(self, selectors: _Selectors) -> tuple[str, ...]:
        named = [ipaddress.ip_network(network) for selector in selectors for network in selector.networks]
        if any(selector.kind == "everything" for selector in selectors):
            return collapsed([*map(ipaddress.ip_network, self._everybody), *named])
        whole = tuple(selector for selector in selectors if selector.kind != "networks")
        return collapsed(named + self._networks_of(self._ids(whole)))

    def _addresses(self, ids: frozenset[int]) -> tuple[str, ...]:
        if ids not in self._mates:
            self._mates[ids] = collapsed(self._networks_of(ids))
        return self._mates[ids]

    def _networks_of(self, ids: frozenset[int]) -> list[Network]:
        return [network for each in ids for network in self._networks[each]]


def _destinations(selectors: _Selectors, node: Member) -> tuple[str, ...]:
    """Of the node's addresses, and of what it leads to, what is meant."""
    if any(selector.kind == "everything" for selector in selectors):
        return _prefixes((*node.addresses, *node.prefixes))
    whole = [selector for selector in selectors if selector.kind != "networks"]
    named = [selector for selector in selectors if selector.kind == "networks"]
    own = node.addresses
    if not any(selector.holds(node) for selector in whole):
        own = tuple(each for each in own if any(selector.contains(each) for selector in named))
    parts = (overlap(each, network) for each in node.prefixes for one in named for network in one.networks)
    return _prefixes((*own, *(part for part in parts if part is not None)))


@lru_cache(4096)
def _prefixes(addresses: tuple[str, ...]) -> tuple[str, ...]:
    return collapsed([ipaddress.ip_network(address) for address in addresses])

"""Netmaps as the server holds them: per node, records as encoded, a version, and the digests of late.

What a node sees hangs on edges, which policy draws between members. A change names the nodes that it
concerns: a node that moved concerns those that hold it, a member that came or went concerns those whose edges
it has, a new policy concerns all. Concerned nodes are marked and built again once, when the burst is over, so
ten changes in a tenth of a second are one delta. A node that is built and did not change keeps its version.

A delta is made against what a node holds, and that is known while this server lives: of each node the records
of the last `KEPT` versions are kept by reference. Whoever holds anything else gets the whole.

Pure: clock, signing and sockets are the caller's.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

import msgspec

from shore.coordination.members import Member
from shore.coordination.policy import Policy
from shore.model.desired import Candidate
from shore.model.netmap import LEASE_S, Filter, Names, Peer, Record, Relay, Self, Server
from shore.wire.signing import digest

KEPT = 8
DAY_S = 86400.0
_encoder = msgspec.msgpack.Encoder()


class Node(msgspec.Struct, frozen=True):
    """A member of role `node` as the server knows it now; the last three are as it said on its link."""

    member: Member
    machine_key: bytes
    node_key: bytes
    prefixes: tuple[str, ...] = ()
    expires_at: float | None = None
    ephemeral: bool = False
    endorsement: bytes | None = None
    online: bool = False
    candidates: tuple[Candidate, ...] = ()
    relays: tuple[str, ...] = ()


class Built(msgspec.Struct, frozen=True):
    """One version of one node's netmap."""

    version: int
    digest: bytes
    records: dict[str, bytes]


class Change(msgspec.Struct, frozen=True):
    """From the version that a node holds to the one it should."""

    from_digest: bytes
    changed: dict[str, bytes]
    removed: tuple[str, ...]


class Netmaps:
    """The netmaps of all nodes under one policy; `version` is the highest given out in this epoch."""

    def __init__(self, policy: Policy, shared: tuple[Names, Server], version: int) -> None:
        self.version = version
        self.policy = policy
        self._names, self._server = shared
        self._relays: tuple[Relay, ...] = ()
        self._nodes: dict[int, Node] = {}
        self._by_key: dict[bytes, int] = {}
        self._members: tuple[Member, ...] = ()
        self._edges: dict[int, set[int]] = {}
        self._kept: dict[int, OrderedDict[int, Built]] = {}
        self._marked: set[int] = set()

    @property
    def members(self) -> tuple[Member, ...]:
        """All of them, as policy asks."""
        return self._members

    def node(self, number: int) -> Node | None:
        """The node of this number."""
        return self._nodes.get(number)

    def by_key(self, node_key: bytes) -> int | None:
        """The number of the node that has this node key."""
        return self._by_key.get(node_key)

    def hold_each_other(self, one: int, other: int) -> bool:
        """Whether either is in the other's netmap; edges go both ways."""
        return other in self._edges.get(one, ())

    def expired(self, now: float) -> tuple[Node, ...]:
        """Those whose key has run out and who are here yet."""
        nodes = self._nodes.values()
        return tuple(node for node in nodes if node.expires_at is not None and node.expires_at <= now)

    def put_all(self, nodes: Iterable[Node]) -> None:
        """Begin with these, whom nobody was told of yet."""
        self._nodes = {node.member.id: node for node in nodes}
        self._by_key = {node.node_key: number for number, node in self._nodes.items()}
        self._redraw(set(self._nodes))

    def put(self, node: Node) -> None:
        """A node came, or something of it changed."""
        number = node.member.id
        before = self._nodes.get(number)
        if before == node:
            return
        self._nodes[number] = node
        if before is not None:
            self._by_key.pop(before.node_key, None)
        self._by_key[node.node_key] = number
        if before is None or before.member != node.member:
            self._redraw({number})
        else:
            self._marked |= self._edges[number] | {number}

    def remove(self, number: int) -> None:
        """A node left, was revoked, or its key ran out."""
        node = self._nodes.pop(number, None)
        if node is not None:
            self._by_key.pop(node.node_key, None)
            self._kept.pop(number, None)
            self._redraw({number})
            self._marked.discard(number)

    def govern(self, policy: Policy) -> None:
        """Another policy is in force."""
        self.policy = policy
        self._redraw(set(self._nodes))

    def offer(self, relays: Iterable[Relay]) -> None:
        """These are the relays now."""
        offered = tuple(relays)
        if offered != self._relays:
            self._relays = offered
            self._marked |= self._nodes.keys()

    def renew(self) -> None:
        """A day is over: leases are to be renewed."""
        self._marked |= self._nodes.keys()

    def settle(self, now: float) -> tuple[int, ...]:
        """Build what is marked; the nodes whose netmap is another now."""
        marked, self._marked = self._marked, set()
        lease_until = (now // DAY_S) * DAY_S + LEASE_S
        encoded = {
            number: _encoder.encode(_peer(self._nodes[number], lease_until))
            for number in {peer for one in marked for peer in self._edges[one]}
        }
        shared = self._shared()
        return tuple(number for number in sorted(marked) if self._build(number, shared, encoded))

    def is_built(self, number: int) -> bool:
        """Whether the node has a netmap, of whatever age."""
        return number in self._kept

    def latest(self, number: int) -> Built:
        """The netmap of a node that was settled."""
        return next(reversed(self._kept[number].values()))

    def since(self, number: int, version: int) -> Change | None:
        """What changed since that version; None where only the whole will do."""
        kept = self._kept[number]
        if version not in kept:
            return None
        old, new = kept[version], self.latest(number)
        changed = {key: value for key, value in new.records.items() if old.records.get(key) != value}
        return Change(old.digest, changed, tuple(sorted(old.records.keys() - new.records.keys())))

    def _redraw(self, moved: set[int]) -> None:
        """Edges anew, and whoever has, had or is what moved is concerned; rules hang on all members."""
        self._members = tuple(node.member for _, node in sorted(self._nodes.items()))
        before = self._edges
        self._edges = {m.id: self.policy.peers_of(m, self._members) for m in self._members}
        for number, peers in self._edges.items():
            if number in moved or peers & moved or before.get(number) != peers:
                self._marked.add(number)

    def _shared(self) -> dict[str, bytes]:
        records: dict[str, Record] = {f"relay:{relay.id}": relay for relay in self._relays}
        records |= {"server": self._server, "names": self._names}
        return {key: _encoder.encode(record) for key, record in records.items()}

    def _build(self, number: int, shared: Mapping[str, bytes], encoded: Mapping[int, bytes]) -> bool:
        node = self._nodes[number]
        rules = self.policy.rules_for(node.member, self._members)
        records = {
            **shared,
            "self": _encoder.encode(_self(node)),
            "filter": _encoder.encode(Filter(rules)),
            **{f"peer:{self._nodes[p].node_key.hex()}": encoded[p] for p in self._edges[number]},
        }
        kept = self._kept.setdefault(number, OrderedDict())
        if kept and self.latest(number).records == records:
            return False
        self.version += 1
        kept[self.version] = Built(self.version, digest(records), records)
        if len(kept) > KEPT:
            kept.popitem(last=False)
        return True


def _self(node: Node) -> Self:
    of = node.member
    return Self(of.name, node.node_key, of.addresses, of.user, of.tags, node.prefixes, node.expires_at)


def _peer(node: Node, lease_until: float) -> Peer:
    of = node.member
    return Peer(
        name=of.name,
        node_key=node.node_key,
        addresses=of.addresses,
        user=of.user,
        lease_until=lease_until if node.expires_at is None else min(lease_until, node.expires_at),
        tags=of.tags,
        prefixes=node.prefixes,
        candidates=node.candidates,
        relays=node.relays,
        online=node.online,
        ephemeral=node.ephemeral,
        endorsement=node.endorsement,
    )

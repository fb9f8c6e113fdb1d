"""Netmaps as the server holds them: per node, records as encoded, a version, and the digests of late.

What a node sees hangs on edges, which policy draws between two members, whoever else comes or goes. A change
names the nodes that it concerns: a node that moved concerns those that hold it, a member that came or went
those whose edges it has, a new policy all. Of a concerned node only those records are built that may be
others now, once, when the burst is over: ten changes at once are one delta. A node that is built and did not
change keeps its version.

Only netmaps that somebody waits for are kept up to date (`watch`). The others stay as they are, and are
compared whole with what is true when their nodes come back.

A delta is made against what a node holds, and that is known while this server lives (`records`). Whoever
holds anything else gets the whole.

Pure: clock, signing and sockets are the caller's.
"""

from collections.abc import Collection, Iterable

import msgspec

from shore.coordination.members import Member
from shore.coordination.policy import Policy
from shore.coordination.records import Records, hashes_of
from shore.model.desired import Candidate
from shore.model.netmap import LEASE_S, NODE_RANGE_V4, Filter, Names, Peer, Record, Relay, Self, Server

DAY_S = 86400.0
_encoder = msgspec.msgpack.Encoder()


class Node(msgspec.Struct, frozen=True):
    """A member of role `node` as the server knows it now; the last three are as it said on its link.

    `advertised` are prefixes that it would lead to, whether or not anybody approved it.
    """

    member: Member
    machine_key: bytes
    node_key: bytes
    advertised: tuple[str, ...] = ()
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


class Stale(msgspec.Struct):
    """What may be another of one netmap than it says: records of peers by their ids, those of the node
    itself, or everything."""

    ids: set[str]
    own: bool = False
    whole: bool = False


class Netmaps:
    """The netmaps of all nodes under one policy. `version` is the highest given out in this epoch."""

    def __init__(self, policy: Policy, shared: tuple[Names, Server], version: int) -> None:
        self.version = version
        self.policy = policy
        self._names, self._server = shared
        self._everybody = (NODE_RANGE_V4, self._names.range_v6)
        self._reach = policy.reach(everybody=self._everybody)
        self._relays: tuple[Relay, ...] = ()
        self._nodes: dict[int, Node] = {}
        self._by_key: dict[bytes, int] = {}
        self._by_id: dict[str, int] = {}
        self._members: tuple[Member, ...] | None = None
        self._edges: dict[int, set[int]] = {}
        self._records: dict[int, Records] = {}
        self._watched: set[int] = set()
        self._stale: dict[int, Stale] = {}
        self._day = 0.0
        self._encoded: dict[str, tuple[bytes, bytes]] = {}

    @property
    def members(self) -> tuple[Member, ...]:
        """All of them, as policy asks."""
        if self._members is None:
            self._members = tuple(node.member for _, node in sorted(self._nodes.items()))
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
        for node in nodes:
            self._know(node)
            self._reach.put(node.member)
        self._redraw()

    def put(self, node: Node) -> None:
        """A node came, or something of it changed."""
        number = node.member.id
        before = self._nodes.get(number)
        if before == node:
            return
        ids = {_id(each) for each in (before, node) if each is not None}
        if before is not None:
            self._forget(before)
        self._know(node)
        concerned = self._edges.get(number, set())
        if before is None or before.member != node.member:
            self._reach.put(node.member)
            concerned = concerned | self._draw(number)
            self._mark_own(concerned)
            self._mark_whole((number,))
        elif _self(before) != _self(node):
            self._mark_own((number,))
        self._mark(concerned, ids)

    def remove(self, number: int) -> None:
        """A node left, was revoked, or its key ran out."""
        node = self._nodes.pop(number, None)
        if node is not None:
            self._forget(node)
            self._reach.remove(number)
            self._records.pop(number, None)
            self.unwatch(number)
            concerned = self._draw(number)
            self._mark(concerned, {_id(node)})
            self._mark_own(concerned)

    def govern(self, policy: Policy) -> None:
        """Another policy is in force."""
        self.policy, self._reach = policy, policy.reach(self.members, self._everybody)
        self._redraw()

    def offer(self, relays: Iterable[Relay]) -> None:
        """These are the relays now."""
        offered = tuple(relays)
        if offered != self._relays:
            self._relays = offered
            self._mark_whole(self._watched)

    def renew(self) -> None:
        """A day is over: leases are to be renewed."""
        self._encoded.clear()
        self._mark_whole(self._watched)

    def watch(self, number: int) -> None:
        """Somebody waits for this node's netmap."""
        if number in self._nodes and number not in self._watched:
            self._watched.add(number)
            self._stale[number] = Stale(set(), whole=True)

    def unwatch(self, number: int) -> None:
        """Nobody does any more."""
        self._watched.discard(number)
        self._stale.pop(number, None)

    def concerned(self) -> tuple[int, ...]:
        """Whose netmaps may be others than they say."""
        return tuple(self._stale)

    def settle(self, now: float, numbers: Iterable[int] | None = None) -> tuple[int, ...]:
        """Build those of these nodes that are concerned, or of all; whose netmap is another now."""
        if now // DAY_S != self._day:
            self._day = now // DAY_S
            self._encoded.clear()
        chosen = self.concerned() if numbers is None else numbers
        return tuple(number for number in chosen if self._build(number, self._stale.pop(number, None)))

    def is_settled(self, number: int) -> bool:
        """Whether the node's netmap is what is true."""
        return number in self._watched and number not in self._stale

    def head(self, number: int) -> tuple[int, bytes]:
        """Version and digest of a node that was settled."""
        records = self._records[number]
        return records.version, records.digest

    def latest(self, number: int) -> Built:
        """The netmap of a node that was settled."""
        records = self._records[number]
        return Built(records.version, records.digest, dict(records.content))

    def since(self, number: int, version: int) -> Change | None:
        """What changed since that version; None where only the whole will do."""
        records = self._records[number]
        found = records.since(version)
        if found is None:
            return None
        from_digest, ids = found
        changed = {key: records.content[key] for key in ids if key in records.content}
        return Change(from_digest, changed, tuple(sorted(ids - changed.keys())))

    # Who is there, and who is concerned.

    def _know(self, node: Node) -> None:
        number = node.member.id
        self._nodes[number] = node
        self._by_key[node.node_key] = number
        self._by_id[_id(node)] = number
        self._members = None

    def _forget(self, node: Node) -> None:
        self._by_key.pop(node.node_key, None)
        self._by_id.pop(_id(node), None)
        self._encoded.pop(_id(node), None)
        self._members = None

    def _draw(self, number: int) -> set[int]:
        """This member's edges anew; who has or had one with it."""
        node, before = self._nodes.get(number), self._edges.pop(number, set())
        now = set() if node is None else self._reach.peers_of(node.member)
        for peer in before - now:
            self._edges[peer].discard(number)
        for peer in now - before:
            self._edges[peer].add(number)
        if node is not None:
            self._edges[number] = now
        return before | now

    def _redraw(self) -> None:
        self._edges = {number: self._reach.peers_of(node.member) for number, node in self._nodes.items()}
        self._mark_whole(self._watched)

    def _mark(self, numbers: Iterable[int], ids: set[str]) -> None:
        for number in self._watched.intersection(numbers):
            self._stale_of(number).ids |= ids

    def _mark_own(self, numbers: Iterable[int]) -> None:
        """Rules name members that may come in, so they are others when a member is."""
        for number in self._watched.intersection(numbers):
            self._stale_of(number).own = True

    def _mark_whole(self, numbers: Iterable[int]) -> None:
        for number in self._watched.intersection(numbers):
            self._stale_of(number).whole = True

    def _stale_of(self, number: int) -> Stale:
        stale = self._stale.get(number)
        if stale is None:
            stale = self._stale[number] = Stale(set())
        return stale

    # What is built.

    def _build(self, number: int, stale: Stale | None) -> bool:
        if stale is None:
            return False
        records = self._records.setdefault(number, Records())
        changed, removed = self._whole(number, records) if stale.whole else self._part(number, stale)
        ids = records.change(changed, removed, self._hashes)
        if not ids:
            return False
        self.version += 1
        records.step(self.version, ids)
        return True

    def _whole(self, number: int, records: Records) -> tuple[dict[str, bytes], Collection[str]]:
        shared: dict[str, Record] = {f"relay:{relay.id}": relay for relay in self._relays}
        shared |= {"server": self._server, "names": self._names}
        wanted = {key: _encoder.encode(record) for key, record in shared.items()} | self._own(number)
        wanted |= {id_: self._peer(peer, id_) for peer, id_ in self._ids_of(self._edges[number])}
        return wanted, records.content.keys() - wanted.keys()

    def _part(self, number: int, stale: Stale) -> tuple[dict[str, bytes], Collection[str]]:
        changed, removed, edges = self._own(number) if stale.own else {}, [], self._edges[number]
        for id_ in stale.ids:
            peer = self._by_id.get(id_)
            if peer is not None and peer in edges:
                changed[id_] = self._peer(peer, id_)
            else:
                removed.append(id_)
        return changed, removed

    def _own(self, number: int) -> dict[str, bytes]:
        node = self._nodes[number]
        rules = self._reach.rules_for(node.member)
        return {"self": _encoder.encode(_self(node)), "filter": _encoder.encode(Filter(rules))}

    def _ids_of(self, numbers: Iterable[int]) -> Iterable[tuple[int, str]]:
        return ((number, _id(self._nodes[number])) for number in numbers)

    def _peer(self, number: int, id_: str) -> bytes:
        known = self._encoded.get(id_)
        if known is None:
            record = _encoder.encode(_peer(self._nodes[number], self._day * DAY_S + LEASE_S))
            known = self._encoded[id_] = record, hashes_of(id_, record)
        return known[0]

    def _hashes(self, id_: str, record: bytes) -> bytes:
        known = self._encoded.get(id_)
        return known[1] if known is not None and known[0] is record else hashes_of(id_, record)


def _id(node: Node) -> str:
    return f"peer:{node.node_key.hex()}"


def _self(node: Node) -> Self:
    of = node.member
    return Self(of.name, node.node_key, of.addresses, of.user, of.tags, of.prefixes, node.expires_at)


def _peer(node: Node, lease_until: float) -> Peer:
    of = node.member
    return Peer(
        name=of.name,
        node_key=node.node_key,
        addresses=of.addresses,
        user=of.user,
        lease_until=lease_until if node.expires_at is None else min(lease_until, node.expires_at),
        tags=of.tags,
        prefixes=of.prefixes,
        candidates=node.candidates,
        relays=node.relays,
        online=node.online,
        ephemeral=node.ephemeral,
        endorsement=node.endorsement,
    )

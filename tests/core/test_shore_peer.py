"""The heart and a Shore peer: uplinks, candidates, switches, verdicts, as dialogues."""

import msgspec

from shore.core.actions import Action, Announce, CloseSocket, OpenSockets, OpenUplinkSocket, Resolve
from shore.core.events import (
    Attached,
    Configured,
    Event,
    FactTold,
    LinksChanged,
    NameResolved,
    PeerCalled,
    PlaneAnswered,
    PlaneStarted,
    SocketsOpened,
    UplinkSocketFailed,
    UplinkSocketOpened,
)
from shore.core.node import Node
from shore.model.config import Endpoint, PeerConfig, TunnelConfig, Uplink
from shore.model.desired import Candidate, Peer, Socket, StunQuery
from shore.model.facts import (
    Acquainted,
    Candidates,
    Fact,
    Learned,
    Mapped,
    PathCounters,
    PeerCounters,
    Roamed,
)
from shore.model.links import Link

ME, PEER = b"\1" * 32, b"\2" * 32
ETH0 = Link("eth0", 2, True, 1500, ("192.0.2.1",), (4,))
ETH1 = Link("eth1", 3, True, 1500, ("198.51.100.1", "2001:db8::1"), (4, 6))
FIRST, SECOND = "192.0.2.2:51820", "198.51.100.2:51820"


class Table:
    """A node with one peer of two endpoints, its plane running, and the clock."""

    def __init__(self, **changes: object) -> None:
        self.node, self.now, self.serial, self.said = Node(), 100.0, 0, list[Announce]()
        endpoints = (Endpoint("192.0.2.2", 51820), Endpoint("198.51.100.2", 51820))
        peer = PeerConfig(PEER, allowed_ips=("10.0.0.2/32",), endpoints=endpoints)
        config = TunnelConfig("wg0", ME, ("10.0.0.1/24",), listen_port=51820, peers=(peer,))
        self.config = msgspec.structs.replace(config, **changes)
        self.tell(Configured(self.config))
        self.tell(SocketsOpened(51820, (Socket(1, 4), Socket(2, 6))))
        self.tell(PlaneStarted(7))

    def tell(self, event: Event) -> list[Action]:
        actions = self.node.handle(event, self.now)
        self.said += [a for a in actions if isinstance(a, Announce)]
        return [a for a in actions if isinstance(a, OpenSockets | OpenUplinkSocket | CloseSocket)]

    def fact(self, fact: Fact) -> None:
        self.serial += 1
        self.tell(FactTold(self.serial, fact))

    def links(self, *links: Link) -> list[Action]:
        return self.tell(LinksChanged(links))

    def with_uplinks(self) -> None:
        ways = [a.way for a in self.links(ETH0, ETH1) if isinstance(a, OpenUplinkSocket)]
        for number, (name, index, family) in enumerate(ways, 3):
            opened = Socket(number, family, name)
            self.tell(UplinkSocketOpened((name, index, family), opened))

    def peer(self) -> Peer:
        desired = self.node.desired()
        assert desired is not None
        return desired.peers[0]

    def paths(self) -> list[tuple[int, str]]:
        return [(path.socket, path.remote) for path in self.peer().paths]

    def counters(self, *paths: PathCounters) -> None:
        entry = PeerCounters(
            PEER, None, None, True, 0.1, 1.0, 1.0, 1.0, None, 0, 0, 1, {}, probed=True, paths=paths
        )
        self.now += 1.0
        self.tell(PlaneAnswered({}, {}, (entry,)))


def path(place: tuple[int, str], rtt: float, *, primary: bool = False) -> PathCounters:
    return PathCounters(
        id=None,
        kind="direct",
        socket=place[0],
        remote=place[1],
        primary=primary,
        state="live",
        rtt_ms=rtt,
        observed="203.0.113.9:4000",
    )


def test_two_default_routes_are_two_uplinks_and_one_is_none() -> None:
    table = Table()
    assert table.links(ETH0) == []
    assert table.links(ETH0, ETH1) == [
        OpenUplinkSocket(("eth0", 2, 4), 51820, 0),
        OpenUplinkSocket(("eth1", 3, 4), 51820, 0),
        OpenUplinkSocket(("eth1", 3, 6), 51820, 0),
    ]
    assert table.links(ETH0, ETH1) == []


def test_named_uplinks_are_taken_whatever_their_routes() -> None:
    table = Table(uplinks=(Uplink("eth0"),))
    local = msgspec.structs.replace(ETH0, default=())
    assert table.links(local, ETH1) == [OpenUplinkSocket(("eth0", 2, 4), 51820, 0)]


def test_an_uplink_that_comes_back_with_another_index_is_opened_again() -> None:
    table = Table()
    table.with_uplinks()
    assert table.links(ETH0) == [CloseSocket(3), CloseSocket(4), CloseSocket(5)]
    again = msgspec.structs.replace(ETH1, index=9)
    assert [a.way for a in table.links(ETH0, again) if isinstance(a, OpenUplinkSocket)] == [
        ("eth0", 2, 4),
        ("eth1", 9, 4),
        ("eth1", 9, 6),
    ]


def test_an_uplink_that_cannot_be_bound_is_named_and_tried_with_the_next_change() -> None:
    table = Table()
    table.links(ETH0, ETH1)
    table.tell(UplinkSocketFailed(("eth0", 2, 4), "no such device"))
    assert table.said[-1] == Announce("no socket on eth0", "no such device")
    assert [a.way for a in table.links(ETH0, ETH1) if isinstance(a, OpenUplinkSocket)] == [("eth0", 2, 4)]


def test_a_shore_peer_gets_each_uplink_with_each_endpoint_and_a_foreign_one_the_unbound_socket() -> None:
    table = Table()
    table.with_uplinks()
    assert table.paths() == [(1, FIRST), (1, SECOND)]
    table.fact(Acquainted(PEER, False))
    assert table.said[-1].what == "peer is a Shore node"
    assert table.paths() == [(3, FIRST), (4, FIRST), (4, SECOND), (3, SECOND)]


def test_the_standby_leaves_by_another_uplink_than_the_path_in_use() -> None:
    table = Table()
    table.with_uplinks()
    table.fact(Acquainted(PEER, False))
    table.fact(Roamed(PEER, 4, SECOND, "response"))
    table.fact(Candidates(PEER, (Candidate("[2001:db8::2]:51820", "host"),)))
    assert table.paths() == [
        (4, SECOND),
        (3, FIRST),
        (3, SECOND),
        (4, FIRST),
        (5, "[2001:db8::2]:51820"),
    ]


def test_a_metered_uplink_makes_metered_paths() -> None:
    table = Table(uplinks=(Uplink("eth0"), Uplink("eth1", metered=True)))
    table.with_uplinks()
    table.fact(Acquainted(PEER, False))
    assert [(p.socket, p.metered) for p in table.peer().paths] == [
        (3, False),
        (4, True),
        (4, True),
        (3, False),
    ]


def test_a_shore_peer_is_told_where_we_are_and_what_we_look_like() -> None:
    table = Table()
    table.links(ETH0, ETH1)
    assert table.peer().candidates == ()
    table.fact(Acquainted(PEER, False))
    table.counters(path((1, FIRST), 10, primary=True))
    assert table.peer().candidates == (
        Candidate("192.0.2.1:51820", "host"),
        Candidate("198.51.100.1:51820", "host"),
        Candidate("[2001:db8::1]:51820", "host"),
        Candidate("203.0.113.9:4000", "peer_reflexive"),
    )


def test_what_a_peer_tells_is_probed_unless_it_is_ourselves_or_nonsense() -> None:
    table = Table()
    table.links(ETH0)
    table.fact(Acquainted(PEER, False))
    told = ("203.0.113.5:1", "192.0.2.1:51820", "127.0.0.1:1", "169.254.0.1:1")
    table.fact(Candidates(PEER, tuple(Candidate(endpoint, "host") for endpoint in told)))
    assert table.paths() == [(1, FIRST), (1, SECOND), (1, "203.0.113.5:1")]


def test_where_the_peer_spoke_from_comes_first_and_advice_never_contradicts_a_reflex() -> None:
    table = Table()
    table.fact(Acquainted(PEER, False))
    table.fact(Roamed(PEER, 1, SECOND, "dead", FIRST))
    assert table.said[-1] == Announce(f"path {SECOND}", f"no answer any more from {FIRST}", PEER, {}, "dead")
    table.fact(Learned(PEER, 1, "203.0.113.7:7"))
    assert table.paths() == [(1, SECOND), (1, "203.0.113.7:7"), (1, FIRST)]


def test_where_the_peer_only_spoke_from_does_not_come_before_where_its_packets_go() -> None:
    table = Table()
    table.fact(Acquainted(PEER, False))
    table.fact(Learned(PEER, 1, "203.0.113.7:7"))
    assert table.paths() == [(1, FIRST), (1, "203.0.113.7:7"), (1, SECOND)]


def test_a_verdict_becomes_the_first_advice_with_its_reason() -> None:
    table = Table()
    table.fact(Acquainted(PEER, False))
    for _ in range(12):
        table.counters(path((1, FIRST), 80, primary=True), path((1, SECOND), 20))
    assert table.paths()[0] == (1, SECOND)
    assert table.said[-1].what == f"path {SECOND} preferred"
    assert "costs 80 ms, this one 20 ms" in table.said[-1].why


def test_a_new_brain_takes_over_the_sockets_of_uplinks() -> None:
    before = Table()
    before.with_uplinks()
    held = before.node.desired()
    assert held is not None
    node = Node()
    node.handle(Attached(before.config, 7, held, 51820), 200.0)
    actions = node.handle(LinksChanged((ETH0, ETH1)), 200.0)
    assert not [a for a in actions if isinstance(a, OpenUplinkSocket | CloseSocket)]


def test_stun_servers_are_asked_by_every_way_out_and_their_word_is_told() -> None:
    stun = (Endpoint("203.0.113.1", 3478), Endpoint("stun.example.com", 3478))
    table = Table(stun=stun)
    desired = table.node.desired()
    assert desired is not None
    assert desired.stun == (StunQuery(1, "203.0.113.1:3478"),)
    table.tell(NameResolved("stun.example.com", ("2001:db8::5", "203.0.113.5", "203.0.113.6")))
    table.with_uplinks()
    table.fact(Acquainted(PEER, False))
    desired = table.node.desired()
    assert desired is not None
    assert desired.stun == (
        StunQuery(3, "203.0.113.1:3478"),
        StunQuery(4, "203.0.113.1:3478"),
        StunQuery(3, "203.0.113.5:3478"),
        StunQuery(4, "203.0.113.5:3478"),
        StunQuery(5, "[2001:db8::5]:3478"),
    )
    table.fact(Mapped(3, "203.0.113.1:3478", "203.0.113.9:4000"))
    table.fact(Mapped(4, "203.0.113.1:3478", "198.51.100.1:51820"))
    table.fact(Mapped(3, "203.0.113.77:3478", "203.0.113.66:1"))
    table.counters(path((3, FIRST), 10, primary=True))
    hosts = [candidate.endpoint for candidate in table.peer().candidates if candidate.kind == "host"]
    assert "198.51.100.1:51820" in hosts
    assert [candidate for candidate in table.peer().candidates if candidate.kind != "host"] == [
        Candidate("203.0.113.9:4000", "server_reflexive")
    ]


def test_what_stun_servers_said_is_forgotten_when_the_links_change() -> None:
    table = Table(stun=(Endpoint("203.0.113.1", 3478),))
    table.links(ETH0)
    table.fact(Acquainted(PEER, False))
    table.fact(Mapped(1, "203.0.113.1:3478", "203.0.113.9:4000"))
    assert Candidate("203.0.113.9:4000", "server_reflexive") in table.peer().candidates
    table.links(msgspec.structs.replace(ETH0, addresses=("192.0.2.77",)))
    assert [candidate.kind for candidate in table.peer().candidates] == ["host"]


def test_names_of_stun_servers_are_asked_for_like_those_of_endpoints() -> None:
    stun = (Endpoint("203.0.113.1", 3478), Endpoint("stun.example.com", 3478))
    config = msgspec.structs.replace(Table().config, stun=stun)
    asked = [action for action in Node().handle(Configured(config), 0.0) if isinstance(action, Resolve)]
    assert asked == [Resolve("stun.example.com")]


def test_a_peer_of_a_mesh_is_sought_at_its_candidates_but_not_at_ourselves() -> None:
    told = tuple(Candidate(f"{host}:1", "host") for host in ("192.0.2.9", "198.51.100.9"))
    table = Table(peers=(PeerConfig(PEER, allowed_ips=("100.64.0.2/32",), candidates=told),))
    assert table.paths() == [(1, "192.0.2.9:1"), (1, "198.51.100.9:1")]
    assert table.peer().wanted
    assert table.peer().keepalive_s == 25


def test_a_peer_that_calls_is_probed_where_it_says() -> None:
    table = Table(peers=(PeerConfig(PEER, allowed_ips=("100.64.0.2/32",)),))
    table.fact(Acquainted(PEER, False))
    poke = table.peer().poke
    table.tell(PeerCalled(PEER, (Candidate("203.0.113.7:9", "server_reflexive"),)))
    assert (table.paths(), table.peer().poke) == ([(1, "203.0.113.7:9")], poke + 1)
    table.tell(PeerCalled(bytes(32), ()))

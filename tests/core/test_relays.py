"""Links to relays as dialogues: which are dialled, what comes of them, and the paths that they make."""

import msgspec

from shore.core.actions import Action, Announce, CloseLink, DialRelay
from shore.core.bindings import OF_BINDING
from shore.core.events import (
    Attached,
    Configured,
    Event,
    FactTold,
    LinkDialFailed,
    LinkDialled,
    LinksChanged,
    PlaneAnswered,
    PlaneLost,
    PlaneStarted,
    SocketsOpened,
    Woke,
)
from shore.core.node import Node
from shore.core.relays import is_place, place_of
from shore.core.status import tunnel_status
from shore.model.config import Endpoint, PeerConfig, RelayConfig, TunnelConfig, Uplink
from shore.model.desired import Binding, Path, RelayLink, Socket
from shore.model.facts import (
    Acquainted,
    Away,
    Bound,
    Fact,
    LinkCounters,
    LinkDown,
    LinkLeaving,
    LinkUp,
    PathCounters,
    PeerCounters,
    Roamed,
    Unbound,
)
from shore.model.links import Link
from shore.model.netmap import Signed

ME, PEER, KEY = b"\1" * 32, b"\2" * 32, b"\3" * 32
ADMISSION = Signed(b"content", b"\4" * 32, b"\5" * 64)
PLACE = place_of(PEER)


def relay(name: str) -> RelayConfig:
    return RelayConfig(name, name.encode().ljust(32, b"\0"), (f"{name}.example:443",), (), ADMISSION)


A, B, C = relay("a"), relay("b"), relay("c")


class Table:
    """A node with relays and one peer whose home relay is `home`; its plane runs."""

    def __init__(self, *relays: RelayConfig, home: str = "a", uplinks: tuple[Uplink, ...] = ()) -> None:
        self.node, self.now, self.serial, self.said = Node(), 100.0, 0, list[str]()
        peer = PeerConfig(
            PEER, allowed_ips=("10.0.0.2/32",), endpoints=(Endpoint("192.0.2.2", 51820),), relays=(home,)
        )
        self.config = TunnelConfig(
            "wg0", ME, ("10.0.0.1/24",), peers=(peer,), relays=relays, admission_key=KEY, uplinks=uplinks
        )
        self.dialled = self.tell(Configured(self.config))
        self.tell(SocketsOpened(51820, (Socket(1, 4), Socket(2, 6))))
        self.tell(PlaneStarted(7))

    def tell(self, event: Event) -> list[Action]:
        actions = self.node.handle(event, self.now)
        self.said += [a.what for a in actions if isinstance(a, Announce)]
        return [a for a in actions if isinstance(a, DialRelay | CloseLink)]

    def fact(self, fact: Fact) -> list[Action]:
        self.serial += 1
        return self.tell(FactTold(self.serial, fact))

    def up(self, number: int, name: str) -> list[Action]:
        self.tell(LinkDialled(name, number, f"{name}.example"))
        return self.fact(LinkUp(number, "203.0.113.1:4000"))

    def after(self, seconds: float) -> list[Action]:
        self.now += seconds
        return self.tell(Woke())

    def links(self) -> list[tuple[int, str]]:
        desired = self.node.desired()
        assert desired is not None
        return [(link.id, link.relay) for link in desired.links]

    def paths(self) -> list[Path]:
        desired = self.node.desired()
        assert desired is not None
        return list(desired.peers[0].paths)

    def ways(self) -> list[tuple[str, int, str]]:
        return [(path.kind, path.socket, path.remote) for path in self.paths()]


def test_a_link_that_leaves_by_a_metered_uplink_is_a_standby_over_a_restart_of_the_brain_too() -> None:
    table = Table(A, uplinks=(Uplink("wwan0", metered=True), Uplink("eth0")))
    eth0, wwan0 = Link("eth0", 2, True, 1500, ("192.0.2.1",)), Link("wwan0", 3, True, 1500, ("10.9.0.1",))
    table.tell(LinksChanged((eth0, wwan0)))
    table.tell(LinkDialled("a", 50, "a.example", "10.9.0.1:4000"))
    table.fact(LinkUp(50, "203.0.113.1:4000"))
    desired = table.node.desired()
    assert desired is not None
    assert [(wish.id, wish.uplink) for wish in desired.links] == [(50, "wwan0")]
    assert [path.metered for path in table.paths() if path.kind == "relay"] == [True]
    after = Node()
    after.handle(Attached(table.config, 7, desired, 51820), 0.0)
    after.handle(LinksChanged((eth0, wwan0)), 0.0)
    assert 50 in after.underlay.metered(table.config)


def dial(config: RelayConfig) -> DialRelay:
    return DialRelay(config.id, config.addresses, 0)


DIRECT = ("direct", 1, "192.0.2.2:51820")


def test_a_tunnel_without_relays_has_nothing_of_them() -> None:
    table = Table()
    assert table.dialled == []
    assert table.links() == []
    assert table.ways() == [DIRECT]


def test_two_relays_are_linked_and_a_third_where_a_peer_is_at_home() -> None:
    assert Table(A, B, C).dialled == [dial(A), dial(B)]
    assert Table(A, B, C, home="c").dialled == [dial(A), dial(B), dial(C)]


def test_a_dialled_relay_becomes_a_link_of_the_plane_with_all_it_needs() -> None:
    table = Table(A)
    assert table.tell(LinkDialled("a", 5, "a.example")) == []
    desired = table.node.desired()
    assert desired is not None
    admission = msgspec.msgpack.encode(ADMISSION)
    assert desired.links == (RelayLink(5, "a", A.pin, "a.example", admission, KEY),)
    assert table.ways() == [DIRECT], "a link that is not up is no way to anybody"


def test_the_first_packet_to_a_peer_goes_by_its_relay() -> None:
    table = Table(A)
    table.up(5, "a")
    assert table.ways() == [("relay", 5, PLACE), DIRECT]
    assert table.paths()[0].mtu == 1500


def test_what_is_known_as_a_shore_peer_is_wished_directly_until_a_reflex_says_otherwise() -> None:
    table = Table(A)
    table.up(5, "a")
    table.fact(Acquainted(PEER, restarted=False))
    assert table.ways() == [DIRECT, ("relay", 5, PLACE)]
    table.fact(Roamed(PEER, 5, PLACE, "dead", DIRECT[2], 1))
    assert table.ways() == [("relay", 5, PLACE), DIRECT]


def test_a_direct_path_that_is_as_good_is_preferred_to_the_relay() -> None:
    table = Table(A)
    table.up(5, "a")
    table.fact(Acquainted(PEER, restarted=False))
    table.fact(Roamed(PEER, 5, PLACE, "dead", DIRECT[2], 1))
    for _ in range(4):
        table.now += 1.0
        paths = (
            PathCounters(1, "relay", 5, PLACE, primary=True, state="live", rtt_ms=20.0),
            PathCounters(2, "direct", 1, DIRECT[2], primary=False, state="live", rtt_ms=19.0),
        )
        entry = PeerCounters(
            PEER, PLACE, 5, True, 0.1, 1.0, 1.0, 1.0, None, 0, 0, 1, {}, probed=True, paths=paths
        )
        table.tell(PlaneAnswered({}, {}, (entry,)))
    table.now += 8.0
    table.tell(PlaneAnswered({}, {}, (entry,)))
    assert table.ways()[0] == DIRECT


def test_a_place_is_never_told_as_a_candidate() -> None:
    table = Table(A)
    table.up(5, "a")
    table.fact(Acquainted(PEER, restarted=False))
    mine = place_of(ME)
    path = PathCounters(1, "relay", 5, PLACE, primary=True, state="live", rtt_ms=20.0, observed=mine)
    entry = PeerCounters(
        PEER, PLACE, 5, True, 0.1, 1.0, 1.0, 1.0, None, 0, 0, 1, {}, probed=True, paths=(path,)
    )
    table.tell(PlaneAnswered({}, {}, (entry,)))
    desired = table.node.desired()
    assert desired is not None
    assert desired.peers[0].candidates == ()


def test_a_relay_that_cannot_be_dialled_gives_way_and_is_tried_ever_more_slowly() -> None:
    table = Table(A, B, C)
    assert table.tell(LinkDialFailed("a", "connection refused")) == [dial(C)]
    assert "no link to relay a.example:443" in table.said
    table.up(5, "b")
    assert table.after(600.0) == [dial(A)], "its peer is there, so it is not given up"
    assert table.tell(LinkDialFailed("a", "connection refused")) == []
    assert table.after(0.9) == []
    assert table.after(0.2) == [dial(A)]


def test_a_link_that_was_up_is_dialled_again_at_once_and_one_that_was_refused_is_not() -> None:
    table = Table(A)
    table.up(5, "a")
    assert table.fact(LinkDown(5, "the relay closed it")) == [CloseLink(5), dial(A)]
    assert table.ways() == [DIRECT]
    table.tell(LinkDialled("a", 6, "a.example"))
    assert table.fact(LinkDown(6, "the relay refused: expired")) == [CloseLink(6)]
    assert table.after(0.6) == [dial(A)]


def test_a_relay_that_leaves_is_left_only_once_another_link_to_it_is_up() -> None:
    table = Table(A)
    table.up(5, "a")
    assert table.fact(LinkLeaving(5, 10.0)) == [dial(A)]
    assert table.ways()[0] == ("relay", 5, PLACE)
    assert table.up(6, "a") == [CloseLink(5)]
    assert table.ways() == [("relay", 6, PLACE), DIRECT]


def test_packets_move_to_another_relay_at_once_when_theirs_says_that_it_leaves() -> None:
    table = Table(A, B)
    (peer,) = table.config.peers
    both = msgspec.structs.replace(peer, relays=("a", "b"))
    table.tell(Configured(msgspec.structs.replace(table.config, peers=(both,))))
    table.up(5, "a")
    table.up(6, "b")
    table.fact(Acquainted(PEER, restarted=False))
    table.fact(Roamed(PEER, 5, PLACE, "dead", DIRECT[2], 1))
    assert table.ways() == [("relay", 5, PLACE), DIRECT, ("relay", 6, PLACE)]
    table.fact(LinkLeaving(5, 1.5))
    assert table.ways() == [DIRECT, ("relay", 6, PLACE), ("relay", 5, PLACE)]
    table.fact(LinkLeaving(6, 1.5))
    assert table.ways()[0] == ("relay", 5, PLACE), "where both leave, nothing is better than what is"


def test_links_are_replaced_when_the_way_out_is_another_one() -> None:
    table = Table(A)
    table.up(5, "a")
    eth0 = Link("eth0", 2, True, 1500, ("192.0.2.1",), (4,))
    table.tell(LinksChanged((eth0,)))
    moved = msgspec.structs.replace(eth0, addresses=("192.0.2.9",))
    assert table.tell(LinksChanged((moved,))) == [dial(A)]
    assert table.links() == [(5, "a")]


def test_links_die_with_their_plane_and_are_dialled_while_the_next_one_starts() -> None:
    table = Table(A)
    table.up(5, "a")
    assert table.tell(PlaneLost("it exited")) == [CloseLink(5), dial(A)]
    table.tell(LinkDialled("a", 6, "a.example"))
    assert table.tell(PlaneStarted(8)) == []
    assert table.links() == [(6, "a")]


def test_a_new_brain_takes_over_the_links_that_the_plane_has() -> None:
    table = Table(A)
    table.up(5, "a")
    state = table.node.desired()
    assert state is not None
    heir = Node()
    actions = heir.handle(Attached(table.config, 7, state, 51820), 200.0)
    assert [a for a in actions if isinstance(a, DialRelay | CloseLink)] == []
    assert heir.relays.wishes() == state.links


def test_a_link_that_the_plane_has_lost_unheard_is_dialled_again() -> None:
    table = Table(A)
    table.up(5, "a")
    down = LinkCounters(5, "down", 1.0, None, 0, 0, 0)
    assert table.tell(PlaneAnswered({}, {}, None, links=(down,))) == [CloseLink(5), dial(A)]


def test_home_is_the_relay_that_answers_fastest_by_a_margin() -> None:
    table = Table(A, B)
    table.up(5, "a")
    table.up(6, "b")

    def home(first: float, second: float) -> str | None:
        rtts = ((5, first), (6, second))
        counters = tuple(LinkCounters(number, "up", 1.0, rtt, 0, 0, 0) for number, rtt in rtts)
        table.tell(PlaneAnswered({}, {}, None, links=counters))
        return table.node.relays.home

    assert home(20.0, 60.0) == "a"
    assert home(60.0, 40.0) == "a"
    assert home(60.0, 20.0) == "b"


def test_a_relay_that_drops_what_it_is_given_is_home_no_more() -> None:
    table = Table(A, B)
    table.up(5, "a")
    table.up(6, "b")

    def home(second: int, dropped: int) -> str | None:
        counters = (
            LinkCounters(5, "up", 1.0, 20.0, 1000 * second, 0, dropped),
            LinkCounters(6, "up", 1.0, 60.0, 1000 * second, 0, 0),
        )
        table.tell(PlaneAnswered({}, {}, None, links=counters))
        return table.node.relays.home

    assert home(1, 0) == "a"
    assert home(2, 10) == "a", "one of a hundred is what any link may lose"
    assert home(3, 510) == "b"


def test_a_relay_that_the_configuration_drops_is_closed() -> None:
    table = Table(A, B)
    table.up(5, "a")
    without = msgspec.structs.replace(table.config, relays=(B,))
    assert table.tell(Configured(without)) == [CloseLink(5)]
    assert table.links() == []


def by_relay(proof_age_s: float = 0.1) -> PeerCounters:
    """The peer's counters while its packets go by link 5."""
    path = PathCounters(1, "relay", 5, PLACE, primary=True, state="live", rtt_ms=20.0, observed=place_of(ME))
    path = msgspec.structs.replace(path, proof_age_s=proof_age_s)
    return PeerCounters(
        PEER, PLACE, 5, True, 0.1, 1.0, 1.0, 1.0, None, 0, 0, 1, {}, probed=True, paths=(path,)
    )


def test_status_names_links_and_relays_and_no_place() -> None:
    table = Table(A)
    table.up(5, "a")
    link = LinkCounters(5, "up", 3.0, 12.5, 0, 0, 0)
    table.tell(PlaneAnswered({}, {}, (by_relay(),), links=(link,)))
    status = tunnel_status(
        table.node,
        table.now,
        brain_pid=1,
        public_key=None,
        notes=(),
        local_of=lambda number, _: "[2001:db8::1]:4000" if number == 5 else None,
    )
    link = status.links[0]
    assert (link.kind, link.address, link.state, link.rtt_ms) == ("relay", A.addresses[0], "up", 12.5)
    peer = status.peers[0]
    assert (peer.endpoint, peer.by_relay) == (A.addresses[0], True)
    path = peer.paths[0]
    assert (path.kind, path.remote, path.local) == ("relay", A.addresses[0], "[2001:db8::1]:4000")
    assert (path.family, path.observed) == (6, "203.0.113.1:4000")
    assert "[100::" not in msgspec.json.encode(status).decode()


def test_words_name_the_relay_of_a_link_that_ended_too() -> None:
    table = Table(A)
    table.up(5, "a")
    assert table.node.underlay.sockets.words((5, PLACE)) == "relay a.example:443"
    table.fact(LinkDown(5, "the relay closed it"))
    assert table.node.underlay.sockets.words((5, PLACE)) == "relay a.example:443"
    assert "link to relay a.example:443 lost" in table.said


def test_of_several_addresses_the_one_that_was_dialled_is_named() -> None:
    both = msgspec.structs.replace(A, addresses=("a.example:443", "[2001:db8::5]:8443"))
    table = Table(both)
    table.tell(LinkDialled("a", 5, "2001:db8::5"))
    assert table.node.relays.address(5) == "[2001:db8::5]:8443"


def test_a_peer_that_is_away_from_its_relay_is_looked_for_there_last() -> None:
    table = Table(A)
    table.up(5, "a")
    relayed = ("relay", 5, PLACE)
    assert table.ways() == [relayed, DIRECT]
    table.fact(Away(5, PLACE))
    assert table.ways() == [DIRECT, relayed]
    table.after(9.0)
    assert table.ways() == [DIRECT, relayed]
    table.after(1.5)
    assert table.ways() == [relayed, DIRECT]


def test_a_peer_that_answers_by_the_relay_is_not_away_any_more() -> None:
    table = Table(A)
    table.up(5, "a")
    table.fact(Acquainted(PEER, restarted=False))
    table.fact(Roamed(PEER, 5, PLACE, "dead", DIRECT[2], 1))
    table.fact(Away(5, PLACE))
    assert table.ways()[0] == DIRECT
    table.now += 2.0
    table.tell(PlaneAnswered({}, {}, (by_relay(proof_age_s=3.0),)))
    assert table.ways()[0] == DIRECT, "that answer is older than the relay's word"
    table.tell(PlaneAnswered({}, {}, (by_relay(proof_age_s=0.1),)))
    assert table.ways()[0] == ("relay", 5, PLACE)


def with_udp(table: Table, number: int, *servers: str) -> None:
    table.tell(LinkDialled("a", number, "a.example"))
    table.fact(LinkUp(number, "203.0.113.1:4000", servers or ("203.0.113.5:3478",)))


def bindings(table: Table) -> tuple[Binding, ...]:
    desired = table.node.desired()
    assert desired is not None
    return desired.bindings


BY_UDP = OF_BINDING | 5


def test_a_peers_place_is_offered_by_the_udp_side_once_the_relay_forwards_to_us_there() -> None:
    table = Table(A)
    with_udp(table, 5)
    assert bindings(table) == (Binding(BY_UDP, 5, 1, "203.0.113.5:3478"),)
    assert table.ways() == [("relay", 5, PLACE), DIRECT]
    table.fact(Bound(BY_UDP))
    assert table.ways() == [("relay", BY_UDP, PLACE), ("relay", 5, PLACE), DIRECT]
    assert [path.mtu for path in table.paths()][:2] == [1500, 1500]
    table.fact(Unbound(BY_UDP))
    assert table.ways() == [("relay", 5, PLACE), DIRECT]


def test_a_relay_over_ipv6_leaves_room_for_the_longer_header() -> None:
    table = Table(A)
    with_udp(table, 5, "[2001:db8::5]:3478")
    assert bindings(table) == (Binding(BY_UDP, 5, 2, "[2001:db8::5]:3478"),)
    table.fact(Bound(BY_UDP))
    assert [path.mtu for path in table.paths()][:2] == [1488, 1500]


def test_a_binding_goes_on_with_the_next_link_to_its_relay() -> None:
    table = Table(A)
    with_udp(table, 5)
    table.fact(Bound(BY_UDP))
    table.fact(LinkDown(5, "the relay closed it"))
    assert table.ways() == [("relay", BY_UDP, PLACE), DIRECT]
    with_udp(table, 6)
    assert bindings(table) == (Binding(BY_UDP, 6, 1, "203.0.113.5:3478"),)
    assert table.ways() == [("relay", BY_UDP, PLACE), ("relay", 6, PLACE), DIRECT]


def test_a_binding_that_nobody_answers_ends_with_its_link() -> None:
    table = Table(A)
    with_udp(table, 5)
    table.fact(LinkDown(5, "the relay closed it"))
    assert bindings(table) == ()
    with_udp(table, 6)
    table.fact(Bound(OF_BINDING | 6))
    table.fact(Unbound(OF_BINDING | 6))
    assert bindings(table) != ()
    table.fact(LinkDown(6, "the relay closed it"))
    assert bindings(table) == ()


def test_bindings_follow_the_sockets_and_end_with_the_plane() -> None:
    table = Table(A)
    with_udp(table, 5)
    table.fact(Bound(BY_UDP))
    table.tell(SocketsOpened(51820, (Socket(8, 4), Socket(9, 6))))
    assert bindings(table) == (Binding(BY_UDP, 5, 8, "203.0.113.5:3478"),)
    assert table.ways()[0] == ("relay", BY_UDP, PLACE)
    table.tell(PlaneLost("died"))
    assert bindings(table) == ()


def test_the_relays_stream_costs_more_than_its_udp_side() -> None:
    table = Table(A)
    with_udp(table, 5)
    table.fact(Acquainted(PEER, restarted=False))
    table.fact(Roamed(PEER, 5, PLACE, "dead", DIRECT[2], 1))
    table.fact(Bound(BY_UDP))
    stream = PathCounters(1, "relay", 5, PLACE, primary=True, state="live", rtt_ms=20.0)
    by_udp = PathCounters(2, "relay", BY_UDP, PLACE, primary=False, state="live", rtt_ms=20.0)
    for _ in range(15):
        table.now += 1.0
        counters = msgspec.structs.replace(by_relay(proof_age_s=0.1), paths=(stream, by_udp))
        table.tell(PlaneAnswered({}, {}, (counters,)))
    assert table.ways()[0] == ("relay", BY_UDP, PLACE)
    assert table.node.relays.address(BY_UDP) == "203.0.113.5:3478"
    assert table.node.relays.underlay((BY_UDP, PLACE)) == (1, "203.0.113.5:3478")


def test_without_any_link_a_relay_is_dialled_every_3_seconds_at_least() -> None:
    table = Table(A)
    for _ in range(10):
        table.tell(LinkDialFailed("a", "connection refused"))
        assert table.after(3.0) == [dial(A)]


def test_places_and_endpoints_are_told_apart() -> None:
    assert is_place(PLACE)
    assert not is_place("[100:1::5]:51820")
    assert not is_place("192.0.2.1:1")


def test_a_relay_that_admits_us_anew_is_dialled_at_once() -> None:
    table = Table(A, B)
    table.up(1, "a")
    for _ in range(5):
        table.tell(LinkDialFailed("b", "refused"))
        table.after(10)
    table.tell(LinkDialFailed("b", "refused"))
    assert table.after(1) == []
    assert table.tell(Configured(table.config)) == []
    fresh = msgspec.structs.replace(B, admission=Signed(b"later", b"\4" * 32, b"\5" * 64))
    config = msgspec.structs.replace(table.config, relays=(A, fresh))
    assert table.tell(Configured(config)) == [dial(fresh)]

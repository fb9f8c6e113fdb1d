"""The heart of a tunnel as dialogues: what happened, and everything that is to be done about it."""

from dataclasses import dataclass, field

import msgspec
import pytest

from shore.core import timers
from shore.core.actions import (
    Action,
    Announce,
    ApplyHost,
    CloseSocket,
    GoDown,
    KillPlane,
    MapPort,
    OpenExtraSocket,
    OpenSockets,
    Push,
    Resolve,
    SetMark,
    StartPlane,
    TellPeers,
)
from shore.core.events import (
    Attached,
    Configured,
    DeviceGone,
    DeviceMtuChanged,
    Event,
    ExtraSocketOpened,
    FactTold,
    LinksChanged,
    NameFailed,
    NameResolved,
    PlaneAnswered,
    PlaneLost,
    PlaneStarted,
    PokeAsked,
    PortsMapped,
    QuestionUnanswered,
    RenewAsked,
    Resumed,
    SocketsFailed,
    SocketsOpened,
    Woke,
)
from shore.core.node import Node
from shore.core.status import tunnel_status
from shore.model.config import Endpoint, PeerConfig, TunnelConfig
from shore.model.desired import Candidate, Peer, Socket
from shore.model.facts import (
    Acquainted,
    Fact,
    LaneCounters,
    Losing,
    Mapped,
    PathCounters,
    PeerCounters,
    Roamed,
    SessionEstablished,
    SocketFailed,
    TunFailed,
    Unanswered,
)
from shore.model.filter import Ports, Rule
from shore.model.links import Link
from shore.model.status import LaneStatus

ME, PEER, OTHER = b"\1" * 32, b"\2" * 32, b"\3" * 32
V4, V6 = Socket(1, 4), Socket(2, 6)
WIRED = Link("eth0", 2, True, 1500, ("192.0.2.1",), (4,))


def config(*peers: PeerConfig, **changes: object) -> TunnelConfig:
    whole = TunnelConfig("wg0", ME, ("10.0.0.1/24",), listen_port=51820, peers=peers)
    return msgspec.structs.replace(whole, **changes)


def server(**changes: object) -> PeerConfig:
    peer = PeerConfig(PEER, allowed_ips=("10.0.0.2/32",), endpoints=(Endpoint("192.0.2.2", 51820),))
    return msgspec.structs.replace(peer, **changes)


@dataclass
class Table:
    """A node and the clock; `tell` returns what it wants done, announcements apart."""

    node: Node = field(default_factory=Node)
    now: float = 100.0
    said: list[Announce] = field(default_factory=list)
    serial: int = 0

    def tell(self, event: Event) -> list[Action]:
        actions = self.node.handle(event, self.now)
        self.said += [a for a in actions if isinstance(a, Announce)]
        return [a for a in actions if not isinstance(a, Announce)]

    def fact(self, fact: Fact) -> list[Action]:
        self.serial += 1
        return self.tell(FactTold(self.serial, fact))

    def peer(self, key: bytes = PEER) -> Peer:
        desired = self.node.desired()
        assert desired is not None
        return next(peer for peer in desired.peers if peer.public_key == key)

    def push(self) -> Push:
        desired = self.node.desired()
        assert desired is not None
        return Push(desired, self.serial)


def running(*peers: PeerConfig, **changes: object) -> Table:
    table = Table()
    table.tell(Configured(config(*(peers or (server(),)), **changes)))
    table.tell(SocketsOpened(51820, (V4, V6)))
    table.tell(PlaneStarted(7))
    return table


def test_a_tunnel_starts_with_its_sockets_then_a_plane_then_what_it_shall_carry() -> None:
    table = Table()
    first = table.tell(Configured(config(server())))
    assert [type(a) for a in first] == [OpenSockets, ApplyHost]
    assert first[0] == OpenSockets(51820, 0, "start")
    assert table.tell(SocketsOpened(51820, (V4, V6))) == [StartPlane()]
    assert table.tell(PlaneStarted(7)) == [table.push()]
    assert [(p.socket, p.remote) for p in table.peer().paths] == [(1, "192.0.2.2:51820")]
    assert table.tell(Woke()) == []


def test_a_peer_with_an_endpoint_and_no_keepalive_gets_our_own_and_off_means_none() -> None:
    assert running(server()).peer().keepalive_s == 25
    assert running(server(keepalive_s=0)).peer().keepalive_s == 0
    assert running(server(keepalive_s=13)).peer().keepalive_s == 13
    assert running(server(endpoints=())).peer().keepalive_s == 0


def test_a_plane_that_dies_is_replaced_at_once_and_greets_everybody_it_knew() -> None:
    table = running()
    table.fact(SessionEstablished(PEER, True, 1.0))
    assert table.tell(PlaneLost("it exited")) == [StartPlane()]
    assert table.peer().renew == 0
    table.serial = 0
    assert table.tell(PlaneStarted(8)) == [table.push()]
    assert table.peer().renew == 1


def test_a_plane_that_dies_again_and_again_is_started_ever_later() -> None:
    table = running()
    for pid in range(timers.FREE_RESTARTS):
        assert table.tell(PlaneLost("it exited")) == [StartPlane()]
        table.tell(PlaneStarted(pid))
    assert table.tell(PlaneLost("it exited")) == []
    assert table.node.deadline() == table.now + 1.0
    table.now += 1.0
    assert table.tell(Woke()) == [StartPlane()]


def test_a_stall_is_two_questions_unanswered_while_we_were_on_time() -> None:
    table = running()
    assert table.tell(QuestionUnanswered(0.0)) == []
    assert table.tell(QuestionUnanswered(0.0)) == [KillPlane("it stopped answering")]


def test_a_brain_that_was_stopped_itself_judges_nothing() -> None:
    table = running()
    table.tell(QuestionUnanswered(0.0))
    assert table.tell(QuestionUnanswered(5.0)) == []
    assert table.tell(QuestionUnanswered(0.0)) == []


def test_an_answer_in_between_forgives() -> None:
    table = running()
    table.tell(QuestionUnanswered(0.0))
    table.tell(PlaneAnswered({}, {}))
    assert table.tell(QuestionUnanswered(0.0)) == []


def test_a_new_brain_attaches_and_pushes_nothing_that_is_in_force_already() -> None:
    before = running()
    before.tell(RenewAsked(PEER))
    held = before.node.desired()
    assert held is not None
    table = Table()
    actions = table.tell(Attached(config(server()), 7, held, 51820))
    assert [type(a) for a in actions] == [SetMark, ApplyHost]
    assert (table.node.listen_port, table.node.plane.pid) == (51820, 7)
    assert table.peer() == before.peer()
    assert table.tell(Woke()) == []


def test_a_new_brain_keeps_the_place_a_peer_was_last_seen_at() -> None:
    before = running()
    before.fact(Roamed(PEER, 1, "198.51.100.9:4000"))
    held = before.node.desired()
    assert held is not None
    table = Table()
    table.tell(Attached(config(server()), 7, held, 51820))
    assert table.peer().paths[0].remote == "198.51.100.9:4000"


def test_peers_of_a_mesh_are_told_of_sessions_that_died_with_a_plane_and_of_another_underlay() -> None:
    table = running(mesh="shore.internal")
    table.tell(LinksChanged((WIRED,)))
    table.tell(PlaneLost("killed"))
    assert TellPeers("session_lost") in table.tell(PlaneStarted(8))
    moved = msgspec.structs.replace(WIRED, addresses=("192.0.2.77",))
    assert TellPeers("initiate") in table.tell(LinksChanged((moved,)))
    assert table.tell(LinksChanged((moved,))) == []


def test_another_underlay_renews_every_session_and_the_same_one_none() -> None:
    table = running()
    table.tell(LinksChanged((WIRED,)))
    assert table.tell(LinksChanged((WIRED,))) == []
    moved = msgspec.structs.replace(WIRED, addresses=("192.0.2.77",))
    assert table.tell(LinksChanged((moved,))) == [table.push()]
    assert table.peer().renew == 1
    gone = msgspec.structs.replace(WIRED, addresses=(), default=())
    assert table.tell(LinksChanged((gone,))) == []


def test_a_sleep_and_a_persons_wish_renew() -> None:
    table = running()
    assert table.tell(Resumed(3600.0)) == [table.push()]
    assert table.peer().renew == 1
    assert table.tell(RenewAsked(PEER)) == [table.push()]
    assert table.peer().renew == 2
    assert table.tell(RenewAsked(OTHER)) == []


def test_where_the_peer_spoke_from_comes_before_where_the_file_says() -> None:
    table = running()
    table.fact(Roamed(PEER, 1, "198.51.100.9:4000"))
    assert [p.remote for p in table.peer().paths] == ["198.51.100.9:4000", "192.0.2.2:51820"]
    table.tell(Configured(config(server(endpoints=(Endpoint("192.0.2.3", 1),)))))
    assert [p.remote for p in table.peer().paths] == ["192.0.2.3:1"]


def test_a_name_is_retried_while_it_fails_and_its_last_answer_is_kept() -> None:
    table = Table()
    by_name = server(endpoints=(Endpoint("vpn.example", 51820),))
    assert Resolve("vpn.example") in table.tell(Configured(config(by_name)))
    table.tell(SocketsOpened(51820, (V4, V6)))
    table.tell(PlaneStarted(7))
    assert table.peer().paths == ()
    assert table.tell(NameFailed("vpn.example", "no such name")) == []
    assert table.said[-1] == Announce("vpn.example does not resolve", "no such name")
    table.now += timers.NAME_RETRY[0]
    assert table.tell(Woke()) == [Resolve("vpn.example")]
    table.tell(NameResolved("vpn.example", ("2001:db8::2", "192.0.2.2")))
    assert [p.remote for p in table.peer().paths] == ["[2001:db8::2]:51820", "192.0.2.2:51820"]
    table.now += timers.NAME_ANYWAY
    assert table.tell(Woke()) == [Resolve("vpn.example")]
    table.tell(NameFailed("vpn.example", "server failure"))
    assert len(table.peer().paths) == 2


def test_the_ladder_of_a_silent_peer_ends_with_its_first_session() -> None:
    table = running()
    assert table.fact(Unanswered(PEER, 2.0, 2)) == []
    assert table.node.peers[PEER].recovery == "resolving"
    assert table.fact(Unanswered(PEER, 8.0, 5)) == [OpenExtraSocket(PEER, 4, 0)]
    extra = Socket(3, 4)
    assert table.tell(ExtraSocketOpened(PEER, extra)) == [table.push()]
    assert {p.socket for p in table.peer().paths} == {1, 3}
    table.fact(Unanswered(PEER, 32.0, 9))
    assert table.said[-1] == Announce("peer unreachable", "no answer for 32 s", PEER)
    table.fact(SessionEstablished(PEER, True, 3.0))
    assert table.node.peers[PEER].recovery is None
    assert table.said[-1].what == "peer reached again"


def test_one_silent_laptop_of_two_climbs_its_own_ladder_only() -> None:
    table = running(server(), PeerConfig(OTHER, allowed_ips=("10.0.0.3/32",)))
    table.fact(SessionEstablished(PEER, True, 1.0))
    table.fact(SessionEstablished(OTHER, False, None))
    for silence in (2.0, 4.0, 8.0, 16.0, 32.0, 64.0):
        assert not {KillPlane, OpenSockets} & {type(a) for a in table.fact(Unanswered(PEER, silence, 1))}


def test_when_all_are_silent_the_sockets_are_reopened_then_the_plane_replaced_once() -> None:
    table = running()
    table.now += timers.REPLACE_INTERVAL
    table.fact(SessionEstablished(PEER, True, 1.0))
    table.fact(Unanswered(PEER, 8.0, 3))
    assert table.fact(Unanswered(PEER, 16.0, 6)) == [OpenSockets(51820, 0, "every peer is silent")]
    assert CloseSocket(1) in table.tell(SocketsOpened(51820, (Socket(4, 4), Socket(5, 6))))
    assert table.fact(Unanswered(PEER, 64.0, 9)) == [KillPlane("every peer is silent")]
    assert table.fact(Unanswered(PEER, 128.0, 9)) == []


def test_losses_of_our_own_reopen_sockets_renew_sessions_then_replace_the_plane() -> None:
    table = running()
    table.now += timers.REBIND_INTERVAL
    assert table.fact(Losing(None, "send_error", 3.0, 9)) == [
        OpenSockets(51820, 0, "packets are lost (send_error)")
    ]
    table.tell(SocketsFailed("port in use"))
    assert table.fact(Losing(PEER, "no_session", 3.0, 9)) == [table.push()]
    assert table.peer().renew == 1
    assert table.fact(Losing(PEER, "no_session", 10.0, 99)) == [KillPlane("it loses packets (no_session)")]


def test_a_failed_socket_is_reopened_on_the_same_port_and_roamed_peers_follow() -> None:
    table = running(server(), listen_port=0)
    table.fact(Roamed(PEER, 1, "198.51.100.9:4000"))
    table.now += timers.REBIND_INTERVAL
    assert table.fact(SocketFailed(1, 5)) == [OpenSockets(51820, 0, "a socket failed (errno 5)")]
    assert table.tell(SocketsOpened(51820, (Socket(4, 4), Socket(5, 6)))) == [
        CloseSocket(1),
        CloseSocket(2),
        table.push(),
    ]
    assert (table.peer().paths[0].socket, table.peer().paths[0].remote) == (4, "198.51.100.9:4000")


def test_a_reload_touches_what_changed_only() -> None:
    table = running(server(), PeerConfig(OTHER, allowed_ips=("10.0.0.3/32",)))
    kept = table.peer()
    actions = table.tell(Configured(config(server())))
    assert [type(a) for a in actions] == [Push, ApplyHost]
    assert table.peer() == kept
    assert table.tell(Configured(config(server(), listen_port=4000))) == [OpenSockets(4000, 0, "listen port")]
    assert table.tell(Configured(config(server(), fwmark=5, listen_port=51820))) == [SetMark(5)]


def test_a_filter_goes_down_with_the_desired_state_and_only_when_it_changes() -> None:
    rules = (Rule(("100.64.0.2/32",), ("100.64.0.1/32",), (Ports("tcp", 22, 22),)),)
    table = running(server())
    assert table.push().state.filter is None
    assert table.tell(Configured(config(server(), filter=rules))) == [table.push()]
    assert table.push().state.filter == rules
    assert table.tell(Configured(config(server(), filter=rules))) == []
    table.tell(Configured(config(server(), filter=())))
    assert table.push().state.filter == ()


def test_a_deleted_device_means_down_and_another_failure_does_not() -> None:
    assert running().tell(DeviceGone("the device")) == [GoDown("the device was deleted")]
    assert running().fact(TunFailed(77)) == [GoDown("the device was deleted")]
    assert running().fact(TunFailed(5)) == []


def test_the_owner_of_a_bare_device_may_set_its_mtu() -> None:
    table = running(host_managed=False)
    assert table.tell(DeviceMtuChanged(1380)) == [table.push()]
    assert table.push().state.interface.mtu == 1380


@pytest.mark.parametrize(("age", "connected"), [(0.0, True), (timers.COUNTERS_FRESH, False)])
def test_connected_is_said_only_while_the_counters_are_fresh(age: float, connected: bool) -> None:
    table = running()
    counters = PeerCounters(PEER, "192.0.2.2:51820", 1, True, 0.1, 1.0, 1.0, 2.0, None, 1, 2, 1, {})
    table.tell(PlaneAnswered({}, {}, (counters,)))
    status = tunnel_status(table.node, table.now + age, brain_pid=1, public_key=None, notes=())
    assert status.peers[0].connected is connected
    table.tell(PlaneLost("it exited"))
    status = tunnel_status(table.node, table.now, brain_pid=1, public_key=None, notes=())
    assert not status.peers[0].connected


def test_a_person_who_asks_how_paths_are_pokes_the_plane_and_a_new_brain_goes_on_counting() -> None:
    table = running()
    assert table.tell(PokeAsked(PEER)) == [table.push()]
    assert table.peer().poke == 1
    assert table.tell(PokeAsked(OTHER)) == []
    held = table.node.desired()
    assert held is not None
    heir = Table()
    heir.tell(Attached(config(server()), 7, held, 51820))
    assert heir.peer().poke == 1


def probed(*paths: PathCounters) -> PeerCounters:
    return PeerCounters(
        PEER, "192.0.2.2:51820", 1, True, 0.1, 1.0, 1.0, 2.0, None, 1, 2, 1, {}, probed=True, paths=paths
    )


def test_a_path_is_told_with_where_it_leaves_what_the_peer_sees_and_why_it_waits() -> None:
    table = running()
    table.tell(LinksChanged((WIRED,)))
    first = PathCounters(
        1, "direct", 1, "192.0.2.2:51820", True, "live", rtt_ms=20.0, observed="203.0.113.1:9"
    )
    second = PathCounters(2, "direct", 2, "[2001:db8::2]:1", False, "held", rtt_ms=9.0, hold_s=3.0)
    table.tell(PlaneAnswered({}, {}, (probed(first, second),)))
    status = tunnel_status(
        table.node,
        table.now,
        brain_pid=1,
        public_key=None,
        notes=(),
        local_of=lambda number, _remote: {1: "192.0.2.1:51820"}.get(number),
    )
    one, other = status.peers[0].paths
    assert (one.uplink, one.local, one.observed) == ("eth0", "192.0.2.1:51820", "203.0.113.1:9")
    assert (one.cost_ms, one.hold_s, one.path_mtu) == (20.0, None, None)
    assert (other.family, other.uplink, other.local, other.hold_s) == (6, None, None, 3.0)


def test_both_lanes_are_wanted_of_every_peer_and_told_as_they_are_in_use() -> None:
    table = running()
    assert [lane.id for lane in table.peer().lanes] == [0, 1]
    in_use = (LaneCounters(0, 3.0, 900), LaneCounters(1, 2.9, 20))
    table.tell(PlaneAnswered({}, {}, (msgspec.structs.replace(probed(), lanes=in_use),)))
    status = tunnel_status(table.node, table.now, brain_pid=1, public_key=None, notes=())
    assert status.peers[0].lanes == (LaneStatus(0, 3.0, 900), LaneStatus(1, 2.9, 20))


def test_gateways_are_asked_once_for_the_port_and_anew_after_the_links_moved() -> None:
    table = running(port_mapping=True)
    assert MapPort(51820, 0) in table.tell(LinksChanged((WIRED,)))
    assert not any(isinstance(action, MapPort) for action in table.tell(Woke()))
    moved = msgspec.structs.replace(WIRED, addresses=("192.0.2.9",))
    assert MapPort(51820, 0) in table.tell(LinksChanged((moved,)))
    off = config(server())
    assert MapPort(0, 0) in table.tell(Configured(off))


def test_a_port_that_is_mapped_is_announced_and_told_until_it_is_gone() -> None:
    table = running()
    table.fact(Acquainted(PEER, False))
    table.tell(PortsMapped(("203.0.113.7:51820",)))
    assert Candidate("203.0.113.7:51820", "port_mapped") in table.peer().candidates
    table.tell(PortsMapped(()))
    assert table.peer().candidates == ()
    assert [said.what for said in table.said[-2:]] == [
        "port mapped at 203.0.113.7:51820",
        "port no longer mapped at 203.0.113.7:51820",
    ]


def test_the_server_hears_of_every_place_that_peers_are_told() -> None:
    table = running(stun=(Endpoint("198.51.100.9", 3478),))
    table.fact(Acquainted(PEER, False))
    table.fact(Mapped(1, "198.51.100.9:3478", "203.0.113.7:40000"))
    assert table.node.candidates() == (Candidate("203.0.113.7:40000", "server_reflexive"),)
    assert table.peer().candidates == table.node.candidates()

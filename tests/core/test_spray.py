"""Paths by chance, as dialogues: who opens a fan, who sprays, to where, how often, and what is left over."""

import pytest
from tests.core.test_node import PEER, WIRED, Table, config, server
from tests.core.test_relays import KEY, PLACE, A

from shore.core.actions import Action, Call, CloseSocket, OpenFan, Push
from shore.core.events import (
    Attached,
    Configured,
    FanOpened,
    LinkDialled,
    LinksChanged,
    PlaneAnswered,
    PlaneLost,
    PlaneStarted,
    SocketsOpened,
    SprayAsked,
    Woke,
)
from shore.model.config import Endpoint
from shore.model.desired import Candidate, Fan, Socket, Spray
from shore.model.facts import (
    Acquainted,
    Learned,
    LinkUp,
    Mapped,
    PathCounters,
    PeerCounters,
    Roamed,
    Seen,
)

LINK, ADDRESS = 5, "203.0.113.2"
THERE = f"{ADDRESS}:40000"
TOLD = (Candidate("192.168.1.2:40000", "host"), Candidate(THERE, "server_reflexive"))
HERE = "198.51.100.9:4001"
SERVERS = ("198.51.100.1:3478", "198.51.100.2:3478")
SOCKETS = tuple(range(100, 356))


def meshed(*, draws: bool) -> Table:
    """A peer that is reached by a relay only, after three meetings in vain. Our NAT `draws` ports, or not."""
    table = Table()
    stun = tuple(Endpoint(server.rpartition(":")[0], 3478) for server in SERVERS)
    peer = server(endpoints=(), candidates=TOLD, relays=("a",))
    table.tell(Configured(config(peer, mesh="net.internal", relays=(A,), admission_key=KEY, stun=stun)))
    table.tell(SocketsOpened(51820, (Socket(1, 4),)))
    table.tell(PlaneStarted(7))
    table.tell(LinksChanged((WIRED,)))
    table.tell(LinkDialled("a", LINK, "a.example"))
    table.fact(LinkUp(LINK, HERE))
    table.fact(Acquainted(PEER, False))
    for number, asked in enumerate(SERVERS):
        table.fact(Mapped(1, asked, f"198.51.100.9:{4001 + (number if draws else 0)}"))
    relayed(table)
    for wait in (1.0, 1.0):
        after(table, wait)
    return table


def relayed(table: Table, *, direct: bool = False) -> list[Action]:
    paths = (
        PathCounters(1, "relay", LINK, PLACE, primary=True, state="live", rtt_ms=20.0),
        PathCounters(2, "direct", 1, THERE, primary=False, state="live" if direct else "unproven"),
    )
    entry = PeerCounters(
        PEER, PLACE, LINK, True, 0.1, 1.0, 1.0, 1.0, None, 0, 0, 1, {}, probed=True, paths=paths
    )
    return done(table.tell(PlaneAnswered({}, {}, (entry,))))


def done(actions: list[Action]) -> list[Action]:
    """Without what is pushed, and without calls for another meeting."""
    return [action for action in actions if not isinstance(action, Push) and action != Call(PEER)]


def after(table: Table, seconds: float) -> list[Action]:
    table.now += seconds
    return done(table.tell(Woke()))


def asks(table: Table) -> tuple[str, ...]:
    desired = table.node.desired()
    assert desired is not None
    return desired.links[0].asks


def sockets(table: Table) -> set[int]:
    desired = table.node.desired()
    assert desired is not None
    return {socket.id for socket in desired.sockets}


def fanned() -> Table:
    table = meshed(draws=True)
    relayed(table)
    table.fact(Seen(LINK, PLACE, ADDRESS))
    table.tell(FanOpened(PEER, SOCKETS))
    return table


def test_who_draws_ports_asks_a_relay_then_opens_a_fan_and_then_asks_the_peer() -> None:
    table = meshed(draws=True)
    relayed(table)
    assert asks(table) == (PLACE,)
    assert done(table.fact(Seen(LINK, PLACE, ADDRESS))) == [OpenFan(PEER, 256, 0)]
    assert done(table.tell(FanOpened(PEER, SOCKETS))) == [Call(PEER, aim=THERE)]
    assert table.peer().fan == Fan(1, THERE, 2, SOCKETS)
    assert sockets(table) == {1, *SOCKETS}
    assert "256 sockets opened" in [said.what for said in table.said]


def test_nobody_is_aimed_at_whom_no_relay_sees_there() -> None:
    for seen in ("203.0.113.77", "192.168.1.3"):
        table = meshed(draws=True)
        relayed(table)
        assert done(table.fact(Seen(LINK, PLACE, seen))) == []
        assert after(table, 5.0) == []
        assert asks(table) == ()
        after(table, 55.0)
        for number, asked in enumerate(SERVERS):
            table.fact(Mapped(1, asked, f"198.51.100.9:{4001 + number}"))
        assert asks(table) == (PLACE,)
        assert done(table.fact(Seen(LINK, PLACE, ADDRESS))) == [OpenFan(PEER, 256, 0)]


def test_the_socket_that_the_peer_met_is_its_own_and_the_others_are_closed() -> None:
    table = fanned()
    closed = done(table.fact(Learned(PEER, 107, THERE)))
    assert closed == [CloseSocket(number) for number in SOCKETS if number != 107]
    assert table.peer().fan is None
    assert sockets(table) == {1, 107}
    assert (107, THERE) in [(path.socket, path.remote) for path in table.peer().paths]
    assert [a for a in relayed(table, direct=True) if isinstance(a, CloseSocket | OpenFan)] == []


def test_a_fan_that_nobody_meets_is_closed_and_there_is_another_one_after_ten_minutes() -> None:
    table = fanned()
    assert table.node.deadline() is not None
    assert after(table, 14.9) == []
    assert after(table, 0.1) == [CloseSocket(number) for number in SOCKETS]
    assert table.peer().fan is None
    relayed(table)
    assert after(table, 584.0) == []
    assert asks(table) == ()
    table.fact(Mapped(1, SERVERS[0], HERE))
    table.fact(Mapped(1, SERVERS[1], "198.51.100.9:4002"))
    after(table, 1.0)
    assert asks(table) == (PLACE,)
    assert done(table.fact(Seen(LINK, PLACE, ADDRESS))) == [OpenFan(PEER, 256, 0)]
    table.tell(FanOpened(PEER, SOCKETS))
    fan = table.peer().fan
    assert fan is not None
    assert (fan.number, fan.hops) == (2, 3)


def test_a_fan_that_comes_too_late_is_closed_at_once() -> None:
    table = meshed(draws=True)
    relayed(table)
    table.fact(Seen(LINK, PLACE, ADDRESS))
    after(table, 15.0)
    assert done(table.tell(FanOpened(PEER, (100, 101)))) == [CloseSocket(100), CloseSocket(101)]


def test_a_plane_that_dies_takes_the_fan_with_it() -> None:
    table = fanned()
    closed = done(table.tell(PlaneLost("killed")))
    assert [CloseSocket(number) for number in SOCKETS] == [
        action for action in closed if isinstance(action, CloseSocket)
    ]


def test_who_is_asked_sprays_the_address_that_a_relay_vouches_for_and_the_next_ports_first() -> None:
    table = meshed(draws=False)
    relayed(table)
    assert asks(table) == ()
    assert done(table.tell(SprayAsked(PEER, HERE))) == []
    assert asks(table) == (PLACE,)
    assert table.peer().spray is None
    table.fact(Seen(LINK, PLACE, ADDRESS))
    spray = table.peer().spray
    assert spray == Spray(1, 1, ADDRESS, tuple(range(40001, 41024, 63)))
    assert "ports of the peer are guessed" in [said.what for said in table.said]
    after(table, 5.0)
    assert table.peer().spray is None


def test_a_spray_is_over_when_a_direct_path_answers_and_not_to_be_had_again_for_ten_minutes() -> None:
    table = meshed(draws=False)
    table.tell(SprayAsked(PEER, HERE))
    table.fact(Seen(LINK, PLACE, ADDRESS))
    assert table.peer().spray is not None
    relayed(table, direct=True)
    assert table.peer().spray is None
    relayed(table)
    for wait, again in ((1.0, False), (590.0, False), (10.0, True)):
        after(table, wait)
        table.tell(SprayAsked(PEER, HERE))
        table.fact(Seen(LINK, PLACE, ADDRESS))
        assert (table.peer().spray is not None) == again
        after(table, 5.0)


@pytest.mark.parametrize("asked_first", [True, False])
def test_two_that_draw_ports_leave_it(asked_first: bool) -> None:
    table = meshed(draws=True) if asked_first else fanned()
    gone = done(table.tell(SprayAsked(PEER, HERE)))
    assert gone == ([] if asked_first else [CloseSocket(number) for number in SOCKETS])
    table.fact(Seen(LINK, PLACE, ADDRESS))
    assert table.peer().spray is None


def test_who_is_not_known_or_has_a_direct_path_gets_no_spray() -> None:
    table = meshed(draws=False)
    table.tell(SprayAsked(b"\7" * 32, HERE))
    assert asks(table) == ()
    relayed(table, direct=True)
    table.tell(SprayAsked(PEER, HERE))
    assert asks(table) == ()


def test_a_new_brain_keeps_the_socket_that_was_met() -> None:
    before = fanned()
    before.fact(Learned(PEER, 107, THERE))
    before.fact(Roamed(PEER, 107, THERE))
    state, known = before.node.desired(), before.node.config
    assert state is not None
    assert known is not None
    table = Table()
    closed = done(table.tell(Attached(known, 7, state, 51820)))
    assert CloseSocket(107) not in closed
    assert sockets(table) == {1, 107}
    assert (table.peer().paths[0].socket, table.peer().paths[0].remote) == (107, THERE)

"""From a relay to a direct path, as dialogues: who is called, and when NATs are opened and probes sent."""

from tests.core.test_node import PEER, WIRED, Table, config, server
from tests.core.test_relays import PLACE

from shore.core.actions import Call
from shore.core.events import (
    Configured,
    LinksChanged,
    PeerCalled,
    PlaneAnswered,
    PlaneStarted,
    SocketsOpened,
    Woke,
)
from shore.model.config import Endpoint
from shore.model.desired import Candidate, PathState, Socket
from shore.model.facts import Acquainted, Candidates, Mapped, PathCounters, PeerCounters
from shore.model.links import Link

THERE = "203.0.113.2:40000"
TOLD = (Candidate(THERE, "server_reflexive"),)


def meshed(stun: tuple[Endpoint, ...] = ()) -> Table:
    """A peer of a mesh that is a Shore node, reached by nothing yet."""
    table = Table()
    peer = server(endpoints=(), candidates=TOLD, relays=("r",))
    table.tell(Configured(config(peer, mesh="net.internal", stun=stun)))
    table.tell(SocketsOpened(51820, (Socket(1, 4),)))
    table.tell(PlaneStarted(7))
    table.tell(LinksChanged((WIRED,)))
    table.fact(Acquainted(PEER, False))
    return table


def answered(table: Table, direct: PathState) -> list[Call]:
    paths = (
        PathCounters(1, "relay", 5, PLACE, primary=True, state="live", rtt_ms=20.0),
        PathCounters(2, "direct", 1, THERE, primary=False, state=direct),
    )
    entry = PeerCounters(
        PEER, PLACE, 5, True, 0.1, 1.0, 1.0, 1.0, None, 0, 0, 1, {}, probed=True, paths=paths
    )
    return calls(table.tell(PlaneAnswered({}, {}, (entry,))))


def calls(actions: list[object]) -> list[Call]:
    return [action for action in actions if isinstance(action, Call)]


def after(table: Table, seconds: float) -> list[Call]:
    table.now += seconds
    return calls(table.tell(Woke()))


def raised(table: Table) -> tuple[int, int]:
    return table.peer().prime, table.peer().poke


def test_a_relayed_peer_is_called_our_nats_are_opened_and_without_a_word_probes_follow_a_second_later() -> (
    None
):
    table = meshed()
    assert answered(table, "unproven") == [Call(PEER)]
    assert raised(table) == (1, 0)
    assert table.node.deadline() == table.now + 1.0
    assert after(table, 0.9) == []
    assert raised(table) == (1, 0)
    after(table, 0.1)
    assert raised(table) == (2, 1)


def test_it_is_called_again_ever_more_seldom_and_no_more_once_a_direct_path_answers() -> None:
    table = meshed()
    answered(table, "unproven")
    start, at = table.now, [0.0]
    while table.now < start + 150:
        deadline = table.node.deadline()
        assert deadline is not None
        if after(table, max(deadline - table.now, 0.0)):
            at.append(round(table.now - start, 2))
    assert at == [0.0, 1.0, 2.0, 4.0, 9.0, 24.0, 84.0, 144.0, 204.0]
    assert answered(table, "live") == []
    assert after(table, 100.0) == []


def test_a_call_that_crosses_ours_or_answers_it_is_reason_to_probe_and_not_to_call_again() -> None:
    table = meshed()
    answered(table, "unproven")
    after(table, 0.2)
    assert calls(table.tell(PeerCalled(PEER, TOLD))) == []
    assert raised(table) == (2, 1)


def test_a_peer_that_calls_first_is_primed_for_and_called_back_before_anything_is_probed() -> None:
    table = meshed()
    assert calls(table.tell(PeerCalled(PEER, TOLD))) == [Call(PEER)]
    assert raised(table) == (1, 0)
    after(table, 0.1)
    assert calls(table.tell(PeerCalled(PEER, TOLD))) == []
    assert raised(table) == (2, 1)
    after(table, 0.6)
    assert calls(table.tell(PeerCalled(PEER, TOLD))) == [Call(PEER)]


def test_nobody_calls_before_it_knows_what_it_looks_like_or_has_waited_for_that() -> None:
    for patience in (False, True):
        table = meshed(stun=(Endpoint("198.51.100.1", 3478),))
        assert answered(table, "unproven") == []
        assert calls(table.tell(PeerCalled(PEER, TOLD))) == []
        assert raised(table) == (1, 0)
        if patience:
            assert after(table, 1.4) == []
            assert after(table, 0.1) == [Call(PEER)]
        else:
            after(table, 0.3)
            seen = Mapped(1, "198.51.100.1:3478", "203.0.113.9:4001")
            assert calls(table.fact(seen)) == [Call(PEER)]


def test_what_a_call_says_of_where_we_were_is_no_reason_to_probe_from_where_we_are() -> None:
    table = meshed(stun=(Endpoint("198.51.100.1", 3478),))
    answered(table, "unproven")
    assert calls(table.fact(Mapped(1, "198.51.100.1:3478", "203.0.113.9:4001"))) == [Call(PEER)]
    table.fact(Mapped(1, "198.51.100.1:3478", "203.0.113.9:4777"))
    table.tell(PeerCalled(PEER, TOLD))
    assert raised(table)[1] == 0


def test_other_candidates_or_other_links_are_a_new_beginning_but_not_twice_within_a_second() -> None:
    for event in ("told", "links"):
        table = meshed()
        answered(table, "unproven")
        for wait in (1.0, 1.0, 2.0, 2.0):
            after(table, wait)
        if event == "told":
            actions = table.fact(Candidates(PEER, (Candidate("203.0.113.2:41000", "server_reflexive"),)))
        else:
            actions = table.tell(LinksChanged((Link("eth0", 2, True, 1500, ("192.0.2.9",), (4,)),)))
        assert calls(actions) == [Call(PEER)], event
        assert calls(table.fact(Candidates(PEER, TOLD))) == []
        assert after(table, 0.2) == []
        assert after(table, 0.8) == [Call(PEER)]


def test_a_peer_of_a_file_is_never_called() -> None:
    table = Table()
    table.tell(Configured(config(server())))
    table.fact(Acquainted(PEER, False))
    assert answered(table, "dead") == []


def knocked(table: Table) -> bool:
    """Whether anything may be sent where the peer's NAT stands."""
    desired = table.node.desired()
    assert desired is not None
    return THERE in {path.remote for path in desired.peers[0].paths}


def stranger(*candidates: Candidate) -> Table:
    """A peer of a mesh that has said nothing yet."""
    table = Table()
    peer = server(endpoints=(), candidates=candidates, relays=("r",))
    table.tell(Configured(config(peer, mesh="net.internal")))
    table.tell(SocketsOpened(51820, (Socket(1, 4),)))
    table.tell(PlaneStarted(7))
    table.tell(LinksChanged((WIRED,)))
    return table


def test_nothing_is_sent_to_the_nat_of_a_peer_that_is_not_known_while_a_relay_may_come() -> None:
    table = stranger(*TOLD)
    assert not knocked(table)
    after(table, 2.4)
    assert not knocked(table)
    assert table.node.deadline() is not None
    after(table, 0.1)
    assert knocked(table)


def test_a_peer_that_has_no_nat_is_not_left_to_relays() -> None:
    assert knocked(stranger(Candidate(THERE, "host")))


def test_what_an_acquainted_peer_told_is_a_path_at_once() -> None:
    table = stranger(*TOLD)
    table.fact(Acquainted(PEER, False))
    assert knocked(table)

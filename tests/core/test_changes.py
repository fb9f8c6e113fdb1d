"""What is written down when the primary path is another one."""

from shore.core.actions import Announce
from shore.core.changes import has_left, preferred, switched
from shore.core.score import PathJudge
from shore.core.sockets import Sockets
from shore.model.desired import Socket
from shore.model.facts import PathCounters, Roamed
from shore.model.scores import PathScore, Verdict

PEER = b"\2" * 32
A, B = PathScore(1, "192.0.2.2:1", True, True, 440.0, 0.06), PathScore(2, "192.0.2.2:1", False, True, 32.0, 0)


def uplinks() -> Sockets:
    sockets = Sockets()
    sockets.adopt((Socket(1, 4, "eth0"), Socket(2, 4, "wwan0")))
    return sockets


def judge() -> PathJudge:
    known = PathJudge()
    known.latest = (A, B)
    known.measured = (
        PathCounters(1, "direct", 1, "192.0.2.2:1", True, "live", rtt_ms=20.0, loss_tx=0.08),
        PathCounters(2, "direct", 2, "192.0.2.2:1", False, "live", rtt_ms=30.0),
    )
    return known


def test_a_verdict_is_told_with_both_costs_and_what_they_come_from() -> None:
    assert preferred(PEER, Verdict(B, A, "loss"), judge(), uplinks()) == Announce(
        "path 192.0.2.2:1 via wwan0 preferred",
        "192.0.2.2:1 via eth0 loses 6.0% or more (costs 440 ms, this one 32 ms)",
        PEER,
        {
            "from_rtt_ms": 20.0,
            "from_loss": 0.08,
            "from_cost_ms": 440.0,
            "to_rtt_ms": 30.0,
            "to_cost_ms": 32.0,
        },
        "loss",
    )


def test_a_switch_names_the_uplinks_where_the_endpoint_is_the_same() -> None:
    fact = Roamed(PEER, 2, "192.0.2.2:1", "dead", "192.0.2.2:1", 1)
    assert has_left(fact)
    said = switched(fact, judge(), uplinks())
    assert (said.what, said.why) == (
        "path 192.0.2.2:1 via wwan0",
        "no answer any more from 192.0.2.2:1 via eth0",
    )
    assert (said.numbers["to_rtt_ms"], said.cause) == (30.0, "dead")


def test_a_switch_before_anything_was_measured_has_no_numbers() -> None:
    fact = Roamed(PEER, 9, "192.0.2.3:1", "peer_moved", "192.0.2.2:1", 9)
    assert switched(fact, PathJudge(), uplinks()).numbers == {}


def test_the_first_path_left_nothing() -> None:
    assert not has_left(Roamed(PEER, 1, "192.0.2.2:1"))
    assert not has_left(Roamed(PEER, 1, "192.0.2.2:1", "advice", "192.0.2.2:1", 1))
    # An older plane does not say which socket was left.
    assert not has_left(Roamed(PEER, 1, "192.0.2.2:1", "advice", "192.0.2.2:1"))

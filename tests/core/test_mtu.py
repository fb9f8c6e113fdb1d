"""Path MTUs as they are told: what a search came to, and none of its steps."""

from shore.core.actions import Action, Announce, Measure
from shore.core.mtu import Mtus
from shore.core.peer import PeerRecord
from shore.core.underlay import Underlay
from shore.model.config import PeerConfig, TunnelConfig
from shore.model.desired import Socket
from shore.model.facts import Measured, PathCounters, PeerCounters
from shore.model.links import Link

PEER, PLACE = b"\2" * 32, (1, "192.0.2.2:51820")


def shore_peer() -> tuple[TunnelConfig, PeerRecord, Mtus]:
    underlay = Underlay()
    underlay.links = (Link("eth0", 2, True, 1500, ("192.0.2.1",), (4,)),)
    underlay.sockets.unbound = {4: Socket(1, 4)}
    config = TunnelConfig("wg0", b"\1" * 32, ("10.0.0.1/24",), peers=(PeerConfig(PEER, name="far"),))
    peer = PeerRecord(config.peers[0])
    peer.acquainted = True
    return config, peer, Mtus({PEER: peer}, underlay)


def test_a_search_is_told_once_with_what_it_came_to() -> None:
    config, peer, mtus = shore_peer()
    said, now = [], 100.0
    due = mtus.known(config, peer, PLACE, now)
    for _ in range(400):
        said += [action for action in due if isinstance(action, Announce)]
        if due:
            now, due = now + 0.01, answers(mtus, due, 1400, now + 0.01)
        else:
            deadline = mtus.deadline()
            assert deadline is not None
            now = max(deadline, now)
            if now > 130.0:
                break
            due = mtus.wake(now)
    assert peer.sizes.mtu(PLACE) == 1400
    assert said == [Announce("path MTU 1400 to 192.0.2.2:51820", said[0].why, PEER, {"mtu": 1400.0}, "mtu")]


def test_a_renewed_session_forgets_no_other_path() -> None:
    config, peer, mtus = shore_peer()
    standby = (1, "192.0.2.3:51820")
    live = [
        PathCounters(number, "direct", *place, primary=place == PLACE, state="live", rtt_ms=1.0)
        for number, place in enumerate((PLACE, standby), 1)
    ]
    entry = PeerCounters(
        PEER, PLACE[1], 1, True, 0.1, 1.0, 1.0, 1.0, None, 0, 0, 1, {}, probed=True, paths=tuple(live)
    )
    answers(mtus, mtus.counted(entry, 100.0), 1400, 100.01)
    proved = peer.sizes.proved()
    assert set(proved) == {PLACE, standby}
    assert mtus.known(config, peer, PLACE, 110.0) == []
    assert peer.sizes.proved() == proved
    assert mtus.counted(entry, 111.0) == []


def answers(mtus: Mtus, due: list[Action], carries: int, now: float) -> list[Action]:
    """The path carries so much and no more."""
    asked = [each for action in due if isinstance(action, Measure) for each in action.questions]
    fit = [each for each in asked if each.size <= carries]
    return [action for each in fit for action in mtus.measured(Measured(PEER, each.token, False), now)]

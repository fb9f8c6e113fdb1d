"""Path MTUs as they are told: what a search came to, and none of its steps."""

from shore.core.actions import Action, Announce, Measure
from shore.core.mtu import Mtus
from shore.core.peer import PeerRecord
from shore.core.underlay import Underlay
from shore.model.config import PeerConfig, TunnelConfig
from shore.model.desired import Socket
from shore.model.facts import Measured
from shore.model.links import Link

PEER, PLACE = b"\2" * 32, (1, "192.0.2.2:51820")


def test_a_search_is_told_once_with_what_it_came_to() -> None:
    underlay = Underlay()
    underlay.links = (Link("eth0", 2, True, 1500, ("192.0.2.1",), (4,)),)
    underlay.sockets.unbound = {4: Socket(1, 4)}
    config = TunnelConfig("wg0", b"\1" * 32, ("10.0.0.1/24",), peers=(PeerConfig(PEER, name="far"),))
    peer = PeerRecord(config.peers[0])
    peer.acquainted = True
    mtus, said, now = Mtus({PEER: peer}, underlay), [], 100.0
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


def answers(mtus: Mtus, due: list[Action], carries: int, now: float) -> list[Action]:
    """The path carries so much and no more."""
    asked = [each for action in due if isinstance(action, Measure) for each in action.questions]
    fit = [each for each in asked if each.size <= carries]
    return [action for each in fit for action in mtus.measured(Measured(PEER, each.token, False), now)]

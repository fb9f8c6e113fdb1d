"""Path MTUs as they are told: what a search came to, and none of its steps."""

from shore.core.actions import Action, Announce, Measure
from shore.core.mtu import Mtus
from shore.core.peer import PeerRecord
from shore.core.pmtud import SendProbe, UsePathMtu
from shore.core.sizes import Sizes
from shore.core.underlay import Underlay
from shore.model.config import PeerConfig, TunnelConfig
from shore.model.desired import Socket
from shore.model.facts import Measured, PathCounters, PeerCounters, Swallowed
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


def test_large_data_that_vanishes_has_the_path_verified_and_then_those_that_share_its_uplink() -> None:
    _, peer, mtus = shore_peer()
    sibling, other = (1, "192.0.2.3:51820"), (2, "198.51.100.2:51820")
    places = (PLACE, sibling, other)
    live = tuple(
        PathCounters(number, "direct", *place, primary=place == PLACE, state="live", rtt_ms=1.0)
        for number, place in enumerate(places, 1)
    )
    entry = PeerCounters(
        PEER, PLACE[1], 1, True, 0.1, 1.0, 1.0, 1.0, None, 0, 0, 1, {}, probed=True, paths=live
    )
    peer.uplinks = {PLACE: "eth0", sibling: "eth0", other: "eth1"}
    answers(mtus, mtus.counted(entry, 100.0), 1500, 100.01)
    assert peer.sizes.proved() == dict.fromkeys(places, 1500)
    now, asked, used = 110.0, set[str](), list[int | None]()
    due = mtus.told(Swallowed(PEER, *PLACE, count=50), now)
    while now < 113.0:
        used.append(peer.sizes.mtu(sibling))
        asked |= {
            question.remote for action in due if isinstance(action, Measure) for question in action.questions
        }
        due = answers(mtus, due, 1300, now + 0.001)
        if not due:
            now = max(mtus.deadline() or 113.0, now + 0.001)
            due = mtus.wake(now)
    assert asked == {PLACE[1], sibling[1]}
    assert peer.sizes.proved() == {PLACE: 1295, sibling: 1295, other: 1500}
    assert sorted(set(used)) == [1295, 1500], "it waits for no verification to carry what the narrow one does"


def test_a_path_that_is_not_narrow_after_all_carries_what_it_did() -> None:
    sizes, here, there = Sizes(), PLACE, (1, "[2001:db8::2]:51820")
    carried = {here: 1500, there: 1500}
    now, due = 100.0, sizes.watch(dict.fromkeys(carried, 1500), 100.0)
    used: list[int | None] = []
    for step in range(400):
        if step == 200:
            carried[here] = 1300
            due = sizes.suspected(here, now)
        probes = [
            sizes.question(PEER, place, action) for place, action in due if isinstance(action, SendProbe)
        ]
        narrow = [
            place for place, action in due if isinstance(action, UsePathMtu) and sizes.shrank(place, now)
        ]
        now, due = now + 0.01, [each for place in narrow for each in sizes.narrowed(place, here, {}, now)]
        used.append(sizes.mtu(there))
        for probe in probes:
            if probe.size <= carried[(probe.socket, probe.remote)]:
                due += sizes.measured(Measured(PEER, probe.token, False), now)
        due += sizes.wake(now)
    assert sizes.proved() == {here: 1295, there: 1500}
    assert 1295 in used[200:]


def test_the_path_in_use_is_not_cut_because_another_was_found_narrow() -> None:
    sizes, here, there = Sizes(), PLACE, (1, "[2001:db8::2]:51820")
    for place, action in sizes.watch({here: 1500, there: 1500}, 100.0):
        if isinstance(action, SendProbe):
            question = sizes.question(PEER, place, action)
            sizes.measured(Measured(PEER, question.token, False), 100.01)
    asked = sizes.narrowed(there, here, {}, 101.0)
    assert asked == []
    sizes._searches[there].mtu = 1300
    asked = sizes.narrowed(there, here, {}, 101.0)
    assert {place for place, _ in asked} == {here}
    assert sizes.mtu(here) == 1500


def answers(mtus: Mtus, due: list[Action], carries: int, now: float) -> list[Action]:
    """The path carries so much and no more."""
    asked = [each for action in due if isinstance(action, Measure) for each in action.questions]
    fit = [each for each in asked if each.size <= carries]
    return [action for each in fit for action in mtus.told(Measured(PEER, each.token, False), now)]

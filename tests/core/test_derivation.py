"""Parts of the desired state are made again where they may be other ones, and nowhere else."""

import msgspec

from shore.core.actions import Measure
from shore.core.events import (
    Configured,
    Event,
    FactTold,
    LinksChanged,
    PlaneAnswered,
    PlaneStarted,
    RenewAsked,
    SocketsOpened,
    Woke,
)
from shore.core.node import Node
from shore.model.config import Endpoint, PeerConfig, TunnelConfig
from shore.model.desired import Candidate, Measurement, Peer, Socket
from shore.model.facts import Acquainted, Candidates, Learned, Measured, PathCounters, PeerCounters
from shore.model.links import Link

FIRST, SECOND = b"\2" * 32, b"\3" * 32
HOME = Link("eth0", 2, True, 1500, ("192.0.2.1",), (4,))


def peer(key: bytes, host: str) -> PeerConfig:
    return PeerConfig(key, allowed_ips=("10.0.0.2/32",), endpoints=(Endpoint(host, 51820),))


def counters(key: bytes, host: str, rtt_ms: float, observed: str = "192.0.2.1:51820") -> PeerCounters:
    remote = f"{host}:51820"
    path = PathCounters(1, "direct", 1, remote, True, "live", rtt_ms=rtt_ms, observed=observed)
    return PeerCounters(
        key, remote, 1, True, 0.1, 1.0, 1.0, 2.0, None, 1, 2, 1, {}, probed=True, paths=(path,)
    )


class Pair:
    """A node with two Shore peers."""

    def __init__(self) -> None:
        self.node, self.now = Node(), 100.0
        self.asked: list[Measurement] = []
        peers = (peer(FIRST, "192.0.2.2"), peer(SECOND, "192.0.2.3"))
        config = TunnelConfig("wg0", b"\1" * 32, ("10.0.0.1/24",), listen_port=51820, peers=peers)
        self.tell(Configured(config))
        self.tell(SocketsOpened(51820, (Socket(1, 4),)))
        self.tell(PlaneStarted(7))
        self.tell(LinksChanged((HOME,)))
        for serial, key in enumerate((FIRST, SECOND), 1):
            self.tell(FactTold(serial, Acquainted(key, False)))
        self.answer(counters(FIRST, "192.0.2.2", 1.0), counters(SECOND, "192.0.2.3", 1.0))

    def tell(self, event: Event) -> None:
        self.now += 1.0
        for action in self.node.handle(event, self.now):
            if isinstance(action, Measure):
                self.asked += action.questions

    def answer(self, *fresh: PeerCounters) -> None:
        self.tell(PlaneAnswered({}, {}, fresh, whole=False))

    def parts(self) -> tuple[Peer, ...]:
        desired = self.node.desired()
        assert desired is not None
        self.node.forget_derived()
        assert desired == self.node.desired(), "what is kept is what follows"
        return desired.peers


def test_counters_that_change_nothing_make_nothing_anew() -> None:
    pair = Pair()
    before = pair.node.desired()
    pair.answer()
    pair.answer(counters(FIRST, "192.0.2.2", 2.0))
    pair.tell(PlaneAnswered({}, {}))
    assert pair.node.desired() is before


def test_what_is_told_of_a_peer_makes_its_own_part_anew() -> None:
    pair = Pair()
    before = pair.node.desired()
    assert before is not None
    pair.tell(FactTold(3, Learned(FIRST, 1, "198.51.100.9:4000")))
    pair.tell(RenewAsked(FIRST))
    after = pair.node.desired()
    assert after is not None
    assert after.peers[1] is before.peers[1]
    first, _ = pair.parts()
    assert first.renew == 1
    assert "198.51.100.9:4000" in [path.remote for path in first.paths]


def test_counters_of_a_peer_that_died_or_moved_change_its_part() -> None:
    pair = Pair()
    gone = PathCounters(1, "direct", 1, "192.0.2.2:51820", True, "dead")
    entry = counters(FIRST, "192.0.2.2", 1.0)
    pair.answer(
        PeerCounters(
            FIRST, entry.endpoint, 1, False, 9.0, 9.0, 9.0, 2.0, 9.0, 1, 2, 1, {}, True, paths=(gone,)
        )
    )
    assert [part.keepalive_s for part in pair.parts()] == [25, 0]


def test_what_one_peer_sees_of_us_is_told_to_all_and_forgotten_with_it() -> None:
    pair = Pair()
    pair.answer(counters(FIRST, "192.0.2.2", 1.0, "203.0.113.1:9"))
    told = [[candidate.endpoint for candidate in part.candidates] for part in pair.parts()]
    assert told == [["192.0.2.1:51820", "203.0.113.1:9"]] * 2
    pair.answer(counters(FIRST, "192.0.2.2", 1.0))
    assert all(len(part.candidates) == 1 for part in pair.parts())


def test_a_search_that_is_due_makes_the_part_of_its_peer_anew() -> None:
    pair = Pair()
    for _ in range(50):
        deadline = pair.node.deadline()
        assert deadline is not None
        pair.now = max(pair.now, deadline)
        pair.tell(Woke())
        pair.parts()


def test_a_size_that_was_proved_is_the_mtu_of_its_path_and_changes_nothing_else() -> None:
    pair = Pair()
    before = pair.node.desired()
    # Whatever else the search waits for, what was asked first is answered.
    asked = [question for question in pair.asked if question.public_key == FIRST]
    smallest = min(asked, key=lambda question: question.size)
    for number, question in enumerate((smallest, *asked)):
        pair.tell(FactTold(10 + number, Measured(FIRST, question.token, False)))
    after = pair.node.desired()
    assert before is not None
    assert after is not None
    assert after.peers[0].paths[0].mtu == max(question.size for question in asked)
    assert before.peers[0].paths[0].mtu is None
    assert after.peers[1] is before.peers[1]
    unsized = [msgspec.structs.replace(path, mtu=None) for path in after.peers[0].paths]
    assert msgspec.structs.replace(after.peers[0], paths=tuple(unsized)) == before.peers[0]
    assert pair.parts() == after.peers


def test_a_peer_that_tells_what_it_told_makes_nothing_anew() -> None:
    pair = Pair()
    told = (Candidate("198.51.100.9:51820", "host"),)
    pair.tell(FactTold(10, Candidates(FIRST, told)))
    assert "198.51.100.9:51820" in [path.remote for path in pair.parts()[0].paths]
    before = pair.node.desired()
    pair.tell(FactTold(11, Candidates(FIRST, told)))
    assert pair.node.desired() is before


def test_counters_of_some_leave_those_of_others_as_they_were_told() -> None:
    pair = Pair()
    pair.answer(counters(FIRST, "192.0.2.2", 5.0))
    rtts = {key: entry.paths[0].rtt_ms for key, entry in pair.node.counters.items()}
    assert rtts == {FIRST: 5.0, SECOND: 1.0}
    pair.tell(PlaneAnswered({}, {}, (counters(FIRST, "192.0.2.2", 6.0),), whole=True))
    assert list(pair.node.counters) == [FIRST]

"""The search for a NAT's memory, against NATs on virtual time."""

from collections.abc import Callable
from itertools import pairwise

import msgspec
import pytest

from shore.core import timers
from shore.core.actions import Action, Announce, CloseSocket, KeepLifetime, OpenTrialSocket, Push
from shore.core.events import (
    Attached,
    Configured,
    Event,
    FactTold,
    LifetimesRemembered,
    LinksChanged,
    PlaneAnswered,
    PlaneStarted,
    SocketsOpened,
    TrialSocketFailed,
    TrialSocketOpened,
    Woke,
)
from shore.core.lifetime import Search
from shore.core.node import Node
from shore.core.status import tunnel_status
from shore.model import facts
from shore.model.config import Endpoint, PeerConfig, TunnelConfig
from shore.model.desired import DesiredState, PathState, Peer, Socket, Trial
from shore.model.facts import Acquainted, PathCounters, PeerCounters, TrialEchoed
from shore.model.links import Lifetime, Link

ME, PEER = b"\1" * 32, b"\2" * 32
HOME = Link("eth0", 2, True, 1500, ("192.168.1.7",), (4,))
SERVER = "192.0.2.2:51820"
NETWORK = "203.0.113.9 for 192.168.1.7"


class World:
    """A node behind a NAT that forgets a mapping `lifetime_s` after the last datagram from inside.

    The peer holds echoes; `loses` decides which of our trials never get there.
    """

    def __init__(self, lifetime_s: float, *, remembered: tuple[Lifetime, ...] = (), **peer: object) -> None:
        self.lifetime_s, self.now, self.observed = lifetime_s, 100.0, "203.0.113.9:4000"
        self.node, self.serial, self.sockets = Node(), 0, 10
        self.sent: list[tuple[float, Trial]] = []
        self.kept: list[Lifetime] = []
        self.said: list[str] = []
        self.opened: list[float] = []
        self.loses: Callable[[Trial], bool] = lambda trial: False
        self.holds = self.probed = True
        self.state: PathState = "live"
        self._echoes: list[tuple[float, Trial]] = []
        self._counters_at = self.now
        config = PeerConfig(PEER, allowed_ips=("10.0.0.2/32",), endpoints=(Endpoint("192.0.2.2", 51820),))
        config = msgspec.structs.replace(config, **peer)
        self.config = TunnelConfig("wg0", ME, ("10.0.0.1/24",), listen_port=51820, peers=(config,))
        self.tell(LifetimesRemembered(remembered))
        self.tell(Configured(self.config))
        self.tell(SocketsOpened(51820, (Socket(1, 4), Socket(2, 6))))
        self.tell(PlaneStarted(7))
        self.tell(LinksChanged((HOME,)))
        self.fact(Acquainted(PEER, False))

    def tell(self, event: Event) -> None:
        for action in self.node.handle(event, self.now):
            self._do(action)

    def fact(self, fact: facts.Fact) -> None:
        self.serial += 1
        self.tell(FactTold(self.serial, fact))

    def run(self, seconds: float, *, counted_every: float = 1.0) -> None:
        """Let time pass; where hours do, the plane may be asked more seldom."""
        end = self.now + seconds
        while True:
            wakes = [self._counters_at, *(at for at, _ in self._echoes), self.node.deadline() or end, end]
            self.now = max(min(wakes), self.now)
            if self.now >= end:
                return
            self._echo()
            if self.now >= self._counters_at:
                self._counters_at += counted_every
                self.tell(PlaneAnswered({}, {}, (self.counters(),)))
            self.tell(Woke())

    def counters(self) -> PeerCounters:
        path = PathCounters(
            1, "direct", 1, SERVER, primary=True, state=self.state, rtt_ms=20.0, observed=self.observed
        )
        return PeerCounters(
            PEER, SERVER, 1, True, 0.1, 1.0, 1.0, 1.0, None, 0, 0, 1, {}, probed=self.probed, paths=(path,)
        )

    def desired(self) -> DesiredState:
        desired = self.node.desired()
        assert desired is not None
        return desired

    @property
    def peer(self) -> Peer:
        return self.desired().peers[0]

    @property
    def quiet_s(self) -> int:
        return self.peer.paths[0].quiet_s

    def reason(self) -> tuple[int, str]:
        status = tunnel_status(self.node, self.now, brain_pid=1, public_key=None, notes=())
        return status.peers[0].keepalive_s, status.peers[0].keepalive_reason

    def _do(self, action: Action) -> None:
        match action:
            case OpenTrialSocket():
                self.sockets += 1
                self.opened.append(self.now)
                self.tell(TrialSocketOpened(action.exit, Socket(self.sockets, 4)))
            case Announce():
                self.said.append(f"{action.what}: {action.why}")
            case KeepLifetime():
                self.kept.append(action.lifetime)
            case Push():
                known = {trial.number for _, trial in self.sent}
                for trial in (trial for peer in action.state.peers for trial in peer.trials):
                    if trial.number not in known:
                        self._send(trial)
            case _:
                pass

    def _send(self, trial: Trial) -> None:
        self.sent.append((self.now, trial))
        self._echoes = [(at, other) for at, other in self._echoes if other.socket != trial.socket]
        held_s = trial.hold_s if self.holds else 0
        if not self.loses(trial) and held_s <= self.lifetime_s:
            self._echoes.append((self.now + held_s + 0.02, trial))

    def _echo(self) -> None:
        due = [(at, trial) for at, trial in self._echoes if at <= self.now]
        self._echoes = [(at, trial) for at, trial in self._echoes if at > self.now]
        for _, trial in due:
            self.fact(TrialEchoed(PEER, trial.number, float(trial.hold_s if self.holds else 0)))


@pytest.mark.parametrize("lifetime_s", [10, 20, 30, 60, 120, 300])
def test_the_memory_of_a_nat_is_found_and_the_interval_sits_just_under_it(lifetime_s: int) -> None:
    world = World(lifetime_s + 0.5)
    world.run(3600)
    assert world.quiet_s < lifetime_s
    assert world.quiet_s >= min(int(lifetime_s * 0.68), 120)
    assert world.reason() == (
        world.quiet_s,
        f"the NAT remembers a mapping for {world.kept[-1].lives_s} s",
    )
    assert not world.peer.trials


@pytest.mark.parametrize("lifetime_s", [20, 30, 60, 120, 300])
def test_no_mapping_in_use_ever_dies_while_it_is_searched(lifetime_s: int) -> None:
    world = World(lifetime_s + 0.5)
    for _ in range(3600):
        world.run(1)
        assert world.quiet_s < lifetime_s


def test_one_datagram_leaves_in_three_seconds_at_most_and_none_when_enough_is_known() -> None:
    world = World(120.5)
    world.run(3600)
    moments = [at for at, _ in world.sent]
    assert min(later - earlier for earlier, later in pairwise(moments)) >= 3.0
    count = len(world.sent)
    world.run(5 * 3600, counted_every=10.0)
    assert len(world.sent) == count
    assert len(world.desired().sockets) == 2


def test_what_was_found_is_verified_after_six_hours_and_a_longer_memory_is_found() -> None:
    world = World(30.5)
    world.run(3600)
    before = world.quiet_s
    world.lifetime_s = 120.5
    world.run(6 * 3600, counted_every=10.0)
    assert world.quiet_s > 3 * before


def test_a_lost_echo_or_a_silent_peer_proves_nothing() -> None:
    world = World(1000.0)
    lost: list[int] = []

    def loses(trial: Trial) -> bool:
        # The first try of each hold is lost, its repetition is not.
        first = trial.hold_s > 0 and trial.hold_s not in lost
        lost.append(trial.hold_s)
        return first

    world.loses = loses
    world.run(3600)
    assert world.kept[-1] == Lifetime(NETWORK, 150)
    silent = World(1000.0)
    silent.loses = lambda trial: trial.hold_s > 20 or silent.now > 130
    silent.run(3600)
    assert silent.kept == [Lifetime(NETWORK, 19)]
    assert silent.quiet_s == 15


def test_a_peer_that_does_not_hold_echoes_teaches_nothing() -> None:
    world = World(1000.0)
    world.holds = False
    world.run(3600)
    assert world.kept == []
    assert world.quiet_s == 15
    assert len(world.opened) <= 7


def test_each_change_of_the_interval_is_announced_with_its_reason() -> None:
    world = World(120.5)
    world.run(3600)
    assert [said for said in world.said if said.startswith("keepalive")] == [
        "keepalive every 21 s: the NAT remembers a mapping for 27 s, or longer",
        "keepalive every 36 s: the NAT remembers a mapping for 45 s, or longer",
        "keepalive every 64 s: the NAT remembers a mapping for 80 s, or longer",
        "keepalive every 88 s: the NAT remembers a mapping for 110 s, or longer",
        "keepalive every 96 s: the NAT remembers a mapping for 120 s",
    ]


def test_where_nobody_translates_nothing_is_tried() -> None:
    world = World(20.5)
    world.observed = "192.168.1.7:51820"
    world.run(600)
    assert world.sent == []
    assert world.reason() == (25, "no NAT on the way")


def test_nothing_is_tried_with_a_peer_that_nobody_needs() -> None:
    world = World(20.5, keepalive_s=0, endpoints=())
    world.run(600)
    assert world.sent == []


def test_what_was_remembered_is_where_the_search_begins_and_not_believed() -> None:
    world = World(120.5, remembered=(Lifetime(NETWORK, 112, 121),))
    world.run(10)
    assert world.quiet_s == 15
    assert [trial.hold_s for _, trial in world.sent] == [0, 112]
    world.run(112)
    assert world.quiet_s == 89


def test_a_remembered_memory_that_is_too_long_for_this_nat_is_given_up() -> None:
    world = World(20.5, remembered=(Lifetime(NETWORK, 112, 121),))
    for _ in range(3600):
        world.run(1)
        assert world.quiet_s <= 16
    assert world.kept[-1].lives_s in (18, 19, 20)


def test_another_network_is_searched_by_itself_and_the_first_one_is_known_again() -> None:
    world = World(120.5)
    world.run(3600)
    at_home = world.quiet_s
    world.tell(LinksChanged((msgspec.structs.replace(HOME, addresses=("10.1.1.1",)),)))
    world.observed, world.lifetime_s = "198.51.100.4:4000", 30.5
    world.run(3)
    assert world.quiet_s == 15
    world.run(1800)
    assert 20 <= world.quiet_s <= 24
    world.tell(LinksChanged((HOME,)))
    world.observed, world.lifetime_s = "203.0.113.9:5000", 120.5
    world.run(3)
    assert world.quiet_s == 15
    world.run(300)
    assert world.quiet_s == at_home


def test_another_mapping_of_a_path_in_use_puts_what_was_found_in_doubt() -> None:
    world = World(120.5)
    world.run(3600)
    found = world.quiet_s
    world.observed = "203.0.113.9:4711"
    world.run(3)
    assert world.quiet_s == 15
    world.run(300)
    assert world.quiet_s == found


def test_a_shore_peer_gets_no_keepalive_of_wireguard_while_it_answers_probes() -> None:
    world = World(20.5)
    assert world.peer.keepalive_s == 25
    world.run(5)
    assert (world.peer.keepalive_s, world.peer.wanted) == (0, True)
    for state, keepalive_s in (("suspect", 0), ("dead", 25), ("held", 0), ("unproven", 25), ("live", 0)):
        world.state = state
        world.run(2)
        assert world.peer.keepalive_s == keepalive_s, state
    world.probed = False
    world.run(2)
    assert world.peer.keepalive_s == 25


def test_a_configured_keepalive_is_an_upper_bound() -> None:
    world = World(120.5, keepalive_s=12)
    world.run(3600)
    assert world.quiet_s == 12
    assert world.reason() == (12, "configured")


def test_a_new_plane_begins_the_trial_anew() -> None:
    world = World(1000.0)
    world.run(10)
    assert world.peer.trials
    world.tell(PlaneStarted(8))
    assert not world.peer.trials
    assert len(world.desired().sockets) == 2
    world.run(3600)
    assert world.quiet_s == 120


def test_a_new_brain_closes_what_the_old_one_had_open_and_numbers_on() -> None:
    world = World(1000.0)
    world.run(10)
    held = world.desired()
    actions = Node().handle(Attached(world.config, 7, held, 51820), world.now)
    assert [action for action in actions if isinstance(action, CloseSocket)] == [CloseSocket(11)]
    node = Node()
    node.handle(Attached(world.config, 7, held, 51820), world.now)
    last = world.sent[-1][1].number
    world.node, world.sent, world._echoes = node, [], []
    world.tell(LinksChanged((HOME,)))
    world.run(30)
    assert min(trial.number for _, trial in world.sent) > last


def test_a_trial_socket_that_fails_moves_no_other_socket() -> None:
    world = World(1000.0)
    world.run(10)
    before = world.desired().sockets
    world.fact(facts.SocketFailed(11, 19))
    assert world.desired().sockets == before
    late = world.node.handle(TrialSocketOpened((None, 4), Socket(99, 4)), world.now)
    assert CloseSocket(99) in late
    world.tell(TrialSocketFailed((None, 4), "no such device"))
    world.run(timers.TRIAL_HELPLESS - 60)
    assert len(world.opened) == 1


@pytest.mark.parametrize("truth", range(3, 400, 7))
def test_a_search_ends_within_a_sixth_of_any_truth(truth: int) -> None:
    search, tries = Search(), 0
    while (hold := search.next()) is not None:
        (search.lived if hold <= truth else search.died)(hold)
        tries += 1
    assert tries <= 10
    assert search.lives_s <= truth
    if 6 <= truth < 150:
        assert search.dies_s is not None
        assert truth < search.dies_s <= max(search.lives_s * 1.15, search.lives_s + 1)
    assert 5 <= search.quiet_s() <= 120


def test_nothing_that_is_remembered_is_tried_beyond_the_ladder() -> None:
    assert Search(Lifetime(NETWORK, 10**9)).next() == 150
    assert Search(Lifetime(NETWORK, -5)).next() == 6
    assert Search(Lifetime(NETWORK, 0, 6)).next() == 19

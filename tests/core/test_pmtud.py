"""The path MTU as dialogues on virtual time, and over a link that loses, delays and swallows."""

import heapq
import random
from dataclasses import dataclass, field

import pytest

from shore.core import timers
from shore.core.pmtud import Arrivals, MtuAction, PathMtu, Phase, SendProbe, UsePathMtu

RTT = 0.02
LADDER_V4 = (576, 1124, 1280, 1340, 1400, 1420, 1460, 1492, 1500, 9000)


@dataclass
class Wire:
    """A path under virtual time: `mtu` is the truth, `loss` each way, every probe echoed small.

    `rate` in bytes a second: probes queue behind each other.
    """

    search: PathMtu
    mtu: int = 1500
    loss: float = 0.0
    jitter: float = 0.0
    rtt: float = RTT
    device: int = 65_535
    rate: float = 1e9
    seed: int = 0
    now: float = 100.0
    published: list[tuple[float, UsePathMtu]] = field(default_factory=list)
    sent: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.echoes: list[tuple[float, int]] = []
        self.free_at = self.now

    def carry(self, actions: list[MtuAction]) -> None:
        for action in actions:
            match action:
                case UsePathMtu():
                    self.published.append((self.now, action))
                case SendProbe(size, token):
                    self.sent.append((self.now, size))
                    self._carry_probe(size, token)

    def _carry_probe(self, size: int, token: int) -> None:
        if size > self.device:
            self.carry(self.search.refused(token, self.now))
            return
        self.free_at = max(self.now, self.free_at) + size / self.rate
        if size <= self.mtu and all(self.chance.random() >= self.loss for _ in range(2)):
            delay = self.rtt + self.jitter * self.chance.random()
            heapq.heappush(self.echoes, (self.free_at + delay, token))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            deadline = self.search.deadline()
            due = min(
                self.echoes[0][0] if self.echoes else until,
                until if deadline is None else max(deadline, self.now),
            )
            if due >= until:
                break
            self.now = due
            if self.echoes and self.echoes[0][0] == due:
                self.carry(self.search.answered(heapq.heappop(self.echoes)[1], due))
            else:
                self.carry(self.search.wake(due))
        self.now = until

    def mtu_at(self, moment: float) -> int:
        return [action.mtu for at, action in self.published if at <= moment][-1]


def wire(mtu: int = 1500, family: int = 4, ceiling: int = 1500, **changes: float) -> Wire:
    wire = Wire(PathMtu(family, ceiling), mtu, **changes)  # type: ignore[arg-type]
    wire.carry(wire.search.start(wire.now))
    return wire


def settled(mtu: int = 1500, **changes: float) -> Wire:
    path = wire(mtu, **changes)  # type: ignore[arg-type]
    path.run(5)
    assert path.search.phase is Phase.SEARCH_COMPLETE
    path.published.clear()
    path.sent.clear()
    return path


def sizes(actions: list[MtuAction]) -> list[int]:
    return [action.size for action in actions if isinstance(action, SendProbe)]


# Dialogues


def test_usual_sizes_go_out_at_once_between_two_controls_and_an_answer_is_used_at_once() -> None:
    search = PathMtu(6, 1500)
    first = search.start(0.0)
    assert sizes(first) == [256, 1280, 1340, 1400, 1420, 1460, 1480, 1492, 1500, 256]
    assert (search.phase, search.mtu, search.proved) == (Phase.BASE, 1280, False)
    by_size = {action.size: action.token for action in first if isinstance(action, SendProbe)}
    assert search.answered(by_size[1400], 0.02) == [UsePathMtu(1400, True, "answered")]
    assert search.phase is Phase.SEARCHING
    assert search.answered(by_size[1340], 0.021) == []
    assert search.answered(by_size[1500], 0.022) == [UsePathMtu(1500, True, "answered")]


def test_the_round_ends_soon_after_its_last_control() -> None:
    search = PathMtu(6, 1400)
    first = [a for a in search.start(0.0) if isinstance(a, SendProbe)]
    assert search.deadline() == timers.MTU_FIRST_ROUND
    for probe in (first[0], first[1], first[2], first[-1]):
        search.answered(probe.token, RTT)
    assert search.deadline() == pytest.approx(RTT + timers.MTU_ROUND_GRACE)
    assert sizes(search.wake(RTT + timers.MTU_ROUND_GRACE)) == [256, 1355, 1370, 1385, 1400, 256]


def test_a_device_that_carries_less_says_so_at_once() -> None:
    search = PathMtu(6, 1500)
    first = {a.size: a.token for a in search.start(0.0) if isinstance(a, SendProbe)}
    for size in (1492, 1500):
        assert search.refused(first[size], 0.0) == []
    for size in (1280, 1340, 1400, 1420, 1460):
        search.answered(first[size], RTT)
    search.answered(first[1480], RTT)
    assert search.answered(first[256], RTT) == []
    search.wake(timers.MTU_FIRST_ROUND)
    assert (search.phase, search.mtu) == (Phase.SEARCH_COMPLETE, 1480)


def test_an_answer_from_before_the_path_changed_says_nothing() -> None:
    search = PathMtu(4, 1500)
    old = [a for a in search.start(0.0) if isinstance(a, SendProbe)]
    search.start(0.01)
    assert [search.answered(probe.token, RTT) for probe in old] == [[]] * len(old)
    assert not search.proved


def test_an_answer_larger_than_the_device_has_become_proves_only_what_the_device_carries() -> None:
    search = PathMtu(4, 1500)
    largest = next(a for a in search.start(0.0) if isinstance(a, SendProbe) and a.size == 1500)
    search.ceiling_changed(1400, 0.01)
    assert search.answered(largest.token, RTT) == []
    search = PathMtu(4, 1500)
    small, *_, largest = [a for a in search.start(0.0) if isinstance(a, SendProbe) and a.size != 256]
    search.answered(small.token, 0.005)
    search.ceiling_changed(1400, 0.01)
    assert search.answered(largest.token, RTT) == [UsePathMtu(1400, True, "answered")]


def test_a_second_answer_says_nothing() -> None:
    search = PathMtu(4, 1500)
    probe = next(a for a in search.start(0.0) if isinstance(a, SendProbe) and a.size == 1500)
    assert search.answered(probe.token, RTT) != []
    assert search.answered(probe.token, RTT) == []


def test_a_wrong_hint_costs_one_round_and_changes_nothing() -> None:
    path = settled()
    hint = path.search.hinted(1280, path.now)
    assert sizes(hint) == [256, 1280, 1500, 256]
    path.carry(hint)
    path.run(5)
    assert (path.published, path.search.phase) == ([], Phase.SEARCH_COMPLETE)


def test_hints_that_cannot_be_true_are_not_followed() -> None:
    path = settled()
    for mtu in (0, 68, 255, 1500, 9000):
        assert path.search.hinted(mtu, path.now) == []


def test_the_peers_counts_make_a_verification_and_small_losses_do_not() -> None:
    path = settled()
    assert path.search.arrivals(Arrivals(10, 7, 10, 7), path.now) == []
    assert path.search.arrivals(Arrivals(3, 0, 5, 5), path.now) == []
    assert sizes(path.search.arrivals(Arrivals(1, 0, 0, 0), path.now)) == [256, 1500, 256]
    assert path.search.suspected(path.now + 0.1) == []


def test_large_is_what_a_slightly_smaller_path_would_swallow() -> None:
    search = PathMtu(4, 1500)
    assert search.large == 1050
    for action in search.start(0.0):
        if isinstance(action, SendProbe):
            search.answered(action.token, RTT)
    assert search.large == 1313


def test_a_lossy_path_is_no_black_hole() -> None:
    path = settled()
    for _ in range(100):
        assert path.search.arrivals(Arrivals(10, 5, 10, 5), path.now) == []


def test_many_losses_of_large_ones_and_none_of_small_ones_make_a_verification_each_five_seconds() -> None:
    path = settled()
    some = Arrivals(100, 92, 10, 10)
    assert path.search.arrivals(Arrivals(100, 92, 10, 9), path.now) == []
    assert path.search.arrivals(Arrivals(100, 93, 10, 10), path.now) == []
    began = path.now
    path.carry(path.search.arrivals(some, path.now))
    for _ in range(10):
        path.run(1)
        path.carry(path.search.arrivals(some, path.now))
    assert [round(at - began) for at, size in path.sent if size == 1500] == [0, 5, 10]
    assert path.published == []


def test_a_path_that_swallows_only_some_of_what_is_large_is_found_smaller() -> None:
    path = settled()
    path.mtu = 1400
    path.carry(path.search.arrivals(Arrivals(100, 80, 0, 0), path.now))
    path.run(1)
    assert path.search.mtu == 1400


@pytest.mark.parametrize("mtu", [576, 1280, 1300, 1387, 1492])
def test_a_verification_ends_within_half_a_second_with_at_most_50_probes(mtu: int) -> None:
    path = settled()
    path.mtu = mtu
    began = path.now
    path.carry(path.search.suspected(path.now))
    path.run(1)
    assert path.published[0][0] - began < 0.5
    assert mtu - 16 < path.search.mtu <= mtu
    assert len(path.sent) <= 50


@pytest.mark.parametrize("loss", [0.05, 0.2])
def test_loss_makes_a_verification_longer_and_never_more_than_50_probes_a_second(loss: float) -> None:
    took = []
    for seed in range(30):
        path = wire(1500, loss=loss, seed=seed)
        path.run(30)
        path.sent.clear()
        path.published.clear()
        path.mtu = 1300
        began = path.now
        path.carry(path.search.suspected(path.now))
        path.run(20)
        assert 1284 < path.search.mtu <= 1300
        took.append(path.published[0][0] - began)
        times = [at for at, _ in path.sent]
        assert max(sum(at <= other < at + 1 for other in times) for at in times) <= 50
    assert sorted(took)[15] < (1.0 if loss < 0.1 else 4.0)


def test_loss_may_be_a_matter_of_size_while_that_is_verified_and_for_a_second_and_a_half_at_most() -> None:
    path = settled()
    assert not path.search.may_explain_loss(path.now)
    path.carry(path.search.suspected(path.now))
    assert path.search.may_explain_loss(path.now)
    path.run(0.1)
    assert not path.search.may_explain_loss(path.now)
    assert not path.search.shrank(path.now)
    path.run(1)
    path.mtu = 0
    path.carry(path.search.suspected(path.now))
    path.run(1.4)
    assert path.search.may_explain_loss(path.now)
    path.run(0.2)
    assert not path.search.may_explain_loss(path.now)


def test_what_was_lost_is_forgiven_for_a_second_after_a_path_was_found_smaller() -> None:
    path = settled()
    path.mtu = 1400
    path.carry(path.search.suspected(path.now))
    path.run(0.6)
    assert path.search.mtu == 1400
    assert (path.search.may_explain_loss(path.now), path.search.shrank(path.now)) == (False, True)
    path.run(1)
    assert not path.search.shrank(path.now)


def test_a_smaller_device_is_obeyed_at_once_and_a_larger_one_searched() -> None:
    path = settled(1500)
    assert path.search.ceiling_changed(1500, path.now) == []
    path.carry(path.search.ceiling_changed(1400, path.now))
    path.run(2)
    assert [action.mtu for _, action in path.published] == [1400]
    path.mtu = 9000
    path.carry(path.search.ceiling_changed(9000, path.now))
    path.run(2)
    assert (path.search.mtu, path.search.phase) == (9000, Phase.SEARCH_COMPLETE)


# Over a simulated link


@pytest.mark.parametrize("ceiling", [1500, 9000])
@pytest.mark.parametrize("mtu", LADDER_V4)
def test_usual_mtus_are_known_within_a_second_at_20_ms(mtu: int, ceiling: int) -> None:
    path = wire(mtu, ceiling=ceiling)
    path.run(1)
    assert path.search.mtu == min(mtu, ceiling)
    assert path.published[-1][0] <= 100 + 1
    path.run(5)
    assert path.search.phase is (Phase.ERROR if mtu < 1200 else Phase.SEARCH_COMPLETE)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("mtu", range(300, 9001, 131))
def test_any_mtu_is_found_within_16_bytes(mtu: int, family: int) -> None:
    path = wire(mtu, family, 9000)
    path.run(5)
    assert mtu - 16 < path.search.mtu <= mtu
    count = len(path.sent)
    path.run(timers.MTU_RAISE[-1] - 10)
    assert len(path.sent) == count, "a search ends"


@pytest.mark.parametrize("mtu", [1124, 1387, 1500, 4000])
def test_a_search_sends_at_most_50_probes_a_second(mtu: int) -> None:
    path = wire(mtu, ceiling=9000)
    path.run(10)
    times = [at for at, _ in path.sent]
    assert max(sum(at <= other < at + 1 for other in times) for at in times) <= 50


@pytest.mark.parametrize("rtt", [0.001, 0.3, 1.5])
def test_any_round_trip_will_do(rtt: float) -> None:
    path = wire(1420, rtt=rtt)
    path.run(30)
    assert (path.search.mtu, path.search.phase) == (1420, Phase.SEARCH_COMPLETE)


@pytest.mark.parametrize("mtu", [1280, 1387, 1500])
@pytest.mark.parametrize("kilobit", [64, 256, 1000])
def test_any_rate_will_do(kilobit: int, mtu: int) -> None:
    path = wire(mtu, rate=kilobit * 125)
    path.run(30)
    assert mtu - 16 < path.search.mtu <= mtu
    assert path.search.phase is Phase.SEARCH_COMPLETE


@pytest.mark.parametrize("seed", range(20))
def test_jitter_is_not_loss(seed: int) -> None:
    path = wire(1500, jitter=0.3, seed=seed)
    path.run(10)
    assert path.search.mtu == 1500


@pytest.mark.parametrize("loss", [0.05, 0.3])
def test_loss_is_no_smaller_mtu(loss: float) -> None:
    soon = 0
    for seed in range(100):
        path = wire(1420, loss=loss, seed=seed)
        path.run(30)
        soon += path.search.mtu == 1420
        path.run(300)
        assert path.search.mtu == 1420
    assert soon >= 97


@pytest.mark.parametrize("seed", range(20))
def test_30_percent_of_loss_for_ten_minutes_takes_nothing_away(seed: int) -> None:
    path = wire(1500, loss=0.3, seed=seed)
    path.run(30)
    path.published.clear()
    for _ in range(2400):
        arrived = sum(path.chance.random() >= path.loss for _ in range(10))
        small = sum(path.chance.random() >= path.loss for _ in range(5))
        path.carry(path.search.arrivals(Arrivals(10, arrived, 5, small), path.now))
        if path.chance.random() < 0.05:
            path.carry(path.search.suspected(path.now))
        path.run(0.25)
    assert not [action for _, action in path.published if action.mtu < 1500]


@pytest.mark.parametrize("small_sent", [0, 5])
@pytest.mark.parametrize("mtu", [576, 1124, 1280, 1300, 1492])
def test_a_path_that_shrinks_under_bulk_stalls_less_than_two_seconds(mtu: int, small_sent: int) -> None:
    path = settled(1500)
    path.mtu = mtu
    shrunk_at = path.now
    while path.search.mtu > mtu:
        path.run(0.25)
        path.carry(path.search.arrivals(Arrivals(20, 0, small_sent, small_sent), path.now))
        assert path.now < shrunk_at + 2
    assert path.published[0][0] < shrunk_at + 1.5
    path.run(5)
    assert mtu - 16 < path.search.mtu <= mtu


def test_a_genuine_hint_finds_the_size_it_names() -> None:
    path = settled(1500)
    path.mtu = 1387
    path.carry(path.search.hinted(1387, path.now))
    path.run(2)
    assert [action.mtu for _, action in path.published] == [1387]


@pytest.mark.parametrize("mtu", [68, 256, 576, 1280, 1400])
def test_forged_hints_change_nothing_and_cost_little(mtu: int) -> None:
    path = settled(1500)
    for _ in range(6000):
        path.carry(path.search.hinted(mtu, path.now))
        path.run(0.01)
    assert path.published == []
    assert len(path.sent) <= 4 * 7


def test_a_forger_does_not_hide_a_real_black_hole() -> None:
    path = settled(1500)
    for _ in range(3000):
        path.carry(path.search.hinted(1280, path.now))
        path.run(0.01)
    path.mtu, shrunk_at = 1400, path.now
    for tick in range(200):
        path.carry(path.search.hinted(576, path.now))
        if tick % 25 == 0:
            path.carry(path.search.arrivals(Arrivals(20, 0, 3, 3), path.now))
        path.run(0.01)
    assert path.search.mtu == 1400
    assert path.published[0][0] < shrunk_at + 2


def test_forged_hints_do_not_put_off_the_raise() -> None:
    path = settled(1400)
    path.mtu = 1500
    for _ in range(620):
        path.carry(path.search.hinted(1280, path.now))
        path.run(1)
    assert path.search.mtu == 1500


def test_growth_is_found_by_the_raise_and_at_once_after_an_event() -> None:
    path = settled(1300)
    path.mtu = 1500
    path.run(timers.MTU_RAISE[-1] - 10)
    assert path.sent == []
    path.run(20)
    assert path.search.mtu == 1500

    path = settled(1300)
    path.mtu = 1500
    path.carry(path.search.disturbed(path.now))
    path.run(1)
    assert path.search.mtu == 1500


def test_an_event_on_a_path_that_shrank_is_noticed_without_any_data() -> None:
    path = settled(1500)
    path.mtu = 1350
    path.carry(path.search.disturbed(path.now))
    path.run(2)
    assert 1334 < path.search.mtu <= 1350


def test_an_unusual_mtu_is_verified_even_when_the_first_round_is_lost() -> None:
    path = settled(1400)
    path.mtu = 1387
    path.carry(path.search.hinted(1387, path.now))
    path.run(2)
    path.mtu = 0
    path.carry(path.search.disturbed(path.now))
    path.run(0.1)
    path.mtu = 1386
    path.run(5)
    assert 1370 < path.search.mtu <= 1386
    assert path.search.phase is Phase.SEARCH_COMPLETE


def test_nothing_is_left_to_raise_where_the_device_is_the_limit() -> None:
    path = settled(1500)
    path.run(3 * timers.MTU_RAISE[-1])
    assert path.sent == []


def test_a_silent_path_is_asked_ever_more_slowly_by_controls_and_keeps_its_mtu() -> None:
    path = settled(1500)
    path.mtu = 0
    path.carry(path.search.disturbed(path.now))
    path.run(3600)
    assert path.published == []
    late = [size for at, size in path.sent if at > path.now - 3000]
    assert set(late) == {256}
    assert len(late) <= 100
    path.mtu = 1400
    path.carry(path.search.arrivals(Arrivals(0, 0, 1, 1), path.now))
    path.run(3)
    assert path.search.mtu == 1400


def test_a_path_below_its_base_is_an_error_and_recovers() -> None:
    path = wire(576, 6)
    path.run(2)
    assert (path.search.phase, path.search.mtu) == (Phase.ERROR, 576)
    path.mtu = 1500
    path.run(timers.MTU_RAISE[-1])
    assert (path.search.phase, path.search.mtu) == (Phase.SEARCH_COMPLETE, 1500)


@pytest.mark.parametrize("seed", range(50))
def test_whatever_happens_the_search_ends_at_the_truth(seed: int) -> None:
    """Random events on a path without loss; afterwards one event, and the MTU is right."""
    chance = random.Random(seed)
    path = wire(chance.randint(1280, 9000), ceiling=9000, seed=seed)
    for _ in range(40):
        happening = chance.choice(["shrink", "hint", "suspect", "disturb", "start", "ceiling", "report"])
        match happening:
            case "shrink":
                path.mtu = chance.randint(256, 9000)
            case "hint":
                path.carry(path.search.hinted(chance.randint(0, 9000), path.now))
            case "suspect":
                path.carry(path.search.suspected(path.now))
            case "disturb":
                path.carry(path.search.disturbed(path.now))
            case "start":
                path.carry(path.search.start(path.now))
            case "ceiling":
                path.carry(path.search.ceiling_changed(chance.choice([1280, 1500, 9000]), path.now))
            case "report":
                path.carry(path.search.arrivals(Arrivals(9, chance.randint(0, 9), 3, 2), path.now))
        path.run(chance.random() * 0.5)
    path.run(5)
    path.carry(path.search.disturbed(path.now))
    path.run(5)
    truth = min(path.mtu, path.search.ceiling)
    assert truth - 16 < path.search.mtu <= truth
    assert len(path.sent) < 3000

"""Two Shore nodes and two links: the loss of a path goes unnoticed."""

import time

import pytest

from shore.lab.ends import PORT, ShoreEnd, sides
from shore.lab.multipath import INNER, Twin, twin
from shore.lab.net import Net, until
from shore.lab.pinger import Pinger, Pings

pytestmark = pytest.mark.lab
# First bytes of hello, welcome and sealed messages.
OURS = "add rule ip seen in udp dport 51820 @th,64,8 0x81-0x83 counter"


def pinged(pair: Twin, seconds: float, fault: object = None, *, rate: float = 20) -> tuple[float, Pings]:
    """Ping from a to b, do something after two seconds; when it was done, and what became of the pings."""
    pinger = Pinger(pair.lab["a"], INNER, rate)
    time.sleep(2)
    at = time.monotonic()
    if callable(fault):
        fault()
    time.sleep(seconds)
    return at, pinger.stop()


def test_every_path_is_proved_and_measured() -> None:
    with twin("paths", delay_ms=10, second_delay_ms=25) as pair:
        pair.settle()
        paths = {path.remote.rpartition(":")[0]: path for path in pair.peer().paths if path.state == "live"}
        assert 19 < (paths["10.99.1.2"].rtt_ms or 0) < 30
        assert 49 < (paths["10.99.2.2"].rtt_ms or 0) < 60
        assert pair.peer().probed
        assert pair.peer(pair.b).probed


@pytest.mark.parametrize("toward", [None, *(pytest.param(way, marks=pytest.mark.slow) for way in ("a", "b"))])
def test_a_black_hole_on_the_path_in_use_costs_half_a_second(toward: str | None) -> None:
    with twin("black-hole") as pair:
        pair.settle()
        link = getattr(pair, pair.link_of() or "one")
        at, pings = pinged(pair, 5, lambda: link.change(toward=toward, black_hole=True))
        gap = pings.gap(at)
        assert gap is not None
        assert gap <= 1.0, pair.a.log()


def test_interactive_flows_lose_nothing() -> None:
    with twin("interactive", own="#@ Redundancy = interactive\n") as pair:
        pair.settle()
        link = getattr(pair, pair.link_of() or "one")
        _, pings = pinged(pair, 5, lambda: link.change(black_hole=True))
        assert pings.lost() == 0, pair.a.log()


@pytest.mark.slow
def test_data_that_is_swallowed_while_probes_pass_is_noticed() -> None:
    with twin("deaf") as pair:
        pair.settle()
        link = getattr(pair, pair.link_of() or "one")
        at, pings = pinged(pair, 6, lambda: link.change(drop_type=4))
        gap = pings.gap(at)
        assert gap is not None
        assert gap <= 2.0, pair.a.log()


@pytest.mark.slow
def test_loss_drives_a_peer_to_the_clean_path() -> None:
    with twin("loss") as pair:
        pair.settle(5)
        before = pair.link_of()
        link = getattr(pair, before or "one")
        pinger = Pinger(pair.lab["a"], INNER, 200)
        try:
            time.sleep(3)
            link.change(loss=0.1)
            until(lambda: pair.link_of() != before, 6)
        finally:
            pinger.stop()


def test_an_uplink_that_is_pulled_is_left_and_found_again() -> None:
    with twin("unplug") as pair:
        pair.settle()
        before = pair.link_of()
        link = getattr(pair, before or "one")
        at, pings = pinged(pair, 4, lambda: link.unplug("a"))
        gap = pings.gap(at)
        assert gap is not None
        assert gap <= 1.0, pair.a.log()
        link.plug("a")
        until(lambda: sum(path.state == "live" for path in pair.peer().paths) >= 2, 20)


@pytest.mark.parametrize("probing", ["on", "off"])
def test_a_node_that_may_not_probe_is_plain_wireguard_to_others(probing: str) -> None:
    with Net() as net:
        net.b.run("nft", "add table ip seen; add chain ip seen in { type filter hook input priority 0; }")
        net.b.run("nft", OURS)
        ours, theirs = sides(f"{net.address_of_b}:{PORT}")
        a, b = ShoreEnd(net.a, ours, extra=f"#@ Probing = {probing}\n"), ShoreEnd(net.b, theirs)
        try:
            b.up()
            a.up()
            until(lambda: net.a.reaches(INNER, within_s=1), 20)
            time.sleep(3)
            words = net.b.run("nft", "list", "chain", "ip", "seen", "in").split()
            sent = int(words[words.index("packets") + 1])
            met = [end.status().peers[0].probed for end in (a, b)]
            assert (sent > 0, met) == (probing == "on", [probing == "on"] * 2)
        finally:
            a.down()
            b.down()


def test_copies_of_a_20_hz_flow_survive_beside_300_mbit_of_bulk_on_a_path_50_ms_slower() -> None:
    with twin("lanes", own="#@ Redundancy = interactive\n", delay_ms=10, second_delay_ms=60) as pair:
        until(
            lambda: all([lane.id for lane in pair.peer(end).lanes] == [0, 1] for end in (pair.a, pair.b)), 10
        )

        def lanes() -> dict[int, int]:
            return {lane.id: lane.messages for lane in pair.peer().lanes}

        def fault() -> None:
            after.update(lanes())
            pair.one.change(black_hole=True)

        after: dict[int, int] = {}
        with pair.bulk():
            before = lanes()
            _, pings = pinged(pair, 4, fault)
        assert pings.lost() == 0, pair.a.log()
        # Two seconds of pings, of which the brain may not have read the last one's yet.
        assert after[1] - before[1] >= 20, "pings take lane 1"
        assert after[0] - before[0] > 10_000, "bulk takes lane 0"

"""Behind a NAT of unknown memory, with no keepalive configured: always reachable, at little cost."""

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator

import pytest

from shore.lab.ends import PORT, ShoreEnd, sides
from shore.lab.laboratory import Laboratory
from shore.lab.link import Ending
from shore.lab.nat import Nat
from shore.lab.net import until
from shore.lab.pinger import Pinger

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(400)]
INSIDE, OUTSIDE = "10.8.0.1", "10.8.0.2"
MOST_BYTES_PER_S = 60
TOLL = """
    table inet toll {
        chain forward {
            type filter hook forward priority 10;
            iifname "lan0" meta l4proto udp counter
        }
    }
"""


class Home:
    """Shore at `a` behind a NAT, and at `b` outside; only `a` knows where the other is."""

    def __init__(self, lab: Laboratory, a: ShoreEnd, b: ShoreEnd) -> None:
        self.lab, self.a, self.b = lab, a, b

    def keepalive(self) -> tuple[int, str]:
        """The interval of `a`, and why."""
        peer = self.a.status().peers[0]
        return peer.keepalive_s, peer.keepalive_reason

    def sent(self) -> int:
        """Bytes of IP that `a` sent so far."""
        chain = self.lab["home"].run("nft", "list", "chain", "inet", "toll", "forward")
        found = re.search(r"bytes (\d+)", chain)
        assert found is not None
        return int(found[1])

    def first_ping_from_outside(self) -> tuple[float, float]:
        """The round trips in ms of the first ping and of the usual one; all must be answered."""
        pinger = Pinger(self.b.host, INSIDE, 20)
        time.sleep(2)
        pings = pinger.stop()
        assert pings.lost() == 0, self.a.log() + self.b.log()
        return (pings.sent[0][1] or 1e9) * 1e3, pings.usual_rtt() * 1e3


@contextlib.contextmanager
def home(lifetime_s: int) -> Iterator[Home]:
    with Laboratory("keepalive") as lab:
        lab.host("a"), lab.router("home"), lab.host("b")
        lab.link(
            "lan",
            Ending("a", "eth0", ("10.1.0.2/24",), ("10.1.0.1",)),
            Ending("home", "lan0", ("10.1.0.1/24",)),
            cable=True,
        )
        wan = lab.link(
            "wan",
            Ending("home", "wan0", ("192.0.2.1/24",)),
            Ending("b", "eth0", ("192.0.2.2/24",)),
        )
        wan.change(delay_ms=10)
        lab.nat("home", Nat("port-restricted", lifetime_s=lifetime_s))
        lab["home"].run("nft", "-f", "-", stdin=TOLL)
        ours, theirs = sides(f"192.0.2.2:{PORT}")
        a, b = ShoreEnd(lab["a"], ours), ShoreEnd(lab["b"], theirs)
        try:
            b.up()
            a.up()
            made = Home(lab, a, b)
            until(lambda: lab["a"].reaches(OUTSIDE, within_s=1), 20)
            until(lambda: a.status().peers[0].probed, 20)
            yield made
        finally:
            a.down()
            b.down()


def idle(home: Home, seconds: float) -> float:
    """Leave it alone; how many bytes a second `a` sent meanwhile."""
    before, began = home.sent(), time.monotonic()
    time.sleep(seconds)
    return (home.sent() - before) / (time.monotonic() - began)


def test_a_nat_of_20_seconds_is_learnt_and_outlived() -> None:
    with home(20) as pair:
        assert pair.keepalive()[0] == 15
        assert idle(pair, 75) <= MOST_BYTES_PER_S
        first, usual = pair.first_ping_from_outside()
        assert first <= usual + 20
        until(lambda: pair.keepalive()[1].startswith("the NAT remembers a mapping for 19 s"), 20)
        assert pair.keepalive()[0] == 15


def test_a_nat_of_10_seconds_is_found_out() -> None:
    with home(10) as pair:
        until(lambda: pair.keepalive()[0] <= 8, 150)
        time.sleep(15)
        assert idle(pair, 40) <= MOST_BYTES_PER_S
        first, usual = pair.first_ping_from_outside()
        assert first <= usual + 20


@pytest.mark.timeout(1200)
def test_ten_idle_minutes_behind_a_nat_of_20_seconds() -> None:
    with home(20) as pair:
        until(lambda: re.fullmatch(r"the NAT remembers a mapping for \d+ s", pair.keepalive()[1]), 300)
        assert pair.keepalive()[0] < 20
        assert idle(pair, 600) <= MOST_BYTES_PER_S
        first, usual = pair.first_ping_from_outside()
        assert first <= usual + 20


def test_what_was_learnt_survives_the_brain_and_the_tunnel() -> None:
    with home(45) as pair:
        until(lambda: pair.keepalive()[0] >= 21, 150)
        pair.a.shore("down", pair.a.name)
        pair.a.up()
        began = time.monotonic()
        until(lambda: pair.keepalive()[0] >= 21, 60)
        # One trial of what is remembered, in place of the climb from 19 s.
        assert time.monotonic() - began < 45


def test_trials_go_on_after_the_brain_or_the_data_plane_was_killed() -> None:
    with home(60) as pair:
        until(lambda: pair.keepalive()[1].startswith("the NAT remembers a mapping for 19 s"), 90)
        os.kill(pair.a.brain_pid(), signal.SIGKILL)
        until(lambda: "a first guess" in pair.keepalive()[1], 30)
        until(lambda: pair.keepalive()[1].startswith("the NAT remembers a mapping for 19 s"), 90)
        pair.a.kill()
        until(lambda: pair.keepalive()[1].startswith("the NAT remembers a mapping for 27 s"), 200)
        assert "refused" not in pair.a.log()

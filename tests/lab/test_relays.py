"""A second relay, by the command that a token for one prints; and what becomes of pings when a relay goes.

a 192.0.2.1 ── router ── 203.0.113.5 c, and the second relay is b, 198.51.100.2. The hub is c: server, first
relay and node. No UDP passes between a and c, so their packets go by a relay, and either will do.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from shore.lab.member import Member
from shore.lab.net import RoutedNet, until
from shore.lab.pinger import Pinger, Pings
from shore.model.status import LinkStatus

pytestmark = [pytest.mark.lab]
FIRST, SECOND = "203.0.113.5:443", "198.51.100.2:443"
NO_UDP = """
    table ip blocked {
        chain forward {
            type filter hook forward priority 1;
            ip saddr 192.0.2.1 ip daddr 203.0.113.5 meta l4proto udp drop
            ip saddr 203.0.113.5 ip daddr 192.0.2.1 meta l4proto udp drop
        }
    }
"""
HALF_OPEN = """
    table ip swallowed {
        chain forward {
            type filter hook forward priority 1;
            ip saddr 192.0.2.1 ip daddr 203.0.113.5 tcp dport 443 drop
            ip saddr 203.0.113.5 ip daddr 192.0.2.1 tcp sport 443 drop
        }
    }
"""


class Relays:
    """The hub and the laptop, and the machine that may become a second relay."""

    def __init__(self, net: RoutedNet) -> None:
        self.net = net
        self.hub, self.laptop = Member(net.c, "hub"), Member(net.a, "laptop")
        self.second = Member(net.b, "second")
        self.hub.found()
        net.router.run("nft", "-f", "-", stdin=NO_UDP)
        self.laptop.join(self.hub.shore("invite").split()[-1])
        self.address = self.hub.address()
        until(lambda: self.laptop.host.reaches(self.address, within_s=1), within_s=15)

    def add_second(self) -> None:
        """By the command that `invite --relay` prints."""
        words = self.hub.shore("invite", "--relay").split()
        assert words[:3] == ["shore", "relay", "--join"]
        self.second.shore("relay", "--join", "-", "--name", "second", stdin=words[3])

    def links(self, member: Member) -> dict[str, LinkStatus]:
        """Relays that the member is linked to, by address."""
        return {link.address: link for link in member.status().links if link.kind == "relay"}

    def hold(self, *addresses: str) -> bool:
        """Whether both nodes are linked to these relays and no others."""
        up = [
            {address for address, link in self.links(member).items() if link.state == "up"}
            for member in (self.hub, self.laptop)
        ]
        return all(each == set(addresses) for each in up)

    def lives_by_both(self) -> bool:
        """Whether the laptop has proved a path by each."""
        paths = self.laptop.status().peers[0].paths
        return {path.remote for path in paths if path.state == "live"} >= {FIRST, SECOND}

    def primary(self) -> str | None:
        """By which relay the laptop's packets go."""
        return next((path.remote for path in self.laptop.status().peers[0].paths if path.primary), None)

    def pinged(self, fault: Callable[[], object], seconds: float) -> tuple[float, Pings]:
        """Ping, do it after a second, go on; when it was done."""
        pinger = Pinger(self.laptop.host, self.address)
        time.sleep(1)
        at = time.monotonic()
        fault()
        time.sleep(seconds)
        return at, pinger.stop()

    def kill(self, member: Member) -> None:
        """A relay, by SIGKILL."""
        process = member.program("relay")
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)

    def end(self) -> None:
        for member in (self.laptop, self.second, self.hub):
            member.down()


@pytest.fixture
def relays() -> Iterator[Relays]:
    with RoutedNet() as net:
        for host in net.hosts:
            host.resolve_by("192.0.2.53")
        made = Relays(net)
        try:
            yield made
        finally:
            made.end()


def test_a_machine_becomes_a_second_relay_which_takes_over_when_the_first_dies(relays: Relays) -> None:
    relays.add_second()
    until(lambda: relays.hold(FIRST, SECOND), within_s=10)
    until(relays.lives_by_both, within_s=15)
    at, pings = relays.pinged(lambda: relays.kill(relays.hub), 6)
    gap = pings.gap(at)
    print(f"relay killed: gap {gap} s, {pings.lost()} lost")
    assert gap is not None
    assert gap <= 2, relays.laptop.shore("log", "shore0")
    until(lambda: relays.hold(FIRST, SECOND), within_s=15)

    assert "relay second: running" in relays.second.shore("relay", "status")
    again = relays.second.run("relay", "--join", "-", stdin=relays.hub.shore("invite", "--relay").split()[-1])
    assert (again.returncode, again.stderr) == (
        1,
        "shore: this machine is a relay already: `shore relay start` starts it\n",
    )
    relays.second.shore("relay", "stop")
    assert relays.second.program("relay") is None
    assert relays.second.run("relay", "status").returncode == 3
    relays.second.shore("relay", "start")
    until(lambda: relays.hold(FIRST, SECOND), within_s=15)

    relays.hub.shore("nodes", "revoke", "second")
    until(lambda: relays.hold(FIRST), within_s=5)
    assert relays.laptop.host.reaches(relays.address, within_s=2)

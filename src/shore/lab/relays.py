"""Two nodes of a mesh that no UDP joins, the network's own relay, and a machine that may become a second one.

a 192.0.2.1 ── router ── 203.0.113.5 c, and the second relay is b, 198.51.100.2. The hub is c: server, first
relay and node. Packets between a and c go by a relay, and either will do.
"""

import signal
import time
from collections.abc import Callable

from shore.core.candidates import host_of
from shore.lab.member import Member
from shore.lab.net import LabFailed, RoutedNet, until
from shore.lab.pinger import Pinger, Pings
from shore.model.status import LinkStatus

FIRST, SECOND = "203.0.113.5:443", "198.51.100.2:443"
HALF_OPEN = """
    table ip swallowed {{
        chain forward {{
            type filter hook forward priority 1;
            ip saddr 192.0.2.1 ip daddr {address} th dport {{ 443, 3478 }} drop
            ip saddr {address} ip daddr 192.0.2.1 th sport {{ 443, 3478 }} drop
        }}
    }}
"""


class TwoRelays:
    """The hub and the laptop, and the machine that may become a second relay."""

    def __init__(self, net: RoutedNet) -> None:
        self.net = net
        self.hub, self.laptop = Member(net.c, "hub"), Member(net.a, "laptop")
        self.second = Member(net.b, "second")
        try:
            self._meet()
        except BaseException:
            self.end()
            raise

    def _meet(self) -> None:
        self.hub.found()
        self.net.block_udp(self.net.a, self.net.c)
        self.laptop.join(self.hub.shore("invite").split()[-1])
        self.address = self.hub.address()
        until(lambda: self.laptop.host.reaches(self.address, within_s=1), within_s=15)

    def add_second(self) -> None:
        """By the command that `invite --relay` prints."""
        words = self.hub.shore("invite", "--relay").split()
        if words[:3] != ["shore", "relay", "--join"]:
            raise LabFailed(f"`shore invite --relay` printed {words[:3]}")
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

    def server_linked_at(self) -> float:
        """When the laptop's link to the server came up, of CLOCK_MONOTONIC; 0 while there is none."""
        links = self.laptop.status().links
        ages = [link.since_s for link in links if link.kind == "server" and link.state == "up"]
        return time.monotonic() - ages[0] if ages else 0.0

    def kill(self, member: Member) -> None:
        """A relay, by SIGKILL."""
        member.signal_program("relay", signal.SIGKILL)

    def owner(self, relay: str | None) -> Member:
        """On whose machine a relay runs."""
        return self.hub if host_of(relay or "") == host_of(FIRST) else self.second

    def swallow(self, relay: str | None) -> None:
        """Drop in silence all that the laptop and a relay say to each other."""
        address = host_of(relay or "")
        self.net.router.run("nft", "-f", "-", stdin=HALF_OPEN.format(address=address))

    def end(self) -> None:
        """Leave nothing."""
        for member in (self.laptop, self.second, self.hub):
            member.down()

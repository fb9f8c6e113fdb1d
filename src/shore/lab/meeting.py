"""A network of three: nodes `a` and `b` on wires of their own, and `hub` with server and relay between them.

    a 192.0.2.1/24 ── .254 router .254 ── 198.51.100.2/24 b
                           router .254 ── 203.0.113.5/24 hub

What UDP may pass between a and b is the router's business: `block` leaves them the relay. Each of the faults
is what happens to whole machines: every process of one is killed, both get other addresses, the server is no
more, or falls silent and stays connected.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from shore.io.process import environment
from shore.lab.member import Member
from shore.lab.net import Host, RoutedNet, until

Way = Literal["direct", "relay"]
SETTLED_WITHIN_S = 30.0


class Meeting:
    """The three of them, joined; `a` and `b` know each other."""

    def __init__(self, net: RoutedNet, a: Member, b: Member, hub: Member) -> None:
        self.net, self.a, self.b, self.hub = net, a, b, hub
        self._moves = 0

    @property
    def inner(self) -> str:
        """Where a pings b."""
        return self.a.shore("ip", "b").split()[0]

    def block(self) -> None:
        """No UDP between the wires of a and b any more."""
        self.net.block_udp(self.a.host, self.b.host)

    def unblock(self) -> None:
        """As before `block`."""
        self.net.unblock_udp()

    def way(self) -> str | None:
        """The kind of the path that a's packets to b take; None without one that answers."""
        peer = next((peer for peer in self.a.status().peers if peer.name == "b"), None)
        paths = () if peer is None else peer.paths
        return next((path.kind for path in paths if path.primary and path.state == "live"), None)

    def settle(self, way: Way) -> None:
        """Wait until packets go that way, by both ends' relay links too."""
        until(lambda: self.a.host.reaches(self.inner, within_s=1), SETTLED_WITHIN_S)
        until(lambda: self.way() == way, SETTLED_WITHIN_S)
        until(lambda: all(links_up(end) == {"relay", "server"} for end in (self.a, self.b)), SETTLED_WITHIN_S)

    def move_both(self) -> None:
        """Both get another address at once, and lose the one that they had."""
        self._moves += 1
        last = 10 + self._moves
        for host, network in ((self.a.host, "192.0.2"), (self.b.host, "198.51.100")):
            _move(host, network, last)

    def kill_server(self) -> None:
        """SIGKILL the server, and let nobody start it again; the relay stays."""
        (self.hub.directory / "run/server/wanted").unlink()
        self.hub.signal_program("server", signal.SIGKILL)

    def silence_server(self) -> None:
        """SIGSTOP: its links stay and nothing comes by them."""
        self.hub.signal_program("server", signal.SIGSTOP)

    def wake_server(self) -> None:
        """SIGCONT after `silence_server`."""
        self.hub.signal_program("server", signal.SIGCONT)


@contextlib.contextmanager
def meeting() -> Iterator[Meeting]:
    """Make it; remove all of it in the end."""
    with RoutedNet() as net, contextlib.ExitStack() as ends:
        for host in net.hosts:
            host.resolve_by("192.0.2.53")
        hub, a, b = (Member(host, name) for host, name in ((net.c, "hub"), (net.a, "a"), (net.b, "b")))
        for member in (hub, a, b):
            ends.callback(member.down)
        hub.found()
        for member in (b, a):
            member.join(hub.shore("invite").split()[3])
        yield Meeting(net, a, b, hub)


def restart(member: Member) -> float:
    """SIGKILL every process of a node, and start it again as a supervisor does; when they were killed."""
    status = member.status()
    stat = Path(f"/proc/{status.brain_pid}/stat").read_text()
    keeper = int(stat.rpartition(")")[2].split()[1])
    at = time.monotonic()
    for pid in (keeper, status.brain_pid, status.dataplane_pid):
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
    subprocess.Popen(
        member.host.inside(sys.executable, "-S", "-m", "shore.node.keeper", status.name),
        env=environment(**member.places()),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return at


def links_up(member: Member) -> set[str]:
    """The kinds of links that are up."""
    return {link.kind for link in member.status().links if link.state == "up"}


def _move(host: Host, network: str, last: int) -> None:
    host.ip("address flush dev eth0 scope global")
    host.ip(f"address add {network}.{last}/24 dev eth0")
    host.ip(f"route add default via {network}.254")

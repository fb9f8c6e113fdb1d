"""The NAT grid: two nodes of a mesh behind every pair of NATs, and how they come to meet.

Both ends start cold for each cell, from the netmap on their disks, with NATs that remember nothing. The first
packet goes by the relay; what a cell tells is how soon it was answered, by what kind of path packets went in
the end, how soon that was so, and how many pings were lost on the way.

    kind            NAT (`shore.lab.nat`)       kind            NAT
    public          none                        restricted      port-restricted
    firewall        firewall, no translation    burned          burned
    full-cone       full-cone                   symmetric       symmetric
    address         address-restricted          blocked         port-restricted, and no UDP at all
    sequential      symmetric-sequential: not of the grid, beside it
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal, get_args

import msgspec

from shore.lab.laboratory import Laboratory
from shore.lab.link import Ending
from shore.lab.member import Member
from shore.lab.nat import Kind, Nat
from shore.lab.net import Host
from shore.lab.pinger import Pinger

Side = Literal[
    "public", "firewall", "full-cone", "address", "restricted", "burned", "symmetric", "blocked", "sequential"
]
SIDES: tuple[Side, ...] = get_args(Side)[:-1]
# Each peer is shown another port.
DRAWN: frozenset[Side] = frozenset({"symmetric", "sequential"})
NATS: dict[Side, Kind] = {
    "public": "none",
    "firewall": "firewall",
    "full-cone": "full-cone",
    "address": "address-restricted",
    "restricted": "port-restricted",
    "burned": "burned",
    "symmetric": "symmetric",
    "blocked": "port-restricted",
    "sequential": "symmetric-sequential",
}
# What Linux gives a flow that nobody has answered.
LIFETIME_S = 30
# How long a cell that is to meet may take, and how long one that cannot is watched.
PATIENCE_S = 15.0
WATCHED_S = 4.0
GLANCE_S = 0.3
STEADY_S = 1.0


class Cell(msgspec.Struct, frozen=True):
    """What became of a pair. Seconds from the moment when both ends are up; None: never."""

    a: Side
    b: Side
    path: str | None
    first_s: float | None
    direct_s: float | None
    lost: int

    @property
    def meets(self) -> bool:
        """Whether a direct path is what they should have in the end."""
        return can_meet(self.a, self.b)


def can_meet(a: Side, b: Side) -> bool:
    """All but two symmetric NATs, and those that let no UDP out."""
    return "blocked" not in (a, b) and not {a, b} <= DRAWN


class Street:
    """Nodes `a` and `b` with a router each, and a hub between them."""

    def __init__(self, lab: Laboratory) -> None:
        self.lab = lab
        self.members: dict[str, Member] = {}
        self._addresses: dict[str, str] = {}

    def build(self) -> None:
        """Lay it out, and have both nodes join the hub's network."""
        lab = self.lab
        lab.host("a"), lab.router("ha"), lab.router("core"), lab.router("hb"), lab.host("b"), lab.host("hub")
        for number, end in enumerate(("a", "b"), 1):
            home, inner, outer = f"h{end}", f"203.0.{112 + number}", f"198.51.10{number}"
            lan = Ending(home, "lan0", (f"{inner}.1/24",))
            wan = Ending("core", f"wan{number}", (f"{outer}.1/24",))
            lab.link(f"lan-{end}", Ending(end, "eth0", (f"{inner}.2/24",), (f"{inner}.1",)), lan, cable=True)
            lab.link(f"wan-{end}", Ending(home, "wan0", (f"{outer}.2/24",), (f"{outer}.1",)), wan, cable=True)
            lab.nat(home, Nat("none", lifetime_s=LIFETIME_S))
            lab["core"].ip(f"route add {inner}.0/24 via {outer}.2")
        hub = Ending("hub", "eth0", ("192.0.2.2/24",), ("192.0.2.1",))
        lab.link("wan-hub", hub, Ending("core", "hub0", ("192.0.2.1/24",)), cable=True)
        for name in ("hub", "a", "b"):
            lab[name].resolve_by("192.0.2.53")
            self.members[name] = Member(lab[name], name)
        self.members["hub"].found()
        for name in ("a", "b"):
            self.members[name].join(self.members["hub"].shore("invite").split()[3])
            self._addresses[name] = self.members[name].address()

    def down(self) -> None:
        """Take down all nodes."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(Member.down, self.members.values()))

    def cell(self, a: Side, b: Side, patience_s: float | None = None) -> Cell:
        """Both ends anew behind these NATs, and a ping from `a` to `b` all the while."""
        self._both("down")
        for number, (end, side) in enumerate((("a", a), ("b", b)), 1):
            box = self.lab.nats[f"h{end}"]
            box.change(kind=NATS[side], udp_blocked=side == "blocked")
            # What is translated has no way back that goes round its NAT.
            routed = "replace" if side in ("public", "firewall") else "replace blackhole"
            way = f" via 198.51.10{number}.2" if routed == "replace" else ""
            self.lab["core"].ip(f"route {routed} 203.0.{112 + number}.0/24{way}")
            for host in (box.host, self.lab["core"]):
                _forget(host)
        self._both("up")
        began = time.monotonic()
        pinger = Pinger(self.lab["a"], self._addresses["b"])
        if patience_s is None:
            patience_s = PATIENCE_S if can_meet(a, b) else WATCHED_S
        direct_at = self._wait_for_direct(began + patience_s)
        time.sleep(STEADY_S)
        path = self._way()[0]
        pings = pinger.stop()
        first = next((at + rtt for at, rtt in pings.sent if rtt is not None), None)
        late = pings.usual_rtt() + 0.25
        lost = sum(1 for at, rtt in pings.sent if first and at >= first and (rtt is None or rtt > late))
        return Cell(
            a,
            b,
            path,
            None if first is None else round(first - pings.sent[0][0], 2),
            None if direct_at is None or path != "direct" else round(max(direct_at - began, 0.0), 2),
            lost,
        )

    def _both(self, word: str) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda name: self.members[name].shore(word), ("a", "b")))

    def _wait_for_direct(self, deadline: float) -> float | None:
        while time.monotonic() < deadline:
            kind, since_s = self._way()
            if kind == "direct":
                return time.monotonic() - since_s
            time.sleep(GLANCE_S)
        return None

    def _way(self) -> tuple[str | None, float]:
        """The kind of the path that packets from `a` to `b` take, and for how long they have."""
        peer = next(peer for peer in self.members["a"].status().peers if peer.name == "b")
        kind = next((path.kind for path in peer.paths if path.primary), None)
        return kind, peer.primary_since_s or 0.0


@contextmanager
def street() -> Iterator[Street]:
    """One that is laid out, with its hub and both nodes up; gone at the end."""
    with Laboratory("grid") as lab:
        made = Street(lab)
        try:
            made.build()
            yield made
        finally:
            made.down()


def _forget(host: Host) -> None:
    host.run("conntrack", "-F", check=False)

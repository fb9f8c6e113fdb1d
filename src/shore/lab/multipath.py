"""Two Shore nodes with two disjoint links between them, and what is done to the links while they talk.

    a eth0 10.99.1.1 ───one─── 10.99.1.2 eth0 b
    a eth1 10.99.2.1 ───two─── 10.99.2.2 eth1 b

Each link is a wire with a delay of its own; both ends know both endpoints of the other from their files.
What knows one endpoint of its peer only gets an address of b that both links lead to, the first one sooner.
"""

import contextlib
import time
from collections.abc import Iterator

import msgspec

from shore.lab.bulk import datagrams
from shore.lab.ends import PORT, ShoreEnd, StockEnd, sides
from shore.lab.laboratory import Laboratory
from shore.lab.link import Ending, Link
from shore.lab.net import until
from shore.model.status import PathStatus, PeerStatus

INNER = "10.8.0.2"
FIRST, SECOND = f"10.99.1.2:{PORT}", f"10.99.2.2:{PORT}"
ROAMED = "10.99.0.2"


class Twin:
    """The pair, with its links by name."""

    def __init__(self, lab: Laboratory, one: Link, two: Link, a: ShoreEnd, b: ShoreEnd) -> None:
        self.lab, self.one, self.two, self.a, self.b = lab, one, two, a, b

    def peer(self, end: ShoreEnd | None = None) -> PeerStatus:
        """How an end (a, if none is named) sees the other."""
        return (end or self.a).status().peers[0]

    def primary(self, end: ShoreEnd | None = None) -> PathStatus | None:
        """The path that an end's packets take."""
        return next((path for path in self.peer(end).paths if path.primary), None)

    def link_of(self, end: ShoreEnd | None = None) -> str | None:
        """`one` or `two`: which link that path takes."""
        primary = self.primary(end)
        return None if primary is None else _link_of(primary)

    def is_whole(self) -> bool:
        """Whether both ends have a trusted path by either link, the one in use among them."""
        return all(
            len({_link_of(path) for path in peer.paths if path.state == "live"}) == 2
            and all(path.state == "live" for path in peer.paths if path.primary)
            for peer in map(self.peer, (self.a, self.b))
        )

    def bulk(self) -> contextlib.AbstractContextManager[None]:
        """300 Mbit/s from a to b."""
        return datagrams(self.lab["a"], self.lab["b"], INNER)

    def settle(self, seconds: float = 3.0) -> None:
        """Let probes and scores come to rest."""
        time.sleep(seconds)


@contextlib.contextmanager
def twin(
    name: str,
    *,
    delay_ms: float = 10.0,
    second_delay_ms: float | None = None,
    own: str = "",
    extra: str = "",
    cable: bool = False,
) -> Iterator[Twin]:
    """Both ends up, every path proved. `own` are lines for the peer, `extra` for the interface.

    A cable has the speed of the kernel and no delay.
    """
    with Laboratory(name) as lab:
        lab.host("a"), lab.host("b")
        one, two = (lab.path(name, "a", "b", cable=cable) for name in ("one", "two"))
        if not cable:
            one.change(delay_ms=delay_ms)
            two.change(delay_ms=delay_ms if second_delay_ms is None else second_delay_ms)
        ours, theirs = sides(FIRST, back=f"10.99.1.1:{PORT}")
        ours = msgspec.structs.replace(ours, others=(SECOND,), own=own)
        theirs = msgspec.structs.replace(theirs, others=(f"10.99.2.1:{PORT}",), own=own)
        a, b = ShoreEnd(lab["a"], ours, extra=extra), ShoreEnd(lab["b"], theirs, extra=extra)
        try:
            b.up()
            a.up()
            made = Twin(lab, one, two, a, b)
            until(lambda: lab["a"].reaches(INNER, within_s=1), 20)
            until(lambda: all(_live(made.peer(end)) >= 2 for end in (a, b)), 20)
            yield made
        finally:
            a.down()
            b.down()


@contextlib.contextmanager
def roaming(name: str, make: str, *, delay_ms: float = 10.0) -> Iterator[tuple[Laboratory, Link, Link]]:
    """The same links between two ends of another make, up: it moves as the routes of its machine move."""
    with Laboratory(name) as lab:
        lab.host("a"), lab.host("b")
        lab["b"].ip(f"address add {ROAMED}/32 dev lo")
        one, two = (_link(lab, name, number) for number, name in enumerate(("one", "two"), 1))
        for link in (one, two):
            link.change(delay_ms=delay_ms)
        ours, theirs = sides(f"{ROAMED}:{PORT}")
        a, b = StockEnd(lab["a"], ours, make), StockEnd(lab["b"], theirs, make)
        try:
            b.up()
            a.up()
            until(lambda: lab["a"].reaches(INNER, within_s=1), 20)
            yield lab, one, two
        finally:
            a.down()
            b.down()


def _link(lab: Laboratory, name: str, number: int) -> Link:
    device, network = f"eth{number - 1}", f"10.99.{number}"
    there = Ending("a", device, (f"{network}.1/24",), (f"{network}.2",), metric=number)
    return lab.link(name, there, Ending("b", device, (f"{network}.2/24",)))


def _link_of(path: PathStatus) -> str:
    return "one" if path.remote.startswith(("10.99.1.", "[fd99:1:")) else "two"


def _live(peer: PeerStatus) -> int:
    return sum(path.state == "live" for path in peer.paths)

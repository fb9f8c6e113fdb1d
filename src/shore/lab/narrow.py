"""Two ends and one link between them that carries no more than so much, 20 ms there and back."""

import contextlib
from collections.abc import Iterator

from shore.lab.ends import PORT, SHORE, ShoreEnd, StockEnd, end_of, sides
from shore.lab.laboratory import Laboratory
from shore.lab.link import Link
from shore.lab.net import until

A, B = "10.8.0.1", "10.8.0.2"
STOCK = "wireguard-go"
End = ShoreEnd | StockEnd


class Pair:
    """The ends, a the initiator, and their link."""

    def __init__(self, lab: Laboratory, link: Link, a: End, b: End) -> None:
        self.lab, self.link, self.a, self.b = lab, link, a, b

    def path_mtu(self) -> int:
        """What a proved of the path that its packets take, 0 for nothing yet."""
        assert isinstance(self.a, ShoreEnd)
        paths = self.a.status().peers[0].paths
        return next((path.path_mtu or 0 for path in paths if path.primary), 0)

    def log(self) -> str:
        """What a announced."""
        return self.a.log() if isinstance(self.a, ShoreEnd) else ""


@contextlib.contextmanager
def pair(mtu: int, *, icmp: bool, family: int = 4, a: str = SHORE, b: str = SHORE) -> Iterator[Pair]:
    """Both ends up over a link of this MTU; `icmp`: its routers say so. `a` and `b` name what runs there."""
    with Laboratory(f"mtu-{mtu}") as lab:
        lab.host("a"), lab.host("b")
        link = lab.path("one", "a", "b", mtu=max(mtu, 1500))
        link.change(delay_ms=10, mtu=mtu, icmp=icmp)
        host = "10.99.1.2" if family == 4 else "[fd99:1::2]"
        ours, theirs = sides(f"{host}:{PORT}")
        made = Pair(lab, link, end_of(a, lab["a"], ours), end_of(b, lab["b"], theirs))
        try:
            made.b.up()
            made.a.up()
            until(lambda: lab["a"].reaches(B, within_s=1), 20)
            yield made
        finally:
            made.a.down()
            made.b.down()

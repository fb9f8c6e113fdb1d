"""One end at home, behind a NAT that forgets mappings after so long, and its peer outside.

    a eth0 10.1.0.2 ── 10.1.0.1 lan0 home wan0 192.0.2.1 ──20 ms there and back── 192.0.2.2 eth0 b

Only a knows where the other is, and no keepalive is configured. The router counts what leaves by its outer
side, so that nothing which a sends escapes the count, whatever path or socket it takes.
"""

import contextlib
import re
from collections.abc import Iterator

from shore.lab.ends import PORT, SHORE, ShoreEnd, StockEnd, end_of, sides
from shore.lab.laboratory import Laboratory
from shore.lab.link import Ending
from shore.lab.nat import Nat, NatBox
from shore.lab.net import until
from shore.lab.pinger import Pinger

INSIDE, OUTSIDE = "10.8.0.1", "10.8.0.2"
LEARNT = re.compile(r"the NAT remembers a mapping for \d+ s")
TOLL = """
    table inet toll {
        chain forward {
            type filter hook forward priority 10;
            oifname "wan0" meta l4proto udp counter
        }
    }
"""


class Home:
    """`a` behind the NAT `box`, and `b` outside."""

    def __init__(self, lab: Laboratory, box: NatBox, a: ShoreEnd | StockEnd, b: ShoreEnd | StockEnd) -> None:
        self.lab, self.box, self.a, self.b = lab, box, a, b

    @property
    def node(self) -> ShoreEnd:
        """`a`, where that is Shore."""
        assert isinstance(self.a, ShoreEnd)
        return self.a

    def keepalive(self) -> tuple[int, str]:
        """The interval of `a`, and why."""
        peer = self.node.status().peers[0]
        return peer.keepalive_s, peer.keepalive_reason

    def has_learnt(self) -> bool:
        """Whether `a` knows how long the NAT remembers, and tries no further."""
        return LEARNT.fullmatch(self.keepalive()[1]) is not None

    def sent(self) -> int:
        """Bytes of IP that left for the outside so far."""
        chain = self.lab["home"].run("nft", "list", "chain", "inet", "toll", "forward")
        found = re.search(r"bytes (\d+)", chain)
        assert found is not None
        return int(found[1])

    def pinger(self, *, from_outside: bool = False) -> Pinger:
        """Pings at 20 Hz from one end to the other, now."""
        return Pinger(self.b.host, INSIDE) if from_outside else Pinger(self.a.host, OUTSIDE)


@contextlib.contextmanager
def home(lifetime_s: int, make: str = SHORE) -> Iterator[Home]:
    """Both ends, of one make, up; if they are Shore, they know it of each other."""
    with Laboratory("home") as lab:
        lab.host("a"), lab.router("home"), lab.host("b")
        inner, outer = Ending("home", "lan0", ("10.1.0.1/24",)), Ending("home", "wan0", ("192.0.2.1/24",))
        lab.link("lan", Ending("a", "eth0", ("10.1.0.2/24",), ("10.1.0.1",)), inner, cable=True)
        lab.link("wan", outer, Ending("b", "eth0", ("192.0.2.2/24",))).change(delay_ms=10)
        box = lab.nat("home", Nat("port-restricted", lifetime_s=lifetime_s))
        lab["home"].run("nft", "-f", "-", stdin=TOLL)
        ours, theirs = sides(f"192.0.2.2:{PORT}")
        a, b = end_of(make, lab["a"], ours), end_of(make, lab["b"], theirs)
        try:
            b.up()
            a.up()
            until(lambda: lab["a"].reaches(OUTSIDE, within_s=1), 20)
            if isinstance(a, ShoreEnd):
                until(lambda: a.status().peers[0].probed, 20)
            yield Home(lab, box, a, b)
        finally:
            a.down()
            b.down()

"""A firewall on the host drops probes from where nobody expects them; the node hears them all the same.

    a eth0 10.99.1.1 ───one─── 10.99.1.2 eth0 b
    a eth1 10.99.2.1 ───two─── 10.99.2.2 eth1 b

What leaves a by link two gets another port, and only its answers come back in: b cannot know where to look
for a there. On link two b lets in only what answers.
"""

import contextlib
import time
from collections.abc import Iterator

import msgspec
import pytest

from shore.lab.ends import PORT, ShoreEnd, sides
from shore.lab.laboratory import Laboratory
from shore.lab.multipath import FIRST, INNER, SECOND
from shore.lab.net import until

pytestmark = pytest.mark.lab
NAT = """
    table inet nat {
        chain out { type nat hook postrouting priority srcnat;
            oifname "eth1" meta nfproto ipv4 udp dport 51820 masquerade to :40000-49999;
        }
        chain in { type filter hook input priority 0;
            iifname "eth1" ct state established accept
            iifname "eth1" meta l4proto udp drop;
        }
    }
"""
FIREWALL = """
    table inet firewall {
        chain in { type filter hook input priority 0;
            iifname "eth1" ct state established accept
            iifname "eth1" meta l4proto udp drop;
        }
    }
"""


@contextlib.contextmanager
def firewalled(extra: str = "") -> Iterator[tuple[ShoreEnd, ShoreEnd]]:
    with Laboratory("overheard") as lab:
        lab.host("a"), lab.host("b")
        lab.path("one", "a", "b", cable=True), lab.path("two", "a", "b", cable=True)
        lab["a"].run("nft", "-f", "-", stdin=NAT)
        lab["b"].run("nft", "-f", "-", stdin=FIREWALL)
        ours, theirs = sides(FIRST, back=f"10.99.1.1:{PORT}")
        ours = msgspec.structs.replace(ours, others=(SECOND,))
        a, b = ShoreEnd(lab["a"], ours), ShoreEnd(lab["b"], theirs, extra=extra)
        try:
            b.up()
            a.up()
            until(lambda: lab["a"].reaches(INNER, within_s=1), 20)
            until(lambda: a.status().peers[0].probed, 20)
            yield a, b
        finally:
            a.down()
            b.down()


def second_lives(end: ShoreEnd) -> bool:
    paths = end.status().peers[0].paths
    return any(path.remote == SECOND and path.state == "live" for path in paths)


def test_a_probe_that_the_firewall_drops_opens_it_for_the_next() -> None:
    with firewalled() as (a, b):
        until(lambda: second_lives(a), 15)
        heard = [path for path in b.status().peers[0].paths if path.remote.startswith("10.99.2.1:")]
        assert any(path.remote != f"10.99.2.1:{PORT}" and path.state == "live" for path in heard), heard


@pytest.mark.slow
def test_who_does_not_listen_hears_nothing() -> None:
    with firewalled("#@ Overhear = off\n") as (a, _):
        time.sleep(15)
        assert not second_lives(a)

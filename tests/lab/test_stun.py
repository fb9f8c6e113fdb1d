"""What a STUN server sees is told to the peer, by a name that is resolved or by an address."""

import pytest

from shore.lab.ends import PORT, ShoreEnd, sides
from shore.lab.laboratory import Laboratory
from shore.lab.link import Ending
from shore.lab.nat import Nat
from shore.lab.net import until
from shore.lab.stun import StunServer

pytestmark = pytest.mark.lab


def test_a_peer_hears_what_the_stun_server_saw_and_no_peer_did() -> None:
    with Laboratory("stun") as lab:
        lab.host("a"), lab.router("home"), lab.host("b")
        lab.link(
            "lan",
            Ending("a", "eth0", ("10.1.0.2/24",), ("10.1.0.1",)),
            Ending("home", "lan0", ("10.1.0.1/24",)),
            cable=True,
        )
        lab.link(
            "wan",
            Ending("home", "wan0", ("192.0.2.1/24",)),
            Ending("b", "eth0", ("192.0.2.2/24", "192.0.2.3/24")),
            cable=True,
        )
        # Each destination gets a mapping of its own, so what the server saw is seen by nobody else.
        lab.nat("home", Nat("symmetric"))
        ours, theirs = sides(f"192.0.2.2:{PORT}")
        a = ShoreEnd(lab["a"], ours, extra="#@ Stun = 192.0.2.3:3478\n")
        b = ShoreEnd(lab["b"], theirs)
        with StunServer(lab["b"], "192.0.2.3") as server:
            try:
                b.up()
                a.up()
                until(lambda: lab["a"].reaches("10.8.0.2", within_s=1), 20)
                until(lambda: server.told, 10)

                def heard() -> bool:
                    paths = {path.remote for path in b.status().peers[0].paths}
                    return bool(paths & set(server.told)) and len(paths) >= 2

                until(heard, 15)
                assert "stray_stun" not in a.status().drops
            finally:
                a.down()
                b.down()
        assert not any(address.startswith("10.") for address in server.told)

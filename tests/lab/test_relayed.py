"""Two Shore nodes and a relay, all by their own processes: what is blocked directly goes by the relay.

a 192.0.2.1 ── router ── 198.51.100.2 b, and the relay is 203.0.113.5, c. What UDP may pass between a and b is
the router's business.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shore.lab.net import RoutedNet, until
from shore.lab.relayed import PEER, RELAY, RELAY_UDP, Relayed

pytestmark = [pytest.mark.lab]
BOTH_SIDES = (RELAY, RELAY_UDP)
ASKED = ("status", "show", f"paths {PEER}", f"why {PEER}", f"ping {PEER} -c 1", f"history {PEER}", "log wg0")


@pytest.fixture
def relayed(tmp_path: Path) -> Iterator[Relayed]:
    with RoutedNet() as net:
        made = Relayed(net, tmp_path)
        try:
            yield made
        finally:
            made.end()


def test_two_nodes_that_udp_does_not_join_ping_by_the_relay(relayed: Relayed) -> None:
    relayed.block()
    relayed.up()
    relayed.settle("relay")
    _, pings = relayed.pinged(3, lambda: None)
    assert pings.lost() == 0, relayed.a.log()
    path = relayed.primary()
    assert path is not None
    assert path.remote in BOTH_SIDES
    assert path.uplink == "eth0"
    assert (path.local or "").startswith("192.0.2.1:")
    told = {words: relayed.a.shore(*words.split()) for words in ASKED}
    for words, text in told.items():
        assert any(f"relay {side}" in text for side in BOTH_SIDES), (words, text)
    assert "[100::" not in "".join((*told.values(), relayed.a.shore("status", "--json")))


def test_where_udp_is_open_to_the_relay_packets_go_by_it_and_by_the_stream_where_it_is_not(
    relayed: Relayed,
) -> None:
    relayed.block()
    relayed.up()
    relayed.settle("relay")
    until(lambda: relayed.goes_by(RELAY_UDP), 20)
    at, pings = relayed.pinged(4, relayed.block_relay)
    gap = pings.gap(at)
    assert gap is not None
    assert gap <= 1.0, relayed.a.log()
    assert relayed.goes_by(RELAY), relayed.a.log()


def test_a_full_tunnel_does_not_swallow_its_own_link(relayed: Relayed) -> None:
    relayed.swallow_everything()
    relayed.block()
    relayed.up()
    relayed.settle("relay")
    at, pings = relayed.pinged(4, relayed.a.kill)
    assert pings.first_reply(at + 3) is not None, "the link that was dialled inside the tunnel is up too"


def test_a_direct_path_that_is_swallowed_is_left_for_the_relay_within_a_second(relayed: Relayed) -> None:
    relayed.up()
    relayed.settle("direct")
    at, pings = relayed.pinged(4, relayed.block)
    gap = pings.gap(at)
    assert gap is not None
    assert gap <= 1.0, relayed.a.log()


def test_from_the_relay_to_a_direct_path_nothing_is_lost(relayed: Relayed) -> None:
    relayed.block()
    relayed.up()
    relayed.settle("relay")

    def direct() -> bool:
        path = relayed.primary()
        return path is not None and path.kind == "direct"

    def mend() -> None:
        relayed.unblock()
        until(direct, 60)

    _, pings = relayed.pinged(2, mend)
    assert pings.lost() == 0, relayed.a.log()


def test_a_data_plane_that_dies_gets_new_links_at_once(relayed: Relayed) -> None:
    relayed.block()
    relayed.up()
    relayed.settle("relay")
    at, pings = relayed.pinged(5, relayed.a.kill)
    gap = pings.gap(at)
    assert gap is not None
    assert gap <= 2.0, relayed.a.log()
    assert relayed.a.status().dataplane_restarts == 1


def test_a_relay_that_is_killed_is_used_again_once_it_is_back(relayed: Relayed) -> None:
    relayed.block()
    relayed.up()
    relayed.settle("relay")

    def outage() -> None:
        relayed.relay.kill()
        time.sleep(4)
        relayed.relay.start()

    at, pings = relayed.pinged(8, outage)
    back = pings.gap(at + 4)
    assert back is not None
    assert back <= 5.0, relayed.a.log()

"""What takes minutes: outages, idle times, one-way flows, renewals. Run by `make lab`."""

import contextlib
import subprocess
import sys
import time
from functools import partial

import pytest

from shore.lab import faults
from shore.lab.ends import STOCK, ShoreEnd, StockEnd, program, tunnel
from shore.lab.handshakes import handshakes
from shore.lab.net import LabFailed, NatNet, Net, until
from shore.lab.pinger import Pinger

pytestmark = [pytest.mark.lab, pytest.mark.slow]
PEER = "wireguard-go"

FLOW = """
import socket, sys, time
flow = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    flow.sendto(bytes(100), (sys.argv[1], 9))
    time.sleep(0.01)
"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("outage_s", [300, 600])
def test_an_idle_tunnel_behind_a_nat_answers_soon_after_an_outage(outage_s: float) -> None:
    outcome = faults.long_outage(outage_s)(faults.shore_end, PEER, 10)
    assert outcome is not None
    assert outcome.gap_s is not None
    print(f"answered after {outcome.gap_s:.2f} s; {outcome.lost} lost, {outcome.note}")
    assert outcome.gap_s <= 3.0


@pytest.mark.timeout(300)
def test_a_conf_without_keepalive_is_reachable_after_two_idle_minutes() -> None:
    with NatNet(mapping_s=30) as net, tunnel(net, ShoreEnd, PEER):
        assert net.a.reaches("10.8.0.2")
        time.sleep(120)
        assert net.b.reaches("10.8.0.1")


@pytest.mark.timeout(600)
def test_a_one_way_flow_of_five_minutes_makes_few_handshakes() -> None:
    with Net() as net, tunnel(net, ShoreEnd, PEER) as (_, stock):
        # Port 9 is closed: without this rule its ICMP errors would be an answer.
        net.b.run("nft", "add table ip silent")
        net.b.run("nft", "add chain ip silent out { type filter hook output priority 0; }")
        net.b.run("nft", "add rule ip silent out ip protocol icmp drop")
        seen = set()
        with subprocess.Popen(net.a.inside(sys.executable, "-c", FLOW, "10.8.0.2", "300")) as flow:
            while flow.poll() is None:
                seen.add(stock.latest_handshake())
                time.sleep(0.5)
        print(f"{len(seen - {0})} handshakes")
        assert 1 <= len(seen - {0}) <= 5


@pytest.mark.timeout(500)
@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_no_ping_is_lost_while_sessions_are_renewed(role: str) -> None:
    """With every peer that is here, side by side: all that they do is wait."""
    with contextlib.ExitStack() as stack:
        running: dict[str, tuple[StockEnd, Pinger, list[int]]] = {}
        for peer in present(*STOCK):
            net = stack.enter_context(Net())
            _, stock = stack.enter_context(tunnel(net, ShoreEnd, peer, waits=role == "responder"))
            first, address = (net.a, "10.8.0.2") if role == "initiator" else (net.b, "10.8.0.1")
            until(partial(first.reaches, address), 10)
            running[peer] = stock, Pinger(first, address), []
        for _ in range(260):
            for stock, _, seen in running.values():
                seen.append(stock.latest_handshake())
            time.sleep(1)
        lost = {}
        for peer, (_, pinger, seen) in running.items():
            pings = pinger.stop()
            lost[peer] = pings.lost()
            print(f"{peer}: {lost[peer]} of {len(pings.sent)} lost over {handshakes(seen)} handshakes")
        assert lost == dict.fromkeys(running, 0)
        assert all(handshakes(seen) >= 3 for _, _, seen in running.values())


def present(*peers: str) -> list[str]:
    """Those that are built; Debian's is always here."""
    found = []
    for peer in peers:
        with contextlib.suppress(LabFailed):
            program(peer)
            found.append(peer)
    return found

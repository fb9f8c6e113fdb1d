"""What takes minutes: outages, idle times, one-way flows, renewals. Run by `make lab`."""

import subprocess
import sys
import time

import pytest

from shore.lab import faults
from shore.lab.ends import ShoreEnd, tunnel
from shore.lab.net import NatNet, Net
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


@pytest.mark.timeout(400)
def test_no_ping_is_lost_while_sessions_are_renewed() -> None:
    with Net() as net, tunnel(net, ShoreEnd, PEER) as (_, stock):
        pinger, seen = Pinger(net.a, "10.8.0.2"), set()
        for _ in range(260):
            seen.add(stock.latest_handshake())
            time.sleep(1)
        pings = pinger.stop()
        print(f"{pings.lost()} of {len(pings.sent)} lost over {len(seen - {0})} handshakes")
        assert pings.lost() == 0
        assert len(seen - {0}) >= 3

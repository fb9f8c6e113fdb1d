"""A TCP connection through the tunnel outlives the data plane: same device, same port, nobody reconnects."""

import json
import subprocess
import sys
import time
from collections.abc import Callable

import msgspec
import pytest

from shore.lab.ends import ShoreEnd, Side, tunnel
from shore.lab.net import Host, Net

pytestmark = [pytest.mark.lab]
LASTS = 10
BREAKS_AT = 2

ECHO = """
import socket, sys
listener = socket.create_server((sys.argv[1], 7000))
print("ready", flush=True)
stream, _ = listener.accept()
while data := stream.recv(100):
    stream.sendall(data)
"""
TALKER = """
import json, socket, sys, time
stream = socket.create_connection((sys.argv[1], 7000), 5)
stream.settimeout(20)
start = last = time.monotonic()
count, longest = 0, 0.0
while last - start < float(sys.argv[2]):
    word = count.to_bytes(8, "big")
    stream.sendall(word)
    assert stream.recv(8, socket.MSG_WAITALL) == word
    now = time.monotonic()
    count, longest, last = count + 1, max(longest, now - last), now
    time.sleep(0.01)
print(json.dumps([count, longest]))
"""


def with_any_port(host: Host, side: Side) -> ShoreEnd:
    """An end whose port the kernel chose: only keeping the socket keeps it."""
    return ShoreEnd(host, msgspec.structs.replace(side, listen_port=0))


@pytest.mark.parametrize("opened_here", [True, False], ids=["we opened it", "the peer opened it"])
@pytest.mark.parametrize(
    ("hit", "most_s"),
    [
        pytest.param(ShoreEnd.kill, 1.0, id="data plane killed"),
        pytest.param(ShoreEnd.freeze, 3.0, id="data plane frozen"),
    ],
)
def test_a_tcp_connection_survives(hit: Callable[[ShoreEnd], None], most_s: float, opened_here: bool) -> None:
    with Net() as net, tunnel(net, with_any_port, "wireguard-go") as (shore, _):
        assert net.a.reaches("10.8.0.2", pings=3)
        listening, talking, address = (
            (net.b, net.a, "10.8.0.2") if opened_here else (net.a, net.b, "10.8.0.1")
        )
        before = shore.status()
        device = net.a.ip("-o link show wg0").split(":")[0]
        echo = subprocess.Popen(listening.inside(sys.executable, "-c", ECHO, address), stdout=subprocess.PIPE)
        try:
            assert echo.stdout is not None
            echo.stdout.readline()
            talker = subprocess.Popen(
                talking.inside(sys.executable, "-c", TALKER, address, str(LASTS)), stdout=subprocess.PIPE
            )
            time.sleep(BREAKS_AT)
            hit(shore)
            said, _ = talker.communicate(timeout=LASTS + 30)
        finally:
            echo.kill()
            echo.communicate()
        assert talker.returncode == 0, "the connection did not survive"
        count, longest = json.loads(said)
        print(f"{count} words, the longest pause {longest:.2f} s")
        after = shore.status()
        assert after.dataplane_pid != before.dataplane_pid
        assert (after.listen_port, after.brain_pid) == (before.listen_port, before.brain_pid)
        assert net.a.ip("-o link show wg0").split(":")[0] == device
        # TCP tries again ever more slowly, so it comes back at most at twice the gap, and a little.
        assert longest <= 2 * most_s + 0.5

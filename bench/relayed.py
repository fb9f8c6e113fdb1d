"""The rows of what goes by a relay under load: a flood into one receiver, and a tunnel by the relay.

Both are on `shore.lab.net.RoutedNet` with the relay as its host c. A link is shaped at the router, towards
the receiver, so it is the network's queue that fills, and not the sender's.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.relay.clients import seeds

from bench.figure import Figure, least, median, most, percentile, percentile_of
from bench.pair import tcp
from shore.lab.net import Host, RoutedNet, until
from shore.lab.pinger import Pinger
from shore.lab.relayed import INNER, RELAY, RELAY_UDP, Network, Relayed, RelayEnd

SLOW_MBIT = 20
SHAPED_MBIT = 300
FLOODS = ("flood", "flood-urgent")
HOST, PORT = RELAY.split(":")


def relay_flood(rounds: int, seconds: int) -> list[Figure]:
    """Pings to a node on a slow link while another node floods it, both by the relay's stream."""
    figures = []
    for kind in FLOODS:
        p99s, lost = [], 0
        for _ in range(rounds):
            rtts, missing = flooded(kind, seconds)
            p99s.append(percentile_of(rtts, 0.99) * 1e3)
            lost += missing
        what = "data" if kind == "flood" else "handshakes"
        figures += [
            most("relay flood", f"{what}: ping p99, ms", median(p99s), 20, each=p99s),
            most("relay flood", f"{what}: pings lost", lost, 0),
        ]
    return figures


def flooded(kind: str, seconds: int) -> tuple[list[float], int]:
    """Round trips in seconds, and how many pings were lost."""
    with RoutedNet() as net, tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        network = Network(Path(directory))
        relay = RelayEnd(net.c, network)
        stack.callback(relay.kill)
        shape(net, "a", SLOW_MBIT)
        keys = seeds(network)
        stack.enter_context(_client(net.a, "echo", keys, seconds + 10))
        stack.enter_context(_client(net.b, kind, keys, seconds + 5))
        time.sleep(1)
        with _client(net.b, "ping", keys, seconds) as pinging:
            told, _ = pinging.communicate(timeout=seconds + 10)
    answer = json.loads(told)
    return answer["rtts"], answer["sent"] - len(answer["rtts"])


@contextlib.contextmanager
def _client(host: Host, role: str, keys: str, seconds: int) -> Iterator["subprocess.Popen[str]"]:
    words = [sys.executable, "-m", "tests.relay.clients", role, HOST, PORT, keys, str(seconds)]
    client = subprocess.Popen(
        host.inside(*words), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == "in\n"
        yield client
    finally:
        client.kill()
        client.wait()


def relay_tunnel(rounds: int, seconds: int) -> list[Figure]:
    """TCP through a tunnel by the relay, against the direct path; and pings under load without a limit."""
    figures = []
    for side, remote in (("UDP side", RELAY_UDP), ("stream", RELAY)):
        shares, speeds, p99s = [], [], []
        for _ in range(rounds):
            with _relayed(udp=remote == RELAY_UDP) as made:
                shape(made.net, "b", SHAPED_MBIT)
                made.settle("direct")
                direct = tcp(made.net, seconds).bps
                made.block()
                until(lambda made=made, remote=remote: made.goes_by(remote), 30)
                shares.append(tcp(made.net, seconds).bps / direct)
                made.net.router.run("tc", "qdisc", "del", "dev", "to-b", "root")
                pinger = Pinger(made.net.a, INNER, rate=100)
                speeds.append(tcp(made.net, seconds).bps / 1e9)
                p99s.append(percentile(pinger.stop(), 0.99))
        row = f"tunnel by relay, {side}"
        figures += [
            least(row, f"x direct at {SHAPED_MBIT} Mbit/s", median(shares), 0.9, each=shares),
            Figure(row, "Gb/s without a limit", round(median(speeds), 3), detail={"each": speeds}),
            most(row, "ping p99 under load without a limit, ms", median(p99s), 20, each=p99s),
        ]
    return figures


@contextlib.contextmanager
def _relayed(*, udp: bool) -> Iterator[Relayed]:
    with RoutedNet() as net, tempfile.TemporaryDirectory() as directory:
        made = Relayed(net, Path(directory), udp=udp)
        try:
            made.up()
            yield made
        finally:
            made.end()


def shape(net: RoutedNet, host: str, mbit: int) -> None:
    """So much towards a host, and 50 ms of it in a queue."""
    words = f"tc qdisc replace dev to-{host} root tbf rate {mbit}mbit burst 5kb latency 50ms"
    net.router.run(*words.split())

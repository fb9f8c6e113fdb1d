"""Two Shore nodes and a relay, all by their own processes: what is blocked directly goes by the relay.

a 192.0.2.1 ── router ── 198.51.100.2 b, and the relay is 203.0.113.5, c. What UDP may pass between a and b is
the router's business.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.relay.network import Network

from shore import _native
from shore.lab.ends import PORT, ShoreEnd, Side
from shore.lab.net import Host, RoutedNet, until
from shore.lab.pinger import Pinger, Pings
from shore.model.config import Endpoint, PeerConfig, RelayConfig, TunnelConfig
from shore.model.status import PathStatus
from shore.wire import api

pytestmark = [pytest.mark.lab]
INNER = "10.8.0.2"
RELAY = "203.0.113.5:443"
PEER = "office"
ASKED = ("status", "show", f"paths {PEER}", f"why {PEER}", f"ping {PEER} -c 1", f"history {PEER}", "log wg0")
STARTS = """
import sys
from shore.cli.start import start
from shore.io.runtime import Runtime
from shore.wire import api
import msgspec
request = msgspec.json.decode(sys.stdin.buffer.read(), type=api.Start)
start(Runtime(request.config.name), request)
"""
SERVES = """
import os, socket, sys
tcp = socket.create_server(("203.0.113.5", 443), backlog=64)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("203.0.113.5", 3478))
for opened in (tcp, udp):
    os.set_inheritable(opened.fileno(), True)
fds = ["--tls-fd", str(tcp.fileno()), "--udp-fd", str(udp.fileno())]
os.execv(sys.executable, [sys.executable, "-m", "shore.relay", "serve", "--config", sys.argv[1], *fds])
"""


class RelayedEnd(ShoreEnd):
    """A node that is started as the daemon would start one of a mesh, with relays in its configuration."""

    config: TunnelConfig

    def up(self) -> None:
        with self.begin(sys.executable, "-c", STARTS) as starting:
            _, errors = starting.communicate(msgspec.json.encode(api.Start(self.config)).decode())
        assert starting.returncode == 0, errors


class RelayEnd:
    """The relay's process in its host."""

    def __init__(self, host: Host, network: Network) -> None:
        self._host, self._network = host, network
        network.write(network.config(addresses=(RELAY,), udp_addresses=("203.0.113.5:3478",)))
        self.start()

    def start(self) -> None:
        config = self._network.directory / "relay.json"
        self.process = subprocess.Popen(
            self._host.inside(sys.executable, "-c", SERVES, str(config)), stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert b"started" in self.process.stdout.readline()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Relayed:
    """Nodes a and b, each with the other's endpoint, and their relay."""

    def __init__(self, net: RoutedNet, directory: Path) -> None:
        self.net = net
        network = Network(directory)
        self.relay = RelayEnd(net.c, network)
        keys = [os.urandom(32), os.urandom(32)]
        hosts = (net.a, net.b)
        ends = []
        for number, host in enumerate(hosts):
            mine, peer = keys[number], _native.public_key(keys[1 - number])
            addresses = (f"10.8.0.{number + 1}", f"10.8.0.{2 - number}")
            elsewhere = (net.address_of_b, net.address_of_a)[number]
            key = Ed25519PrivateKey.generate()
            admission = network.admission(_native.public_key(mine), key)
            end = RelayedEnd(host, Side(mine, addresses[0], peer, addresses[1]))
            end.config = TunnelConfig(
                "wg0",
                mine,
                (f"{addresses[0]}/24",),
                PORT,
                peers=(
                    PeerConfig(
                        peer,
                        allowed_ips=(f"{addresses[1]}/32",),
                        endpoints=(Endpoint(elsewhere, PORT),),
                        name=PEER,
                        relays=("r1",),
                    ),
                ),
                relays=(RelayConfig("r1", network.pin, (RELAY,), (), admission),),
                admission_key=key.private_bytes_raw(),
            )
            ends.append(end)
        self.a, self.b = ends

    def swallow_everything(self) -> None:
        """Have a send all that it sends to b."""
        peer = msgspec.structs.replace(self.a.config.peers[0], allowed_ips=("0.0.0.0/0",))
        self.a.config = msgspec.structs.replace(self.a.config, peers=(peer,))

    def block(self) -> None:
        """No UDP between the nodes any more."""
        self.net.block_udp(self.net.a, self.net.b)

    def unblock(self) -> None:
        self.net.unblock_udp()

    def up(self) -> None:
        for end in (self.b, self.a):
            end.up()

    def primary(self) -> PathStatus | None:
        return next((path for path in self.a.status().peers[0].paths if path.primary), None)

    def settle(self, kind: str) -> None:
        """Wait until packets take such a path and both kinds are proved that can be."""
        until(lambda: self.net.a.reaches(INNER, within_s=1), 10)
        until(lambda: (path := self.primary()) is not None and path.kind == kind, 15)
        until(lambda: any(p.kind == "relay" and p.state == "live" for p in self._paths()), 10)

    def pinged(self, seconds: float, fault: Callable[[], object], *, rate: float = 20) -> tuple[float, Pings]:
        """Ping from a to b, do something after a second; when it was done, and what became of the pings."""
        pinger = Pinger(self.net.a, INNER, rate)
        time.sleep(1)
        at = time.monotonic()
        fault()
        time.sleep(seconds)
        return at, pinger.stop()

    def _paths(self) -> tuple[PathStatus, ...]:
        return self.a.status().peers[0].paths

    def end(self) -> None:
        for end in (self.a, self.b):
            end.down()
        self.relay.kill()


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
    assert (path.remote, path.uplink) == (RELAY, "eth0")
    assert (path.local or "").startswith("192.0.2.1:")
    told = {words: relayed.a.shore(*words.split()) for words in ASKED}
    for words, text in told.items():
        assert f"relay {RELAY}" in text, (words, text)
    assert "[100::" not in "".join((*told.values(), relayed.a.shore("status", "--json")))


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

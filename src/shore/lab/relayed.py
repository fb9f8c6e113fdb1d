"""Two nodes that a relay joins, all by their own processes, without a coordination server.

a 192.0.2.1 ── router ── 198.51.100.2 b, and the relay is 203.0.113.5, c. What UDP may pass between whom is
the router's business. The network's keys are made here, and what a server would have told is in the
configurations.
"""

import datetime
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from shore import _native
from shore.lab.ends import PORT, ShoreEnd, Side
from shore.lab.net import Host, RoutedNet, until
from shore.lab.pinger import Pinger, Pings
from shore.model.config import Endpoint, PeerConfig, RelayConfig, TunnelConfig
from shore.model.netmap import Admission, Role, Signed, Statement
from shore.model.relay import RelayConfig as OwnConfig
from shore.model.status import PathStatus
from shore.wire import api, signing

NETWORK = bytes([7] * 16)
INNER = "10.8.0.2"
RELAY, RELAY_UDP = "203.0.113.5:443", "203.0.113.5:3478"
PEER = "office"
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
        """Start it."""
        with self.begin(sys.executable, "-c", STARTS) as starting:
            _, errors = starting.communicate(msgspec.json.encode(api.Start(self.config)).decode())
        assert starting.returncode == 0, errors


class RelayEnd:
    """The relay's process in its host."""

    def __init__(self, host: Host, network: "Network", *, udp: bool = True) -> None:
        self._host, self._network = host, network
        network.write(network.config(addresses=(RELAY,), udp_addresses=(RELAY_UDP,) if udp else ()))
        self.start()

    def start(self) -> None:
        """Start it, anew after `kill`."""
        config = self._network.directory / "relay.json"
        self.process = subprocess.Popen(
            self._host.inside(sys.executable, "-c", SERVES, str(config)), stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert b"started" in self.process.stdout.readline()

    def kill(self) -> None:
        """By SIGKILL."""
        self.process.kill()
        self.process.wait()


class Relayed:
    """Nodes a and b, each with the other's endpoint, and their relay; `udp`: it tells of its UDP side."""

    def __init__(self, net: RoutedNet, directory: Path, *, udp: bool = True) -> None:
        self.net = net
        network = Network(directory)
        self.relay = RelayEnd(net.c, network, udp=udp)
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

    def block_relay(self) -> None:
        """Nor between a and the relay."""
        self.net.block_udp(self.net.a, self.net.c)

    def unblock(self) -> None:
        """As before."""
        self.net.unblock_udp()

    def up(self) -> None:
        """Both nodes."""
        for end in (self.b, self.a):
            end.up()

    def goes_by(self, remote: str) -> bool:
        """Whether packets take this path now, and it lives."""
        path = self.primary()
        return path is not None and (path.remote, path.state) == (remote, "live")

    def primary(self) -> PathStatus | None:
        """The path of a's packets."""
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
        """Leave nothing."""
        for end in (self.a, self.b):
            end.down()
        self.relay.kill()


@dataclass
class Network:
    """The keys; `directory` is what `found` would have made of them."""

    directory: Path
    root: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    netmap: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    tls: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def pin(self) -> bytes:
        """What the relay's TLS key is known by."""
        public = self.tls.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(public).digest()

    def statement(self, role: Role, key: bytes) -> Signed:
        """The root key's word for another key."""
        now = time.time()
        return signing.seal(self.root, signing.STATEMENT, Statement(NETWORK, role, key, now - 1, now + 1000))

    def config(self, **more: object) -> OwnConfig:
        """What the relay knows."""
        statements = (self.statement("netmap", signing.public_of(self.netmap)),)
        config = OwnConfig("r1", self.pin, signing.public_of(self.root), NETWORK, statements)
        return msgspec.structs.replace(config, **more)

    def admission(
        self, node: bytes, key: Ed25519PrivateKey, *, relay_pin: bytes | None = None, lasts: float = 500
    ) -> Signed:
        """What lets a node in that has this admission key."""
        now = time.time()
        admission = Admission(relay_pin or self.pin, node, signing.public_of(key), now - 1, now + lasts)
        return signing.seal(self.netmap, signing.ADMISSION, admission)

    def write(self, config: OwnConfig) -> None:
        """The relay's directory."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shore")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.tls.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(1))
            .not_valid_after(now + datetime.timedelta(1000))
            .sign(self.tls, None)
        )
        key = self.tls.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.directory / "tls.key").write_bytes(key)
        (self.directory / "tls.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
        (self.directory / "relay.json").write_bytes(msgspec.json.encode(config))

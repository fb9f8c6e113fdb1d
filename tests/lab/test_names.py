"""Names of a mesh on a node of two namespaces: programs use them, and everything else goes on as before."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from shore.io import api as brain
from shore.io.runtime import Runtime
from shore.lab.ends import PORT, ShoreEnd, Side, StockEnd, sides
from shore.lab.net import Host, LabFailed, Net, RoutedNet, until
from shore.model.zone import Zone
from shore.wire import api
from shore.wire.wgconf import parse

pytestmark = [pytest.mark.lab]

OWN, PEER = "100.64.0.1", "100.64.0.2"
ZONE = Zone(
    "shore.internal",
    "fd12:3456:789a::/48",
    (("laptop.shore.internal", (OWN,)), ("nas.shore.internal", (PEER, "fd12:3456:789a::2"))),
)
ASK = """
import sys
import dns.flags, dns.message, dns.query, dns.rcode
way, server, name = sys.argv[1:]
query = dns.message.make_query(name, "A")
try:
    reply = {"udp": dns.query.udp, "tcp": dns.query.tcp}[way](query, server, timeout=3)
    print(dns.rcode.to_text(reply.rcode()), *(record for rrset in reply.answer for record in rrset))
except Exception as error:
    print(type(error).__name__)
"""


CIRCLE = """
import socket, struct, sys, threading
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind(("127.0.0.1", 53))
print("ready", flush=True)
def ask(query, asker, number):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(5)
        asking.sendto(struct.pack("!H", number) + query[2:], (sys.argv[1], 53))
        listener.sendto(query[:2] + asking.recv(4096)[2:], asker)
for number in range(1, 1000):
    query, asker = listener.recvfrom(4096)
    print("asked", flush=True)
    threading.Thread(target=ask, args=(query, asker, number), daemon=True).start()
"""


EVERYWHERE = """
import socket, time
for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
    bound = socket.socket(socket.AF_INET, kind)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("", 53))
bound.listen()
print("ready", flush=True)
time.sleep(60)
"""


class Named:
    """Shore at a, with a zone put in force by hand; a stock peer at b, and a name server of the world."""

    def __init__(self, net: Net, *, allowed: str = PEER, world: Host | None = None) -> None:
        self.net = net
        self._at = world or net.b
        ours, theirs = sides(f"{net.address_of_b}:{PORT}")
        ours = Side(ours.private_key, OWN, ours.peer_key, allowed, ours.endpoint)
        theirs = Side(theirs.private_key, PEER, theirs.peer_key, OWN, None)
        self.peer = StockEnd(net.b, theirs, "wireguard-go")
        self.end = ShoreEnd(net.a, ours)
        self.world: subprocess.Popen[str] | None = None
        try:
            net.a.resolve_by("203.0.113.5" if world else "192.0.2.2")
        except LabFailed as error:
            pytest.skip(f"LAB SKIPPED: {error}")

    @property
    def resolv_conf(self) -> Path:
        return self.net.a.etc / "resolv.conf"

    def start_world(self) -> None:
        program = "from shore.lab.nameserver import main; main()"
        self.world = subprocess.Popen(
            self._at.inside(sys.executable, "-c", program, "203.0.113.9"),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.world.stdout is not None
        self.world.stdout.readline()

    def stop_world(self) -> None:
        if self.world is not None:
            self.world.kill()
            self.world.communicate()
            self.world = None

    def up(self) -> None:
        self.peer.up()
        self.start_world()
        self.end.up()
        self.put(ZONE)

    def put(self, zone: Zone | None) -> None:
        config, _ = parse(self.end.conf.read_text(), self.end.name)
        os.environ["SHORE_RUNTIME_DIR"] = str(self.end.conf.parent / "run")
        try:
            said = brain.ask(
                Runtime(self.end.name), api.AskReload(msgspec.structs.replace(config, zone=zone))
            )
        finally:
            del os.environ["SHORE_RUNTIME_DIR"]
        assert isinstance(said, api.Done), said

    def down(self) -> None:
        self.end.down()
        self.peer.down()
        self.stop_world()

    def getent(self, name: str, database: str = "ahostsv4") -> str:
        """The first address; nothing where there is none."""
        return self.net.a.run("getent", database, name, check=False).partition(" ")[0]

    def ask(self, way: str, name: str, *, server: str = OWN, host: Host | None = None) -> str:
        return (host or self.net.a).run(sys.executable, "-c", ASK, way, server, name).strip()


@pytest.fixture
def named() -> Iterator[Named]:
    with Net() as net:
        made = Named(net)
        try:
            yield made
        finally:
            made.down()


def test_programs_use_names_and_the_world_goes_on(named: Named) -> None:
    before = named.resolv_conf.read_text()
    named.up()
    assert named.getent("nas.shore.internal") == PEER
    assert named.getent("NAS") == PEER, "short names are completed"
    assert named.getent("nas.shore.internal", "ahostsv6") == "fd12:3456:789a::2"
    assert "nas.shore.internal" in named.net.a.run("getent", "hosts", PEER)
    assert named.net.a.reaches("nas", pings=2)
    assert named.getent("example.net") == "203.0.113.9"
    assert named.ask("tcp", "nas.shore.internal") == f"NOERROR {PEER}"
    assert named.ask("udp", "gone.shore.internal") == "NXDOMAIN", (
        "the world knows every name, and is not asked"
    )
    named.put(msgspec.structs.replace(ZONE, hosts=(("late.shore.internal", (PEER,)),)))
    assert (named.ask("udp", "nas.shore.internal"), named.getent("late")) == ("NXDOMAIN", PEER)
    named.put(None)
    assert named.resolv_conf.read_text() == before
    assert named.ask("tcp", "late.shore.internal") == "ConnectionRefusedError"
    named.put(ZONE)
    assert named.getent("nas") == PEER
    named.end.shore("down", "wg0")
    assert named.resolv_conf.read_text() == before
    assert named.getent("example.net") == "203.0.113.9"


def test_a_peer_is_refused(named: Named) -> None:
    named.up()
    assert named.net.b.reaches(OWN, pings=2, source=PEER)
    for name in ("nas.shore.internal", "example.net"):
        assert named.ask("udp", name, host=named.net.b) == "REFUSED"
        assert named.ask("tcp", name, host=named.net.b) in ("EOFError", "ConnectionResetError")
    assert named.ask("udp", "example.net") == "NOERROR 203.0.113.9"


def test_without_the_worlds_name_server_our_names_go_on(named: Named) -> None:
    named.up()
    named.stop_world()
    assert named.getent("nas.shore.internal") == PEER
    assert named.ask("udp", "example.net") == "SERVFAIL"
    assert named.ask("tcp", "example.net") == "SERVFAIL"
    named.start_world()
    assert named.getent("example.net") == "203.0.113.9"


def test_a_killed_or_frozen_brain_takes_no_name_of_the_world_away(named: Named) -> None:
    before = named.resolv_conf.read_text()
    named.up()
    killed, keeper = named.end.brain_pid(), named.end.keeper_pid()
    os.kill(killed, signal.SIGSTOP)
    started = time.monotonic()
    assert named.getent("example.net") == "203.0.113.9"
    assert time.monotonic() - started < 4, "a second for each of two questions, and some"
    os.kill(killed, signal.SIGKILL)
    assert named.getent("example.net") == "203.0.113.9"
    until(lambda: named.ask("udp", "nas.shore.internal") == f"NOERROR {PEER}", 15)
    assert named.getent("nas") == PEER
    assert named.end.brain_pid() != killed
    os.kill(keeper, signal.SIGKILL)
    named.end.shore("down", "wg0")
    assert named.resolv_conf.read_text() == before


def test_kill_of_everything_and_cleanup_restores_resolv_conf(named: Named) -> None:
    before = named.resolv_conf.read_text()
    named.up()
    for process in (named.end.keeper_pid(), *named.end.pids()):
        os.kill(process, signal.SIGKILL)
    assert named.getent("example.net") == "203.0.113.9"
    assert named.end.shore("cleanup").strip() == "wg0: removed"
    assert named.resolv_conf.read_text() == before


def test_who_writes_resolv_conf_is_below_us_from_then_on(named: Named) -> None:
    named.up()
    named.net.a.run("sh", "-c", "echo nameserver 192.0.2.9 > /etc/resolv.conf")
    until(lambda: named.getent("nas.shore.internal") == PEER, 15)
    assert f"nameserver {OWN}\nnameserver 192.0.2.9\n" in named.resolv_conf.read_text()
    assert "names in force again" in named.end.log()
    named.end.shore("down", "wg0")
    assert named.resolv_conf.read_text() == "nameserver 192.0.2.9\n"


def test_the_world_is_asked_past_a_full_tunnel() -> None:
    with RoutedNet() as net:
        named = Named(net, allowed="0.0.0.0/0", world=net.c)
        try:
            named.up()
            seen = net.clear_packets()
            assert named.ask("udp", "example.net") == "NOERROR 203.0.113.9"
            assert net.clear_packets() > seen
            assert not net.a.reaches(net.address_of_c), "nothing else of ours goes past it"
        finally:
            named.down()


def test_a_resolver_that_is_silent_costs_a_second_once(named: Named) -> None:
    named.net.b.ip("address add 192.0.2.3/24 dev eth0")
    named.net.b.run("nft", "add table ip quiet")
    named.net.b.run("nft", "add chain ip quiet in { type filter hook input priority 0; }")
    named.net.b.run("nft", "add rule ip quiet in ip daddr 192.0.2.3 drop")
    named.resolv_conf.write_text("nameserver 192.0.2.3\nnameserver 192.0.2.2\n")
    named.up()
    took = []
    for _ in range(2):
        started = time.monotonic()
        assert named.ask("udp", "example.net") == "NOERROR 203.0.113.9"
        took.append(time.monotonic() - started)
    assert took[0] - took[1] > 0.8, took


def test_a_circle_of_resolvers_ends_in_a_failure(named: Named) -> None:
    named.resolv_conf.write_text("nameserver 127.0.0.1\n")
    named.up()
    circle = subprocess.Popen(
        named.net.a.inside(sys.executable, "-c", CIRCLE, OWN), stdout=subprocess.PIPE, text=True
    )
    assert circle.stdout is not None
    circle.stdout.readline()
    try:
        assert named.ask("udp", "example.net") == "SERVFAIL"
        assert named.getent("nas.shore.internal") == PEER
    finally:
        circle.kill()
        output, _ = circle.communicate()
    assert output.count("asked") <= 16


def test_beside_a_name_server_of_every_address_names_go_by_udp(named: Named) -> None:
    other = subprocess.Popen(
        named.net.a.inside(sys.executable, "-c", EVERYWHERE), stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    other.stdout.readline()
    try:
        named.up()
        assert named.getent("nas.shore.internal") == PEER
        assert named.getent("example.net") == "203.0.113.9"
        assert "names by UDP only" in named.end.log()
    finally:
        other.kill()
        other.communicate()

"""A filter on a real tunnel: the receiver drops what no rule names, whatever becomes of its brain."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import msgspec
import pytest

from shore.io.api import ask
from shore.io.conffile import read
from shore.io.runtime import Runtime
from shore.lab.ends import PORT, ShoreEnd, StockEnd, sides
from shore.lab.net import Host, Net, until
from shore.model.filter import Ports, Rule
from shore.wire import api

pytestmark = [pytest.mark.lab]
OURS, THEIRS = "10.8.0.1", "10.8.0.2"
LISTEN = """
import socket
tcp, udp = socket.create_server(("{0}", 8080)), socket.socket(type=socket.SOCK_DGRAM)
udp.bind(("{0}", 8080))
print("ready", flush=True)
while True:
    words, asker = udp.recvfrom(2048)
    udp.sendto(words, asker)
"""
CONNECT = """
import socket
socket.create_connection(("{0}", 8080), 2)
"""
ASK = """
import socket
asker = socket.socket(type=socket.SOCK_DGRAM)
asker.settimeout(1)
asker.sendto(bytes({1}), ("{0}", 8080))
assert len(asker.recv(2048)) == {1}
"""


class Filtered:
    """Shore at a, wireguard-go at b, and something that answers on port 8080 of both."""

    def __init__(self, net: Net) -> None:
        ours, theirs = sides(f"192.0.2.2:{PORT}")
        self.net = net
        self.peer = StockEnd(net.b, theirs, "wireguard-go")
        self.shore = ShoreEnd(net.a, ours)
        self._listening: list[subprocess.Popen[str]] = []

    def up(self) -> None:
        self.peer.up()
        self.shore.up()
        for host, address in ((self.net.a, OURS), (self.net.b, THEIRS)):
            command = host.inside(sys.executable, "-c", LISTEN.format(address))
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self._listening.append(process)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def down(self) -> None:
        for process in self._listening:
            process.kill()
            process.communicate()
        self.shore.down()
        self.peer.down()

    def obey(self, *rules: Rule) -> None:
        config, _ = read(self.shore.conf)
        reply = ask(Runtime("wg0"), api.AskReload(msgspec.structs.replace(config, filter=rules)))
        assert not isinstance(reply, api.Failed), reply
        time.sleep(0.2)

    def filtered(self) -> int:
        return self.shore.status().peers[0].drops.get("filtered", 0)


def connects(host: Host, address: str) -> bool:
    return succeeds(host, CONNECT.format(address))


def is_answered(host: Host, address: str, length: int = 8) -> bool:
    return succeeds(host, ASK.format(address, length))


def succeeds(host: Host, program: str) -> bool:
    done = subprocess.run(host.inside(sys.executable, "-c", program), capture_output=True, check=False)
    return done.returncode == 0


def rule(*ports: Ports) -> Rule:
    return Rule((f"{THEIRS}/32",), (f"{OURS}/32",), ports)


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as made:
        yield made


@pytest.fixture
def pair(net: Net, monkeypatch: pytest.MonkeyPatch) -> Iterator[Filtered]:
    filtered = Filtered(net)
    monkeypatch.setenv("SHORE_RUNTIME_DIR", str(filtered.shore.conf.parent / "run"))
    try:
        filtered.up()
        yield filtered
    finally:
        filtered.down()


def test_without_rules_what_we_begin_goes_on_and_nothing_else_comes_in(pair: Filtered) -> None:
    a, b = pair.net.a, pair.net.b
    assert b.reaches(OURS, pings=3)
    assert connects(b, OURS)
    pair.obey()
    assert a.reaches(THEIRS)
    assert connects(a, THEIRS)
    assert is_answered(a, THEIRS)
    before = pair.filtered()
    assert not b.reaches(OURS)
    assert not connects(b, OURS)
    assert not is_answered(b, OURS)
    until(lambda: pair.filtered() >= before + 3, 5)


def test_rules_let_in_what_they_name_fragments_included(pair: Filtered) -> None:
    a, b = pair.net.a, pair.net.b
    assert a.reaches(THEIRS, pings=3)
    pair.obey(rule(Ports("tcp", 8080, 8080)))
    assert connects(b, OURS)
    assert not is_answered(b, OURS)
    pair.obey(rule(Ports("udp", 8000, 9000), Ports("icmp")))
    assert is_answered(b, OURS)
    assert is_answered(b, OURS, length=2000), "two fragments"
    assert b.reaches(OURS)
    assert not connects(b, OURS)


def test_the_filter_outlives_brain_and_data_plane(pair: Filtered) -> None:
    a, b = pair.net.a, pair.net.b
    assert a.reaches(THEIRS, pings=3)
    pair.obey(rule(Ports("icmp")))
    os.kill(pair.shore.brain_pid(), signal.SIGKILL)
    assert b.reaches(OURS)
    assert not connects(b, OURS)
    pair.shore.kill()
    until(lambda: b.reaches(OURS), 10)
    assert not connects(b, OURS)
    assert not is_answered(b, OURS)

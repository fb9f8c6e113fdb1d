"""A full tunnel: nobody is locked out, nothing leaves in the clear, and it is all taken back."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from shore.lab.ends import PORT, ShoreEnd, Side, StockEnd, sides
from shore.lab.net import Host, LabFailed, RoutedNet, run

pytestmark = [pytest.mark.lab]

ECHO = """
import socket, sys, threading
def serve(stream):
    while data := stream.recv(100):
        stream.sendall(data)
listener = socket.create_server(("", 22))
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
LOGIN = """
import socket, sys
stream = socket.create_connection((sys.argv[1], 22), 3)
stream.settimeout(3)
for line in sys.stdin:
    stream.sendall(line.encode())
    print(stream.recv(100).decode().strip(), flush=True)
"""


@pytest.fixture
def net() -> Iterator[RoutedNet]:
    with RoutedNet() as made:
        yield made


@pytest.fixture
def started() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    running: list[subprocess.Popen[str]] = []

    def start(host: Host, program: str, *words: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            host.inside(sys.executable, "-c", program, *words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


class Everything:
    """Makes Shore at a with `AllowedIPs = 0.0.0.0/0`, and a stock peer at b with an address of the world."""

    def __init__(self, net: RoutedNet) -> None:
        self.net = net
        self.ends: list[ShoreEnd | StockEnd] = []

    def __call__(self, *, endpoint: str = f"198.51.100.2:{PORT}", extra: str = "") -> ShoreEnd:
        ours, theirs = sides(endpoint)
        peer = StockEnd(self.net.b, theirs, "wireguard-go")
        peer.up()
        self.net.b.ip("address add 8.8.8.8/32 dev lo")
        whole = Side(ours.private_key, ours.address, ours.peer_key, "0.0.0.0/0", ours.endpoint)
        shore = ShoreEnd(self.net.a, whole, extra=extra)
        self.ends += [shore, peer]
        return shore


@pytest.fixture
def everything(net: RoutedNet) -> Iterator[Everything]:
    made = Everything(net)
    yield made
    for end in made.ends:
        end.down()


def says(login: "subprocess.Popen[str]", word: str) -> bool:
    assert login.stdin is not None
    assert login.stdout is not None
    login.stdin.write(word + "\n")
    login.stdin.flush()
    return login.stdout.readline().strip() == word


def host_state(host: Host) -> str:
    shown = ("ip address", "ip route show table all", "ip -6 route show table all", "ip rule", "ip -6 rule")
    more = ("nft list ruleset", "cat /etc/resolv.conf", "sysctl net.ipv4.conf.all.src_valid_mark")
    return "\n".join(host.run(*command.split()) for command in (*shown, *more))


def processes(host: Host) -> set[str]:
    time.sleep(0.5)
    return set(run("ip", "netns", "pids", host.namespace).split())


def kill_all(end: ShoreEnd) -> None:
    for process in (end.keeper_pid(), *end.pids()):
        os.kill(process, signal.SIGKILL)


def test_everything_goes_through_and_nothing_in_the_clear(net: RoutedNet, everything: Everything) -> None:
    before = host_state(net.a)
    end = everything()
    end.up()
    assert net.a.reaches("8.8.8.8", pings=3)
    assert net.clear_packets() == 0
    assert "IPv6 is left alone" in end.shore("status")
    # Routes that arrive later move nothing.
    net.a.ip("route add 0.0.0.0/1 via 192.0.2.254")
    net.a.ip("route add 203.0.113.0/25 via 192.0.2.254")
    assert net.a.reaches("8.8.8.8", pings=3)
    assert not net.a.reaches(net.address_of_c, pings=3)
    assert net.clear_packets() == 0
    kill_all(end)
    assert not net.a.reaches("8.8.8.8", pings=3)
    assert not net.a.reaches(net.address_of_c, pings=3)
    assert net.clear_packets() == 0
    net.a.ip("route del 0.0.0.0/1")
    net.a.ip("route del 203.0.113.0/25")
    assert end.shore("cleanup").strip() == "wg0: removed"
    assert net.a.reaches(net.address_of_c, pings=3)
    assert host_state(net.a) == before


def test_what_is_on_the_same_wire_goes_past_it(net: RoutedNet, everything: Everything) -> None:
    end = everything()
    end.up()
    assert net.a.reaches("192.0.2.254", pings=3)
    net.a.ip("address add 192.0.3.1/24 dev eth0")
    net.router.ip("address add 192.0.3.254/24 dev to-a")
    time.sleep(0.5)
    assert net.a.reaches("192.0.3.254", pings=3)
    assert net.a.reaches("8.8.8.8", pings=3)


def test_a_login_from_outside_survives_up_the_kill_of_everything_and_down(
    net: RoutedNet, everything: Everything, started: Callable[..., "subprocess.Popen[str]"]
) -> None:
    net.a.sysctl("net.ipv4.conf.all.rp_filter", 1)
    net.a.sysctl("net.ipv4.conf.eth0.rp_filter", 1)
    server = started(net.a, ECHO)
    assert server.stdout is not None
    server.stdout.readline()
    login = started(net.c, LOGIN, "192.0.2.1")
    assert says(login, "before")
    end = everything()
    end.up()
    assert says(login, "during")
    later = started(net.c, LOGIN, "192.0.2.1")
    assert says(later, "a new one")
    kill_all(end)
    assert says(login, "after the kill")
    assert says(started(net.c, LOGIN, "192.0.2.1"), "another new one")
    end.shore("cleanup")
    assert says(login, "after cleanup")
    end.up()
    assert says(login, "up again")
    end.shore("down", "wg0")
    assert says(login, "after down")
    assert says(later, "and this one")


def test_names_of_endpoints_are_asked_past_the_tunnel(
    net: RoutedNet, everything: Everything, started: Callable[..., "subprocess.Popen[str]"]
) -> None:
    names = started(net.c, "from shore.lab.nameserver import main; main()", net.address_of_b)
    assert names.stdout is not None
    names.stdout.readline()
    try:
        net.a.resolve_by(net.address_of_c)
    except LabFailed as error:
        pytest.skip(f"LAB SKIPPED: {error}")
    before = host_state(net.a)
    end = everything(endpoint=f"vpn.example.net:{PORT}", extra="DNS = 10.8.0.2, corp.example\n")
    end.up()
    assert net.a.reaches("8.8.8.8", pings=3)
    written = (net.a.etc / "resolv.conf").read_text()
    assert "nameserver 10.8.0.2\n" in written
    assert "search corp.example\n" in written
    end.shore("down", "wg0")
    assert host_state(net.a) == before


def test_there_is_room_for_one(net: RoutedNet, everything: Everything) -> None:
    end = everything()
    ours, _ = sides(f"198.51.100.2:{PORT}")
    other = ShoreEnd(
        net.a, Side(ours.private_key, "10.9.0.1", ours.peer_key, "0.0.0.0/0", None, None, 40000), name="wg1"
    )
    try:
        end.up()
        before = processes(net.a)
        with pytest.raises(LabFailed, match="another full tunnel"):
            other.up()
        assert processes(net.a) <= before
        assert net.a.reaches("8.8.8.8", pings=3)
    finally:
        other.down()


def test_the_lab_can_tell_a_clear_packet(net: RoutedNet) -> None:
    assert net.a.reaches(net.address_of_c, pings=3)
    assert net.clear_packets() == 3

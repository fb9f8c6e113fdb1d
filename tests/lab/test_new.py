"""Found a network, let a machine behind a NAT in, kill what runs, and try what must fail."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shore.lab.member import Member
from shore.lab.net import Host, NatNet, until
from shore.lab.pinger import Pinger

pytestmark = [pytest.mark.lab]
FOUR_COMMANDS_WITHIN_S = 60.0
PING_WITHIN_S = 3.0
UP_FROM_DISK_WITHIN_S = 5.0
NO_UDP = """
    table inet blocked {
        chain output {
            type filter hook output priority 0;
            oifname "eth0" meta l4proto udp drop
        }
    }
"""
# A start of Python with all that a server needs, on a busy machine.
REPLACED_WITHIN_S = 20.0
NOTHING_PASSES = """
    table inet shut {
        chain forward {
            type filter hook forward priority 0; policy drop;
            meta l4proto tcp counter drop
        }
    }
"""


@pytest.fixture
def net() -> Iterator[NatNet]:
    with NatNet() as made:
        for host in made.hosts:
            host.resolve_by("192.0.2.53")
        yield made


@pytest.fixture
def hub(net: NatNet) -> Iterator[Member]:
    with contextlib.closing(_Ending(Member(net.b, "hub"))) as ending:
        yield ending.member


@pytest.fixture
def laptop(net: NatNet) -> Iterator[Member]:
    with contextlib.closing(_Ending(Member(net.a, "laptop"))) as ending:
        yield ending.member


class _Ending:
    def __init__(self, member: Member) -> None:
        self.member = member

    def close(self) -> None:
        self.member.down()


def test_four_commands_make_a_network_that_outlives_its_parts(hub: Member, laptop: Member) -> None:
    begun = time.monotonic()
    hub.found()
    line = hub.shore("invite").split()
    assert line[:3] == ["shore", "up", "--join"]
    laptop.join(line[3])
    joined = time.monotonic()
    address = laptop.shore("ip", "hub").split()[0]
    until(lambda: laptop.host.reaches(address, within_s=1), within_s=PING_WITHIN_S)
    assert time.monotonic() - joined < PING_WITHIN_S
    assert time.monotonic() - begun < FOUR_COMMANDS_WITHIN_S
    until(lambda: laptop.host.reaches("hub.shore.internal"), within_s=5)
    until(lambda: hub.host.reaches("laptop"), within_s=10)

    pinger = Pinger(laptop.host, address)
    time.sleep(2)
    for name in ("server", "relay"):
        before = hub.program(name)
        assert before is not None
        os.kill(before.pid, signal.SIGKILL)
        until(lambda name=name, before=before: hub.program(name) not in (None, before), REPLACED_WITHIN_S)
        until(lambda: _links_up(laptop), within_s=REPLACED_WITHIN_S)
    assert pinger.stop().lost() <= 1
    assert "hub" in laptop.shore("peers")
    assert hub.shore("invite").startswith("shore up --join ")

    said = hub.shore("down")
    assert "server and relay of the network go on here: `shore server stop` ends them" in said
    assert hub.program("server") is not None
    hub.shore("server", "stop")
    assert (hub.program("server"), hub.program("relay")) == (None, None)
    hub.shore("up")
    until(lambda: laptop.host.reaches(address, within_s=1), within_s=15)
    until(lambda: _links_up(laptop), within_s=REPLACED_WITHIN_S)

    second = hub.run("up", "--new")
    assert (second.returncode, second.stderr.count("\n")) == (1, 1)
    assert "this machine has founded a network already" in second.stderr
    assert hub.program("server") is not None


@pytest.mark.slow
def test_a_node_that_boots_while_the_server_is_down_is_up_through_the_relay(
    hub: Member, laptop: Member
) -> None:
    laptop.join(hub.found())
    address = laptop.shore("ip", "hub").split()[0]
    until(lambda: laptop.host.reaches(address, within_s=1), within_s=5)
    admissions = laptop.directory / "state" / "node" / "admissions"
    until(admissions.exists, within_s=5)
    assert admissions.stat().st_mode & 0o777 == 0o600

    hub.stop_program("server")
    laptop.shore("down")
    shutil.rmtree(laptop.directory / "run")
    laptop.host.run("nft", "-f", "-", stdin=NO_UDP)
    booted = time.monotonic()
    laptop.shore("up")
    until(lambda: laptop.host.reaches(address, within_s=1), within_s=UP_FROM_DISK_WITHIN_S)
    assert time.monotonic() - booted < UP_FROM_DISK_WITHIN_S
    states = {link.kind: link.state for link in laptop.status().links}
    assert states == {"server": "down", "relay": "up"}


@pytest.mark.slow
def test_behind_a_proxy_alone_nothing_goes_past_it(net: NatNet, hub: Member, laptop: Member) -> None:
    token = hub.found()
    words = ("-m", "tests.io.connect_proxy", "10.1.0.1", "3128")
    inside = net.router.inside(sys.executable, *words)
    with subprocess.Popen(inside, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as proxy:
        try:
            assert proxy.stdout is not None
            proxy.stdout.readline()
            net.router.run("nft", "-f", "-", stdin=NOTHING_PASSES)
            laptop.shore("up", "--join", "-", "--proxy", "http://10.1.0.1:3128", stdin=token)
            address = laptop.shore("ip", "hub").split()[0]
            until(lambda: laptop.host.reaches(address, within_s=1), within_s=10)
            until(lambda: _links_up(laptop), within_s=10)
            rules = net.router.run("nft", "list", "chain", "inet", "shut", "forward")
            assert "counter packets 0 bytes 0 drop" in rules, "streams went past the proxy"
        finally:
            proxy.kill()


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_port_that_is_taken_is_one_sentence_that_names_who_has_it_and_nothing_is_left(
    hub: Member, kind: str
) -> None:
    with _taken(hub.host, kind) as pid:
        failed = hub.run("up", "--new")
    assert failed.returncode == 1
    option = "--port" if kind == "tcp" else "--stun-port"
    port = 443 if kind == "tcp" else 3478
    assert failed.stderr.startswith(f"shore: {kind.upper()} port {port} is taken by python")
    assert f"({pid}): stop what holds it, or give another {option}\n" in failed.stderr
    _nothing_is_left(hub)


def test_a_founding_that_fails_late_leaves_nothing(hub: Member) -> None:
    # The device cannot be made: its name is taken.
    hub.host.ip("link add shore0 type veth peer name other0")
    failed = hub.run("up", "--new")
    assert failed.returncode == 1
    assert "shore0" in failed.stderr.splitlines()[-1]
    _nothing_is_left(hub)


def test_a_founding_that_is_interrupted_leaves_nothing(hub: Member) -> None:
    words = ("-c", "from shore.cli.main import main; main()", "up", "--new")
    own = {"SHORE_RUNTIME_DIR": "run", "SHORE_STATE_DIR": "state", "SHORE_UAPI_DIR": "uapi"}
    around = {**os.environ, **{name: str(hub.directory / place) for name, place in own.items()}}
    with subprocess.Popen(
        hub.host.inside(sys.executable, *words), env=around, stderr=subprocess.PIPE, text=True
    ) as founding:
        until((hub.directory / "run/relay/wanted").exists, within_s=20)
        founding.send_signal(signal.SIGINT)
        assert founding.stderr is not None
        assert "interrupted" in founding.stderr.read()
        assert founding.wait() == 1
    _nothing_is_left(hub)


def _links_up(member: Member) -> bool:
    return {link.kind for link in member.status().links if link.state == "up"} == {"server", "relay"}


@contextlib.contextmanager
def _taken(host: Host, kind: str) -> Iterator[int]:
    make = {
        "tcp": "socket.create_server(('', 443))",
        "udp": "socket.socket(type=socket.SOCK_DGRAM); door.bind(('', 3478))",
    }
    script = f"import socket, time; door = {make[kind]}; print(flush=True); time.sleep(60)"
    with subprocess.Popen(host.inside(sys.executable, "-c", script), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def _nothing_is_left(hub: Member) -> None:
    assert list(hub.directory.rglob("*")) == []
    assert "443" not in hub.host.run("ss", "-Hltn")
    own = str(hub.directory).encode()
    for pid in hub.host.ip(f"netns pids {hub.host.namespace}").split():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as words:
            assert own not in words.read()

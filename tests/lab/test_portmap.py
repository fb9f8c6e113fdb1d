"""A port mapped at a real router, Debian's miniupnpd: by PCP and by UPnP, and given back."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shore.lab.ends import ShoreEnd, sides
from shore.lab.inside import datagram_socket
from shore.lab.net import Host, Net, join, until

ROUTER = shutil.which("miniupnpd", path="/usr/sbin:/usr/bin")
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(ROUTER is None, reason="LAB SKIPPED: missing: miniupnpd (apt install miniupnpd)"),
]
PORT = 51820
# What the router takes for a public address; the namespaces lead nowhere.
PUBLIC = "8.8.4.1"

MAPPER = """
import asyncio, json, signal
from shore.io.portmap import PortMapping

async def main():
    mapping = PortMapping(lambda endpoints: print(json.dumps(endpoints), flush=True))
    mapping.follow({port}, 0, b"secret")
    task = asyncio.get_running_loop().create_task(mapping.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        pass

asyncio.run(main())
"""

TABLES = """
table inet filter {
    chain forward { type filter hook forward priority 0; policy accept; jump miniupnpd; }
    chain miniupnpd { }
    chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
    chain postrouting { type nat hook postrouting priority 100; jump postrouting_miniupnpd;
        oifname "wan0" masquerade fully-random; }
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
}
"""

CONF = """
ext_ifname=wan0
listening_ip=lan0
http_port=5000
enable_natpmp={pcp}
enable_upnp={upnp}
secure_mode=yes
uuid=00000000-0000-0000-0000-000000000001
upnp_table_name=filter
upnp_nat_table_name=filter
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
allow 1024-65535 10.1.0.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


class RouterNet(Net):
    """`a` sits behind a symmetric NAT that gives ports to who asks; `b` is outside."""

    def __init__(self) -> None:
        super().__init__()
        self.router = Host("router")
        self.hosts.append(self.router)

    def wire(self) -> None:
        join(self.a, "eth0", self.router, "lan0")
        join(self.b, "eth0", self.router, "wan0")
        self.a.ip("address add 10.1.0.2/24 dev eth0")
        self.router.ip("address add 10.1.0.1/24 dev lan0")
        self.router.ip(f"address add {PUBLIC}/24 dev wan0")
        self.b.ip("address add 8.8.4.2/24 dev eth0")
        self.a.ip("route add default via 10.1.0.1")
        self.router.ip("route add default via 8.8.4.2")
        self.router.sysctl("net.ipv4.ip_forward", 1)
        self.router.run("nft", "-f", "-", stdin=TABLES)


@pytest.fixture
def net() -> Iterator[RouterNet]:
    with RouterNet() as made:
        yield made


@pytest.mark.parametrize("protocol", ["pcp", "upnp"])
def test_the_outside_reaches_a_mapped_port_until_it_is_given_back(
    net: RouterNet, tmp_path: Path, protocol: str
) -> None:
    router = start_router(net, tmp_path, protocol)
    mapper = subprocess.Popen(
        net.a.inside(sys.executable, "-c", MAPPER.format(port=PORT)), stdout=subprocess.PIPE, text=True
    )
    try:
        assert mapper.stdout is not None
        assert json.loads(mapper.stdout.readline()) == [f"{PUBLIC}:{PORT}"]
        assert is_reached(net)
        mapper.terminate()
        mapper.wait(10)
        until(lambda: "dnat" not in net.router.run("nft", "list", "ruleset"), 3)
        assert not is_reached(net)
    finally:
        for process in (mapper, router):
            process.kill()
            process.wait()


def test_a_tunnel_says_where_its_port_is_mapped_and_gives_it_back(net: RouterNet, tmp_path: Path) -> None:
    """And keeps it over its brain's death: the next brain renews what the last one was granted."""
    router = start_router(net, tmp_path, "pcp")
    ours, _ = sides("8.8.4.2:51820")
    end = ShoreEnd(net.a, ours, extra="#@ PortMapping = on\n")
    said = f"port mapped at {PUBLIC}:{PORT}"
    try:
        end.up()
        until(lambda: said in end.log(), 5)
        first = end.brain_pid()
        os.kill(first, signal.SIGKILL)
        until(lambda: end.log().count(said) == 2, 10)
        assert end.brain_pid() != first
        assert net.router.run("nft", "list", "ruleset").count("dnat") == 1
        end.shore("down", end.name)
        until(lambda: "dnat" not in net.router.run("nft", "list", "ruleset"), 3)
    finally:
        end.down()
        router.kill()
        router.wait()


def test_another_machine_that_says_it_is_a_router_is_not_asked(net: RouterNet, tmp_path: Path) -> None:
    """The same router, and a gateway beside it that is silent."""
    net.router.ip("address add 10.1.0.3/24 dev lan0")
    net.a.ip("route replace default via 10.1.0.3")
    router = start_router(net, tmp_path, "upnp")
    mapper = subprocess.Popen(
        net.a.inside(sys.executable, "-c", MAPPER.format(port=PORT)), stdout=subprocess.PIPE, text=True
    )
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            mapper.communicate(timeout=6)
        assert "dnat" not in net.router.run("nft", "list", "ruleset")
    finally:
        for process in (mapper, router):
            process.kill()
            process.wait()


def start_router(net: RouterNet, directory: Path, protocol: str) -> subprocess.Popen[bytes]:
    conf = directory / "router.conf"
    conf.write_text(CONF.format(**{name: "yes" if name == protocol else "no" for name in ("pcp", "upnp")}))
    assert ROUTER is not None
    words = [ROUTER, "-d", "-f", str(conf), "-P", str(directory / "router.pid")]
    process = subprocess.Popen(net.router.inside(*words), stderr=(directory / "router.log").open("wb"))
    port = ":5351" if protocol == "pcp" else ":1900"
    until(lambda: port in net.router.run("ss", "-Hlun"), 5)
    return process


def is_reached(net: RouterNet) -> bool:
    with datagram_socket(net.a, "10.1.0.2", PORT) as inside, datagram_socket(net.b) as outside:
        inside.settimeout(1)
        outside.sendto(b"knock", (PUBLIC, PORT))
        try:
            return inside.recv(100) == b"knock"
        except TimeoutError:
            return False

"""A network behind a node: nobody gets there before it was advertised, approved and accepted; then by policy.

laptop a 192.0.2.1 ── 192.0.2.2 b hub, lan0 10.7.0.1 ── 10.7.0.9 printer, which knows no way back
"""

import contextlib
import time
from collections.abc import Iterator

import pytest

from shore.lab.member import Member
from shore.lab.net import Host, Net, join, until

pytestmark = [pytest.mark.lab]
LAN, PRINTER, WORLD = "10.7.0.0/24", "10.7.0.9", "8.8.8.8"
LAN_V6, PRINTER_V6 = "fd77::/64", "fd77::9"
MEMBERS_ONLY = '{"grants": [{"src": ["*"], "dst": ["100.64.0.0/10"], "ip": ["*"]}]}'


class Site(Net):
    """`b` is a router with a wire of its own behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.printer = Host("printer")
        self.hosts.append(self.printer)

    def wire(self) -> None:
        super().wire()
        join(self.b, "lan0", self.printer, "eth0")
        self.b.ip("address add 10.7.0.1/24 dev lan0")
        self.printer.ip(f"address add {PRINTER}/24 dev eth0")
        self.b.ip("address add fd77::1/64 dev lan0 nodad")
        self.printer.ip(f"address add {PRINTER_V6}/64 dev eth0 nodad")
        self.printer.ip(f"address add {WORLD}/32 dev lo")
        self.b.ip(f"route add {WORLD}/32 via {PRINTER}")
        for host in (self.a, self.b):
            host.resolve_by("192.0.2.53")


class Mesh:
    """The hub at b, which leads to the printer, and a laptop at a."""

    def __init__(self, net: Site, hub: Member, laptop: Member) -> None:
        self.net, self.hub, self.laptop = net, hub, laptop

    def reaches(self, address: str) -> bool:
        return self.net.a.reaches(address, within_s=1)

    def allowed(self) -> tuple[str, ...]:
        return next((peer.allowed_ips for peer in self.laptop.status().peers), ())


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with Site() as net, contextlib.ExitStack() as ends:
        hub, laptop = Member(net.b, "hub"), Member(net.a, "laptop")
        ends.callback(hub.down)
        ends.callback(laptop.down)
        laptop.join(hub.found())
        yield Mesh(net, hub, laptop)


def test_a_host_behind_a_node_takes_three_peoples_word(mesh: Mesh) -> None:
    hub, laptop, net = mesh.hub, mesh.laptop, mesh.net
    said = hub.run("set", "--advertise-routes", LAN)
    assert f"`shore nodes routes hub --approve {LAN}`" in said.stdout
    assert "`sysctl -w net.ipv4.ip_forward=1`" in said.stderr
    net.b.sysctl("net.ipv4.ip_forward", 1)
    laptop.shore("accept", LAN)
    assert not mesh.reaches(PRINTER)
    hub.shore("nodes", "routes", "hub", "--approve", LAN)
    until(lambda: mesh.reaches(PRINTER), within_s=10)
    laptop.shore("accept", "--withdraw", LAN)
    until(lambda: not mesh.reaches(PRINTER), within_s=5)


@pytest.mark.slow
def test_each_of_them_is_told_what_is_missing_and_the_policy_decides_who_may(mesh: Mesh) -> None:
    hub, laptop, net = mesh.hub, mesh.laptop, mesh.net
    hub.shore("set", "--advertise-routes", LAN)
    assert "sysctl -w net.ipv4.ip_forward=1" in hub.shore("status")
    net.b.sysctl("net.ipv4.ip_forward", 1)
    assert "sysctl" not in hub.shore("status")
    until(lambda: f"{LAN}  waits for --approve" in hub.shore("nodes", "routes"), within_s=5)
    assert f"{LAN} waits for `shore nodes routes --approve`" in hub.shore("status")
    hub.shore("nodes", "routes", "hub", "--approve", LAN)
    until(lambda: f"hub leads to {LAN}: `shore accept {LAN}`" in laptop.shore("accept"), within_s=5)
    assert LAN not in mesh.allowed()
    assert not mesh.reaches(PRINTER)
    assert "waits" not in hub.shore("status")
    laptop.shore("accept", LAN)
    assert "leads to" not in laptop.shore("accept")
    until(lambda: mesh.reaches(PRINTER), within_s=5)
    assert net.a.reaches(PRINTER, pings=5, within_s=1)
    # Who is behind a node is no member: everybody does not mean him.
    net.printer.ip("route add 100.64.0.0/10 via 10.7.0.1")
    before = laptop.status().peers[0].drops.get("filtered", 0)
    assert not net.printer.reaches(laptop.address(), within_s=1)
    assert laptop.status().peers[0].drops["filtered"] > before

    policy = laptop.directory / "policy.hujson"
    policy.write_text(MEMBERS_ONLY)
    hub.shore("policy", "set", str(policy))
    until(lambda: not mesh.reaches(PRINTER), within_s=5)
    assert mesh.reaches(hub.address())
    assert hub.status().peers[0].drops["filtered"] > 0
    policy.write_text(MEMBERS_ONLY.replace('"100.64.0.0/10"', f'"100.64.0.0/10", "{PRINTER}"'))
    hub.shore("policy", "set", str(policy))
    until(lambda: mesh.reaches(PRINTER), within_s=5)
    traced = hub.shore("policy", "trace", "laptop", PRINTER, "80")
    assert "line 1 lets laptop reach 10.7.0.9 behind hub" in traced
    policy.write_text(MEMBERS_ONLY.replace('"src": ["*"]', f'"src": ["*", "{LAN}"]'))
    hub.shore("policy", "set", str(policy))
    until(lambda: net.printer.reaches(laptop.address(), within_s=1), within_s=5)

    hub.shore("set", "--advertise-routes", "")
    until(lambda: LAN not in mesh.allowed(), within_s=5)
    assert not mesh.reaches(PRINTER)


@pytest.mark.slow
def test_the_tunnel_never_carries_itself_and_a_wire_of_ones_own_stays_one(mesh: Mesh) -> None:
    hub, laptop, net = mesh.hub, mesh.laptop, mesh.net
    net.b.sysctl("net.ipv4.ip_forward", 1)
    # The prefix holds the hub's own endpoint, its relay and its server; the laptop gets there by a router.
    net.a.ip("address flush dev eth0 scope global")
    net.a.ip("address add 192.0.2.1/32 dev eth0")
    net.a.ip("route add 192.0.2.2/32 dev eth0")
    net.b.sysctl("net.ipv6.conf.all.forwarding", 1)
    hub.shore("set", "--advertise-routes", f"192.0.2.0/24,{LAN},{LAN_V6}")
    until(lambda: "192.0.2.0/24" in hub.shore("nodes", "routes"), within_s=5)
    hub.shore("nodes", "routes", "hub", "--approve", "192.0.2.0/24", "--approve", f"{LAN},{LAN_V6}")
    laptop.shore("accept", "192.0.2.0/24", LAN, LAN_V6)
    until(lambda: mesh.reaches(PRINTER) and mesh.reaches(PRINTER_V6), within_s=5)
    assert "shore0" in net.a.ip("route get 192.0.2.2")
    assert "eth0" in net.a.ip("route get 192.0.2.2 mark 51820")
    time.sleep(5)
    status = laptop.status()
    assert net.a.reaches(PRINTER, pings=5, within_s=1)
    assert {link.state for link in status.links} == {"up"}
    assert all(path.uplink == "eth0" for path in status.peers[0].paths if path.primary)

    # At home: the same prefix is on a wire here.
    net.a.ip("link add home0 type veth peer name home1")
    net.a.ip("link set home1 up")
    net.a.ip("link set home0 up")
    net.a.ip("address add 10.7.0.77/24 dev home0")
    net.a.ip("address add fd77::77/64 dev home0 nodad")
    for printer in (PRINTER, PRINTER_V6):
        until(lambda printer=printer: "home0" in net.a.ip(f"route get {printer}"), within_s=3)
    assert f"{LAN} is on the wire of home0 here" in laptop.shore("status")
    net.a.ip("link delete home0")
    until(lambda: mesh.reaches(PRINTER) and mesh.reaches(PRINTER_V6), within_s=5)

    laptop.shore("down")
    assert "51820" not in net.a.ip("rule") + net.a.ip("-6 rule")
    assert "10.7.0.0" not in net.a.ip("route show table all")
    hub.shore("down")
    assert "behind" not in net.b.run("nft", "list", "tables")


@pytest.mark.slow
def test_a_default_route_takes_the_consent_of_exactly_that(mesh: Mesh) -> None:
    hub, laptop, net = mesh.hub, mesh.laptop, mesh.net
    net.b.sysctl("net.ipv4.ip_forward", 1)
    hub.shore("set", "--advertise-routes", "0.0.0.0/0")
    until(lambda: "0.0.0.0/0" in hub.shore("nodes", "routes"), within_s=5)
    hub.shore("nodes", "routes", "hub", "--approve", "0.0.0.0/0")
    laptop.shore("accept", "128.0.0.0/1", "8.0.0.0/8")
    time.sleep(1)
    assert "0.0.0.0/0" not in mesh.allowed()
    assert not mesh.reaches(WORLD)
    laptop.shore("accept", "0.0.0.0/0")
    until(lambda: mesh.reaches(WORLD), within_s=5)
    assert "IPv6 is left alone" in laptop.shore("status")
    until(lambda: {link.state for link in laptop.status().links} == {"up"}, within_s=15)
    assert net.a.reaches(WORLD, pings=10, within_s=1)
    laptop.shore("accept", "--withdraw", "0.0.0.0/0")
    until(lambda: not mesh.reaches(WORLD), within_s=5)
    assert "51820" not in net.a.ip("rule")


@pytest.mark.slow
def test_links_that_leave_by_a_metered_uplink_are_called_so(mesh: Mesh) -> None:
    assert [link.metered for link in mesh.laptop.status().links] == [False, False]
    mesh.laptop.shore("set", "shore0", "uplinks=eth0 metered")
    status = mesh.laptop.status()
    assert {link.kind: link.metered for link in status.links} == {"relay": True, "server": True}
    assert all(path.metered for path in status.peers[0].paths if path.kind == "relay")
    assert "metered" in mesh.laptop.shore("status")

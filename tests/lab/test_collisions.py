"""Networks around machines that use addresses of a mesh: avoided where they are known, named where not."""

import contextlib
from ipaddress import IPv4Address, IPv4Network

import pytest

from shore.lab.member import Member
from shore.lab.net import Host, Net, until

pytestmark = [pytest.mark.lab, pytest.mark.slow]
# What is left of 100.64.0.0/10 beside these is 100.120.0.0/13.
AROUND_HUB = ("100.64.0.1/11", "100.96.0.1/12", "100.112.0.1/13")
LEFT = IPv4Network("100.120.0.0/13")


def wire(host: Host, name: str, *addresses: str) -> None:
    host.ip(f"link add {name} type veth peer name {name}-far")
    host.ip(f"link set {name} up")
    host.ip(f"link set {name}-far up")
    for address in addresses:
        host.ip(f"address add {address} dev {name}")


def test_addresses_in_use_around_are_avoided_and_what_meets_is_named() -> None:
    with Net() as net, contextlib.ExitStack() as ends:
        for host in (net.a, net.b):
            host.resolve_by("192.0.2.53")
        hub, laptop = Member(net.b, "hub"), Member(net.a, "laptop")
        ends.callback(hub.down)
        ends.callback(laptop.down)
        wire(net.b, "wan0", *AROUND_HUB)
        token = hub.found()
        where = IPv4Address(hub.address())
        assert where in LEFT
        around = IPv4Network(f"{where}/16", strict=False)
        wire(net.a, "wan0", f"{around[1]}/16")
        said = laptop.run("up", "--join", "-", "--name", "laptop", stdin=token)
        assert said.returncode == 0, said.stderr
        own = IPv4Address(laptop.address())
        assert own in LEFT
        assert own not in around
        named = f"{where}, the address of hub, is in {around} of wan0 as well"
        assert said.stderr.count(named) == 1
        assert named in laptop.shore("status")
        net.a.ip("link delete wan0")
        until(lambda: named not in laptop.shore("status"), within_s=3)
        wire(net.a, "tailscale0", "100.99.0.3/32")
        until(lambda: "Tailscale on tailscale0 drops" in laptop.shore("status"), within_s=3)
        assert "Tailscale" not in hub.shore("status")

"""Who else has the addresses of a mesh: a sentence each, with what to do."""

import pytest

from shore.core.collisions import MOST_TOLD, collisions
from shore.model.config import PeerConfig, TunnelConfig
from shore.model.links import Link
from shore.model.zone import Zone

HOSTS = (
    ("desk.shore.internal", ("100.70.1.9", "fd12:3456:789a::9")),
    ("hub.shore.internal", ("100.64.0.1",)),
)
PEER = PeerConfig(b"\2" * 32, allowed_ips=("100.70.1.9/32", "10.1.0.0/24"), name="desk")
MESH = TunnelConfig(
    "shore0", bytes(32), peers=(PEER,), zone=Zone("shore.internal", "fd12:3456:789a::/48", HOSTS)
)


def link(name: str, *networks: str, addresses: tuple[str, ...] = (), up: bool = True) -> Link:
    return Link(name, 2, up, 1500, addresses, (), networks)


@pytest.mark.parametrize(
    ("around", "sentence"),
    [
        (link("wan0", "100.70.0.0/22"), "100.70.1.9, the address of desk, is in 100.70.0.0/22 of wan0"),
        (
            link("wg1", addresses=("100.64.0.1",)),
            "100.64.0.1, the address of hub, is in 100.64.0.1/32 of wg1",
        ),
        (link("lan0", "fd12:3456:789a::/64"), "fd12:3456:789a::9, the address of desk"),
        (link("tailscale0", addresses=("100.99.0.3",)), "Tailscale on tailscale0 drops what comes from"),
        (link("lan0", "10.1.0.0/24"), "10.1.0.0/24 is on the wire of lan0 here"),
    ],
)
def test_what_meets_is_named(around: Link, sentence: str) -> None:
    (told,) = collisions(MESH, (link("eth0", "192.0.2.0/24", addresses=("192.0.2.7",)), around))
    assert told.startswith(sentence)


@pytest.mark.parametrize(
    "around",
    [
        link("wan0", "100.80.0.0/16", "10.0.0.0/8"),
        link("wan0", "100.70.0.0/22", up=False),
        link("tailscale0", addresses=("fe80::1",)),
    ],
)
def test_what_does_not_meet_is_nobodys_business(around: Link) -> None:
    assert collisions(MESH, (around,)) == ()


def test_a_tunnel_of_a_file_meets_nobody() -> None:
    assert collisions(TunnelConfig("wg0", bytes(32), peers=(PEER,)), (link("wan0", "100.70.0.0/22"),)) == ()


def test_few_are_enough_to_tell() -> None:
    assert len(collisions(MESH, [link(f"wan{number}", "100.64.0.0/10") for number in range(9)])) == MOST_TOLD

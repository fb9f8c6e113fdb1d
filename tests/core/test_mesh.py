"""What a netmap makes of a tunnel's configuration."""

import msgspec
import pytest
from tests.core.netmaps import LEASE, NOW, PEER_KEY, TRUST, netmap, peer

from shore.core import mesh
from shore.core.events import PeerCalled
from shore.core.member_events import Deliver
from shore.core.netmap import verified
from shore.model.config import Endpoint, RelayConfig, TunnelConfig
from shore.model.desired import Candidate
from shore.model.filter import Ports, Rule
from shore.model.netmap import Filter, Netmap, Record, Relay, Signed

BASE = TunnelConfig("shore0", bytes(32))


def read(*more: Record) -> Netmap:
    return verified(netmap(*more), TRUST, (), NOW)


def config(*more: Record, base: TunnelConfig = BASE, time: float = NOW, **known: object) -> TunnelConfig:
    return mesh.tunnel_config(base, read(*more), time=time, **{"admissions": {}, **known})


def test_peers_own_their_addresses_and_have_names() -> None:
    made = config(peer())
    assert made.addresses == ("100.64.0.1/32", "fd12:3456:789a::1/128")
    assert (made.mesh, made.filter) == ("shore.internal", read().filter.rules)
    (only,) = made.peers
    assert (only.public_key, only.name, only.allowed_ips) == (PEER_KEY, "laptop", ("100.64.0.2/32",))
    assert only.candidates == (Candidate("192.0.2.2:41641", "host"),)


def beyond(*accepted: str) -> tuple[str, ...]:
    offered = ("192.168.7.0/24", "10.0.0.0/8", "0.0.0.0/0", "fd77::/64", "::/0", "100.96.0.0/24", "0.0.0.0/1")
    return config(peer(prefixes=offered), accepted=accepted).peers[0].allowed_ips[1:]


def test_prefixes_need_consent_and_a_default_route_that_of_exactly_itself() -> None:
    assert beyond() == ()
    assert beyond("192.168.0.0/16", "0.0.0.0/32", "fd77::/48", "128.0.0.0/1") == (
        "192.168.7.0/24",
        "fd77::/64",
    )
    assert beyond("10.0.0.0/9", "10.0.0.0/24") == ()
    assert beyond("0.0.0.0/0") == ("0.0.0.0/0",)
    assert beyond("::/0") == ("::/0",)
    assert beyond("0.0.0.0/1", "128.0.0.0/1") == ("192.168.7.0/24", "10.0.0.0/8")


def test_no_consent_makes_an_address_of_the_mesh_somebody_elses() -> None:
    assert beyond("100.64.0.0/10", "100.96.0.0/24") == ()


def test_what_comes_in_goes_to_our_own_addresses_and_to_what_we_lead_to_whatever_the_server_says() -> None:
    everywhere = ("0.0.0.0/0", "::/0")
    wide = Filter(
        (Rule(everywhere, everywhere, (Ports(),)), Rule(everywhere, ("172.17.0.0/16",), (Ports(),)))
    )
    own = ("100.64.0.1/32", "fd12:3456:789a::1/128")
    assert config(wide).filter == (Rule(everywhere, own, (Ports(),)),)
    made = config(wide, advertised=("172.17.0.0/24",))
    assert made.advertised == ("172.17.0.0/24",)
    assert made.filter is not None
    assert [rule.destinations for rule in made.filter] == [
        ("100.64.0.1/32", "172.17.0.0/24", "fd12:3456:789a::1/128"),
        ("172.17.0.0/24",),
    ]


def test_a_peer_whose_lease_ran_out_is_left_out() -> None:
    assert [each.name for each in config(peer(), time=LEASE - 1).peers] == ["laptop"]
    assert config(peer(), time=LEASE).peers == ()
    assert mesh.lease_ends(read(peer()), NOW) == LEASE
    assert mesh.lease_ends(read(peer()), LEASE) is None


def test_a_peers_nonsense_about_itself_is_left_out() -> None:
    wrong = ["nowhere", "192.0.2.1:0", "192.0.2.1:70000", "127.0.0.1:1", "[192.0.2.1]:1", "2001:db8::1:1"]
    told = tuple(Candidate(endpoint, "host") for endpoint in [*wrong, "[2001:db8::1]:5"])
    assert config(peer(candidates=told)).peers[0].candidates == (Candidate("[2001:db8::1]:5", "host"),)


def test_relays_come_with_their_admissions() -> None:
    admission = Signed(b"a", b"b", b"c")
    relay = Relay("r1", bytes(32), ("192.0.2.1:443",), ("192.0.2.1:3478",))
    made = config(relay, admissions={"r1": admission, "other": admission})
    assert made.relays == (RelayConfig("r1", bytes(32), relay.addresses, relay.udp_addresses, admission),)


def test_what_a_person_set_for_a_peer_stays() -> None:
    before = config(peer())
    asked = msgspec.structs.replace(before.peers[0], redundancy="always")
    again = config(peer(name="other"), base=msgspec.structs.replace(before, peers=(asked,)))
    assert (again.peers[0].redundancy, again.peers[0].name) == ("always", "other")


def test_another_key_under_a_known_name_is_seen() -> None:
    other = peer(node_key=bytes([99] * 32))
    assert mesh.changed_keys(read(peer()), read(other)) == [other]
    assert (
        mesh.changed_keys(
            read(peer()), read(peer(), peer(name="b", node_key=bytes(32), addresses=("100.64.0.9",)))
        )
        == []
    )


def test_names_are_those_of_everybody_with_a_lease() -> None:
    assert mesh.zone(read(peer()), NOW).hosts == (
        ("hub.shore.internal", ("100.64.0.1", "fd12:3456:789a::1")),
        ("laptop.shore.internal", ("100.64.0.2",)),
    )
    known = mesh.zone(read(peer()), LEASE)
    assert [name for name, _ in known.hosts] == ["hub.shore.internal"]
    assert (known.suffix, known.range_v6) == ("shore.internal", "fd12:3456:789a::/48")


def test_a_mesh_asks_gateways_for_a_port() -> None:
    assert config().port_mapping


def test_relays_say_what_we_look_like() -> None:
    udp = ("192.0.2.1:3478", "[2001:db8::1]:3478", "relay.example:3478", "nonsense", "192.0.2.1:3478")
    made = config(Relay("r1", bytes(32), ("192.0.2.1:443",), udp))
    hosts = ("192.0.2.1", "2001:db8::1", "relay.example")
    assert made.stun == tuple(Endpoint(host, 3478) for host in hosts)


@pytest.mark.parametrize(
    "nonsense",
    ["", ":1", "192.0.2.1", "192.0.2.1:0", "192.0.2.1:65536", "[fe80::1]:5", "[2001:db8::1%eth0]:5", "x:y:5"],
)
def test_a_peer_that_talks_nonsense_through_the_server_is_not_listened_to(nonsense: str) -> None:
    said = (Candidate(nonsense, "host"), Candidate("192.0.2.7:5", "host"))
    assert mesh.meant_by(Deliver(PEER_KEY, "call_me_maybe", said)) == [PeerCalled(PEER_KEY, said[1:])]
    assert mesh.meant_by(Deliver(PEER_KEY, "call_me_maybe", said[:1])) == []
    assert mesh.meant_by(Deliver(PEER_KEY, "spray", said[:1])) == []
    assert config(peer(candidates=said)).peers[0].candidates == said[1:]


def test_a_peer_says_through_the_server_no_more_than_eight_places() -> None:
    many = tuple(Candidate(f"192.0.2.7:{port}", "host") for port in range(1, 40))
    assert mesh.meant_by(Deliver(PEER_KEY, "call_me_maybe", many)) == [PeerCalled(PEER_KEY, many[:8])]

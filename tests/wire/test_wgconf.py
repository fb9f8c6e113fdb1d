"""`wg0.conf`: what is read, and how its mistakes are named."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shore.model.config import Endpoint, Hooks
from shore.model.keys import key_text
from shore.wire.wgconf import ConfigError, parse

ME, PEER, OTHER, SHARED = (bytes([number]) * 32 for number in (1, 2, 3, 4))

WHOLE = f"""
# a comment
[interface]
privatekey = {key_text(ME)}   # mine
Address = 10.0.0.1/24, fd00::1/64
Address = 10.0.1.1
ListenPort = 51820
MTU = 1380
DNS = 10.0.0.53, fd00::53, corp.example
Table = 1234
FwMark = 0xca6c
PostUp = iptables -A FORWARD -i %i -j ACCEPT; echo a = b
PostUp = second
PreDown = last
SaveConfig = true
#@ Offload = off

[Peer]
#@ Name = the server
PublicKey = {key_text(PEER)}
PresharedKey={key_text(SHARED)}
AllowedIPs = 10.0.0.2/24
AllowedIPs = fd00::/64, 192.0.2.7
Endpoint = [2001:DB8::1]:51820
Endpoint = vpn.example.com:443
PersistentKeepalive = 25

[Peer]
PublicKey = {key_text(OTHER)}
AllowedIPs =
PersistentKeepalive = off
"""


def test_the_whole_syntax_is_read() -> None:
    config, warnings = parse(WHOLE, "wg0", source="wg0.conf")
    assert warnings == ["wg0.conf:15: SaveConfig is ignored: Shore does not write to your file"]
    assert config.private_key == ME
    assert config.addresses == ("10.0.0.1/24", "fd00::1/64", "10.0.1.1/32")
    assert (config.listen_port, config.mtu, config.table, config.fwmark) == (51820, 1380, 1234, 0xCA6C)
    assert config.dns_servers == ("10.0.0.53", "fd00::53")
    assert config.dns_search == ("corp.example",)
    assert config.hooks == Hooks(
        post_up=("iptables -A FORWARD -i %i -j ACCEPT; echo a = b", "second"), pre_down=("last",)
    )
    assert (config.offload, config.realtime, config.probing) == (False, True, True)
    server, silent = config.peers
    assert (server.name, server.preshared_key, server.keepalive_s) == ("the server", SHARED, 25)
    assert server.allowed_ips == ("10.0.0.0/24", "fd00::/64", "192.0.2.7/32")
    assert server.endpoints == (Endpoint("2001:db8::1", 51820), Endpoint("vpn.example.com", 443))
    assert (silent.allowed_ips, silent.keepalive_s, silent.preshared_key) == ((), 0, None)


def test_a_silent_file_says_nothing() -> None:
    config, _ = parse(f"[Interface]\nPrivateKey = {key_text(ME)}\n[Peer]\nPublicKey={key_text(PEER)}", "wg0")
    assert (config.listen_port, config.mtu, config.table, config.fwmark) == (0, None, "auto", 0)
    assert config.peers[0].keepalive_s is None


def test_probing_is_on_unless_a_file_says_off() -> None:
    for value, meant in (("off", False), ("On", True)):
        assert parse(f"{KEYS}#@ Probing = {value}", "wg0")[0].probing is meant


def test_tables_that_every_machine_has_may_be_named() -> None:
    for name, number in (("main", 254), ("default", 253), ("0x10", 16)):
        assert parse(f"{KEYS}Table = {name}", "wg0")[0].table == number


def test_a_file_may_leave_its_key_to_a_hook() -> None:
    config, _ = parse("[Interface]\nPostUp = wg set %i private-key <(pass wg0)", "wg0")
    assert config.private_key is None


KEYS = f"[Interface]\nPrivateKey = {key_text(ME)}\n"
PEER_KEYS = f"{KEYS}[Peer]\nPublicKey = {key_text(PEER)}\n"


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("", 0, "no [Interface]"),
        ("PrivateKey = x", 1, "before the first section"),
        ("[Interface]\n", 1, "needs PrivateKey"),
        ("[Interface]\nPrivateKey = abc", 2, "44 characters"),
        ("[Host]", 1, "[Interface] or [Peer]"),
        (KEYS + KEYS, 3, "a second [Interface]"),
        (KEYS + "Adress = 10.0.0.1", 3, "did you mean Address?"),
        (KEYS + "hello", 3, "not `Key = value`"),
        (KEYS + "MTU =", 3, "no value"),
        (KEYS + "MTU = 90000", 3, "576 to 65535"),
        (KEYS + "ListenPort = 65536", 3, "a port from 0 to 65535"),
        (KEYS + "ListenPort = 1\nListenPort = 2", 4, "already given in line 3"),
        (KEYS + "Address = 10.0.0.300/24", 3, "no address such as"),
        (KEYS + "Table = main?", 3, "routing table's number"),
        (KEYS + "FwMark = x", 3, "32 bits"),
        (KEYS + "#@ Offlod = on", 3, "did you mean Offload?"),
        (KEYS + "#@ Proxy = http://p:3128", 3, "a tunnel from a file has neither"),
        (KEYS + "#@ Offload = yes", 3, "`on` or `off`"),
        (KEYS + "#@ Probing = never", 3, "`on` or `off`"),
        (KEYS + "Probing = off", 3, "has no key `Probing`"),
        (KEYS + "[Peer]\nAllowedIPs = 10.0.0.0/24", 3, "needs PublicKey"),
        (PEER_KEYS + "AllowedIPs = 10.0.0.0/33", 5, "no prefix such as"),
        (PEER_KEYS + "Endpoint = 192.0.2.1", 5, "no endpoint such as"),
        (PEER_KEYS + "Endpoint = 2001:db8::1:51820", 5, "brackets"),
        (PEER_KEYS + "Endpoint = 192.0.2.256:1", 5, "no IPv4 address"),
        (PEER_KEYS + "Endpoint = vpn example:1", 5, "no host name"),
        (PEER_KEYS + "PersistentKeepalive = never", 5, "`off` or a number"),
        (PEER_KEYS + f"[Peer]\nPublicKey = {key_text(PEER)}", 5, "already in line 3"),
        (
            PEER_KEYS + f"AllowedIPs=10.0.0.1/8\n[Peer]\nPublicKey={key_text(OTHER)}\nAllowedIPs=10.0.0.0/8",
            6,
            "also belongs to the peer in line 3",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(text: str, line: int, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "wg0", source="/etc/shore/wg0.conf")
    assert caught.value.line == line
    assert part in str(caught.value)


def test_our_own_key_as_a_peer_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="our own"):
        parse(PEER_KEYS, "wg0", public_key=lambda _: PEER)


@pytest.mark.parametrize("name", ["", "sixteen-letters-", "a/b", "..", "wg 0"])
def test_a_name_that_no_device_can_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a tunnel"):
        parse(PEER_KEYS, name)


@given(st.text() | st.lists(st.sampled_from(WHOLE.splitlines())).map("\n".join))
def test_no_text_ends_in_anything_but_a_configuration_or_one_sentence(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse(text, "wg0")


def test_gateways_are_asked_for_a_port_only_where_the_file_says_so() -> None:
    assert parse(f"{KEYS}#@ PortMapping = on", "wg0")[0].port_mapping
    assert not parse(KEYS, "wg0")[0].port_mapping
    with pytest.raises(ConfigError, match="`maybe` is not `on` or `off`"):
        parse(f"{KEYS}#@ PortMapping = maybe", "wg0")


def test_stun_servers_are_endpoints_and_none_by_default() -> None:
    config, _ = parse(
        f"{KEYS}#@ Stun = stun.example.com:3478, [2001:db8::1]:3478, stun.example.com:3478", "wg0"
    )
    assert config.stun == (Endpoint("stun.example.com", 3478), Endpoint("2001:db8::1", 3478))
    assert parse(KEYS, "wg0")[0].stun == ()
    with pytest.raises(ConfigError, match=r"`stun\.example\.com` is no endpoint such as"):
        parse(f"{KEYS}#@ Stun = stun.example.com", "wg0")

"""The configuration protocol of userspace WireGuard, as `wg` speaks it."""

import contextlib
import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shore.model.config import Endpoint, PeerConfig, TunnelConfig
from shore.model.facts import PeerCounters
from shore.wire.uapi import Refused, answer_get, apply_set, without

ME, ONE, TWO, SHARED = (bytes([number]) * 32 for number in (1, 2, 3, 4))
EMPTY = TunnelConfig("wg0", None)


def two_peers() -> TunnelConfig:
    return apply_set(
        EMPTY,
        f"private_key={ME.hex()}\nlisten_port=51820\nfwmark=7\n"
        f"public_key={ONE.hex()}\npreshared_key={SHARED.hex()}\nendpoint=[2001:db8::1]:1\n"
        "persistent_keepalive_interval=25\nallowed_ip=10.0.0.1/32\nallowed_ip=fd00::/64\n"
        f"public_key={TWO.hex()}\nendpoint=192.0.2.1:2\nallowed_ip=10.0.0.2/32\n",
    )


def test_a_set_builds_a_configuration() -> None:
    assert two_peers() == TunnelConfig(
        "wg0",
        ME,
        listen_port=51820,
        fwmark=7,
        peers=(
            PeerConfig(ONE, SHARED, ("10.0.0.1/32", "fd00::/64"), (Endpoint("2001:db8::1", 1),), 25),
            PeerConfig(TWO, None, ("10.0.0.2/32",), (Endpoint("192.0.2.1", 2),), 0),
        ),
    )


def test_a_set_changes_what_it_names_only() -> None:
    changed = apply_set(two_peers(), f"public_key={TWO.hex()}\nendpoint=192.0.2.9:9\n")
    assert changed.peers[1].endpoints == (Endpoint("192.0.2.9", 9),)
    assert (changed.peers[0], changed.peers[1].allowed_ips) == (two_peers().peers[0], ("10.0.0.2/32",))


def test_a_prefix_moves_to_the_last_peer_that_is_given_it() -> None:
    moved = apply_set(two_peers(), f"public_key={TWO.hex()}\nallowed_ip=10.0.0.1/32\n")
    assert [peer.allowed_ips for peer in moved.peers] == [("fd00::/64",), ("10.0.0.2/32", "10.0.0.1/32")]


def test_a_prefix_may_be_taken_away_by_itself() -> None:
    changed = apply_set(two_peers(), f"public_key={ONE.hex()}\nallowed_ip=-fd00::/64\n")
    assert changed.peers[0].allowed_ips == ("10.0.0.1/32",)


def test_peers_are_removed_replaced_and_only_updated() -> None:
    assert len(apply_set(two_peers(), f"public_key={ONE.hex()}\nremove=true\n").peers) == 1
    assert apply_set(two_peers(), "replace_peers=true\n").peers == ()
    new = f"public_key={SHARED.hex()}\nupdate_only=true\nallowed_ip=10.9.0.0/24\n"
    assert apply_set(two_peers(), new) == two_peers()
    replaced = apply_set(two_peers(), f"public_key={ONE.hex()}\nreplace_allowed_ips=true\nallowed_ip=::/0\n")
    assert replaced.peers[0].allowed_ips == ("::/0",)


def test_zeros_mean_no_key() -> None:
    zeros = "0" * 64
    assert apply_set(two_peers(), f"private_key={zeros}\n").private_key is None
    assert (
        apply_set(two_peers(), f"public_key={ONE.hex()}\npreshared_key={zeros}\n").peers[0].preshared_key
        is None
    )


def test_shores_own_keepalive_of_a_silent_file_outlives_a_syncconf() -> None:
    from_file = TunnelConfig("wg0", ME, peers=(PeerConfig(ONE, endpoints=(Endpoint("192.0.2.1", 1),)),))
    silent = f"public_key={ONE.hex()}\npersistent_keepalive_interval=0\n"
    assert apply_set(from_file, silent) == from_file
    asked = apply_set(from_file, f"public_key={ONE.hex()}\npersistent_keepalive_interval=9\n")
    assert asked.peers[0].keepalive_s == 9


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("hello", errno.EINVAL),
        ("colour=red", errno.EINVAL),
        ("listen_port=70000", errno.EINVAL),
        ("private_key=abc", errno.EINVAL),
        (f"public_key={ONE.hex()}\nprotocol_version=2", errno.EPROTONOSUPPORT),
        (f"public_key={ONE.hex()}\nendpoint=nowhere", errno.EINVAL),
        (f"public_key={ONE.hex()}\nallowed_ip=10.0.0.0/40", errno.EINVAL),
    ],
)
def test_what_is_wrong_is_refused_whole(line: str, number: int) -> None:
    with pytest.raises(Refused) as caught:
        apply_set(two_peers(), f"fwmark=9\n{line}\n")
    assert caught.value.number == number


def test_we_are_no_peer_of_ours() -> None:
    assert without(two_peers(), ONE).peers == two_peers().peers[1:]


def test_a_get_tells_what_wg_shows() -> None:
    config = two_peers()
    counters = PeerCounters(ONE, "198.51.100.1:5", 1, True, 1.0, 2.5, 2.5, 1.0, None, 11, 22, 1, {})
    said = answer_get(config, 51820, 7, [(config.peers[0], 25, counters), (config.peers[1], 0, None)], 1000.0)
    assert said == (
        f"private_key={ME.hex()}\nlisten_port=51820\nfwmark=7\n"
        f"public_key={ONE.hex()}\npreshared_key={SHARED.hex()}\nprotocol_version=1\n"
        "endpoint=198.51.100.1:5\nlast_handshake_time_sec=997\nlast_handshake_time_nsec=500000000\n"
        "tx_bytes=22\nrx_bytes=11\npersistent_keepalive_interval=25\n"
        "allowed_ip=10.0.0.1/32\nallowed_ip=fd00::/64\n"
        f"public_key={TWO.hex()}\npreshared_key={'0' * 64}\nprotocol_version=1\n"
        "endpoint=192.0.2.1:2\nlast_handshake_time_sec=0\nlast_handshake_time_nsec=0\n"
        "tx_bytes=0\nrx_bytes=0\npersistent_keepalive_interval=0\nallowed_ip=10.0.0.2/32\nerrno=0\n\n"
    )


KEYS = ("private_key", "public_key", "allowed_ip", "endpoint", "remove", "replace_peers", "fwmark", "x")


@given(st.text() | st.lists(st.tuples(st.sampled_from(KEYS), st.text(max_size=70))).map(
    lambda pairs: "".join(f"{key}={value}\n" for key, value in pairs)
))  # fmt: skip
def test_no_text_ends_in_anything_but_a_configuration_or_a_refusal(body: str) -> None:
    with contextlib.suppress(Refused):
        apply_set(two_peers(), body)

"""Which netmaps a node takes: each rule of docs/protocol/control.md, "Netmap", broken in turn."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.core.netmaps import (
    NETWORK,
    NOW,
    OWN_KEY,
    PEER_KEY,
    TRUST,
    netmap,
    own,
    peer,
    records,
    statement,
)

from shore.core.netmap import NotFitting, NotTaken, received, verified, version_of
from shore.model.filter import Ports, Rule
from shore.model.netmap import Filter, Held, Names, Netmap, Record, Relay, Server
from shore.wire import signing
from shore.wire.control import Delta, NetmapIs


def taken(held: Held) -> None:
    verified(held, TRUST, (), NOW)


def after(held: Held | None, message: NetmapIs | Delta) -> tuple[Held, Netmap]:
    known = None if held is None else (held, verified(held, TRUST, (), NOW))
    return received(message, known, TRUST, (), NOW)


def test_a_sound_netmap_is_taken_with_everything_in_it() -> None:
    relay = Relay("r1", bytes(32), ("192.0.2.1:443",))
    found = verified(netmap(peer(), relay), TRUST, (), NOW)
    assert (found.self.name, found.version) == ("hub", (1, 1))
    assert [each.name for each in found.peers] == ["laptop"]
    assert found.relays == (relay,)


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        (netmap(network=bytes(16)), "another network's"),
        (netmap(node=bytes(32)), "another node's"),
        (netmap(digest=bytes(32)), "not those that were signed"),
        (netmap(signer=Ed25519PrivateKey.from_private_bytes(bytes([9] * 32))), "does not name its signer"),
        (netmap(of=records(statements=(statement(until=NOW - 1),))), "does not name its signer"),
        (netmap(of=records(statements=(statement("server"),))), "does not name its signer"),
        (Held(msgspec.structs.replace(netmap().head, signature=bytes(64)), records()), "signature is wrong"),
    ],
)
def test_who_signed_what_for_whom_is_checked(held: Held, reason: str) -> None:
    with pytest.raises(NotTaken, match=reason):
        taken(held)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (peer(addresses=("10.0.0.1",)), "outside of the mesh's ranges"),
        (peer(addresses=("fd00::1",)), "outside of the mesh's ranges"),
        (peer(addresses=("0.0.0.0/0",)), "is no address"),
        (peer(addresses=()), "has no address"),
        (peer(addresses=("100.64.0.1",)), "address 100.64.0.1 is there twice"),
        (peer(name="hub"), "name hub is there twice"),
        (peer(name="Laptop"), "is no name of a node"),
        (peer(name="a.b"), "is no name of a node"),
        (peer(name="x" * 64), "is no name of a node"),
        (peer(user="\x1b[31mroot"), "cannot be shown"),
        (peer(tags=("tag:\n",)), "cannot be shown"),
        (peer(prefixes=("everything",)), "is no prefix"),
        (peer(prefixes=("10.0.0.0/8", "10.0.0.0/255.0.0.0")), "prefix 10.0.0.0/8 is there twice"),
        (peer(node_key=OWN_KEY), "key .* is there twice"),
        (own(node_key=b"short"), "is no key"),
        (Filter((Rule(("100.64.0.0/10",), ("nowhere",), (Ports(),)),)), "is no prefix"),
        (Filter((Rule((), (), (Ports("tcp", 9, 8),)),)), "are no ports"),
        (Names("example.com", "fd12:3456:789a::/48"), "no suffix"),
        (Names("shore.internal", "2001:db8::/48"), "no unique local"),
        (Names("shore.internal", "fd12::/16"), "no unique local"),
        (Relay("r1", b"pin", ()), "is no pin"),
        (Server(("\x07",), (statement(),)), "cannot be shown"),
    ],
)
def test_records_are_checked_whoever_signed_them(record: Record, reason: str) -> None:
    with pytest.raises(NotTaken, match=reason):
        taken(netmap(record))


def test_a_record_under_an_id_of_another_is_refused() -> None:
    for name in ("self", f"peer:{OWN_KEY.hex()}"):
        with pytest.raises(NotTaken, match="is of another"):
            taken(netmap(of=records() | {name: msgspec.msgpack.encode(peer())}))


def test_records_that_came_after_us_are_left_out_and_still_signed() -> None:
    taken(netmap(of=records() | {"weather": b"\xc0"}))


def test_a_netmap_without_one_of_its_records_is_refused() -> None:
    for name in ("self", "server", "filter", "names"):
        fewer = {key: record for key, record in records().items() if key != name}
        with pytest.raises(NotTaken, match="lacks a record"):
            taken(netmap(of=fewer))


@pytest.mark.parametrize("version", [(1, 1), (1, 0), (0, 9)])
def test_a_version_never_falls_nor_stays(version: tuple[int, int]) -> None:
    held = netmap()
    lower = netmap(peer(), version=version)
    with pytest.raises(NotTaken, match=r"is not above 1\.1"):
        after(held, NetmapIs(lower.head, lower.records))


def test_a_higher_epoch_is_taken_whatever_its_version() -> None:
    held, restored = netmap(version=(1, 9)), netmap(version=(2, 1))
    took, found = after(held, NetmapIs(restored.head, restored.records))
    assert (took, found.version) == (restored, (2, 1))


def test_a_delta_changes_and_removes_records() -> None:
    held, newer = netmap(peer()), netmap(own(name="renamed"), version=(1, 2))
    delta = Delta(
        signing.digest(held.records),
        newer.head,
        {"self": newer.records["self"]},
        (f"peer:{PEER_KEY.hex()}",),
    )
    took, found = after(held, delta)
    assert took == newer
    assert (found.self.name, found.peers) == ("renamed", ())


def test_a_delta_to_another_netmap_asks_for_the_whole() -> None:
    held, newer = netmap(peer()), netmap(version=(1, 2))
    for mine in (held, None):
        with pytest.raises(NotFitting):
            after(mine, Delta(bytes(32), newer.head, {}))


def test_a_delta_that_hides_a_change_is_refused() -> None:
    held, newer = netmap(peer()), netmap(version=(1, 2))
    with pytest.raises(NotTaken, match="not those that were signed"):
        after(held, Delta(signing.digest(held.records), newer.head, {}))


def test_what_is_on_disk_outlives_the_statement_that_vouched_for_it() -> None:
    held = netmap(of=records(statements=(statement(until=NOW + 1),)))
    assert verified(held, TRUST, (), None).head.network == NETWORK


def test_the_networks_range_stays_what_it_was() -> None:
    held = netmap()
    moved = netmap(
        own(addresses=("100.64.0.1",)), Names("shore.internal", "fd99:3456:789a::/48"), version=(1, 2)
    )
    with pytest.raises(NotTaken, match="range moved"):
        after(held, NetmapIs(moved.head, moved.records))


def test_the_server_is_told_which_version_is_held() -> None:
    assert version_of(None) == (0, 0)
    assert version_of(netmap(version=(3, 7))) == (3, 7)

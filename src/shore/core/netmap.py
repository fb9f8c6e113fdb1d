"""Which netmaps a node takes (docs/protocol/control.md, "Netmap").

A server may be wrong, old, restored from a backup or in other hands; the netmap that is in force stays until
one comes that passes every check here. Records are hashed as they came and kept as they came, so what is on
disk proves itself again after a restart. A check that fails is one sentence, and nothing has changed.

A statement that was valid when a netmap was taken has done its work: what is on disk is judged by the time
at which it was issued, so that a node starts though its server has been gone for longer than that.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping

import msgspec

from shore.model.filter import Rule
from shore.model.netmap import (
    NODE_RANGE_V4,
    Filter,
    Head,
    Held,
    Names,
    Netmap,
    Peer,
    Record,
    Relay,
    Self,
    Server,
    Signed,
    Version,
)
from shore.wire import signing
from shore.wire.control import Delta, NetmapIs

KEY_LENGTH = 32
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
ULA = ipaddress.IPv6Network("fd00::/8")
ULA_LENGTH = 48
SUFFIX = ".internal"
NONE: Version = (0, 0)

_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
_v4 = ipaddress.IPv4Network(NODE_RANGE_V4)


class NotTaken(Exception):
    """Why a netmap was refused. One sentence."""


class NotFitting(NotTaken):
    """A delta to something else than what we hold: the whole is to be asked for."""


class Trust(msgspec.Struct, frozen=True):
    """Whose netmaps this node takes: its network, the root key of it, and its own machine key."""

    network: bytes
    root: bytes
    machine_key: bytes


def received(
    message: NetmapIs | Delta,
    known: tuple[Held, Netmap] | None,
    trust: Trust,
    statements: Iterable[Signed],
    time: float,
) -> tuple[Held, Netmap]:
    """What a message makes of what we hold. Raises NotTaken; then nothing has changed.

    `known` is what we hold, as it came and verified; `statements` are those that the server showed beside its
    netmap; `time` is in Unix seconds.
    """
    held, before = (None, None) if known is None else known
    came = Held(message.head, message.records) if isinstance(message, NetmapIs) else _joined(message, held)
    netmap = verified(came, trust, statements, time)
    if before is not None:
        if netmap.version <= before.version:
            raise NotTaken(f"version {_words(netmap.version)} is not above {_words(before.version)}")
        if netmap.names.range_v6 != before.names.range_v6:
            raise NotTaken(f"the network's range moved from {before.names.range_v6}")
    return came, netmap


def verified(held: Held, trust: Trust, statements: Iterable[Signed], time: float | None) -> Netmap:
    """Check everything that can be said of one netmap. Raises NotTaken.

    `time` None: judge its signer by the time at which it was issued.
    """
    try:
        head = signing.unseal(held.head, signing.NETMAP, Head)
    except signing.NotSigned as error:
        raise NotTaken(str(error)) from None
    if head.network != trust.network:
        raise NotTaken("it is another network's")
    if head.node != trust.machine_key:
        raise NotTaken("it is another node's")
    if head.digest != signing.digest(held.records):
        raise NotTaken("its records are not those that were signed")
    netmap = _netmap(head, {name: _record(name, content) for name, content in held.records.items()})
    judged_at = head.issued_at if time is None else time
    shown = (*statements, *netmap.server.statements)
    if held.head.by not in signing.named_keys(shown, trust.root, trust.network, "netmap", judged_at):
        raise NotTaken("the root key does not name its signer")
    _check(netmap)
    return netmap


def version_of(held: Held | None) -> Version:
    """What a server is told that we hold."""
    if held is None:
        return NONE
    head = msgspec.msgpack.decode(held.head.content, type=Head)
    return head.epoch, head.version


def _joined(delta: Delta, held: Held | None) -> Held:
    if held is None or delta.from_digest != signing.digest(held.records):
        raise NotFitting("it is a change to another netmap than ours")
    kept = {name: record for name, record in held.records.items() if name not in delta.removed}
    return Held(delta.head, kept | delta.changed)


def _record(name: str, content: bytes) -> Record | None:
    """None for kinds of records that came after us."""
    kind = name.partition(":")[0]
    if kind not in ("self", "peer", "relay", "server", "filter", "names"):
        return None
    try:
        record = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotTaken(f"the record {_safe(name)} cannot be read: {error}") from None
    if record.__struct_config__.tag != kind:
        raise NotTaken(f"the record {_safe(name)} is of another kind")
    if isinstance(record, Peer) and name != f"peer:{record.node_key.hex()}":
        raise NotTaken(f"the record {_safe(name)} is of another peer")
    return record


def _netmap(head: Head, records: Mapping[str, Record | None]) -> Netmap:
    ours, server = records.get("self"), records.get("server")
    rules, names = records.get("filter"), records.get("names")
    if not (
        isinstance(ours, Self)
        and isinstance(server, Server)
        and isinstance(rules, Filter)
        and isinstance(names, Names)
    ):
        raise NotTaken("it lacks a record that every netmap has")
    known = records.values()
    peers = tuple(record for record in known if isinstance(record, Peer))
    relays = tuple(record for record in known if isinstance(record, Relay))
    return Netmap(head, ours, peers, relays, server, rules, names)


def _check(netmap: Netmap) -> None:
    _check_names(netmap.names)
    members: list[Self | Peer] = [netmap.self, *netmap.peers]
    for member in members:
        if len(member.node_key) != KEY_LENGTH:
            raise NotTaken(f"the key of {_safe(member.name)} is no key")
        if not LABEL.match(member.name):
            raise NotTaken(f"`{_safe(member.name)}` is no name of a node")
        _check_words(member.user, *member.tags)
        _check_addresses(member, ipaddress.IPv6Network(netmap.names.range_v6))
    _once("name", [member.name for member in members])
    _once("key", [member.node_key.hex() for member in members])
    _once("address", [str(_address(text)) for member in members for text in member.addresses])
    _once("prefix", [str(ipaddress.ip_network(text)) for member in members for text in member.prefixes])
    _once("relay", [relay.id for relay in netmap.relays])
    for relay in netmap.relays:
        _check_words(relay.id, *relay.addresses, *relay.udp_addresses)
        if len(relay.pin) != KEY_LENGTH:
            raise NotTaken(f"the pin of relay {relay.id} is no pin")
    _check_words(*netmap.server.addresses)
    for rule in netmap.filter.rules:
        _check_rule(rule)


def _check_names(names: Names) -> None:
    labels = names.suffix.split(".")
    if not names.suffix.endswith(SUFFIX) or not all(LABEL.match(label) for label in labels):
        raise NotTaken(f"`{_safe(names.suffix)}` is no suffix for names of a mesh")
    try:
        network = ipaddress.IPv6Network(names.range_v6)
    except ValueError:
        raise NotTaken(f"`{_safe(names.range_v6)}` is no range of addresses") from None
    if network.prefixlen != ULA_LENGTH or not network.subnet_of(ULA):
        raise NotTaken(f"{network} is no unique local /{ULA_LENGTH}")


def _check_addresses(member: Self | Peer, range_v6: ipaddress.IPv6Network) -> None:
    if not member.addresses:
        raise NotTaken(f"{member.name} has no address")
    for text in member.addresses:
        address = _address(text)
        inside = address in (_v4 if address.version == 4 else range_v6)
        if not inside:
            raise NotTaken(f"{address} of {member.name} is outside of the mesh's ranges")
    for prefix in member.prefixes:
        _check_prefix(prefix)


def _check_rule(rule: Rule) -> None:
    for prefix in (*rule.sources, *rule.destinations):
        _check_prefix(prefix)
    for ports in rule.ports:
        if not 0 <= ports.first <= ports.last <= 65535:
            raise NotTaken(f"{ports.first} to {ports.last} are no ports")


def _check_prefix(text: str) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise NotTaken(f"`{_safe(text)}` is no prefix") from None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise NotTaken(f"`{_safe(text)}` is no address") from None


def _check_words(*words: str) -> None:
    for word in words:
        if not word.isprintable():
            raise NotTaken(f"`{_safe(word)}` cannot be shown to people")


def _once(what: str, values: list[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise NotTaken(f"the {what} {value} is there twice")
        seen.add(value)


def _words(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def _safe(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:80])

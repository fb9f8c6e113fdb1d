"""The configuration protocol of userspace WireGuard (wireguard.com/xplatform, "Configuration Protocol").

    get=1\\n\\n                          private_key=HEX\\n ... errno=0\\n\\n
    set=1\\nkey=value\\n ...\\n\\n          errno=N\\n\\n

Lines before the first `public_key` concern the interface, those after it the peer it names. A `set` is taken
whole or not at all. A prefix that another peer had moves to the last one that is given it.
"""

import errno
import ipaddress
from collections.abc import Iterable

import msgspec

from shore.model.config import Endpoint, PeerConfig, TunnelConfig
from shore.model.facts import PeerCounters
from shore.wire.wgconf import parse_endpoint, parse_prefix

NO_KEY = bytes(32)
PROTOCOL_VERSION = 1


class Refused(Exception):
    """The `set` is not taken; `number` is the errno that says why."""

    def __init__(self, reason: str, number: int = errno.EINVAL) -> None:
        super().__init__(reason)
        self.number = number


def answer_get(
    config: TunnelConfig,
    listen_port: int,
    fwmark: int,
    peers: Iterable[tuple[PeerConfig, int, PeerCounters | None]],
    now: float,
) -> str:
    """Everything about the tunnel; `peers` with the keepalive in force; `now` in Unix seconds."""
    lines = []
    if config.private_key is not None:
        lines.append(f"private_key={config.private_key.hex()}")
    lines.append(f"listen_port={listen_port}")
    if fwmark:
        lines.append(f"fwmark={fwmark}")
    for peer, keepalive_s, counters in peers:
        lines += _peer_lines(peer, keepalive_s, counters, now)
    return "\n".join(lines) + "\nerrno=0\n\n"


def _peer_lines(peer: PeerConfig, keepalive_s: int, counters: PeerCounters | None, now: float) -> list[str]:
    age = counters.last_handshake_age_s if counters else None
    at = 0.0 if age is None else now - age
    endpoint = counters.endpoint if counters else None
    if endpoint is None and peer.endpoints:
        endpoint = _literal(peer.endpoints[0])
    lines = [f"public_key={peer.public_key.hex()}", f"preshared_key={(peer.preshared_key or NO_KEY).hex()}"]
    lines.append(f"protocol_version={PROTOCOL_VERSION}")
    if endpoint is not None:
        lines.append(f"endpoint={endpoint}")
    lines += [f"last_handshake_time_sec={int(at)}", f"last_handshake_time_nsec={int(at % 1 * 1e9)}"]
    lines += [
        f"tx_bytes={counters.tx_bytes if counters else 0}",
        f"rx_bytes={counters.rx_bytes if counters else 0}",
    ]
    lines.append(f"persistent_keepalive_interval={keepalive_s}")
    return lines + [f"allowed_ip={prefix}" for prefix in peer.allowed_ips]


def answer_set(number: int) -> str:
    """What became of a `set`."""
    return f"errno={number}\n\n"


def apply_set(config: TunnelConfig, body: str) -> TunnelConfig:
    """The configuration after a `set`. Raises Refused."""
    builder = _Builder(config)
    for line in body.splitlines():
        key, equals, value = line.partition("=")
        if not equals:
            raise Refused(f"`{line}` is not key=value")
        try:
            builder.take(key, value)
        except ValueError as error:
            raise Refused(f"{key}: {error}") from None
    return builder.build()


def without(config: TunnelConfig, own_key: bytes) -> TunnelConfig:
    """Leave out a peer that is ourselves, as the kernel does it."""
    peers = tuple(peer for peer in config.peers if peer.public_key != own_key)
    return msgspec.structs.replace(config, peers=peers)


class _Builder:
    """A configuration under change, and the peer that the next lines are about.

    Prefixes are kept apart while it changes, with their owners: a `set` may have a hundred thousand.
    """

    def __init__(self, config: TunnelConfig) -> None:
        self._config = config
        self._peers = {peer.public_key: peer for peer in config.peers}
        self._allowed = {peer.public_key: dict.fromkeys(peer.allowed_ips) for peer in config.peers}
        self._owners = {prefix: peer.public_key for peer in config.peers for prefix in peer.allowed_ips}
        self._key: bytes | None = None
        self._skipped = False
        self._fresh = False

    def build(self) -> TunnelConfig:
        peers = tuple(
            msgspec.structs.replace(peer, allowed_ips=tuple(self._allowed[key]))
            for key, peer in self._peers.items()
        )
        return msgspec.structs.replace(self._config, peers=peers)

    def take(self, key: str, value: str) -> None:
        if key == "public_key":
            self._begin(_key(value))
        elif self._key is None:
            self._interface(key, value)
        elif not self._skipped:
            self._peer(self._key, key, value)

    def _begin(self, key: bytes) -> None:
        self._key, self._skipped = key, False
        self._fresh = key not in self._peers
        if self._fresh:
            # Over this protocol a peer that says nothing of a keepalive has none.
            self._peers[key] = PeerConfig(key, keepalive_s=0)
            self._allowed[key] = {}

    def _interface(self, key: str, value: str) -> None:
        match key:
            case "private_key":
                private = _key(value)
                self._change(private_key=None if private == NO_KEY else private)
            case "listen_port":
                self._change(listen_port=_number(value, 65535))
            case "fwmark":
                self._change(fwmark=_number(value or "0", (1 << 32) - 1))
            case "replace_peers":
                if value == "true":
                    for peer in tuple(self._peers):
                        self._remove(peer)
            case _:
                raise Refused(f"`{key}` is no key of the interface")

    def _change(self, **values: object) -> None:
        self._config = msgspec.structs.replace(self._config, **values)

    def _peer(self, peer: bytes, key: str, value: str) -> None:
        match key:
            case "allowed_ip":
                self._allow(peer, value)
            case "remove" if value == "true":
                self._remove(peer)
                self._skipped = True
            case "update_only" if value == "true":
                if self._fresh:
                    self._remove(peer)
                    self._skipped = True
            case "preshared_key":
                shared = _key(value)
                self._replace(peer, preshared_key=None if shared == NO_KEY else shared)
            case "endpoint":
                self._replace(peer, endpoints=(parse_endpoint(value),))
            case "persistent_keepalive_interval":
                self._keepalive(peer, _number(value, 65535))
            case "replace_allowed_ips" if value == "true":
                self._disown(peer)
            case "protocol_version":
                if value != str(PROTOCOL_VERSION):
                    raise Refused(f"protocol version {value}", errno.EPROTONOSUPPORT)
            case "remove" | "update_only" | "replace_allowed_ips":
                return
            case _:
                raise Refused(f"`{key}` is no key of a peer")

    def _keepalive(self, peer: bytes, seconds: int) -> None:
        # `wg syncconf` sends 0 for a file that is silent: what Shore chose for that file stays.
        if seconds or self._peers[peer].keepalive_s is not None:
            self._replace(peer, keepalive_s=seconds)

    def _allow(self, peer: bytes, value: str) -> None:
        prefix = parse_prefix(value.lstrip("+-"))
        owner = self._owners.get(prefix)
        if value.startswith("-"):
            if owner == peer:
                del self._owners[prefix], self._allowed[peer][prefix]
            return
        if owner is not None and owner != peer:
            del self._allowed[owner][prefix]
        self._owners[prefix] = peer
        self._allowed[peer][prefix] = None

    def _disown(self, peer: bytes) -> None:
        for prefix in self._allowed[peer]:
            del self._owners[prefix]
        self._allowed[peer] = {}

    def _remove(self, peer: bytes) -> None:
        self._disown(peer)
        del self._peers[peer], self._allowed[peer]

    def _replace(self, peer: bytes, **values: object) -> None:
        self._peers[peer] = msgspec.structs.replace(self._peers[peer], **values)


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != len(NO_KEY):
        raise ValueError("a key is 64 hexadecimal digits")
    return key


def _number(text: str, most: int) -> int:
    if not text.isdecimal() or int(text) > most:
        raise ValueError(f"`{text}` is not a number from 0 to {most}")
    return int(text)


def _literal(endpoint: Endpoint) -> str | None:
    """Only addresses may be told: `wg` does not know names here."""
    try:
        address = ipaddress.ip_address(endpoint.host)
    except ValueError:
        return None
    return f"[{address}]:{endpoint.port}" if address.version == 6 else f"{address}:{endpoint.port}"

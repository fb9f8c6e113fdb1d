"""One tunnel's configuration, as `wg0.conf` (or `wg set`) states it, after validation."""

from typing import Literal

import msgspec

from shore.model.desired import Candidate, Redundancy
from shore.model.filter import Rule
from shore.model.netmap import Signed
from shore.model.zone import Zone


class Endpoint(msgspec.Struct, frozen=True):
    """A host (address literal without brackets, or a name) and a UDP port."""

    host: str
    port: int


class Uplink(msgspec.Struct, frozen=True):
    """A local interface that leads to the underlay; a metered one is a standby only."""

    name: str
    metered: bool = False


class RelayConfig(msgspec.Struct, frozen=True):
    """A relay that we may use. `pin` None: its certificate is judged by the system's CAs.

    `addresses` (TLS) and `udp_addresses` are `host:port`. `admission` is an `Admission` as signed, for the
    admission key of the tunnel.
    """

    id: str
    pin: bytes | None
    addresses: tuple[str, ...]
    udp_addresses: tuple[str, ...] = ()
    admission: Signed | None = None


class PeerConfig(msgspec.Struct, frozen=True):
    """A `[Peer]` section, or a netmap's peer.

    `keepalive_s`: None where the file is silent, 0 where it says off. `candidates` and `relays` (ids, home
    relay first) are what a netmap says of where it may be.
    """

    public_key: bytes
    preshared_key: bytes | None = None
    allowed_ips: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    keepalive_s: int | None = None
    name: str | None = None
    redundancy: Redundancy = "auto"
    candidates: tuple[Candidate, ...] = ()
    relays: tuple[str, ...] = ()


class Hooks(msgspec.Struct, frozen=True):
    """Shell commands of wg-quick, in order; `%i` not yet replaced."""

    pre_up: tuple[str, ...] = ()
    post_up: tuple[str, ...] = ()
    pre_down: tuple[str, ...] = ()
    post_down: tuple[str, ...] = ()


class TunnelConfig(msgspec.Struct, frozen=True):
    """A whole file. `table` is `auto`, `off` or a routing table's number.

    `addresses` and prefixes are normalised strings (`10.0.0.1/24`, host bits kept for addresses,
    cleared for allowed IPs). `listen_port` 0 means any; `fwmark` 0 means none; `mtu` None means
    Shore's choice. `host_managed` is False under `shore-wg`, where the caller owns the host. Without
    `uplinks`, those are the interfaces with a default route. `stun` names servers of RFC 8489;
    `port_mapping` asks the gateways for the listen port.
    Of a mesh are its suffix for names (`mesh`; None: the peers are a file's), the `zone` that it answers for,
    prefixes behind this node that it leads to (`advertised`, of which the network lets `approved`), `relays`,
    the `admission_key` (Ed25519 seed) that their admissions name, and the `filter`: None lets in what allowed
    IPs let in, as a `wg0.conf` does. `proxy` is the URL by which relays are reached; None: what the
    environment says.
    """

    name: str
    private_key: bytes | None
    addresses: tuple[str, ...] = ()
    listen_port: int = 0
    mtu: int | None = None
    dns_servers: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    table: Literal["auto", "off"] | int = "auto"
    fwmark: int = 0
    hooks: Hooks = Hooks()
    peers: tuple[PeerConfig, ...] = ()
    host_managed: bool = True
    offload: bool = True
    realtime: bool = True
    probing: bool = True
    overhear: bool = True
    uplinks: tuple[Uplink, ...] = ()
    stun: tuple[Endpoint, ...] = ()
    port_mapping: bool = False
    relays: tuple[RelayConfig, ...] = ()
    admission_key: bytes | None = None
    proxy: str | None = None
    filter: tuple[Rule, ...] | None = None
    mesh: str | None = None
    zone: Zone | None = None
    advertised: tuple[str, ...] = ()
    approved: tuple[str, ...] = ()
    source: str | None = None

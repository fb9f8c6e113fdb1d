"""The contract of `shore status --json`, schema 1: fields may be added, never renamed."""

from typing import Literal

import msgspec

from shore.model.desired import LinkState, PathKind, PathState, Redundancy

TunnelState = Literal["starting", "up", "degraded", "stopping"]


class PathStatus(msgspec.Struct, frozen=True):
    """One path to a Shore peer. Losses are shares from 0 to 1; what is not known yet is None.

    `uplink` and `local` are where its packets leave this machine, as the kernel routes them now; `observed`
    is what the peer sees them come from. Where they go by a relay, `remote` is the relay's address, and the
    relay is who observes. `since_s` is how long the path has been in its state; `path_mtu` is
    the largest datagram, IP header included, that was proved. `cost_ms` is what `core.score` compares. A path
    that died is not taken for `hold_s` more; one that was left for its loss is believed to cost what it did
    for `avoided_s` more. `usual_rtt_ms` is the round trip of the last minutes' best times.
    """

    id: int | None
    kind: PathKind
    family: Literal[4, 6]
    uplink: str | None
    local: str | None
    remote: str
    primary: bool
    state: PathState
    rtt_ms: float | None
    jitter_ms: float | None
    loss_tx: float | None
    loss_rx: float | None
    path_mtu: int | None
    since_s: float
    observed: str | None = None
    proof_age_s: float | None = None
    metered: bool = False
    cost_ms: float | None = None
    hold_s: float | None = None
    avoided_s: float | None = None
    usual_rtt_ms: float | None = None


class LinkStatus(msgspec.Struct, frozen=True):
    """A long-lived stream to the coordination server or to a relay; `since_s`: for how long it is so.

    `metered`: it leaves by an uplink that costs money, so paths by it are standbys.
    """

    kind: Literal["server", "relay"]
    address: str
    state: LinkState
    rtt_ms: float | None
    since_s: float
    metered: bool = False


class LaneStatus(msgspec.Struct, frozen=True):
    """One lane that packets can take: its session's age in seconds, and the messages sent on it."""

    id: int
    session_age_s: float
    messages: int


class PeerStatus(msgspec.Struct, frozen=True):
    """One peer. Ages in seconds, None if never; `connected` as DESIGN.md §4 defines it.

    `primary_since_s`: for how long its packets have taken the path that they take. `addresses` are those by
    which a mesh knows it; a peer of a file has none. `by_relay`: `endpoint` is where a relay is.
    """

    public_key: str
    endpoint: str | None
    connected: bool
    last_received_age_s: float | None
    last_handshake_age_s: float | None
    session_age_s: float | None
    handshake_rtt_ms: float | None
    rx_bytes: int
    tx_bytes: int
    keepalive_s: int
    keepalive_reason: str
    allowed_ips: tuple[str, ...]
    drops: dict[str, int]
    recovery: str | None = None
    name: str | None = None
    probed: bool = False
    redundancy: Redundancy = "auto"
    switches: int = 0
    paths: tuple[PathStatus, ...] = ()
    primary_since_s: float | None = None
    addresses: tuple[str, ...] = ()
    lanes: tuple[LaneStatus, ...] = ()
    by_relay: bool = False


class TunnelStatus(msgspec.Struct, frozen=True):
    """One tunnel: one interface with its brain and data plane.

    `clock_behind_s`: by how much our handshakes are older than those that peers may have taken from this key
    before; None if they are not.
    """

    name: str
    state: TunnelState
    public_key: str | None
    listen_port: int
    fwmark: int
    mtu: int
    brain_pid: int
    dataplane_pid: int | None
    dataplane_restarts: int
    offload: dict[str, object]
    drops: dict[str, int]
    notes: tuple[str, ...]
    peers: tuple[PeerStatus, ...]
    clock_behind_s: float | None = None
    links: tuple[LinkStatus, ...] = ()


class Status(msgspec.Struct, frozen=True):
    """Everything `shore status --json` prints."""

    tunnels: tuple[TunnelStatus, ...]
    schema: int = 1

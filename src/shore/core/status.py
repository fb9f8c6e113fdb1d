"""What `status` says, from the heart's knowledge and the plane's last counters."""

from collections.abc import Callable

from shore.core import timers
from shore.core.candidates import family_of
from shore.core.node import Node
from shore.core.peer import PeerRecord
from shore.core.reconcile import fwmark_of, is_a_members
from shore.core.relays import is_place
from shore.model.facts import PathCounters, PeerCounters
from shore.model.keys import key_text
from shore.model.status import (
    LaneStatus,
    LinkStatus,
    PathStatus,
    PeerStatus,
    TunnelState,
    TunnelStatus,
)

# The local address and port of what a socket sends to a remote endpoint, as far as it is known.
LocalOf = Callable[[int, str], str | None]


def tunnel_status(
    node: Node,
    now: float,
    *,
    brain_pid: int,
    public_key: bytes | None,
    notes: tuple[str, ...],
    local_of: LocalOf = lambda _socket, _remote: None,
) -> TunnelStatus:
    """One tunnel; a peer is connected only if fresh counters say so. Needs a configured node."""
    config = node.config
    if config is None:
        raise ValueError("status of a node without configuration")
    metered = node.underlay.metered(config)
    state: TunnelState = "up" if node.plane.pid is not None else "degraded"
    return TunnelStatus(
        name=config.name,
        state=state,
        public_key=key_text(public_key) if public_key else None,
        listen_port=node.listen_port,
        fwmark=fwmark_of(config),
        mtu=node.mtus.device(config),
        brain_pid=brain_pid,
        dataplane_pid=node.plane.pid,
        dataplane_restarts=node.plane.restarts,
        offload=node.answer.offload if node.answer else {},
        drops=node.answer.drops if node.answer else {},
        notes=notes,
        peers=tuple(_peer(node, key, node.counters.get(key), now, local_of) for key in node.peers),
        clock_behind_s=node.stamps.behind_s(now) or None,
        links=tuple(
            LinkStatus(
                "relay",
                node.relays.address(entry.id),
                entry.state,
                entry.rtt_ms,
                entry.since_s,
                entry.id in metered,
            )
            for entry in (node.answer.links if node.answer else ())
            if entry.id in node.relays.links
        ),
    )


def _peer(node: Node, key: bytes, counters: PeerCounters | None, now: float, local_of: LocalOf) -> PeerStatus:
    record = node.peers[key]
    fresh = now - node.counters_at < timers.COUNTERS_FRESH and node.plane.pid is not None
    paths = counters.paths if counters and counters.probed else ()
    lanes = counters.lanes if counters else ()
    keepalive_s, reason = _keepalive(node, record, counters)
    endpoint, by_relay = _endpoint(node, counters)
    return PeerStatus(
        public_key=key_text(key),
        endpoint=endpoint,
        by_relay=by_relay,
        connected=bool(fresh and counters and counters.connected),
        last_received_age_s=counters.last_received_age_s if counters else None,
        last_handshake_age_s=counters.last_handshake_age_s if counters else None,
        session_age_s=counters.session_age_s if counters else None,
        handshake_rtt_ms=counters.handshake_rtt_ms if counters else None,
        rx_bytes=counters.rx_bytes if counters else 0,
        tx_bytes=counters.tx_bytes if counters else 0,
        keepalive_s=keepalive_s,
        keepalive_reason=reason,
        allowed_ips=record.config.allowed_ips,
        drops=counters.drops if counters else {},
        recovery=record.recovery,
        name=record.config.name,
        probed=bool(counters and counters.probed),
        redundancy=record.config.redundancy,
        switches=counters.switches if counters else 0,
        paths=tuple(_path(node, record, path, now, local_of) for path in paths),
        primary_since_s=counters.primary_age_s if counters and counters.endpoint else None,
        addresses=_addresses(node, record),
        lanes=tuple(LaneStatus(lane.id, lane.session_age_s, lane.messages) for lane in lanes),
    )


def _endpoint(node: Node, counters: PeerCounters | None) -> tuple[str | None, bool]:
    """Where packets go now, and whether that is a relay."""
    endpoint = counters.endpoint if counters else None
    if counters is None or endpoint is None or counters.socket is None or not is_place(endpoint):
        return endpoint, False
    return node.relays.address(counters.socket), True


def _addresses(node: Node, record: PeerRecord) -> tuple[str, ...]:
    if node.config is None or node.config.zone is None:
        return ()
    range_v6 = node.config.zone.range_v6
    own = (prefix for prefix in record.config.allowed_ips if is_a_members(prefix, range_v6))
    return tuple(prefix.partition("/")[0] for prefix in own)


def _keepalive(node: Node, record: PeerRecord, counters: PeerCounters | None) -> tuple[int, str]:
    primary = next((path for path in counters.paths if path.primary), None) if counters else None
    if primary is None or not record.acquainted:
        return record.keepalive()
    return record.quiet_s(node.keepalive, (primary.socket, primary.remote))


def _path(node: Node, record: PeerRecord, path: PathCounters, now: float, local_of: LocalOf) -> PathStatus:
    place = (path.socket, path.remote)
    score = next((score for score in record.judge.latest if (score.socket, score.remote) == place), None)
    until = None if score is None else score.avoided_until
    socket, endpoint = node.relays.underlay(place)
    local = local_of(socket, endpoint)
    bound = node.underlay.sockets.uplink_of(socket)
    by_relay = is_place(path.remote)
    remote = node.relays.address(path.socket) if by_relay else path.remote
    return PathStatus(
        id=path.id,
        kind=path.kind,
        family=6 if family_of(local or remote) == 6 else 4,
        uplink=bound or node.underlay.uplink_at(local),
        local=local,
        remote=remote,
        primary=path.primary,
        state=path.state,
        rtt_ms=path.rtt_ms,
        jitter_ms=path.jitter_ms,
        loss_tx=path.loss_tx,
        loss_rx=path.loss_rx,
        path_mtu=record.sizes.mtu(place),
        since_s=path.state_age_s,
        observed=node.relays.observed(path.socket) if by_relay else path.observed,
        proof_age_s=path.proof_age_s,
        metered=node.config is not None and path.socket in node.underlay.metered(node.config),
        cost_ms=None if score is None else score.cost_ms,
        hold_s=path.hold_s,
        avoided_s=None if until is None or until <= now else until - now,
        usual_rtt_ms=None if score is None else score.usual_ms,
    )

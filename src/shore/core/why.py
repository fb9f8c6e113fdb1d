"""Why a peer's packets take the path that they take, in sentences.

Everything said follows from the status and the history of the peer, and nothing is said that they do not
show: what is not known is called unknown. One suggestion is made, of the worst fault there is, and none where
nothing is wrong.
"""

from shore.core import timers
from shore.core.changes import CAUSES
from shore.core.score import MARGIN_MS, MARGIN_SHARE
from shore.model.explanation import Explanation, OtherPath
from shore.model.history import Change
from shore.model.status import PathStatus, PeerStatus, TunnelStatus

LAST_CHANGES = 5
LOSSY = 0.05
RESTLESS_CHANGES, RESTLESS_FOR = 6, 600.0
# A change is the one that began this, if it is no further from it.
SAME_MOMENT = 3.0


def explain(tunnel: TunnelStatus, peer: PeerStatus, changes: tuple[Change, ...], wall: float) -> Explanation:
    """Explain one peer of a tunnel; `wall` is the time that `changes` count in."""
    primary = next((path for path in peer.paths if path.primary), None)
    return Explanation(
        tunnel=tunnel.name,
        public_key=peer.public_key,
        name=peer.name,
        connected=peer.connected,
        now=_now(peer, primary, changes, wall),
        since_s=peer.primary_since_s,
        path=primary,
        others=tuple(OtherPath(path, _why_not(path, primary)) for path in peer.paths if not path.primary),
        changes=changes[-LAST_CHANGES:],
        suggestion=_suggestion(tunnel, peer, primary, changes, wall),
    )


def path_words(path: PathStatus) -> str:
    """`direct via eth0 to 192.0.2.2:51820`, or `by relay 203.0.113.5:443 via eth0`."""
    via = f" via {path.uplink}" if path.uplink else ""
    return f"direct{via} to {path.remote}" if path.kind == "direct" else f"by relay {path.remote}{via}"


def where(peer: PeerStatus) -> str | None:
    """Where its packets go: an endpoint, or `relay 203.0.113.5:443`."""
    return f"relay {peer.endpoint}" if peer.by_relay else peer.endpoint


def figures(path: PathStatus) -> str:
    """`12.3 ms, 0.2 % loss`; empty where nothing was measured."""
    rtt = "" if path.rtt_ms is None else f"{path.rtt_ms:.1f} ms"
    losses = [loss for loss in (path.loss_tx, path.loss_rx) if loss is not None]
    loss = f"{max(losses) * 100:.1f} % loss" if losses else ""
    return ", ".join(part for part in (rtt, loss) if part)


def span(seconds: float) -> str:
    """`12 s`, `3 min`, `2 h`, `5 days`."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _now(peer: PeerStatus, primary: PathStatus | None, changes: tuple[Change, ...], wall: float) -> str:
    if primary is None and peer.endpoint is None:
        return "it has no path: nobody said where it is, and it has not greeted us"
    since = "" if peer.primary_since_s is None else f", for {span(peer.primary_since_s)}"
    if primary is None:
        kind = "an unmeasured path: it has not answered our hello, as plain WireGuard does"
        return f"packets go to {where(peer)}{since}; {kind}"
    measured = figures(primary)
    state = "" if primary.state == "live" else f", {_state(primary)}"
    cause = _cause(peer, changes, wall)
    return (
        f"packets go {path_words(primary)}{since}{f' ({measured})' if measured else ''}{state}"
        f"{f'; taken because: {cause}' if cause else ''}"
    )


def _cause(peer: PeerStatus, changes: tuple[Change, ...], wall: float) -> str | None:
    if peer.primary_since_s is None:
        return None
    moves = [change for change in changes if _is_move(change)]
    began = wall - peer.primary_since_s
    return moves[-1].why if moves and abs(moves[-1].at - began) < SAME_MOMENT else None


def _is_move(change: Change) -> bool:
    return change.cause in CAUSES


def _state(path: PathStatus) -> str:
    heard = "it never answered" if path.proof_age_s is None else f"last answer {span(path.proof_age_s)} ago"
    match path.state:
        case "dead":
            return f"dead for {span(path.since_s)}: {heard}"
        case "unproven":
            return f"no probe was answered there yet, for {span(path.since_s)}"
        case "suspect":
            return f"in doubt for {span(path.since_s)}: {heard}"
        case "held":
            left = "" if path.hold_s is None else f", held for {span(path.hold_s)} more"
            return f"it died and has answered again for {span(path.since_s)}{left}"
        case _:
            return "live"


def _why_not(path: PathStatus, primary: PathStatus | None) -> str:
    if path.state != "live":
        return _state(path)
    if path.metered and not (primary and primary.metered):
        return "metered: a standby only"
    if path.avoided_s is not None:
        return f"left for its loss, and not trusted for {span(path.avoided_s)} more"
    if path.cost_ms is None or primary is None or primary.cost_ms is None:
        return "live, and not measured yet"
    return _compared(path, path.cost_ms, primary.cost_ms)


def _compared(path: PathStatus, cost: float, current: float) -> str:
    because = f" ({figures(path)})" if figures(path) else ""
    margin = MARGIN_MS + current * MARGIN_SHARE
    if cost >= current:
        return f"costs {cost - current:.0f} ms more{because}"
    if cost + margin > current:
        return f"costs only {current - cost:.0f} ms less{because}: a change needs {margin:.0f} ms"
    return f"costs {current - cost:.0f} ms less{because}: it is taken once that has lasted"


def _suggestion(
    tunnel: TunnelStatus,
    peer: PeerStatus,
    primary: PathStatus | None,
    changes: tuple[Change, ...],
    wall: float,
) -> str | None:
    if tunnel.dataplane_pid is None:
        return f"the data plane is not running just now: `shore log {tunnel.name}` says why"
    if not peer.connected:
        return _when_unreachable(tunnel, peer)
    if primary is None:
        return None
    return _when_slow(peer, primary) or _when_restless(changes, wall)


def _when_unreachable(tunnel: TunnelStatus, peer: PeerStatus) -> str:
    if tunnel.clock_behind_s is not None:
        return (
            f"set the clock: it is {span(tunnel.clock_behind_s)} behind the time that our handshakes were "
            "stamped with before, and peers ignore older ones"
        )
    if peer.endpoint is None:
        return "give it an Endpoint, or have it greet us: without either nobody knows where it is"
    if peer.last_handshake_age_s is None and peer.recovery is None:
        return "no handshake was tried for long enough to tell: `shore rekey` tries one and waits for it"
    if peer.last_handshake_age_s is None:
        if peer.by_relay:
            return f"is it up, and linked to {where(peer)}? No handshake was ever answered"
        return (
            f"is it up, is UDP to {peer.endpoint} blocked on the way, and does it know our public key "
            f"{tunnel.public_key}? No handshake was ever answered"
        )
    return _when_silent(peer)


def _when_silent(peer: PeerStatus) -> str:
    if peer.paths:
        count = len(peer.paths)
        paths = "the only path" if count == 1 else f"any of {count} paths"
        return f"is UDP blocked on the way, or the peer switched off? No answer comes by {paths}"
    between = f"away from {where(peer)}" if peer.by_relay else f"is UDP to {peer.endpoint} blocked on the way"
    return f"is it switched off, or {between}? It answered before"


def _when_slow(peer: PeerStatus, primary: PathStatus) -> str | None:
    usable = [path for path in peer.paths if path.state == "live" and not path.primary]
    where = path_words(primary)
    more = None
    if primary.rtt_ms is not None and primary.usual_rtt_ms is not None:
        more = primary.rtt_ms - primary.usual_rtt_ms
    if more is not None and more >= timers.SLOWER_BY_MS:
        only = "and there is no other path to take" if not usable else "and the others are no better"
        return f"{where} became slow (+{more:.0f} ms), {only}: look for what fills or delays that way"
    lost = max(primary.loss_tx or 0.0, primary.loss_rx or 0.0)
    if lost >= LOSSY:
        only = "the only one" if not usable else "and the others are no better"
        return f"{where} loses {lost * 100:.0f} %, {only}: look for what fills or disturbs that way"
    return None


def _when_restless(changes: tuple[Change, ...], wall: float) -> str | None:
    moves = sum(_is_move(change) and wall - change.at < RESTLESS_FOR for change in changes)
    if moves < RESTLESS_CHANGES:
        return None
    both = "`#@ Redundancy = interactive` keeps sparse flows on two paths"
    return f"the path changed {moves} times in 10 min: {both}"

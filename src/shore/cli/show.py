"""How tunnels look on a terminal: as `wg show` prints them, and in Shore's own words."""

import time

from shore.core.why import figures, path_words, span, where
from shore.model.explanation import Explanation
from shore.model.status import LaneStatus, LinkStatus, PathStatus, PeerStatus, TunnelStatus

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def tunnel_lines(tunnel: TunnelStatus) -> list[str]:
    """`shore status` of one tunnel."""
    plane = f"data plane {tunnel.dataplane_pid}" if tunnel.dataplane_pid else "no data plane"
    if tunnel.dataplane_restarts:
        plane += f" (replaced {tunnel.dataplane_restarts} times)"
    lines = [
        f"{tunnel.name}: {tunnel.state}, port {tunnel.listen_port}, MTU {tunnel.mtu}, "
        f"brain {tunnel.brain_pid}, {plane}"
    ]
    lines += [f"  note: {note}" for note in tunnel.notes]
    if tunnel.clock_behind_s is not None:
        lines.append(
            f"  note: the clock is {duration(tunnel.clock_behind_s)} behind handshakes sent with this key; "
            "peers that took them ignore ours until it has caught up, and have to greet us"
        )
    lines += [_link_line(link) for link in tunnel.links]
    for peer in tunnel.peers:
        lines += _peer_lines(peer)
    return lines


def wg_lines(tunnel: TunnelStatus) -> list[str]:
    """`shore show`: the layout of `wg show`."""
    lines = [f"interface: {tunnel.name}"]
    if tunnel.public_key:
        lines += [f"  public key: {tunnel.public_key}", "  private key: (hidden)"]
    lines.append(f"  listening port: {tunnel.listen_port}")
    if tunnel.fwmark:
        lines.append(f"  fwmark: 0x{tunnel.fwmark:x}")
    for peer in tunnel.peers:
        lines += ["", f"peer: {peer.public_key}"]
        if peer.endpoint:
            lines.append(f"  endpoint: {where(peer)}")
        lines.append(f"  allowed ips: {', '.join(peer.allowed_ips) or '(none)'}")
        if peer.last_handshake_age_s is not None:
            lines.append(f"  latest handshake: {age(peer.last_handshake_age_s)}")
            lines.append(f"  transfer: {size(peer.rx_bytes)} received, {size(peer.tx_bytes)} sent")
        if peer.keepalive_s:
            lines.append(f"  persistent keepalive: every {duration(peer.keepalive_s)}")
    return lines


def path_lines(peer: PeerStatus) -> list[str]:
    """`shore paths`: a table, the primary path first."""
    head = ("", "id", "uplink", "local", "remote", "state", "for", "rtt", "jitter", "loss >", "loss <", "mtu")
    ordered = sorted(peer.paths, key=lambda path: not path.primary)
    rows = [head, *(_path_row(path) for path in ordered)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lanes = "; ".join(_lane_words(lane) for lane in peer.lanes)
    return [
        *(line.rstrip() for line in table),
        *([lanes] if lanes else []),
        f"{peer.switches} changes of path",
    ]


def _lane_words(lane: LaneStatus) -> str:
    sent = f"{lane.messages} message{'' if lane.messages == 1 else 's'} sent"
    return f"lane {lane.id}: session {lane.session_age_s:.0f} s old, {sent}"


def why_lines(said: Explanation) -> list[str]:
    """`shore why`."""
    words = said.public_key if said.name is None else f"{said.name} ({said.public_key})"
    lines = [f"{words}: {'connected' if said.connected else 'not connected'}", f"  {said.now}"]
    lines += [f"  not {path_words(other.path)}: {other.why}" for other in said.others]
    lines += ["  last changes:"] if said.changes else []
    lines += [f"    {stamp(change.at)} {change.what}: {change.why}" for change in said.changes]
    lines += [f"  suggestion: {said.suggestion}"] if said.suggestion else []
    return lines


def duration(seconds: float) -> str:
    """`1 hour, 2 minutes, 3 seconds`."""
    left = int(seconds)
    parts = []
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {unit}{'s' if count > 1 else ''}")
    return ", ".join(parts) or "0 seconds"


def age(seconds: float) -> str:
    """`3 seconds ago`."""
    return "Now" if seconds < 1 else f"{duration(seconds)} ago"


def size(count: int) -> str:
    """`1.23 MiB`."""
    number = float(count)
    for unit in UNITS:
        if number < 1024 or unit == UNITS[-1]:
            return f"{count} B" if unit == "B" else f"{number:.2f} {unit}"
        number /= 1024
    raise AssertionError("the last unit takes everything")


def stamp(at: float) -> str:
    """Local time with milliseconds."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) + f".{int(at * 1000) % 1000:03d}"


def _link_line(link: LinkStatus) -> str:
    took = "" if link.rtt_ms is None else f", round trip {link.rtt_ms:.1f} ms"
    metered = ", metered" if link.metered else ""
    return f"  {link.kind} {link.address}: {link.state} for {span(link.since_s)}{took}{metered}"


def _peer_lines(peer: PeerStatus) -> list[str]:
    state = "connected" if peer.connected else "not connected"
    if peer.recovery:
        state += f", {peer.recovery}"
    words = peer.public_key if peer.name is None else f"{peer.name} ({peer.public_key})"
    lines = [f"  peer {words}: {state}"]
    lines += [f"    {_path_line(peer.paths)}"] if peer.paths else []
    if peer.endpoint:
        heard = "nothing received yet" if peer.last_received_age_s is None else (
            f"last received {age(peer.last_received_age_s)}".replace("Now", "now")
        )  # fmt: skip
        lines.append(f"    at {where(peer)}, {heard}")
    if peer.session_age_s is not None:
        rtt = "" if peer.handshake_rtt_ms is None else f", handshake took {peer.handshake_rtt_ms:.1f} ms"
        lines.append(f"    session {duration(peer.session_age_s)} old{rtt}")
    lines.append(f"    {size(peer.rx_bytes)} received, {size(peer.tx_bytes)} sent")
    lines.append(f"    keepalive {peer.keepalive_s} s ({peer.keepalive_reason})")
    if peer.drops:
        lines.append("    dropped: " + ", ".join(f"{reason} {count}" for reason, count in peer.drops.items()))
    return lines


def _path_line(paths: tuple[PathStatus, ...]) -> str:
    """The primary path, and how many may take over."""
    primary = next((path for path in paths if path.primary), None)
    standbys = sum(not path.primary and path.state in ("live", "held") for path in paths)
    spare = f"{standbys or 'no'} standby{'' if standbys == 1 else 's'}"
    if primary is None:
        return f"no path; {spare}"
    measured = figures(primary) if primary.state == "live" else f"{primary.state} for {span(primary.since_s)}"
    return f"{path_words(primary)}, {measured or 'not measured yet'}; {spare}"


def _path_row(path: PathStatus) -> tuple[str, ...]:
    def share(loss: float | None) -> str:
        return "-" if loss is None else f"{loss * 100:.1f} %"

    def millis(time_ms: float | None) -> str:
        return "-" if time_ms is None else f"{time_ms:.1f} ms"

    return (
        "*" if path.primary else "",
        "-" if path.id is None else str(path.id),
        (path.uplink or "-") + (" metered" if path.metered else ""),
        path.local or "-",
        f"relay {path.remote}" if path.kind == "relay" else path.remote,
        path.state,
        span(path.since_s),
        millis(path.rtt_ms),
        millis(path.jitter_ms),
        share(path.loss_tx),
        share(path.loss_rx),
        "-" if path.path_mtu is None else str(path.path_mtu),
    )

"""How tunnels look on a terminal: as `wg show` prints them, and in Shore's own words."""

import time

from shore.model.status import PeerStatus, TunnelStatus

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
            lines.append(f"  endpoint: {peer.endpoint}")
        lines.append(f"  allowed ips: {', '.join(peer.allowed_ips) or '(none)'}")
        if peer.last_handshake_age_s is not None:
            lines.append(f"  latest handshake: {age(peer.last_handshake_age_s)}")
            lines.append(f"  transfer: {size(peer.rx_bytes)} received, {size(peer.tx_bytes)} sent")
        if peer.keepalive_s:
            lines.append(f"  persistent keepalive: every {duration(peer.keepalive_s)}")
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


def _peer_lines(peer: PeerStatus) -> list[str]:
    state = "connected" if peer.connected else "not connected"
    if peer.recovery:
        state += f", {peer.recovery}"
    lines = [f"  peer {peer.public_key}: {state}"]
    if peer.endpoint:
        heard = "nothing received yet" if peer.last_received_age_s is None else (
            f"last received {age(peer.last_received_age_s)}".replace("Now", "now")
        )  # fmt: skip
        lines.append(f"    at {peer.endpoint}, {heard}")
    if peer.session_age_s is not None:
        rtt = "" if peer.handshake_rtt_ms is None else f", handshake took {peer.handshake_rtt_ms:.1f} ms"
        lines.append(f"    session {duration(peer.session_age_s)} old{rtt}")
    lines.append(f"    {size(peer.rx_bytes)} received, {size(peer.tx_bytes)} sent")
    lines.append(f"    keepalive {peer.keepalive_s} s ({peer.keepalive_reason})")
    if peer.drops:
        lines.append("    dropped: " + ", ".join(f"{reason} {count}" for reason, count in peer.drops.items()))
    return lines

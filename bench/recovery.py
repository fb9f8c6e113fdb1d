"""The row of faults: seconds until traffic flows again, and pings lost at 20 Hz; medians of many runs."""

from bench.figure import Figure, median, most
from shore.lab import faults
from shore.lab.faults import Fault

PEER = "wireguard-go"
# Where no reply came while we looked, this stands for the gap.
NEVER = 99.0
GAPS: tuple[tuple[str, Fault, float], ...] = (
    ("peer killed and restarted", faults.peer_killed, 3.0),
    ("own address changed, we send", faults.own_address_changed, 0.5),
    ("own address changed, only the peer sends", faults.own_address_changed_peer_sends, 1.0),
    ("NAT port changed, we send", faults.nat_port_changed, 0.5),
    ("NAT port changed, only the peer sends, keepalive 5 s", faults.nat_port_changed_peer_sends, 6.0),
    ("data plane killed", faults.carrier_killed, 1.0),
    ("data plane frozen", faults.carrier_frozen, 3.0),
)
LOSSES: tuple[tuple[str, Fault], ...] = (
    ("brain killed", faults.brain_killed),
    ("brain frozen for 5 s", faults.brain_frozen),
)


def recovery(rounds: int, _seconds: int) -> list[Figure]:
    """Every fault of faults.py that takes seconds, against Debian's wireguard-go."""
    figures = []
    for name, fault, target in GAPS:
        gaps = [_gap(fault, target + 2) for _ in range(rounds)]
        figures.append(most("recovery", f"{name}, s", median(gaps), target, each=gaps))
    for name, fault in LOSSES:
        lost = [_lost(fault) for _ in range(rounds)]
        figures.append(most("recovery", f"{name}, pings lost", median(lost), 0, each=lost))
    return figures


def _gap(fault: Fault, patience: float) -> float:
    outcome = fault(faults.shore_end, PEER, patience)
    return NEVER if outcome is None or outcome.gap_s is None else round(outcome.gap_s, 3)


def _lost(fault: Fault) -> float:
    outcome = fault(faults.shore_end, PEER, 3)
    assert outcome is not None
    # A data plane that was replaced meanwhile is a failure of another kind.
    return outcome.lost if not outcome.note else NEVER

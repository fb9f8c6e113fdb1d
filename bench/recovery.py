"""The row of faults: seconds until traffic flows again, and pings lost at 20 Hz; medians of many runs.

Shore meets every fault with Debian's wireguard-go as its peer, and those that a peer has a part in with every
other implementation too. Beside each stands what the others make of the same fault in Shore's place.
"""

from concurrent.futures import ThreadPoolExecutor

from bench.figure import NEVER, Figure, median, most
from shore.lab import faults
from shore.lab.faults import Fault, MakeEnd

PEER = "wireguard-go"
OTHER_PEERS = ("wireguard", "boringtun-cli", "gotatun")
RIVALS = (PEER, *OTHER_PEERS)
# Their own timers need 15 s to give a session up, and a little to have another one.
RIVAL_PATIENCE = 18.0
# Both ends have a part in these, and every implementation can take part.
SHARED: tuple[tuple[str, Fault, float], ...] = (
    ("peer killed and restarted", faults.peer_killed, 3.0),
    ("own address changed, we send", faults.own_address_changed, 0.5),
    ("own address changed, only the peer sends", faults.own_address_changed_peer_sends, 1.0),
    ("NAT port changed, we send", faults.nat_port_changed, 0.5),
    ("NAT port changed, only the peer sends, keepalive 5 s", faults.nat_port_changed_peer_sends, 6.0),
)
OWN: tuple[tuple[str, Fault, float], ...] = (
    ("data plane killed", faults.carrier_killed, 1.0),
    ("data plane frozen", faults.carrier_frozen, 3.0),
)
LOSSES: tuple[tuple[str, Fault], ...] = (
    ("brain killed", faults.brain_killed),
    ("brain frozen for 5 s", faults.brain_frozen),
)


def recovery(rounds: int, _seconds: int) -> list[Figure]:
    """Every fault of faults.py that takes seconds."""
    figures = []
    for name, fault, target in SHARED:
        for peer in (PEER, *OTHER_PEERS):
            figures.append(_shore(f"{name}, s", fault, peer, target, rounds))
        figures += _rivals(name, fault, rounds)
    for name, fault, target in OWN:
        figures.append(_shore(f"{name}, s", fault, PEER, target, rounds))
    for name, fault in LOSSES:
        lost = [_lost(fault) for _ in range(rounds)]
        figures.append(most("recovery", f"{name}, pings lost", median(lost), 0, each=lost))
    return figures


def _shore(name: str, fault: Fault, peer: str, target: float, rounds: int) -> Figure:
    gaps = [_gap(fault, faults.shore_end, peer, target + 2) for _ in range(rounds)]
    row = "recovery" if peer == PEER else f"recovery, {peer}"
    return most(row, name, median(gaps), target, each=gaps)


def _rivals(name: str, fault: Fault, rounds: int) -> list[Figure]:
    """The others in Shore's place: side by side, for all that they do meanwhile is wait."""
    with ThreadPoolExecutor(len(RIVALS)) as pool:
        runs = {
            rival: [
                pool.submit(_gap, fault, faults.stock_end(rival), PEER, RIVAL_PATIENCE) for _ in range(rounds)
            ]
            for rival in RIVALS
        }
        gaps = {rival: [run.result() for run in running] for rival, running in runs.items()}
    return [
        Figure("recovery of others", f"{name}: {rival}, s", median(each), detail={"each": each})
        for rival, each in gaps.items()
    ]


def _gap(fault: Fault, make: MakeEnd, peer: str, patience: float) -> float:
    outcome = fault(make, peer, patience)
    return NEVER if outcome is None or outcome.gap_s is None else round(outcome.gap_s, 3)


def _lost(fault: Fault) -> float:
    outcome = fault(faults.shore_end, PEER, 3)
    assert outcome is not None
    # A data plane that was replaced meanwhile is a failure of another kind.
    return outcome.lost if not outcome.note else NEVER

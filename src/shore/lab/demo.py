"""`python -m shore.lab.demo [--long]`: what Shore does where a plain tunnel goes silent.

Two hosts in network namespaces, one with Shore from a `wg0.conf`, the other with a stock wireguard-go. Each
fault is then repeated with plain boringtun-cli in Shore's place, at the same time, in a net of its own. After
that comes a mesh (`demo_mesh`).
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

from shore.lab import demo_mesh, faults
from shore.lab.ends import program
from shore.lab.faults import Fault, Outcome
from shore.lab.net import LabFailed

PEER = "wireguard-go"
RIVAL = "boringtun-cli"
# What happens, how long to look for replies afterwards with Shore and with the other.
SHORT: tuple[tuple[str, Fault, float, float], ...] = (
    ("no fault", faults.nothing, 2, 2),
    ("peer killed and restarted", faults.peer_killed, 4, 17),
    ("own address changed", faults.own_address_changed, 3, 3),
    ("own address changed, only the peer sends", faults.own_address_changed_peer_sends, 3, 3),
    ("data plane killed", faults.carrier_killed, 3, 3),
    ("data plane frozen", faults.carrier_frozen, 4, 4),
    ("brain killed", faults.brain_killed, 3, 3),
    ("brain frozen for 5 s", faults.brain_frozen, 4, 4),
)
LONG: tuple[tuple[str, Fault, float, float], ...] = (
    ("5 min outage behind a NAT, idle, then the peer pings", faults.long_outage(300), 10, 30),
)


def main() -> int:
    """Print the table; 1 if Shore did not come back from something."""
    try:
        program(PEER), program(RIVAL)
    except LabFailed as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    if os.geteuid() != 0:
        print("demo: needs the right to make network namespaces: use `make demo`, or sudo", file=sys.stderr)
        return 1
    if "--long" in sys.argv[1:]:
        return 0 if _show_tunnel(LONG) else 1
    with demo_mesh.begun() as mesh:
        whole = [_show_tunnel(SHORT), demo_mesh.show(mesh)]
    return 0 if all(whole) else 1


def _show_tunnel(stages: tuple[tuple[str, Fault, float, float], ...]) -> bool:
    print(
        f"Shore from a wg0.conf, against {PEER}; pings at 20 Hz. Beside it plain {RIVAL} in Shore's place.\n"
    )
    print(f"{'what happens':<54} {'Shore':<32} {RIVAL}")
    whole = True
    with ThreadPoolExecutor(2) as pool:
        for name, fault, ours, theirs in stages:
            print(f"{name:<54} ", end="", flush=True)
            shore = pool.submit(fault, faults.shore_end, PEER, ours)
            rival = pool.submit(fault, faults.stock_end(RIVAL), PEER, theirs)
            outcome = shore.result()
            print(f"{said(outcome, ours):<32} {said(rival.result(), theirs)}", flush=True)
            whole &= outcome is not None and outcome.gap_s is not None
    return whole


def said(outcome: Outcome | None, patience: float) -> str:
    """One cell of the table."""
    if outcome is None:
        return "has none"
    if outcome.gap_s is None:
        return f"silent for all of {patience:.0f} s"
    pings = f"{outcome.lost} of {outcome.sent} lost"
    return pings if not outcome.lost else f"{pings}, back in {outcome.gap_s:.2f} s"


if __name__ == "__main__":
    sys.exit(main())

"""The second half of `make demo`: a network of a hub and two nodes, each behind a NAT of its own.

The first packet goes by the hub's relay, then both NATs are opened and packets go directly. Relay and server
are killed while they do, and in the end the direct path is swallowed and the relay has to carry them again.
"""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import msgspec

from shore.lab.grid import Cell, Side, Street, street
from shore.lab.meeting import links_up
from shore.lab.net import LabFailed, until
from shore.lab.pinger import Pinger

NAT: Side = "restricted"
LOOK_S = 2.0
WHOLE_WITHIN_S = 30.0


class Begun(msgspec.Struct, frozen=True):
    """The network, the seconds until both nodes had joined, and how they came to meet."""

    street: Street
    seconds: float
    cell: Cell


@contextmanager
def begun() -> Iterator[Future[Begun]]:
    """Hub and nodes, which begin while other things are shown."""
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        yield pool.submit(_begin, stack)


def show(beginning: Future[Begun]) -> bool:
    """Print the table; whether packets got through whatever happened."""
    print(
        "\nA network of a hub (server, relay) and two nodes, each behind a port-restricted NAT of its own.\n"
    )
    try:
        made = beginning.result()
        cell = made.cell
        first = "never" if cell.first_s is None else f"within {max(cell.first_s, 0.01) * 1000:.0f} ms"
        direct = "never" if cell.direct_s is None else f"after {cell.direct_s:.2f} s"
        _row(
            "`up --new`, two `invite`, two `up --join`",
            f"{made.seconds:.1f} s with the lab, beside the above",
        )
        _row("first ping answered, by the relay", first)
        _row("a direct path", f"{direct}, {cell.lost} pings lost on the way")
        return cell.path == "direct" and _outlived(made.street)
    except LabFailed as error:
        print(f"not shown: {error}")
        return False


def _begin(stack: ExitStack) -> Begun:
    began = time.monotonic()
    made = stack.enter_context(street())
    return Begun(made, time.monotonic() - began, made.cell(NAT, NAT))


def _outlived(made: Street) -> bool:
    hub = made.members["hub"]
    faults: tuple[tuple[str, Callable[[], None]], ...] = (
        ("relay killed", lambda: hub.signal_program("relay", signal.SIGKILL)),
        ("server killed", lambda: hub.signal_program("server", signal.SIGKILL)),
        ("direct path swallowed", lambda: made.lab.nats["ha"].change(udp_blocked=True)),
    )
    return all([_is_outlived(made, name, fault) for name, fault in faults])


def _is_outlived(made: Street, name: str, fault: Callable[[], None]) -> bool:
    nodes = (made.members["a"], made.members["b"])
    until(lambda: all(links_up(node) == {"relay", "server"} for node in nodes), WHOLE_WITHIN_S)
    pinger = Pinger(made.lab["a"], nodes[1].address())
    time.sleep(0.5)
    at = time.monotonic()
    fault()
    time.sleep(LOOK_S)
    pings = pinger.stop()
    gap, lost = pings.gap(at), f"{pings.lost()} of {len(pings.sent)} lost"
    if gap is None:
        _row(name, f"{lost}, silent for all of {LOOK_S:.0f} s")
    else:
        _row(name, f"{lost}, back in {gap:.2f} s" if pings.lost() else lost)
    return gap is not None


def _row(what: str, said: str) -> None:
    print(f"{what:<54} {said}", flush=True)

"""The faults that a single tunnel must outlive. Each runs in a net of its own and says what it cost.

A fault takes the maker of the end under test (`a`) and the name of the stock peer (`b`), lets pings run at
20 Hz, breaks something, waits, and returns the pings' story. What the end under test cannot have (a brain,
say) is None.
"""

import os
import signal
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from shore.lab.ends import End, ShoreEnd, Side, StockEnd, tunnel
from shore.lab.net import Host, NatNet, Net, until
from shore.lab.pinger import Pinger, Pings

MakeEnd = Callable[[Host, Side], End]
SETTLE = 2.0


class Outcome(msgspec.Struct, frozen=True):
    """Pings sent and lost, and seconds until replies came again (None: not while we looked)."""

    sent: int
    lost: int
    gap_s: float | None
    note: str = ""


class Fault(Protocol):
    """Breaks one thing. `patience` is how long to look for replies afterwards, in seconds."""

    def __call__(self, make: MakeEnd, peer: str, patience: float) -> Outcome | None:
        """Run it once."""


def shore_end(host: Host, side: Side) -> End:
    """Shore in the place that is tested."""
    return ShoreEnd(host, side)


def stock_end(name: str) -> MakeEnd:
    """Another implementation in Shore's place."""
    return lambda host, side: StockEnd(host, side, name)


def nothing(make: MakeEnd, peer: str, patience: float) -> Outcome | None:
    """No fault at all."""
    return _broken(make, peer, patience, lambda net, a, b: None)


def peer_killed(make: MakeEnd, peer: str, patience: float) -> Outcome | None:
    """The peer dies by SIGKILL and is started anew; it has no Endpoint for us."""
    return _broken(make, peer, patience, lambda net, a, b: b.kill(), restart=lambda net, a, b: b.up())


def own_address_changed(make: MakeEnd, peer: str, patience: float) -> Outcome | None:
    """We move to another address while we send."""
    return _broken(make, peer, patience, lambda net, a, b: net.move_a())


def own_address_changed_peer_sends(make: MakeEnd, peer: str, patience: float) -> Outcome | None:
    """We move to another address while only the peer sends."""
    return _broken(make, peer, patience, lambda net, a, b: net.move_a(), from_peer=True)


def carrier_killed(make: MakeEnd, peer: str, patience: float) -> Outcome | None:
    """The process that carries packets dies by SIGKILL."""
    return _broken(make, peer, patience, lambda net, a, b: a.kill())


def carrier_frozen(make: MakeEnd, peer: str, patience: float) -> Outcome | None:
    """The process that carries packets is stopped by SIGSTOP."""
    return _broken(make, peer, patience, lambda net, a, b: a.freeze())


def brain_killed(make: MakeEnd, peer: str, patience: float) -> Outcome | None:
    """The process that decides dies by SIGKILL. The data plane must not notice."""
    return _brain_hit(make, peer, patience, signal.SIGKILL)


def brain_frozen(make: MakeEnd, peer: str, patience: float) -> Outcome | None:
    """The process that decides is stopped for 5 s."""
    return _brain_hit(make, peer, patience + 5, signal.SIGSTOP)


def nat_port_changed(make: MakeEnd, peer: str, patience: float) -> Outcome | None:
    """Our NAT gives us another port while we send."""
    return _behind_nat(make, peer, patience, from_peer=False)


def nat_port_changed_peer_sends(make: MakeEnd, peer: str, patience: float) -> Outcome | None:
    """Our NAT gives us another port while only the peer sends."""
    return _behind_nat(make, peer, patience, from_peer=True)


def long_outage(outage_s: float) -> Fault:
    """Idle behind a NAT, cut off for so long; the NAT forgets; then only the peer pings.

    The gap is counted until the first answer.
    """

    def fault(make: MakeEnd, peer: str, patience: float) -> Outcome | None:
        with NatNet() as net, tunnel(net, make, peer, keepalive_s=25):
            _greet(net)
            net.cut()
            time.sleep(outage_s)
            net.forget_mappings()
            pinger = Pinger(net.b, "10.8.0.1")
            net.mend()
            restored = time.monotonic()
            time.sleep(patience)
            pings = pinger.stop()
            note = f"last loss after {pings.last_loss(restored) or 0:.2f} s"
            return Outcome(len(pings.sent), pings.lost(), pings.first_reply(restored), note)

    return fault


Break = Callable[[Net, End, StockEnd], None]


def _broken(
    make: MakeEnd,
    peer: str,
    patience: float,
    hit: Break,
    *,
    from_peer: bool = False,
    restart: Break | None = None,
) -> Outcome | None:
    """Hit, and restart what was hit where Shore cannot; the gap is counted from there."""
    with Net() as net, tunnel(net, make, peer) as (a, b):
        pinger = _pinging(net, from_peer=from_peer)
        since = time.monotonic()
        hit(net, a, b)
        if restart is not None:
            restart(net, a, b)
            since = time.monotonic()
        time.sleep(patience)
        return _outcome(pinger.stop(), since)


def _brain_hit(make: MakeEnd, peer: str, patience: float, number: signal.Signals) -> Outcome | None:
    with Net() as net, tunnel(net, make, peer) as (a, _):
        if not isinstance(a, ShoreEnd):
            return None
        plane, brain = a.plane_pid(), a.brain_pid()
        pinger = _pinging(net)
        since = time.monotonic()
        os.kill(brain, number)
        if number == signal.SIGSTOP:
            time.sleep(5)
            os.kill(brain, signal.SIGCONT)
        time.sleep(patience)
        outcome = _outcome(pinger.stop(), since)
        same = a.plane_pid() == plane
        return msgspec.structs.replace(outcome, note="" if same else "the data plane was replaced")


def _behind_nat(make: MakeEnd, peer: str, patience: float, *, from_peer: bool) -> Outcome | None:
    with NatNet() as net, tunnel(net, make, peer, keepalive_s=5):
        pinger = _pinging(net, from_peer=from_peer)
        net.forget_mappings()
        since = time.monotonic()
        time.sleep(patience)
        return _outcome(pinger.stop(), since)


def _greet(net: Net) -> None:
    until(lambda: net.a.reaches("10.8.0.2", within_s=1), 100)


def _pinging(net: Net, *, from_peer: bool = False) -> Pinger:
    """Pings that have settled, once there is a session."""
    _greet(net)
    pinger = Pinger(net.b, "10.8.0.1") if from_peer else Pinger(net.a, "10.8.0.2")
    time.sleep(SETTLE)
    return pinger


def most_of_three(run: Callable[[], Outcome | None], good: Callable[[Outcome], bool]) -> Outcome | None:
    """One run if it is good; else two more, and a good one if both are: a machine may be busy once."""
    first = run()
    if first is None or good(first):
        return first
    more = [run(), run()]
    return more[0] if all(outcome is not None and good(outcome) for outcome in more) else first


def _outcome(pings: Pings, since: float) -> Outcome:
    return Outcome(len(pings.sent), pings.lost(), pings.gap(since))

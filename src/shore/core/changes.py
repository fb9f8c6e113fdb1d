"""What is written down of a change of path: in words for people, in numbers for whoever counts.

The numbers are those of the two paths as they were last measured: `from_` of the path that was left, `to_`
of the one that was taken; `rtt_ms`, `loss` (a share of what we send, 0 to 1), `cost_ms` (`score`). What is
not known is left out. The cause of a move is a key of `CAUSES`, that of a verdict `loss`, `delay` or
`better`, and `mtu` stands for what a search of a path's MTU came to.
"""

from shore.core.actions import Announce
from shore.core.candidates import Place
from shore.core.score import PathJudge, reason
from shore.core.sockets import Sockets
from shore.model.facts import Roamed
from shore.model.scores import Verdict


def preferred(public_key: bytes, verdict: Verdict, judge: PathJudge, sockets: Sockets) -> Announce:
    """The judge wants another path."""
    left = (verdict.current.socket, verdict.current.remote)
    taken = (verdict.best.socket, verdict.best.remote)
    what = f"path {sockets.words(taken)} preferred"
    why = reason(verdict, sockets.words(left))
    return Announce(what, why, public_key, _numbers(left, taken, judge), verdict.why)


def switched(fact: Roamed, judge: PathJudge, sockets: Sockets) -> Announce:
    """The primary path is another one."""
    left, taken = _left(fact), (fact.socket, fact.remote)
    why = f"{CAUSES.get(fact.cause, fact.cause)} {sockets.words(left)}"
    what = f"path {sockets.words(taken)}"
    return Announce(what, why, fact.public_key, _numbers(left, taken, judge), fact.cause)


def has_left(fact: Roamed) -> bool:
    """Whether there was another primary path before."""
    return fact.left != "" and _left(fact) != (fact.socket, fact.remote)


def _left(fact: Roamed) -> Place:
    return (fact.socket if fact.left_socket is None else fact.left_socket, fact.left)


def _numbers(left: Place, taken: Place, judge: PathJudge) -> dict[str, float]:
    known: dict[str, float] = {}
    for side, place in (("from", left), ("to", taken)):
        path = next((path for path in judge.measured if (path.socket, path.remote) == place), None)
        score = next((score for score in judge.latest if (score.socket, score.remote) == place), None)
        measured = {
            "rtt_ms": None if path is None else path.rtt_ms,
            "loss": None if path is None else path.loss_tx,
            "cost_ms": None if score is None else score.cost_ms,
        }
        known |= {f"{side}_{name}": round(value, 4) for name, value in measured.items() if value is not None}
    return known


CAUSES = {
    "dead": "no answer any more from",
    "deaf": "probes pass and data does not by",
    "peer_moved": "the peer speaks from here, no more from",
    "response": "a handshake was answered here, not by",
    "advice": "better than",
    "gone": "the socket is gone of",
}

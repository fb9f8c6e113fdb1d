"""Have every path to a peer probed now, and wait for what becomes of it.

The data plane sends the probes within the budget of all probes, and tells apart which answer belongs to the
asking; here it is only asked again and again until every probe is answered, or has had its time.
"""

import asyncio

from shore.core.events import PokeAsked
from shore.model.facts import PathCounters, PeerCounters
from shore.model.keys import key_text
from shore.model.ping import PathPing
from shore.model.status import PathStatus
from shore.node.brain import Brain
from shore.node.heartbeat import ask
from shore.wire import api

WITHIN = 2.0
AGAIN = 0.02


async def poke(brain: Brain, public_key: bytes) -> api.Reply:
    """Probe a peer's paths."""
    peer = brain.node.peers.get(public_key)
    if peer is None:
        return api.Failed("there is no such peer")
    counters = await _counters(brain, public_key)
    if counters is None:
        return api.Failed("the data plane does not answer: see `shore status`")
    if not counters.probed:
        return api.Poked(probed=False)
    brain.tell(PokeAsked(public_key))
    number = peer.poke
    loop = asyncio.get_running_loop()
    deadline = loop.time() + WITHIN
    while loop.time() < deadline:
        await asyncio.sleep(AGAIN)
        counters = await _counters(brain, public_key)
        if counters is None:
            return api.Failed("the data plane does not answer: see `shore status`")
        if all(_is_sent(path, number) and path.poke_rtt_ms is not None for path in counters.paths):
            break
    status = brain.status()
    known = () if status is None else status.peers
    shown = next((each.paths for each in known if each.public_key == key_text(public_key)), ())
    return api.Poked(
        True, tuple(_result(path, of, number) for path, of in zip(counters.paths, shown, strict=False))
    )


async def _counters(brain: Brain, public_key: bytes) -> PeerCounters | None:
    await ask(brain, "all")
    return brain.node.counters.get(public_key)


def _is_sent(path: PathCounters, number: int) -> bool:
    return path.poke is not None and path.poke >= number


def _result(path: PathCounters, shown: PathStatus, number: int) -> PathPing:
    sent = _is_sent(path, number)
    rtt_ms = path.poke_rtt_ms if sent else None
    return PathPing(path.id, shown.uplink, shown.remote, path.primary, sent, rtt_ms, path.kind)

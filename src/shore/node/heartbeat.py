"""Questions to the data plane, twice a second, each judged after a second.

Questions overlap, so that a stall is certain within two seconds. How late our own loop was is told with
each silence: a brain that was stopped itself must not call the plane stalled.

Every other question asks for counters as well, and every one while the path in use to somebody carries much
or may be lossy; but only of peers about whom there is something new: of a hundred idle ones that is a
tenth. Ages grow by themselves and are no news; whoever shows them asks for all.
"""

import asyncio

import msgspec

from shore.core import events
from shore.io.dataplane import Counters, PlaneGone
from shore.node.brain import Brain

INTERVAL = 0.5
WITHIN = 1.0
# Counters are asked for with every second question, if nothing else makes us curious.
COUNTERS_EVERY = 2


async def heartbeat(brain: Brain) -> None:
    """Until cancelled."""
    loop = asyncio.get_running_loop()
    number = 0
    late = 0.0
    async with asyncio.TaskGroup() as questions:
        while True:
            due = loop.time() + INTERVAL
            await asyncio.sleep(INTERVAL)
            late = loop.time() - due
            number += 1
            if brain.plane is not None and late < WITHIN:
                wary = any(peer.judge.is_wary for peer in brain.node.peers.values())
                counters: Counters = "changed" if wary or number % COUNTERS_EVERY == 0 else "none"
                questions.create_task(ask(brain, counters))


async def ask(brain: Brain, counters: Counters) -> None:
    """One question; its answer or its silence becomes an event."""
    loop = asyncio.get_running_loop()
    plane = brain.plane
    if plane is None:
        return
    asked = loop.time()
    try:
        answer, whole = await plane.ask(counters, WITHIN)
    except TimeoutError:
        if brain.plane is plane:
            brain.tell(events.QuestionUnanswered(loop.time() - asked - WITHIN))
        return
    except PlaneGone:
        return
    offload = msgspec.to_builtins(answer.offload, str_keys=True)
    peers = None if counters == "none" else answer.peers
    brain.tell(events.PlaneAnswered(offload, answer.drops, peers, whole, answer.links))

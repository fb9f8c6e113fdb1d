"""What is told of the underlay: every address and route, and no neighbour."""

import sys

import pytest

from shore.lab.laboratory import Laboratory

pytestmark = pytest.mark.lab

WATCH = """
import asyncio, subprocess
from shore.io.links import watch_links

told = []

async def ip(words):
    before = len(told)
    await asyncio.to_thread(subprocess.run, ["ip", *words.split()], check=True)
    await asyncio.sleep(0.4)
    print(len(told) > before, flush=True)

async def main():
    watching = asyncio.create_task(watch_links(told.append))
    while not told:
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.6)
    await ip("neigh replace 10.99.1.9 lladdr 02:00:00:00:00:09 dev eth0 nud reachable")
    await ip("neigh del 10.99.1.9 dev eth0")
    await ip("address add 10.7.0.1/24 dev eth0")
    await ip("route add default via 10.99.1.2")
    watching.cancel()

asyncio.run(main())
"""


def test_an_address_and_a_route_are_told_and_neighbours_are_not() -> None:
    with Laboratory("links") as lab:
        lab.host("a"), lab.host("b")
        lab.path("p", "a", "b", cable=True)
        told = lab["a"].run(sys.executable, "-c", WATCH).split()
    assert told == ["False", "False", "True", "True"]

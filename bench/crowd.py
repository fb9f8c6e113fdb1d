"""Many peers in one host at the price of a few: data planes, each with a key of its own and no brain.

`python -m bench.crowd` reads one line, a `Crowd` in JSON, and forks a process for each of its peers around
a data plane as the product starts it. Each gets a UDP socket, and the node as its only peer, at every address
that the node has; so it holds sessions, answers probes and sends its own as any idle Shore peer does. What it
has not is a TUN, and somebody who decides. Where a server is named, each peer enrols there as well, tells
where it may be reached, and keeps its link (`bench.simulated`). It says a line when all planes carry, and
ends them at the end of its input; each line of that until then is one peer that moves.
"""

import asyncio
import os
import socket
import sys
import tempfile
from pathlib import Path

import msgspec

from bench import simulated
from shore import _native
from shore.core.keepalive import OPEN_QUIET_S
from shore.core.peer import LANES
from shore.io.dataplane import SOCKET, DataPlane
from shore.io.sockets import open_socket
from shore.model.desired import DesiredState, Interface, Peer, Socket
from shore.model.desired import Path as Way

# Where nobody is: a peer that moves tells such a port beside those that it has.
MOVED_PORT = 40000


class Member(msgspec.Struct, frozen=True):
    """One peer of the crowd: its private key, its inner address, and the port that it listens on."""

    private_key: bytes
    address: str
    port: int


class Crowd(msgspec.Struct, frozen=True):
    """The peers; the node's public key, inner address, and endpoints.

    `server` is the unix socket of a coordination server, which lets in who comes with `secret`; `hosts` are
    the addresses by which the peers are reached.
    """

    members: tuple[Member, ...]
    node_key: bytes
    node_address: str
    endpoints: tuple[str, ...]
    server: str | None = None
    secret: bytes = b""
    hosts: tuple[str, ...] = ()


def main() -> int:
    """Run until nobody writes to us any more."""
    crowd = msgspec.json.decode(sys.stdin.buffer.readline(), type=Crowd)
    with tempfile.TemporaryDirectory(prefix="shore-crowd-") as directory:
        places = [Path(directory) / str(member.port) for member in crowd.members]
        # Threads come later: what forks after the first would lose them.
        for place in places:
            _fork(place)
        asyncio.run(_carry(crowd, places))
    return 0


def _fork(place: Path) -> None:
    place.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(place / SOCKET))
        listener.listen(1)
        if os.fork() == 0:
            _native.run(listener.detach(), os.getuid(), int.from_bytes(os.urandom(8), "little"))
            os._exit(0)


async def _carry(crowd: Crowd, places: list[Path]) -> None:
    planes = [await _start(crowd, member, place) for member, place in zip(crowd.members, places, strict=True)]
    async with asyncio.TaskGroup() as tasks:
        common = simulated.Crowd(crowd.secret)
        reading = tasks.create_task(common.read())
        links = [] if crowd.server is None else await _enrol(crowd, common, Path(crowd.server))
        print("all carry", flush=True)
        moves = 0
        while await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.readline):
            number = moves % len(links)
            elsewhere = f"{crowd.hosts[0]}:{MOVED_PORT + moves}"
            links[number].tell(*_endpoints(crowd, crowd.members[number]), elsewhere)
            moves += 1
        reading.cancel()
    for plane in planes:
        plane.stop()
        await plane.wait_ended(1.0)


async def _enrol(crowd: Crowd, common: simulated.Crowd, server: Path) -> list[simulated.Node]:
    links = []
    for number, member in enumerate(crowd.members):
        link = simulated.Node(common, number, _native.public_key(member.private_key))
        await link.dial(server)
        link.tell(*_endpoints(crowd, member))
        links.append(link)
    return links


def _endpoints(crowd: Crowd, member: Member) -> tuple[str, ...]:
    return tuple(f"{host}:{member.port}" for host in crowd.hosts)


async def _start(crowd: Crowd, member: Member, place: Path) -> DataPlane:
    plane = await DataPlane.attach(
        place, generation=1, on_fact=lambda _serial, _fact: None, on_lost=lambda _reason: None
    )
    if plane is None:
        raise SystemExit(f"the data plane of port {member.port} does not answer")
    with open_socket(4, member.port) as opened:
        await plane.push(1, _desired(crowd, member), 0, {"socket:1": opened.fileno()})
    return plane


def _desired(crowd: Crowd, member: Member) -> DesiredState:
    ways = tuple(
        Way(number, "direct", 1, endpoint, quiet_s=OPEN_QUIET_S)
        for number, endpoint in enumerate(crowd.endpoints, 1)
    )
    node = Peer(crowd.node_key, None, (f"{crowd.node_address}/32",), 0, False, 0, LANES, ways)
    return DesiredState(Interface(member.private_key, 1420), (Socket(1, 4),), (node,))


if __name__ == "__main__":
    sys.exit(main())

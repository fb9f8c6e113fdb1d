"""An idle node in a network of a hundred: what its peers cost it, and what a change of one of them does.

    node ── hub (server, relay, and a node itself)
      └─── three wires ─── a hundred light peers (`bench.crowd`)

The hub is a real one, and the node joined it by its command. Each light peer is enrolled at that server by a
link of its own, and its data plane holds a session with the node, which knows all of them from its netmap
alone. While nobody does anything the node's processes are measured. Then the peers move, one a second: each
has one endpoint more or another one, at which nobody is. What that costs beyond the idle is divided by moves.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from bench.crowd import MOVED_PORT, Crowd, Member
from bench.figure import Figure, long_time, most
from bench.machine import pss_mb
from bench.many import FIRST_PORT, PATHS, PEERS, SETTLE_S, running, shares_of
from shore.core.netmap import Held
from shore.lab import member
from shore.lab.laboratory import Laboratory
from shore.lab.net import until
from shore.model.keys import parse_key
from shore.model.netmap import Peer
from shore.model.status import TunnelStatus
from shore.wire.token import parse_token

ROW = "idle node, netmap"
MOVES, MOVES_S = 60, 60.0
ALL_WITHIN_S = 180.0


class Joined(msgspec.Struct, frozen=True):
    """The node, the pids of its processes, and where a line makes a peer move."""

    lab: Laboratory
    node: member.Member
    pids: dict[str, int]
    moves: IO[bytes]

    def move(self) -> None:
        """One peer more moves."""
        self.moves.write(b"move\n")
        self.moves.flush()


def node_idle(rounds: int, _seconds: int) -> list[Figure]:
    """The mean of ten minutes, or of two for a single round; then a minute of moves."""
    with network() as joined:
        time.sleep(SETTLE_S)
        idle = shares_of(joined.pids, long_time(rounds))
        sizes = {name: pss_mb(pid) for name, pid in joined.pids.items()}
        status = joined.node.status()
        with joined.lab.every(MOVES_S / MOVES, joined.move):
            moving = shares_of(joined.pids, MOVES_S)
        heard = f":{MOVED_PORT + MOVES - 1}" in _endpoints(joined.node)
        lived = _pids(joined.node) == joined.pids
        after = {name: pss_mb(pid) for name, pid in joined.pids.items()}
    spent = {name: round((moving[name] - idle[name]) * MOVES_S / MOVES * 1e3, 2) for name in idle}
    return [
        Figure(ROW, "connected light peers", _connected(status)),
        Figure(ROW, "its processes lived through it", lived),
        most(ROW, "share of a core", sum(idle.values()), 0.01, **idle),
        most(ROW, "brain PSS, MB", sizes["brain"], 80),
        most(ROW, "data plane PSS, MB", sizes["data plane"], 40),
        Figure(ROW, "a peer moves: ms of CPU, all processes", round(sum(spent.values()), 2), detail=spent),
        Figure(ROW, f"the last of {MOVES} moves is in its netmap", heard),
        Figure(ROW, "brain PSS after the moves, MB", after["brain"]),
    ]


@contextlib.contextmanager
def network(count: int = PEERS) -> Iterator[Joined]:
    """All of it, the light peers connected."""
    with Laboratory("netmap") as lab, contextlib.ExitStack() as ends:
        for name in ("node", "crowd", "hub"):
            lab.host(name).resolve_by("192.0.2.53")
        for number in range(PATHS):
            lab.path(f"p{number}", "node", "crowd", cable=True)
        lab.path("up", "node", "hub", cable=True)
        hub, node = (member.Member(lab[name], name) for name in ("hub", "node"))
        for each in (hub, node):
            ends.callback(each.down)
        hub.found()
        node.join(hub.shore("invite").split()[3])
        token = parse_token(hub.shore("invite", "--reusable").split()[3])
        status = node.status()
        assert status.public_key is not None
        light = Crowd(
            tuple(Member(os.urandom(32), "", FIRST_PORT + number) for number in range(count)),
            parse_key(status.public_key),
            node.address(),
            tuple(f"10.99.{path + 1}.1:{status.listen_port}" for path in range(PATHS)),
            str(hub.directory / "run" / "server" / "control.sock"),
            token.secret,
            tuple(f"10.99.{path + 1}.2" for path in range(PATHS)),
        )
        with running(lab["crowd"], light) as moves:
            until(lambda: _connected(node.status()) == count, ALL_WITHIN_S)
            yield Joined(lab, node, _pids(node), moves)


def _connected(status: TunnelStatus) -> int:
    return sum(peer.connected and peer.probed for peer in status.peers if peer.name != "hub")


def _pids(node: member.Member) -> dict[str, int]:
    status = node.status()
    stat = Path(f"/proc/{status.brain_pid}/stat").read_text()
    keeper = int(stat.rpartition(")")[2].split()[1])
    return {"brain": status.brain_pid, "data plane": status.dataplane_pid or 0, "keeper": keeper}


def _endpoints(node: member.Member) -> str:
    """All that its netmap says of where peers are."""
    held = msgspec.msgpack.decode((node.directory / "state" / "node" / "netmap").read_bytes(), type=Held)
    peers = [record for name, record in held.records.items() if name.startswith("peer:")]
    return " ".join(c.endpoint for p in peers for c in msgspec.msgpack.decode(p, type=Peer).candidates)

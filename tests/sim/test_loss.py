"""How soon a path that loses packets is left, with the real reflexes, judge and probes; on virtual time."""

from __future__ import annotations

import math

import pytest
from tests.sim.machine import Machine
from tests.sim.network import Uplink
from tests.sim.scenario import PORT, public_key
from tests.sim.world import PING_EVERY, World

from shore.model.config import Endpoint, PeerConfig, TunnelConfig

BEATS_A_SECOND = 1 / PING_EVERY


class Twin:
    """Two machines with two uplinks each; the first one pings the other `rate` times a second."""

    def __init__(self, seed: int, rate: float) -> None:
        self.world = World(seed)
        homes = [[f"192.0.2.{10 * n + m}" for m in (1, 2)] for n in (1, 2)]
        for n, addresses in enumerate(homes):
            ups = [Uplink(n, f"eth{m}", m + 2, address) for m, address in enumerate(addresses)]
            for up in ups:
                self.world.internet.join(up)
            self.world.known[n] = tuple(addresses)
            endpoints = tuple(Endpoint(host, PORT) for host in homes[1 - n])
            peer = PeerConfig(public_key(1 - n), allowed_ips=(f"10.0.0.{2 - n}/32",), endpoints=endpoints)
            key = bytes([n + 1]) * 32
            config = TunnelConfig("wg0", key, listen_port=PORT, peers=(peer,), host_managed=False)
            self.world.machines.append(Machine(self.world, n + 1, config, ups))
        self.world.start()
        self.pair = self.world.pairs[0]
        self.world.run(5.0)
        self._more = 1 / (rate - BEATS_A_SECOND) if rate > BEATS_A_SECOND else math.inf
        if rate > BEATS_A_SECOND:
            self._beat()
        self.world.run(5.0 + seed % 10 / 10)

    def _beat(self) -> None:
        a, b = self.pair.a.number, self.pair.b.number
        self.world.after(self._more, self._beat)
        self.pair.a.send(b, 8, 1_000_000_000 + a * 10 + b)

    def in_use(self) -> Uplink:
        """The uplink that the pinging machine's packets leave by."""
        peer = next(iter(self.pair.a.node.peers.values()))
        assert peer.primary is not None
        socket = self.pair.a.sockets[peer.primary[0]]
        return next(up for up in self.pair.a.uplinks if socket.uplink in {up.name, None})

    def left_after(self, loss: float, within: float) -> float:
        """Seconds until the uplink in use is left, from when it begins to lose packets."""
        uplink, began = self.in_use(), self.world.now
        uplink.loss = loss
        while self.world.now - began < within:
            self.world.run(0.05)
            if self.in_use() is not uplink:
                return self.world.now - began
        return math.inf


@pytest.mark.parametrize(
    ("rate", "loss", "half_within", "most_within"),
    [
        pytest.param(200, 0.05, 2.6, 5.0, id="5 % of 200 packets a second"),
        pytest.param(20, 0.2, 2.5, 4.0, id="20 % of 20"),
        pytest.param(20, 0.05, 10.0, 20.0, id="5 % of 20"),
    ],
)
def test_a_lossy_path_is_left_in_time(
    rate: float, loss: float, half_within: float, most_within: float
) -> None:
    times = sorted(Twin(seed, rate).left_after(loss, 60.0) for seed in range(RUNS))
    assert times[RUNS // 2] <= half_within
    assert times[RUNS * 9 // 10] <= most_within


RUNS = 20


@pytest.mark.parametrize("rate", [20, 200])
def test_one_percent_is_no_reason_to_leave(rate: float) -> None:
    twin = Twin(1, rate)
    before = twin.world.switches()
    assert twin.left_after(0.01, 60.0) == math.inf
    assert twin.world.switches() == before

"""The rows of the table. Each measures Shore and its rivals in turn, and gives medians and ratios."""

import contextlib
import time
from collections.abc import Callable

from bench import idle, mesh, mtu, only, paths
from bench.control import control_scale
from bench.figure import Figure, least, median, most, percentile
from bench.floods import floods
from bench.grid import grid
from bench.machine import hogs, limited, pss_mb
from bench.many import many_peers
from bench.node_idle import node_idle
from bench.onboarding import onboarding
from bench.pair import CURRENT, B, Pair, pair, priced, tcp, udp
from bench.recovery import recovery
from bench.relay import relay_throughput
from bench.relayed import relay_flood, relay_tunnel
from bench.relays import mesh_relays
from shore.lab.ends import SHORE, ShoreEnd
from shore.lab.net import until
from shore.lab.pinger import Pinger, Pings

NOT_REALTIME = "#@ Realtime = off\n"
NOT_PROBING = "#@ Probing = off\n"


def throughput(rounds: int, seconds: int) -> list[Figure]:
    """TCP throughput, CPU per GB and ping under load, against current wireguard-go and boringtun-cli."""
    makes = (SHORE, CURRENT, "boringtun-cli")
    speed: dict[str, list[float]] = {make: [] for make in makes}
    cost: dict[str, list[float]] = {make: [] for make in makes}
    ping: dict[str, list[float]] = {make: [] for make in makes}
    memory: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        pairs = {make: stack.enter_context(pair(make)) for make in makes}
        for _ in range(rounds):
            for make, made in pairs.items():
                pinger = Pinger(made.net.a, B, rate=100)
                load, price = priced(made, seconds)
                speed[make].append(load.bps / 1e9)
                cost[make].append(price)
                ping[make].append(percentile(pinger.stop(), 0.99))
        memory = _memory(pairs[SHORE])
    s, w, b = (median(speed[make]) for make in makes)
    detail = {"gbps": speed, "cpu_s_per_gb": cost, "ping_p99_ms": ping}
    own_cost, their_cost = median(cost[SHORE]), median(cost[CURRENT])
    return [
        Figure("tcp", "Shore Gb/s", round(s, 3), detail=detail),
        Figure("tcp", "current wireguard-go Gb/s", round(w, 3)),
        Figure("tcp", "boringtun-cli Gb/s", round(b, 3)),
        least("tcp", "x current wireguard-go", s / w, 1.8),
        least("tcp", "x boringtun-cli", s / b, 8),
        Figure("tcp", "Shore CPU s/GB", round(own_cost, 3)),
        Figure("tcp", "current wireguard-go CPU s/GB", round(their_cost, 3)),
        most("tcp", "CPU per GB / current wireguard-go", own_cost / their_cost, 0.48),
        most("tcp", "Shore ping p99 under load, ms", median(ping[SHORE]), 3),
        Figure("tcp", "current wireguard-go ping p99 under load, ms", round(median(ping[CURRENT]), 3)),
        Figure("tcp", "boringtun-cli ping p99 under load, ms", round(median(ping["boringtun-cli"]), 3)),
        most("memory", "data plane PSS, MB", max(memory["plane"]), 30),
        most("memory", "brain PSS, MB", max(memory["brain"]), 60),
        most("memory", "keeper PSS, MB", max(memory["keeper"]), 12),
    ]


def _memory(made: Pair) -> dict[str, list[float]]:
    ends = [end for end in (made.a, made.b) if isinstance(end, ShoreEnd)]
    return {
        "plane": [pss_mb(end.plane_pid()) for end in ends],
        "brain": [pss_mb(end.brain_pid()) for end in ends],
        "keeper": [pss_mb(end.keeper_pid()) for end in ends],
    }


def without_realtime(rounds: int, seconds: int) -> list[Figure]:
    """Ping under full TCP load where the data thread has no SCHED_RR."""
    p99: list[float] = []
    with pair(SHORE, NOT_REALTIME) as made:
        for _ in range(rounds):
            pinger = Pinger(made.net.a, B, rate=100)
            tcp(made.net, seconds)
            p99.append(percentile(pinger.stop(), 0.99))
    return [most("tcp without SCHED_RR", "Shore ping p99 under load, ms", median(p99), 5, each=p99)]


def probing(rounds: int, seconds: int) -> list[Figure]:
    """CPU per GB of TCP with probes and without, in turn: ten pairs of runs in five rounds."""
    ratios = []
    with pair(SHORE) as on, pair(SHORE, NOT_PROBING) as off:
        until(lambda: _live_paths(on) >= 1, 20)
        for _ in range(rounds * 2):
            _, dear = priced(on, seconds)
            _, plain = priced(off, seconds)
            ratios.append(dear / plain)
        paths = _live_paths(on)
    return [
        most("cost of probing", "CPU per GB / with `Probing = off`", median(ratios), 1.03, each=ratios),
        Figure("cost of probing", "paths that were probed", paths),
    ]


def _live_paths(made: Pair) -> int:
    assert isinstance(made.a, ShoreEnd)
    return sum(path.state == "live" for path in made.a.status().peers[0].paths)


def datagrams(rounds: int, seconds: int) -> list[Figure]:
    """UDP of 1,200 bytes offered at 1 Gb/s and unlimited, delivered."""
    figures = []
    for rate, target in (("1G", 0.98), ("0", 1.5)):
        got: dict[str, list[float]] = {}
        with contextlib.ExitStack() as stack:
            pairs = {make: stack.enter_context(pair(make)) for make in (SHORE, CURRENT)}
            for _ in range(rounds):
                for make, made in pairs.items():
                    got.setdefault(make, []).append(udp(made.net, seconds, rate).bps / 1e9)
        what = "unlimited" if rate == "0" else "at 1 Gb/s"
        figures.append(least("udp", f"Shore Gb/s delivered, {what}", median(got[SHORE]), target, each=got))
        figures.append(Figure("udp", f"current wireguard-go Gb/s, {what}", round(median(got[CURRENT]), 3)))
    return figures


def idle_ping(rounds: int, seconds: int) -> list[Figure]:
    """Ping with nothing else in the tunnel, against current wireguard-go, in turn."""
    medians: dict[str, list[float]] = {SHORE: [], CURRENT: []}
    with contextlib.ExitStack() as stack:
        pairs = {make: stack.enter_context(pair(make)) for make in medians}
        for _ in range(rounds):
            for make, made in pairs.items():
                medians[make].append(percentile(_pings(made, seconds), 0.5))
    ratio = median(medians[SHORE]) / median(medians[CURRENT])
    return [
        Figure("ping idle", "Shore median, ms", round(median(medians[SHORE]), 3), detail=medians),
        Figure("ping idle", "current wireguard-go median, ms", round(median(medians[CURRENT]), 3)),
        most("ping idle", "Shore / current wireguard-go", ratio, 1.0),
    ]


def _pings(made: Pair, seconds: float) -> Pings:
    pinger = Pinger(made.net.a, B)
    time.sleep(seconds)
    return pinger.stop()


def starved(rounds: int, seconds: int) -> list[Figure]:
    """Each end limited to 20 % of a CPU, with 100 Mb/s of UDP through the tunnel.

    Without SCHED_RR, which such a limit would not bind.
    """
    lost, p99, udp_lost = 0, [], []
    for _ in range(rounds):
        with pair(SHORE, NOT_REALTIME) as made, limited(made.a.pids(), 0.2), limited(made.b.pids(), 0.2):
            pinger = Pinger(made.net.a, B)
            load = udp(made.net, seconds, "100M")
            pings = pinger.stop()
            lost += pings.lost()
            p99.append(percentile(pings, 0.99))
            udp_lost.append(load.lost)
    return [
        most("20 % of a CPU", "pings lost", lost, 0),
        most("20 % of a CPU", "ping p99, ms", median(p99), 2, each=p99),
        most("20 % of a CPU", "UDP lost", median(udp_lost), 0.005, each=udp_lost),
    ]


def crowded(rounds: int, seconds: int) -> list[Figure]:
    """Four CPU hogs on the two cores."""
    lost, p99 = 0, []
    for _ in range(rounds):
        with pair(SHORE) as made, hogs(4):
            pings = _pings(made, seconds)
            lost += pings.lost()
            p99.append(percentile(pings, 0.99))
    return [
        most("4 hogs", "pings lost", lost, 0),
        most("4 hogs", "ping p99, ms", median(p99), 5, each=p99),
    ]


Row = Callable[[int, int], list[Figure]]
ROWS: dict[str, Row] = {
    "throughput": throughput,
    "without_realtime": without_realtime,
    "probing": probing,
    "datagrams": datagrams,
    "idle_ping": idle_ping,
    "starved": starved,
    "crowded": crowded,
    "floods": floods,
    "recovery": recovery,
    "black_holes": paths.black_holes,
    "data_swallowed": paths.data_swallowed,
    "interactive": paths.interactive,
    "slower": paths.slower,
    "lossy": paths.lossy,
    "one_percent": paths.one_percent,
    "unplugged": paths.unplugged,
    "families": paths.families,
    "flapping": paths.flapping,
    "skewed": paths.skewed,
    "outages": only.outages,
    "slower_only": only.slower_only,
    "rebinding": only.rebinding,
    "idle_death": idle.idle_death,
    "idle_behind_nat": idle.idle_behind_nat,
    "mtu_ladder": mtu.ladder,
    "mtu_foreign": mtu.foreign,
    "mtu_shrinking": mtu.shrinking,
    "forged": mtu.forged,
    "many_peers": many_peers,
    "node_idle": node_idle,
    "control": control_scale,
    "onboarding": onboarding,
    "relay": relay_throughput,
    "relay_flood": relay_flood,
    "relay_tunnel": relay_tunnel,
    "mesh_server_down": mesh.server_down,
    "mesh_moves": mesh.moves,
    "mesh_restart": mesh.restarts,
    "mesh_relays": mesh_relays,
    "grid": grid,
}

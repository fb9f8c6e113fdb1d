"""Two ends of one make, and the load between them."""

import contextlib
import json
from collections.abc import Iterator

import msgspec

from bench.machine import cpu_seconds
from shore.lab.bulk import iperf_server
from shore.lab.ends import PORT, end_of, sides
from shore.lab.net import Net, until

# wireguard-go as its authors have it now.
CURRENT = "wireguard"
A, B = "10.8.0.1", "10.8.0.2"


class Pair:
    """A tunnel between two hosts with the same implementation at both ends."""

    def __init__(self, net: Net, make: str, extra: str = "") -> None:
        ours, theirs = sides(f"{net.address_of_b}:{PORT}")
        self.net = net
        self.a, self.b = end_of(make, net.a, ours, extra), end_of(make, net.b, theirs, extra)

    def pids(self) -> list[int]:
        """Every process of both ends."""
        return [*self.a.pids(), *self.b.pids()]


@contextlib.contextmanager
def pair(make: str, extra: str = "") -> Iterator[Pair]:
    """A pair that is up and has its session."""
    with Net() as net:
        made = Pair(net, make, extra)
        try:
            made.b.up()
            made.a.up()
            until(lambda: net.a.reaches(B, within_s=1), 20)
            yield made
        finally:
            made.a.down()
            made.b.down()


class Load(msgspec.Struct, frozen=True):
    """What iperf3 saw: bits per second received, bytes, share lost, retransmissions."""

    bps: float
    bytes: float
    lost: float = 0.0
    retransmits: int = 0


def tcp(net: Net, seconds: int) -> Load:
    """One TCP stream from a to b with cubic."""
    with iperf_server(net.b, B):
        words = ["iperf3", "-c", B, "-C", "cubic", "-t", str(seconds), "-J"]
        end = json.loads(net.a.run(*words))["end"]
    received = end["sum_received"]
    return Load(received["bits_per_second"], received["bytes"], 0.0, end["sum_sent"]["retransmits"])


def priced(made: Pair, seconds: int) -> tuple[Load, float]:
    """The same between the ends of a pair, with the CPU seconds of all its processes for each GB."""
    before = cpu_seconds(made.pids())
    load = tcp(made.net, seconds)
    return load, (cpu_seconds(made.pids()) - before) / (load.bytes / 1e9)


def udp(net: Net, seconds: int, rate: str) -> Load:
    """Datagrams of 1,200 bytes from a to b at a rate (`1G`; `0` is unlimited)."""
    with iperf_server(net.b, B):
        words = ["iperf3", "-c", B, "-u", "-b", rate, "-l", "1200", "-t", str(seconds), "-J"]
        end = json.loads(net.a.run(*words))["end"]
    total = end["sum"]
    lost = total["lost_packets"] / max(total["packets"], 1)
    return Load(total["packets"] * (1 - lost) * 1200 * 8 / total["seconds"], total["bytes"], lost)

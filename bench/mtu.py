"""The rows of path MTUs: what carries a mebibyte, how fast, and what is known of the path."""

import time

import msgspec

from bench.figure import NEVER, Figure, median, most
from shore.lab.ends import PORT, ShoreEnd
from shore.lab.forge import forging
from shore.lab.narrow import STOCK, A, B, Pair, pair
from shore.lab.net import later, until
from shore.lab.pinger import Pinger, Pings
from shore.lab.transfer import Transfer, transfer
from shore.model.history import Change
from shore.model.keys import key_text

MIB = 1 << 20
LADDER = (576, 1124, 1280, 1340, 1400, 1420, 1460, 1492, 1500, 9000)
LADDER_V6 = (1280, 1340, 1400, 1492, 1500)
FIRST_OF_A, FIRST_OF_B = "10.99.1.1", "10.99.1.2"
FOREIGN = (1280, 1340, 1400, 1492)


def ladder(_rounds: int, _seconds: int) -> list[Figure]:
    """Shore at both ends: every size, with and without a word from routers."""
    missing, worst_stall, worst_error, known = 0, 0.0, 0, []
    each = {}
    for family, sizes in ((4, LADDER), (6, LADDER_V6)):
        for size in sizes:
            for icmp in (True, False):
                with pair(size, icmp=icmp, family=family) as made:
                    until(lambda m=made, s=size: m.path_mtu() >= s - 16, 10)
                    known.append(_known_after(made, size, family))
                    done = transfer(made.lab["b"], made.lab["a"], B, MIB, 30)
                    missing += done.bytes < MIB
                    worst_stall = max(worst_stall, done.stall)
                    worst_error = max(worst_error, size - made.path_mtu())
                    each[f"v{family} {size} icmp={icmp}"] = [done.bytes, done.seconds, done.stall]
    return [
        most("MTU ladder, Shore", "transfers of 1 MiB that did not complete", missing, 0, each=each),
        most("MTU ladder, Shore", "longest stall, s", worst_stall, 2.0),
        most("MTU ladder, Shore", "furthest from the truth, bytes", worst_error, 16),
        most("MTU ladder, Shore", "known after the first answer, median, s", median(known), 1.0, each=known),
    ]


def foreign(_rounds: int, _seconds: int) -> list[Figure]:
    """Shore and a stock wireguard-go: new connections each way."""
    slowest, each = 0.0, {}
    for size in FOREIGN:
        for icmp in (True, False):
            with pair(size, icmp=icmp, b=STOCK) as made:
                time.sleep(2)
                for sender, receiver, address in (("a", "b", A), ("b", "a", B)):
                    done = transfer(made.lab[sender], made.lab[receiver], address, MIB, 15)
                    took = done.seconds if done.bytes == MIB else 99.0
                    slowest = max(slowest, took)
                    each[f"{size} icmp={icmp} from {sender}"] = took
    with pair(1280, icmp=False, a=STOCK, b=STOCK) as made:
        plain = transfer(made.lab["b"], made.lab["a"], B, MIB, 15)
    return [
        most("MTU, Shore to wireguard-go", "slowest 1 MiB, s", slowest, 5.0, each=each),
        Figure("MTU, wireguard-go at both ends", "bytes of 1 MiB in 15 s at 1280, no ICMP", plain.bytes),
    ]


def shrinking(rounds: int, _seconds: int) -> list[Figure]:
    """The path shrinks from 1500 to 1300 under bulk, and nobody says so."""
    stalls = []
    for _ in range(rounds):
        with pair(1500, icmp=False) as made:
            until(lambda m=made: m.path_mtu() >= 1484, 10)
            made.link.change(rate_mbit=20)
            with later(2.0, lambda m=made: m.link.change(mtu=1300)):
                stalls.append(transfer(made.lab["b"], made.lab["a"], B, 12 * MIB, 40).stall)
    return [most("path shrinks 1500 -> 1300", "stall, s", median(stalls), 2.0, each=stalls)]


def forged(rounds: int, seconds: int) -> list[Figure]:
    """A stranger tells both ends, 100 times a second, that the path carries 68, 576 or 1280 bytes."""
    row, changes, lost, took = "forged ICMP", 0, 0, []
    for _ in range(rounds):
        with pair(1500, icmp=False) as made:
            until(lambda m=made: m.path_mtu() >= 1484, 10)
            before = _known(made)
            pings, done = _lied_to(made, seconds)
            changes += sum(new != old for new, old in zip(_known(made), before, strict=True))
            lost += pings.lost()
            took.append(done.seconds if done.bytes == MIB else NEVER)
    with pair(1500, icmp=False, a=STOCK, b=STOCK) as made:
        theirs, their_done = _lied_to(made, seconds)
    return [
        most(row, "changes of a path or its MTU", changes, 0),
        most(row, "pings lost", lost, 0),
        Figure(row, "1 MiB meanwhile, s", round(median(took), 3), detail={"each": took}),
        Figure(row, "wireguard-go: pings lost", theirs.lost()),
        Figure(row, "wireguard-go: bytes of 1 MiB within 30 s", their_done.bytes),
    ]


def _known_after(made: Pair, size: int, family: int) -> float:
    """Seconds from the peer's first answer to the end of the search, by a's history: to ask takes a while."""
    answered: list[float] = []
    over: list[float] = []

    def is_over() -> bool:
        assert isinstance(made.a, ShoreEnd)
        told = made.a.shore("history", key_text(made.a.side.peer_key), "--json").splitlines()
        changes = [msgspec.json.decode(line, type=Change) for line in told]
        sizes = [each for each in changes if each.cause == "mtu" and ("[" in each.what) == (family == 6)]
        answered[:] = [each.at for each in changes if each.what.startswith("peer is a Shore node")]
        over[:] = [each.at for each in sizes if each.numbers["mtu"] >= size - 16]
        return bool(answered and over)

    until(is_over, 10)
    return round(max(over[0] - answered[0], 0.0), 3)


def _lied_to(made: Pair, seconds: int) -> tuple[Pings, Transfer]:
    a, b = made.lab["a"], made.lab["b"]
    with forging(b, FIRST_OF_A, FIRST_OF_B, PORT), forging(a, FIRST_OF_B, FIRST_OF_A, PORT):
        pinger = Pinger(a, B)
        time.sleep(seconds)
        done = transfer(b, a, B, MIB, 30)
        believed = all(
            "mtu" in host.ip(f"route get {other}") for host, other in ((a, FIRST_OF_B), (b, FIRST_OF_A))
        )
        assert believed, "no kernel takes these for genuine"
        return pinger.stop(), done


def _known(made: Pair) -> list[tuple[int, int | None]]:
    """What each end knows: how often it changed paths, and what the one in use carries."""
    peers = [end.status().peers[0] for end in (made.a, made.b) if isinstance(end, ShoreEnd)]
    return [(peer.switches, next((p.path_mtu for p in peer.paths if p.primary), None)) for peer in peers]

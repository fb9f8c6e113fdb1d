"""`shore ping`: is a peer there, by which paths, and how far away.

A Shore peer is probed on every path at once. Plain WireGuard answers no probes; it is asked by ICMP through
the tunnel at its own tunnel address, if its AllowedIPs name one, else by one new handshake.
"""

import ipaddress
import re
import subprocess
import sys
import time

import click
import msgspec

from shore.cli.asking import UNREACHABLE, fail, obtain, running
from shore.cli.peers import JSON, NAME, PEER, one, renewed
from shore.cli.whom import Known
from shore.model.keys import parse_key
from shore.model.ping import PathPing
from shore.model.status import PeerStatus
from shore.wire import api

EVERY = 1.0
REPLY = re.compile(r"time[=<]([0-9.]+) ?ms")


class Line(msgspec.Struct):
    """What came of the probes of one way: each one's round trip, None where it was lost."""

    words: str
    id: int | None = None
    uplink: str | None = None
    remote: str | None = None
    primary: bool = False
    rtt_ms: list[float | None] = msgspec.field(default_factory=list)

    @property
    def answered(self) -> list[float]:
        """Round trips of those that were answered."""
        return [rtt for rtt in self.rtt_ms if rtt is not None]


@click.command()
@PEER
@NAME
@click.option("-c", "--count", default=4, type=click.IntRange(min=1), help="How many rounds, 4 if not said.")
@JSON
def ping(peer: str, name: str | None, count: int, as_json: bool) -> None:
    """Probe every path to a peer, and print each round trip and the loss.

    PEER is a public key, the beginning of one, or a Name. Exit code 5 if nothing was answered.
    """
    tunnel, status, meant = one(peer, running(name))
    by, lines = "probes", _probe(meant, count, as_json)
    if lines is None:
        by, lines = _ask_plainly(meant, status, count, as_json)
    if as_json:
        told = [{**msgspec.to_builtins(line), "lost": _lost(line)} for line in lines]
        for line in told:
            del line["words"]
        whole = {"tunnel": tunnel.name, "public_key": meant.public_key, "by": by, "paths": told}
        click.echo(msgspec.json.format(msgspec.json.encode(whole), indent=2).decode())
    else:
        click.echo("\n".join(_summary(line) for line in lines))
    if not any(line.answered for line in lines):
        if as_json:
            sys.exit(UNREACHABLE)
        fail(f"{meant.words} did not answer: `shore why` says more", UNREACHABLE)


def _probe(meant: Known, count: int, quiet: bool) -> list[Line] | None:
    """Rounds of probes on every path; None if the peer answers none, as plain WireGuard does."""
    lines: dict[tuple[int | None, str | None, str], Line] = {}
    for number in range(count):
        began = time.monotonic()
        reply = obtain(meant.tunnel, api.AskPoke(parse_key(meant.public_key)))
        if not isinstance(reply, api.Poked) or not reply.probed:
            return None
        for result in reply.paths:
            line = lines.setdefault((result.id, result.uplink, result.remote), Line(_words(result)))
            _take(line, result)
            if not quiet:
                click.echo(f"{number + 1}: {line.words}: {_became(result)}")
        if number + 1 < count:
            time.sleep(max(EVERY - (time.monotonic() - began), 0))
    return list(lines.values())


def _take(line: Line, result: PathPing) -> None:
    line.words, line.primary = _words(result), result.primary
    line.id, line.uplink, line.remote = result.id, result.uplink, result.remote
    if result.sent:
        line.rtt_ms.append(result.rtt_ms)


def _became(result: PathPing) -> str:
    if not result.sent:
        return "not probed"
    return "no answer" if result.rtt_ms is None else f"{result.rtt_ms:.1f} ms"


def _words(result: PathPing) -> str:
    via = f"via {result.uplink} " if result.uplink else ""
    how = "by relay" if result.kind == "relay" else "to"
    return f"{via}{how} {result.remote}{' (primary)' if result.primary else ''}"


def _ask_plainly(meant: Known, status: PeerStatus, count: int, quiet: bool) -> tuple[str, list[Line]]:
    address = _tunnel_address(status.allowed_ips)
    if not quiet:
        how = f"by ICMP at {address}" if address else "for one new handshake, as AllowedIPs name no host"
        click.echo(f"{meant.words} answers no probes, as plain WireGuard does: it is asked {how}")
    if address is None:
        obtain(meant.tunnel, api.AskRenew(parse_key(meant.public_key)))
        fresh = renewed(meant)
        rtt = None if fresh is None else fresh.handshake_rtt_ms
        return "handshake", [Line("handshake", remote=status.endpoint, primary=True, rtt_ms=[rtt])]
    line = Line(f"through the tunnel to {address}", remote=address, primary=True)
    for number in range(count):
        began = time.monotonic()
        rtt = _icmp(meant.tunnel, address)
        line.rtt_ms.append(rtt)
        if not quiet:
            click.echo(f"{number + 1}: {line.words}: {'no answer' if rtt is None else f'{rtt:.1f} ms'}")
        if number + 1 < count:
            time.sleep(max(EVERY - (time.monotonic() - began), 0))
    return "icmp", [line]


def _tunnel_address(allowed_ips: tuple[str, ...]) -> str | None:
    """The first prefix that is one host."""
    networks = (ipaddress.ip_network(prefix) for prefix in allowed_ips)
    return next((str(net.network_address) for net in networks if net.num_addresses == 1), None)


def _icmp(device: str, address: str) -> float | None:
    words = ["ping", "-n", "-c", "1", "-W", "2", "-I", device, address]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        fail("`ping` is missing: apt install iputils-ping", 1)
    found = REPLY.search(done.stdout)
    return float(found[1]) if found else None


def _lost(line: Line) -> float | None:
    """The share that was lost; None where nothing was sent."""
    return None if not line.rtt_ms else round(1 - len(line.answered) / len(line.rtt_ms), 4)


def _summary(line: Line) -> str:
    times, lost = line.answered, _lost(line)
    if lost is None:
        return f"{line.words}: not probed"
    said = f"{line.words}: {len(times)} of {len(line.rtt_ms)} answered, {lost * 100:.0f} % lost"
    if times:
        said += f", {min(times):.1f}/{sum(times) / len(times):.1f}/{max(times):.1f} ms (least, mean, most)"
    return said

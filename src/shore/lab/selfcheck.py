"""Is the laboratory what was asked? Every way of every link and every NAT is measured and compared.

NATs are measured where they stand, between the neighbour on their LAN and the neighbour on their WAN, which
is lent a second address for the time; the two links are made clear meanwhile. Where the inner neighbour is a
NAT itself, the chain is as strict as the stricter of the two, and forgets as early as the first.
"""

import contextlib
import ipaddress
import math
from collections.abc import Iterator

import msgspec

from shore.lab.classify import Reflector, classify, lifetime, passed_rate
from shore.lab.impairment import CLEAR, Impairment
from shore.lab.laboratory import Laboratory
from shore.lab.link import Ending, Link
from shore.lab.nat import Kind
from shore.lab.net import Host, LabFailed
from shore.lab.survey import ANY_BYTE, FRAME, SizeFound, Surveyor, WayFound, survey

DATAGRAMS, PACE = 1000, 1000.0
SLACK_MS = 8.0
FASTEST_MBIT = 100.0
LONGEST_LIFETIME_S = 10
LONGEST_FLAP_S, FLAP_PACE = 20.0, 100.0
POLICED_PORT = 40003
STEP = 8
STRICTNESS: tuple[Kind, ...] = (
    "none",
    "firewall",
    "full-cone",
    "address-restricted",
    "port-restricted",
    "burned",
    "symmetric-sequential",
    "symmetric",
)


class Finding(msgspec.Struct, frozen=True):
    """One property of one thing: as it was asked, as it was found, and whether that is right."""

    subject: str
    what: str
    asked: str
    found: str
    right: bool


def check(lab: Laboratory) -> list[Finding]:
    """Measure everything; some three seconds for each way of a link and for each NAT."""
    findings = []
    for link in lab.links.values():
        for end in link.ends:
            if all(each.addresses for each in link.ends):
                findings += check_way(lab, link, end.host)
    for router in lab.nats:
        findings += check_nat(lab, router)
    return findings


def check_way(lab: Laboratory, link: Link, toward: str) -> list[Finding]:
    """Measure the way of a link that leads to a host."""
    subject = f"{link.name} toward {toward}"
    addresses = [end.addresses for end in link.ends]
    family = 4 if all(any("." in a for a in each) for each in addresses) else 6
    with contextlib.ExitStack() as stack:
        for end in link.ends:
            if end.host in lab.nats:
                stack.enter_context(lab.nats[end.host].opened())
        surveyor = survey(link, lab.hosts, toward, family)
        stack.callback(surveyor.close)
        return _surveyed(subject, surveyor, link.impairment(toward), min(end.mtu for end in link.ends))


def check_nat(lab: Laboratory, router: str) -> list[Finding]:
    """Measure a NAT between its neighbours. Raises LabFailed where there are none to measure from."""
    nat = lab.nats[router].nat
    inner, outer = (neighbour(lab, router, device) for device in (nat.lan, nat.wan))
    source = _first_ipv4(inner)
    asked, lifetime_s = nat.kind, nat.lifetime_s
    behind = lab.nats.get(inner.host)
    if behind is not None and behind.nat.wan == inner.device and behind.nat.kind != "none":
        asked = max(asked, behind.nat.kind, key=STRICTNESS.index)
        lifetime_s = min(lifetime_s, behind.nat.lifetime_s)
    with (
        _cleared(lab, router),
        _second_address(lab, outer) as addresses,
        Reflector(lab[outer.host], addresses) as reflector,
    ):
        found = classify(lab[inner.host], reflector, source=source, device=inner.device)
        if nat.udp_blocked:
            return [Finding(router, "UDP", "blocked", _word(found.reachable), not found.reachable)]
        kind = found.kind()
        findings = [Finding(router, "NAT kind", asked, kind or "no name", kind == asked)]
        if nat.translates:
            right = found.hairpin == nat.hairpin
            findings += [Finding(router, "hairpin", str(nat.hairpin), str(found.hairpin), right)]
        if nat.policer is not None:
            target = (addresses[0], POLICED_PORT)
            offered = 4.0 * nat.policer
            rate = passed_rate(lab[inner.host], lab[outer.host], target, offered, device=inner.device)
            # A policer's burst of a tenth of a second comes on top.
            right = 0.85 <= rate / nat.policer <= 1.2
            findings += [Finding(router, "policer", f"{nat.policer}/s", f"{rate:.0f}/s", right)]
        if nat.kind != "none" and lifetime_s <= LONGEST_LIFETIME_S:
            findings += [_lifetime(router, lifetime_s, lab[inner.host], inner.device, reflector)]
    return findings


def compared(subject: str, it: Impairment, found: WayFound) -> list[Finding]:
    """The shares and delays of a way that is neither black nor flapping."""
    size = found.sent
    findings = [
        _share(subject, "loss", it.loss, found.lost, size, runs=max(1.0, it.burst)),
        _share(subject, "duplicate", it.duplicate * (1 - it.loss), found.duplicated, size),
        _share(subject, "corrupt", it.corrupt * (1 - it.loss), found.corrupted, size),
    ]
    if not it.jitter_ms:
        findings += [_share(subject, "reorder", it.reorder * (1 - it.loss), found.reordered, size)]
    late = found.delay_ms - it.delay_ms
    # The wandering need not touch its ends while we look.
    right = -0.5 <= late <= SLACK_MS + 0.5 * it.jitter_ms
    findings += [Finding(subject, "delay", f"{it.delay_ms:g} ms", f"{found.delay_ms:.1f} ms", right)]
    if not it.reorder:
        right = 0.4 * it.jitter_ms - 1 <= found.jitter_ms <= it.jitter_ms + SLACK_MS
        findings += [Finding(subject, "jitter", f"{it.jitter_ms:g} ms", f"{found.jitter_ms:.1f} ms", right)]
    return findings


def sized(subject: str, it: Impairment, fits: SizeFound, larger: SizeFound) -> list[Finding]:
    """What became of a packet of the largest size, and of one above it."""
    arrived = fits.arrived and not larger.arrived
    said = f"{fits.size} {_arrives(fits)}, {larger.size} {_arrives(larger)}"
    findings = [Finding(subject, "largest packet", str(fits.size), said, arrived)]
    spoken = it.icmp and it.mtu == fits.size
    heard = larger.icmp_mtu == fits.size if spoken else larger.icmp_mtu is None
    answer = "swallowed" if larger.icmp_mtu is None else f"says {larger.icmp_mtu}"
    return [*findings, Finding(subject, "ICMP", "sent" if spoken else "swallowed", answer, heard)]


def neighbour(lab: Laboratory, host: str, device: str) -> Ending:
    """The other end of the link at a device of a host. Raises LabFailed."""
    for link in lab.links.values():
        for one, other in (link.ends, link.ends[::-1]):
            if (one.host, one.device) == (host, device):
                return other
    raise LabFailed(f"{host} has no link at `{device}`")


def _surveyed(subject: str, surveyor: Surveyor, it: Impairment, device_mtu: int) -> list[Finding]:
    if it.flap_up_s:
        return _flapping(subject, surveyor, it)
    first = ANY_BYTE if it.drop_type != ANY_BYTE else 0
    pace = PACE if it.rate_mbit is None else min(PACE, it.rate_mbit * 1e6 / FRAME / 8 / 2)
    found = surveyor.stream(min(DATAGRAMS, int(pace * 2)), pace, first)
    if it.black_hole or it.loss >= 1:
        return [Finding(subject, "black hole", "all lost", f"{found.lost:.1%} lost", found.lost == 1)]
    findings = compared(subject, it, found)
    if it.drop_type is not None:
        typed = surveyor.stream(50, pace, it.drop_type)
        right = typed.lost == 1
        findings += [Finding(subject, f"type {it.drop_type}", "all lost", f"{typed.lost:.0%} lost", right)]
    largest = min(each for each in (it.mtu, it.drop_larger, device_mtu) if each is not None)
    if largest < device_mtu and it.loss < 0.3:
        findings += sized(subject, it, surveyor.size(largest), surveyor.size(largest + STEP))
    if it.rate_mbit is not None and it.rate_mbit <= FASTEST_MBIT and not it.loss:
        rate = surveyor.rate_mbit(it.rate_mbit * 1.5)
        right = abs(rate / it.rate_mbit - 1) < 0.1
        findings += [Finding(subject, "rate", f"{it.rate_mbit:g} Mbit/s", f"{rate:.2f} Mbit/s", right)]
    return findings


def _flapping(subject: str, surveyor: Surveyor, it: Impairment) -> list[Finding]:
    """The share of time that a flap is down, over two of its cycles."""
    cycle = it.flap_up_s + it.flap_down_s
    if 2 * cycle > LONGEST_FLAP_S:
        return []
    found = surveyor.stream(int(2 * cycle * FLAP_PACE), FLAP_PACE)
    asked = 1 - (1 - it.flap_down_s / cycle) * (1 - it.loss)
    right = abs(found.lost - asked) <= 0.1
    return [Finding(subject, "flap", f"{asked:.0%} of the time down", f"{found.lost:.0%}", right)]


def _share(subject: str, what: str, asked: float, found: float, size: int, *, runs: float = 1.0) -> Finding:
    """Four standard deviations of a binomial share; events in runs are fewer and so less certain."""
    deviation = math.sqrt(max(asked * (1 - asked), 0.0) * 2 * runs / size) if runs > 1 else 0.0
    deviation = max(deviation, math.sqrt(max(asked * (1 - asked), 0.0) / size))
    right = abs(found - asked) <= 4 * deviation + (2 / size if asked else 0)
    return Finding(subject, what, f"{asked:.1%}", f"{found:.1%}", right)


def _lifetime(router: str, lifetime_s: int, inner: Host, device: str, reflector: Reflector) -> Finding:
    silences = [0.4 * lifetime_s, 0.7 * lifetime_s, 1.3 * lifetime_s + 1]
    outlived, died = lifetime(inner, reflector, silences, device=device)
    right = (outlived, died) == (silences[1], silences[2])
    said = f"more than {outlived:g} s" + (f", less than {died:g} s" if died is not None else "")
    return Finding(router, "lifetime", f"{lifetime_s} s", said, right)


@contextlib.contextmanager
def _cleared(lab: Laboratory, router: str) -> Iterator[None]:
    """The links of a router, without impairment for the time."""
    links = [link for link in lab.links.values() if any(end.host == router for end in link.ends)]
    before = [(link, end.host, link.impairment(end.host)) for link in links for end in link.ends]
    for link in links:
        link.set(CLEAR)
    try:
        yield
    finally:
        for link, toward, impairment in before:
            link.set(impairment, toward)


@contextlib.contextmanager
def _second_address(lab: Laboratory, end: Ending) -> Iterator[tuple[str, str]]:
    """Lend a host another address of its network."""
    first = ipaddress.IPv4Interface(next(address for address in end.addresses if "." in address))
    used = lab[end.host].ip("address show")
    taken = {str(first.ip)} | {
        a.partition("/")[0] for link in lab.links.values() for e in link.ends for a in e.addresses
    }
    last = first.network.broadcast_address
    near = [last - back for back in range(8, 0, -1) if last - back > first.network.network_address]
    free = [str(address) for address in near if str(address) not in taken]
    if not free or f" {free[-1]}/" in used:
        raise LabFailed(f"the network {first.network} has no room for a second address to measure from")
    lab[end.host].ip(f"address add {free[-1]}/{first.network.prefixlen} dev {end.device}")
    try:
        yield str(first.ip), free[-1]
    finally:
        lab[end.host].ip(f"address delete {free[-1]}/{first.network.prefixlen} dev {end.device}")


def _first_ipv4(end: Ending) -> str:
    for address in end.addresses:
        if "." in address:
            return address.partition("/")[0]
    raise LabFailed(f"{end.host} has no IPv4 address at {end.device} to measure a NAT from")


def _word(reachable: bool) -> str:
    return "passes" if reachable else "blocked"


def _arrives(size: SizeFound) -> str:
    return "arrives" if size.arrived else "does not"

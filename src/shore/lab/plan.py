"""A laboratory and what shall happen in it: a TOML file as frozen values. docs/lab.md has the format."""

import tomllib
from typing import Literal

import msgspec

from shore.lab.catalogue import CATALOGUE, CatalogueFault
from shore.lab.impairment import CLEAR, Impairment, ImpossibleImpairment
from shore.lab.link import Ending
from shore.lab.nat import ImpossibleNat, Nat

CANDIDATES = ("shore", "wireguard-go", "wireguard", "boringtun-cli", "gotatun")
Candidate = Literal["shore", "wireguard-go", "wireguard", "boringtun-cli", "gotatun"]


class ImpossiblePlan(ValueError):
    """A file that is no plan; says why in one sentence."""


class HostPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A host; `routes` are words of `ip route add`."""

    routes: tuple[str, ...] = ()


class RouterPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A host that forwards, with a NAT if one is asked."""

    routes: tuple[str, ...] = ()
    nat: Nat | None = None


class LinkPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A link; `toward` overrides `impairment` for the way that leads to a host; `record` is for cables."""

    name: str
    ends: tuple[Ending, Ending]
    cable: bool = False
    record: bool = False
    impairment: Impairment = CLEAR
    toward: dict[str, Impairment] = {}


class TunnelPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tunnel whose end at `a` is under test, once with each of `candidates`; inner 10.8.N.1 and 10.8.N.2.

    N counts the tunnels from 0. `extra` are lines for the [Interface] section of a Shore end.
    """

    a: str
    b: str
    endpoint: str
    candidates: tuple[Candidate, ...] = ("shore",)
    peer: Candidate = "wireguard-go"
    keepalive_s: int | None = None
    back: str | None = None
    extra: str = ""


class PingPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"source": "from"}):
    """Echo requests from a host to an address, for all of the run."""

    source: str
    to: str
    name: str = ""
    rate: float = 20.0

    @property
    def called(self) -> str:
        """Its name, or where it goes."""
        return self.name or f"{self.source} to {self.to}"


class FaultPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fault of the catalogue at an instant; `for_s` later it is undone; `every_s` repeats it to the end."""

    at_s: float
    do: str
    link: str = ""
    nat: str = ""
    host: str = ""
    toward: str | None = None
    fields: dict[str, float | int | bool | str] = {}
    for_s: float | None = None
    every_s: float | None = None

    @property
    def fault(self) -> CatalogueFault:
        """What the catalogue has under its name."""
        return CATALOGUE[self.do]

    @property
    def called(self) -> str:
        """One line for people."""
        where = self.link or self.nat or self.host
        way = f" toward {self.toward}" if self.toward else ""
        return f"{self.do} on {where}{way}"


class Expectation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a ping must show from `after_s` on: losses, their share, the longest silence, the median RTT."""

    ping: str
    after_s: float = 0.0
    lost_most: int | None = None
    lost_least: int | None = None
    share_most: float | None = None
    gap_most_s: float | None = None
    rtt_most_ms: float | None = None
    candidates: tuple[Candidate, ...] = ("shore",)


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of a file."""

    name: str
    seconds: float = 10.0
    seed: int = 1
    settle_s: float = 2.0
    hosts: dict[str, HostPlan] = {}
    routers: dict[str, RouterPlan] = {}
    links: tuple[LinkPlan, ...] = ()
    tunnels: tuple[TunnelPlan, ...] = ()
    pings: tuple[PingPlan, ...] = ()
    faults: tuple[FaultPlan, ...] = ()
    expect: tuple[Expectation, ...] = ()

    def candidates(self) -> list[str]:
        """Who is tested; without a tunnel the network alone, once."""
        return list(dict.fromkeys(name for tunnel in self.tunnels for name in tunnel.candidates)) or [
            "network"
        ]


def parse(text: str) -> Plan:
    """A plan whose names all fit together. Raises ImpossiblePlan."""
    try:
        plan = msgspec.convert(tomllib.loads(text), Plan)
    except tomllib.TOMLDecodeError as error:
        raise ImpossiblePlan(f"this is no TOML: {error}") from None
    except (msgspec.ValidationError, ImpossibleImpairment, ImpossibleNat) as error:
        raise ImpossiblePlan(str(error)) from None
    _check_places(plan)
    _check_tunnels(plan)
    for fault in plan.faults:
        _check_fault(plan, fault)
    pings = {ping.called for ping in plan.pings}
    for expectation in plan.expect:
        if expectation.ping not in pings:
            raise ImpossiblePlan(f"an expectation names the ping `{expectation.ping}`, which there is not")
    return plan


def _check_places(plan: Plan) -> None:
    hosts = {*plan.hosts, *plan.routers}
    both = set(plan.hosts) & set(plan.routers)
    if both:
        raise ImpossiblePlan(f"`{both.pop()}` is a host and a router")
    names = [link.name for link in plan.links]
    if len(set(names)) != len(names):
        raise ImpossiblePlan("two links have the same name")
    for link in plan.links:
        for host in [*(end.host for end in link.ends), *link.toward]:
            _known(host, hosts, f"the link {link.name}")
        beyond = [name for it in (link.impairment, *link.toward.values()) for name in it.needs_a_wire()]
        if link.cable and beyond:
            raise ImpossiblePlan(f"the cable {link.name} cannot do `{beyond[0]}`: leave out `cable`")
    for ping in plan.pings:
        _known(ping.source, hosts, f"the ping {ping.called}")


def _check_tunnels(plan: Plan) -> None:
    hosts = {*plan.hosts, *plan.routers}
    used: set[str] = set()
    for tunnel in plan.tunnels:
        for host in (tunnel.a, tunnel.b):
            _known(host, hosts, "a tunnel")
            if host in used:
                raise ImpossiblePlan(f"the host {host} has two tunnels, and there is room for one")
            used.add(host)


def _check_fault(plan: Plan, fault: FaultPlan) -> None:
    if fault.do not in CATALOGUE:
        raise ImpossiblePlan(f"there is no fault `{fault.do}`: see `shore lab faults`")
    on = fault.fault.on
    targets: dict[str, tuple[str, set[str]]] = {
        "link": (fault.link, {link.name for link in plan.links}),
        "nat": (fault.nat, {name for name, router in plan.routers.items() if router.nat is not None}),
        "end": (fault.host, {host for tunnel in plan.tunnels for host in (tunnel.a, tunnel.b)}),
    }
    target, there_are = targets[on]
    if target not in there_are:
        key = "host" if on == "end" else on
        raise ImpossiblePlan(f"the fault {fault.do} needs a `{key}`, and there is no {on} `{target}`")
    for link in plan.links:
        ends = [end.host for end in link.ends]
        named = [name for name in (fault.toward, fault.host or None) if name is not None]
        if link.name == fault.link and (set(named) - set(ends) or (fault.do == "unplug" and not fault.host)):
            raise ImpossiblePlan(
                f"the fault {fault.do} must name a host at an end of {link.name}: {' or '.join(ends)}"
            )
    if not 0 <= fault.at_s <= plan.seconds:
        raise ImpossiblePlan(f"the fault {fault.do} at {fault.at_s:g} s is not within the {plan.seconds:g} s")
    _check_fields(plan, fault)
    if fault.every_s is not None and fault.every_s <= (fault.for_s or 0):
        raise ImpossiblePlan(f"the fault {fault.do} comes again before it is over")


def _check_fields(plan: Plan, fault: FaultPlan) -> None:
    try:
        if fault.fault.on == "link":
            msgspec.convert(fault.fields, Impairment)
        elif fault.fault.on == "nat":
            nat = plan.routers[fault.nat].nat
            assert nat is not None
            msgspec.convert({**msgspec.structs.asdict(nat), **fault.fields}, Nat)
    except msgspec.ValidationError as error:
        raise ImpossiblePlan(f"the fault {fault.do}: {error}") from None


def _known(host: str, hosts: set[str], where: str) -> None:
    if host not in hosts:
        raise ImpossiblePlan(f"{where} names the host `{host}`, which there is not")

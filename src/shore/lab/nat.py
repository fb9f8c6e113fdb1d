"""What a router does to UDP between its LAN and its WAN, by nftables alone.

    kind                    mapping (RFC 4787)      filtering
    none                    none                    none
    firewall                none                    address and port dependent, IPv6 too (RFC 6092)
    full-cone               endpoint-independent    endpoint-independent
    address-restricted      endpoint-independent    address-dependent
    port-restricted         endpoint-independent    address and port dependent
    burned                  as port-restricted, but its WAN side takes in what it did not ask for: such a
                            datagram occupies the mapping, and a hole punched afterwards gets another port
    symmetric               address and port dependent, random ports
    symmetric-sequential    the same, each port one above the last

An endpoint-independent mapping is a hash of the inner address and port, so that it is the same for each
destination. After its translation an outgoing datagram writes itself into a map from outer port to inner
address, with the lifetime as its timeout; what comes from outside to a port in the map is let in by the
kinds that allow it. A reboot forgets every mapping and moves the ports. A chain of two is a CGNAT.
"""

import contextlib
from collections.abc import Iterator
from typing import Literal, Self

import msgspec

from shore.lab.net import Host

Kind = Literal[
    "none",
    "firewall",
    "full-cone",
    "address-restricted",
    "port-restricted",
    "burned",
    "symmetric",
    "symmetric-sequential",
]
PORTS, FIRST_PORT, SPREAD, MOVES = 4096, 10000, 10000, 5
MOST_LIFETIME_S = 86400


class ImpossibleNat(ValueError):
    """A NAT that cannot be; says why in one sentence."""


class Nat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a router is asked to be. `policer` is in UDP datagrams a second, both ways together."""

    kind: Kind = "port-restricted"
    lan: str = "lan0"
    wan: str = "wan0"
    lifetime_s: int = 120
    hairpin: bool = False
    udp_blocked: bool = False
    policer: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.lifetime_s <= MOST_LIFETIME_S:
            raise ImpossibleNat(f"lifetime_s = {self.lifetime_s} is not between 1 and {MOST_LIFETIME_S}")
        if self.policer is not None and self.policer < 1:
            raise ImpossibleNat("policer must be 1 or more; a NAT that passes no UDP is udp_blocked")
        if self.hairpin and not self.translates:
            raise ImpossibleNat(f"a hairpin needs a translation, and `{self.kind}` has none")

    @property
    def translates(self) -> bool:
        """Whether it changes addresses at all."""
        return self.kind not in ("none", "firewall")

    def changed(self, **fields: object) -> Self:
        """The same with other fields. Raises ImpossibleNat."""
        return msgspec.structs.replace(self, **fields)


class NatBox:
    """A router with a NAT in it, changed and rebooted while it runs."""

    def __init__(self, host: Host, nat: Nat) -> None:
        self.host = host
        self.nat = nat
        self._epoch = 0
        self._load()

    def change(self, **fields: object) -> None:
        """Make it another NAT; mappings that exist live on. Raises ImpossibleNat."""
        self.nat = self.nat.changed(**fields)
        self._load()

    def reboot(self) -> None:
        """Forget all mappings; new ones get other ports."""
        self._epoch += 1
        self._load()
        self.host.run("conntrack", "-F")

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """A plain router for the time, so that its links can be measured."""
        self.host.run("nft", "-f", "-", stdin=_NOTHING)
        try:
            yield
        finally:
            self._load()

    def _load(self) -> None:
        self.host.run("nft", "-f", "-", stdin=rules(self.nat, self._epoch))
        for name in ("udp_timeout", "udp_timeout_stream"):
            self.host.sysctl(f"net.netfilter.nf_conntrack_{name}", self.nat.lifetime_s)


def rules(nat: Nat, epoch: int = 0) -> str:
    """The ruleset of a NAT, replacing its last one; `epoch` counts its reboots."""
    forward = _chain("forward", "filter hook forward priority 0", _forward(nat))
    text = f"{_NOTHING}table inet shore-wall {{\n{forward}"
    if nat.kind not in ("none", "burned"):
        closed = [f'iifname "{nat.wan}" ct state new drop']
        text += _chain("input", "filter hook input priority 0", [_NEIGHBOURS, *closed])
    text += "}\n"
    if nat.translates:
        text += f"table ip shore-nat {{\n{_memory(nat)}{_translation(nat, epoch)}}}\n"
    return text


_NOTHING = "".join(f"table {name}\ndelete table {name}\n" for name in ("ip shore-nat", "inet shore-wall"))
_NEIGHBOURS = "icmpv6 type { 133, 134, 135, 136 } accept"


def _forward(nat: Nat) -> list[str]:
    lines = []
    if nat.udp_blocked:
        lines += ["udp dport != 53 udp sport != 53 drop"]
    if nat.policer is not None:
        burst = max(1, nat.policer // 10)
        lines += [f"meta l4proto udp limit rate over {nat.policer}/second burst {burst} packets drop"]
    if nat.kind != "none":
        lines += [f'iifname != "{nat.wan}" accept', "ct state established,related accept"]
        lines += ["ct status dnat accept", "drop"]
    return lines


def _memory(nat: Nat) -> str:
    """Who may be met behind which outer port, and from which addresses."""
    keep = f"flags timeout; timeout {nat.lifetime_s}s;"
    inner = "ct original ip saddr . ct original proto-src"
    back = "ct reply ip saddr . ct reply proto-src"
    learn = [
        f"meta l4proto udp ct direction original update @inner {{ udp sport : {inner} }}",
        f"meta l4proto udp ct direction reply ct status dnat update @inner {{ udp sport : {back} }}",
        "meta l4proto udp update @met { ip daddr . udp sport }",
    ]
    learn = [f'oifname "{nat.wan}" {line}' for line in learn]
    return (
        f"    map inner {{ type inet_service : ipv4_addr . inet_service; {keep} }}\n"
        f"    set met {{ type ipv4_addr . inet_service; {keep} }}\n"
        + _chain("learn", "filter hook postrouting priority 110", learn)
    )


def _translation(nat: Nat, epoch: int) -> str:
    inward = []
    allowed = {"full-cone": "", "address-restricted": "ip saddr . udp dport @met "}
    if nat.kind in allowed:
        inward += [f'iifname "{nat.wan}" {allowed[nat.kind]}dnat ip to udp dport map @inner']
    if nat.hairpin:
        inward += [f'iifname "{nat.lan}" fib daddr type local dnat ip to udp dport map @inner']
    port = _outer_port(nat, epoch)
    outward = [f'oifname "{nat.wan}" meta l4proto udp masquerade{port}', f'oifname "{nat.wan}" masquerade']
    if nat.hairpin:
        outward += [f'iifname "{nat.lan}" oifname "{nat.lan}" ct status dnat masquerade']
    return _chain("inward", "nat hook prerouting priority -100", inward) + _chain(
        "outward", "nat hook postrouting priority 100", outward
    )


def _outer_port(nat: Nat, epoch: int) -> str:
    first = FIRST_PORT + epoch % MOVES * SPREAD
    if nat.kind == "symmetric":
        return " fully-random"
    if nat.kind == "symmetric-sequential":
        return f" to :numgen inc mod {PORTS} map {_ports(first)}"
    if nat.kind == "burned" and epoch == 0:
        # Keeps the port where it can, and only then has another to turn to.
        return ""
    return f" to :jhash ip saddr . udp sport mod {PORTS} seed {epoch + 1} map {_ports(first)}"


def _ports(first: int) -> str:
    """A map, because a bare number would be taken for a port with its octets the wrong way round."""
    return "{ " + ", ".join(f"{number} : {first + number}" for number in range(PORTS)) + " }"


def _chain(name: str, hook: str, lines: list[str]) -> str:
    body = "".join(f"        {line}\n" for line in lines)
    return f"    chain {name} {{\n        type {hook};\n{body}    }}\n"

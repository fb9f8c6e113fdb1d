"""The simulated underlay: uplinks, NATs, and an internet that joins every uplink to every other.

A datagram leaves by an uplink, is translated by the NAT before it, crosses the internet, passes the far NAT
if its filter lets it, and reaches the socket that the kernel would pick. What an uplink does to datagrams
(delay, jitter, loss, order, copies, size, holes) is drawn from the world's one source of chance. NATs follow
RFC 4787: mapping and filtering are `endpoint`-independent, `address`-dependent or `port`-dependent.
"""

import random
from dataclasses import dataclass, field
from typing import ClassVar, Literal

Behaviour = Literal["endpoint", "address", "port"]
# IP and UDP.
HEADERS = {4: 28, 6: 48}


@dataclass
class Mapping:
    """A hole in a NAT: the inner endpoint, the outer port, and who was spoken to."""

    inside: str
    port: int
    used: float
    contacted: set[str] = field(default_factory=set)


@dataclass
class Nat:
    """One router in front of one uplink."""

    address: str
    mapping: Behaviour = "endpoint"
    filtering: Behaviour = "port"
    preserves_port: bool = True
    lifetime: float = 60.0
    mappings: dict[tuple[str, str], Mapping] = field(default_factory=dict)
    ports: dict[int, Mapping] = field(default_factory=dict)

    def leave(self, inside: str, remote: str, now: float, chance: random.Random) -> str:
        """Translate the source of what goes out; it alone keeps a mapping alive (REQ-6)."""
        key = (inside, _about(remote, self.mapping))
        mapping = self.mappings.get(key)
        if mapping is None or now - mapping.used > self.lifetime:
            if mapping is not None:
                self.ports.pop(mapping.port, None)
            mapping = Mapping(inside, self._port(inside, now, chance), now)
            self.mappings[key] = mapping
            self.ports[mapping.port] = mapping
        mapping.used = now
        mapping.contacted.add(_about(remote, self.filtering))
        return f"{self.address}:{mapping.port}"

    def enter(self, port: int, remote: str, now: float) -> str | None:
        """The inner endpoint of what comes in; None where it is filtered."""
        mapping = self.ports.get(port)
        if mapping is None or now - mapping.used > self.lifetime:
            return None
        return mapping.inside if _about(remote, self.filtering) in mapping.contacted else None

    def reboot(self) -> None:
        """Forget every mapping."""
        self.mappings.clear()
        self.ports.clear()

    def _port(self, inside: str, now: float, chance: random.Random) -> int:
        wanted = int(inside.rpartition(":")[2])
        taken = self.ports.get(wanted)
        if self.preserves_port and (taken is None or now - taken.used > self.lifetime):
            return wanted
        while True:
            port = chance.randrange(20000, 60000)
            if port not in self.ports:
                return port


def _about(remote: str, behaviour: Behaviour) -> str:
    if behaviour == "endpoint":
        return ""
    return remote if behaviour == "port" else remote.rpartition(":")[0]


@dataclass(eq=False)
class Uplink:
    """An interface of a machine that leads out. Shares are 0 to 1, times seconds, `mtu` of datagrams.

    Any change of any uplink, and of who is joined to whom, is a new `version`: what was derived from them
    before is stale.
    """

    version: ClassVar[int] = 0

    owner: int
    name: str
    index: int
    address: str
    nat: Nat | None = None
    # Its IPv6 address, which nobody translates, and whether it is all it has.
    address6: str = ""
    only6: bool = False
    # How many faults keep it down; so of all that is counted here, as faults overlap.
    down: int = 0
    delay: float = 0.01
    jitter: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    # Of whole packets, now and when nothing is wrong; nobody says when one is too large.
    mtu: int = 1500
    whole_mtu: int = 1500
    # What it swallows: all of a family, all that goes out, all that comes in, data messages of WireGuard.
    dead4: int = 0
    dead6: int = 0
    hole_out: int = 0
    hole_in: int = 0
    deaf: int = 0

    def __setattr__(self, name: str, value: object) -> None:
        Uplink.version += 1
        object.__setattr__(self, name, value)

    @property
    def up(self) -> bool:
        """Whether it is there."""
        return not self.down

    @property
    def public(self) -> str:
        """The IPv4 address that the internet knows it by."""
        return self.nat.address if self.nat else self.address

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its own, of both families."""
        return (*(() if self.only6 else (self.address,)), *((self.address6,) if self.address6 else ()))

    def endpoint(self, port: int, family: int) -> str:
        """A port of its own address of that family."""
        return f"[{self.address6}]:{port}" if family == 6 else f"{self.address}:{port}"

    def has(self, family: int) -> bool:
        """Whether it has an address of that family."""
        return bool(self.address6) if family == 6 else not self.only6


@dataclass(slots=True)
class Way:
    """What becomes of datagrams from one port of an uplink to an endpoint, as long as nothing changes."""

    source: str
    # Both ends, as a trace names them.
    label: bytes
    family: int
    # The NAT that they pass on leaving.
    nat: Nat | None
    # Who is there, if anything gets there at all, and the port.
    home: Uplink | None
    port: int
    # The longest datagram, IP and UDP left out.
    most: int
    deaf: bool
    # How long they take, where that is no matter of chance.
    delay: float | None


class Internet:
    """Which uplink an address belongs to, and which pairs of uplinks cannot talk."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.cuts: dict[tuple[Uplink, Uplink], int] = {}
        self._homes: dict[str, Uplink] = {}
        self._split: dict[str, tuple[str, int]] = {}

    def join(self, uplink: Uplink) -> None:
        """Make its address known."""
        Uplink.version += 1
        if not uplink.only6:
            self._homes[uplink.public] = uplink
        if uplink.address6:
            self._homes[f"[{uplink.address6}]"] = uplink

    def leave(self, uplink: Uplink) -> None:
        """Its address is nobody's any more."""
        Uplink.version += 1
        self._homes.pop(uplink.public, None)
        self._homes.pop(f"[{uplink.address6}]", None)

    def home(self, remote: str) -> tuple[Uplink | None, int]:
        """Whose endpoint that is, and its port."""
        host, port = self.split(remote)
        return self._homes.get(host), port

    def split(self, endpoint: str) -> tuple[str, int]:
        """Its address, as endpoints have it, and its port."""
        known = self._split.get(endpoint)
        if known is None:
            host, _, port = endpoint.rpartition(":")
            known = self._split[endpoint] = (host, int(port))
        return known

    def cut(self, a: Uplink, b: Uplink, count: int) -> None:
        """One fault more, or less, that cuts a from b in this direction."""
        Uplink.version += 1
        self.cuts[(a, b)] = self.cuts.get((a, b), 0) + count

    def way(self, uplink: Uplink, port: int, remote: str) -> Way:
        """What becomes of what `uplink` sends from that port to that endpoint."""
        family = 6 if remote[0] == "[" else 4
        source = uplink.endpoint(port, family)
        home, at = self.home(remote)
        way = Way(source, f"{source} {remote}".encode(), family, None, None, at, 0, False, None)
        if family == 4:
            way.nat = uplink.nat
        if home is None or home is uplink or not self.carries(uplink, home, family):
            return way
        way.home = home
        way.most = min(uplink.mtu, home.mtu) - HEADERS[family]
        way.deaf = bool(uplink.deaf or home.deaf)
        both = (uplink, home)
        if not any(one.loss or one.jitter or one.reorder or one.duplicate for one in both):
            way.delay = uplink.delay + home.delay
        return way

    def carries(self, a: Uplink, b: Uplink, family: int = 4) -> bool:
        """Whether anything sent by `a` can get to `b` now by that family, chance apart."""
        if a.down or b.down or a.hole_out or b.hole_in or self.cuts.get((a, b)):
            return False
        return not (a.dead6 or b.dead6) if family == 6 else not (a.dead4 or b.dead4)

    def delays(
        self, a: Uplink, b: Uplink, datagram: bytes, family: int = 4, *, fragments: bool = False
    ) -> tuple[float, ...]:
        """When the copies of a datagram arrive, from now; none if it is lost.

        `fragments`: it may be cut into fragments, so that its size is none of its troubles.
        """
        if not self.carries(a, b, family):
            return ()
        if not fragments and len(datagram) + HEADERS[family] > min(a.mtu, b.mtu):
            return ()
        if (a.deaf or b.deaf) and datagram[0] == 4 and len(datagram) > 32:
            return ()
        draw = self.chance.random
        loss = a.loss + b.loss
        if loss and draw() < loss:
            return ()
        delay = a.delay + b.delay
        jitter = a.jitter + b.jitter
        if jitter:
            delay += draw() * jitter
        if (a.reorder or b.reorder) and draw() < a.reorder + b.reorder:
            delay += 0.03
        if (a.duplicate or b.duplicate) and draw() < a.duplicate + b.duplicate:
            return (delay, delay + 0.001)
        return (delay,)

"""What the brain wants of the data plane (docs/protocol/dataplane.md, "Desired state").

A desired state is whole and idempotent: applying it twice is applying it once.
"""

from typing import Literal

import msgspec

from shore.model.filter import Rule

PublicKey = bytes
PathKind = Literal["direct", "relay"]
PathState = Literal["live", "held", "unproven", "suspect", "dead"]
CandidateKind = Literal["host", "server_reflexive", "peer_reflexive", "static", "port_mapped"]
LinkState = Literal["shaking", "proving", "up", "down"]
Redundancy = Literal["off", "auto", "interactive", "always"]
# A NAT mapping of 20 s lives on this, and few are shorter.
FIRST_QUIET_S = 15


class Interface(msgspec.Struct, frozen=True):
    """The tunnel's own side; `mtu` is the longest packet on a path of which nothing was proved."""

    private_key: bytes | None
    mtu: int
    offload: bool = True
    probing: bool = True
    overhear: bool = False


class Socket(msgspec.Struct, frozen=True):
    """A UDP socket that the brain opened; `uplink` is None for the unbound socket of its family."""

    id: int
    family: Literal[4, 6]
    uplink: str | None = None


class Lane(msgspec.Struct, frozen=True):
    """A session engine of a peer, with its own counter and replay window."""

    id: int


class Path(msgspec.Struct, frozen=True):
    """A way to one peer: a local socket and a remote endpoint (`192.0.2.1:51820`).

    `quiet_s` is how long the NATs before us remember it without a datagram, a margin included.
    """

    id: int
    kind: PathKind
    socket: int
    remote: str
    metered: bool = False
    mtu: int | None = None
    quiet_s: int = FIRST_QUIET_S


class Measurement(msgspec.Struct, frozen=True):
    """A question to a peer: does a datagram of `size` bytes, IP header included, get there?

    `ends` are our tunnel address and the peer's, by which plain WireGuard is measured.
    """

    public_key: PublicKey
    socket: int
    remote: str
    size: int
    token: int
    ends: tuple[str, str] | None = None


class Trial(msgspec.Struct, frozen=True):
    """A probe that is of no path, and whose echo the peer holds; a new number is a new trial."""

    number: int
    socket: int
    remote: str
    hold_s: int


class Spray(msgspec.Struct, frozen=True):
    """Probes to one port after another of `address`, the `first` ones ahead; a new number is a new spray."""

    number: int
    socket: int
    address: str
    first: tuple[int, ...] = ()


class Fan(msgspec.Struct, frozen=True):
    """Sockets of which each opens the NATs before us for `remote`, by a datagram of so many hops."""

    number: int
    remote: str
    hops: int
    sockets: tuple[int, ...]


class Candidate(msgspec.Struct, frozen=True):
    """An endpoint where a node may be reached, not yet proven."""

    endpoint: str
    kind: CandidateKind


class Peer(msgspec.Struct, frozen=True):
    """One peer as the data plane sees it; `paths` in order of preference.

    `renew` is raised by one for each renewal asked for; a plane that meets a peer for the first
    time with `renew` above zero initiates at once. `poke` is raised for each time that every path is to be
    probed at once, `prime` for each time that the NATs before us are to be opened for it.
    """

    public_key: PublicKey
    preshared_key: bytes | None
    allowed_ips: tuple[str, ...]
    keepalive_s: int
    wanted: bool
    renew: int
    lanes: tuple[Lane, ...]
    paths: tuple[Path, ...]
    redundancy: Redundancy = "auto"
    candidates: tuple[Candidate, ...] = ()
    trials: tuple[Trial, ...] = ()
    poke: int = 0
    prime: int = 0
    spray: Spray | None = None
    fan: Fan | None = None


class StunQuery(msgspec.Struct, frozen=True):
    """A STUN server, and a socket to ask it by."""

    socket: int
    server: str


class RelayLink(msgspec.Struct, frozen=True):
    """A connected TCP socket that is to become a stream to a relay.

    `relay` is its id, `uplink` what it leaves by, where that is known. `pin` None: the system's CAs judge
    `name`, the host that was dialled. `admission` is what `prove` carries.
    `asks` are places of nodes: from which address do they speak to the relay?
    """

    id: int
    relay: str
    pin: bytes | None
    name: str
    admission: bytes
    admission_key: bytes
    uplink: str | None = None
    asks: tuple[str, ...] = ()


class Binding(msgspec.Struct, frozen=True):
    """An address of ours at the UDP side of a relay: `server`, by `socket`, under the ticket of `link`."""

    id: int
    link: int
    socket: int
    server: str


class DesiredState(msgspec.Struct, frozen=True):
    """The whole configuration of one tunnel's data plane.

    Without a `filter`, what allowed IPs let in may come.
    """

    interface: Interface
    sockets: tuple[Socket, ...]
    peers: tuple[Peer, ...]
    stun: tuple[StunQuery, ...] = ()
    filter: tuple[Rule, ...] | None = None
    links: tuple[RelayLink, ...] = ()
    bindings: tuple[Binding, ...] = ()

    def ways(self) -> set[int]:
        """Ids of everything that a path may begin at."""
        sockets, links = {socket.id for socket in self.sockets}, {link.id for link in self.links}
        return sockets | links | {binding.id for binding in self.bindings}

"""What is to be done: imperatives, carried out by the shells in order."""

import msgspec

from shore.model.desired import DesiredState, Measurement
from shore.model.host import HostPlan
from shore.model.links import Exit, Lifetime, Way
from shore.wire.control import SignalKind


class Push(msgspec.Struct, frozen=True):
    """Put this desired state in force; `seen` is the last fact it knows of."""

    state: DesiredState
    seen: int


class Measure(msgspec.Struct, frozen=True):
    """Ask peers about sizes; each answer is a fact."""

    questions: tuple[Measurement, ...]


class ApplyHost(msgspec.Struct, frozen=True):
    """Bring the host to this plan."""

    plan: HostPlan


class OpenSockets(msgspec.Struct, frozen=True):
    """Open the sockets of the listen port (0: any); answer with SocketsOpened or SocketsFailed."""

    port: int
    mark: int
    why: str


class OpenExtraSocket(msgspec.Struct, frozen=True):
    """Open a socket on a new port for one peer; answer with ExtraSocketOpened or SocketsFailed."""

    public_key: bytes
    family: int
    mark: int


class OpenUplinkSocket(msgspec.Struct, frozen=True):
    """Open a socket bound to an uplink, on the listen port; answer with UplinkSocketOpened or ...Failed."""

    way: Way
    port: int
    mark: int


class OpenTrialSocket(msgspec.Struct, frozen=True):
    """Open a socket on a new port for trials; answer with TrialSocketOpened or TrialSocketFailed."""

    exit: Exit
    mark: int


class OpenFan(msgspec.Struct, frozen=True):
    """Open so many IPv4 sockets, each on a new port, for one peer; answer with FanOpened or SocketsFailed."""

    public_key: bytes
    count: int
    mark: int


class CloseSocket(msgspec.Struct, frozen=True):
    """Close our duplicate of a socket that no desired state names any more."""

    id: int


class MapPort(msgspec.Struct, frozen=True):
    """Have gateways send this port to us, and no other (0: none); answer with PortsMapped at each change."""

    port: int
    mark: int


class Call(msgspec.Struct, frozen=True):
    """Tell a peer through the server where we may be, so that it probes us there now.

    With an `aim`, an endpoint of the peer: our ports towards that are to be guessed.
    """

    public_key: bytes
    aim: str | None = None


class TellPeers(msgspec.Struct, frozen=True):
    """Say this to every peer through the server, as soon as there is a link to it."""

    kind: SignalKind


class DialRelay(msgspec.Struct, frozen=True):
    """Connect a TCP socket to a relay, past the tunnel; answer with LinkDialled or LinkDialFailed."""

    relay: str
    addresses: tuple[str, ...]
    mark: int


class CloseLink(msgspec.Struct, frozen=True):
    """Close our duplicate of a link's socket."""

    id: int


class SetMark(msgspec.Struct, frozen=True):
    """Mark what all sockets send."""

    mark: int


class StartPlane(msgspec.Struct, frozen=True):
    """Start a data plane; answer with PlaneStarted or PlaneLost."""


class KillPlane(msgspec.Struct, frozen=True):
    """End a data plane that is stalled; PlaneLost follows."""

    why: str


class Resolve(msgspec.Struct, frozen=True):
    """Ask for a name's addresses; answer with NameResolved or NameFailed."""

    host: str


class KeepStamp(msgspec.Struct, frozen=True):
    """Keep over a reboot that handshakes of the key in force were stamped up to here, in Unix seconds."""

    stamp: float


class KeepLifetime(msgspec.Struct, frozen=True):
    """Keep over a restart what was found about a network's NAT."""

    lifetime: Lifetime


class Announce(msgspec.Struct, frozen=True):
    """Tell people a named change with its reason, and the numbers behind it (`core.changes`).

    `cause` is one word where a program may want to tell changes apart, else empty.
    """

    what: str
    why: str
    public_key: bytes | None = None
    numbers: dict[str, float] = {}
    cause: str = ""


class GoDown(msgspec.Struct, frozen=True):
    """Take the tunnel down and leave nothing behind."""

    why: str


Action = (
    Push
    | ApplyHost
    | Measure
    | OpenSockets
    | OpenExtraSocket
    | OpenUplinkSocket
    | OpenTrialSocket
    | OpenFan
    | CloseSocket
    | MapPort
    | Call
    | TellPeers
    | DialRelay
    | CloseLink
    | SetMark
    | StartPlane
    | KillPlane
    | Resolve
    | KeepStamp
    | KeepLifetime
    | Announce
    | GoDown
)

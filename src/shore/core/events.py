"""What has happened: facts in the past tense, told to the heart by the shells."""

import msgspec

from shore.model.config import TunnelConfig
from shore.model.desired import Candidate, DesiredState, Socket
from shore.model.facts import Fact, LinkCounters, PeerCounters
from shore.model.links import Exit, Lifetime, Link, Way


class Configured(msgspec.Struct, frozen=True):
    """A configuration was given: at `up`, at `reload`, or by `wg set`."""

    config: TunnelConfig


class Attached(msgspec.Struct, frozen=True):
    """A new brain found a running data plane; `config` is the configuration it was mirrored from."""

    config: TunnelConfig
    pid: int
    state: DesiredState
    listen_port: int


class SocketsOpened(msgspec.Struct, frozen=True):
    """The sockets of the listen port are open; `sockets` replaces those that were there."""

    port: int
    sockets: tuple[Socket, ...]


class ExtraSocketOpened(msgspec.Struct, frozen=True):
    """A socket on a port of its own was opened for one peer."""

    public_key: bytes
    socket: Socket


class UplinkSocketOpened(msgspec.Struct, frozen=True):
    """A socket bound to an uplink is open; `way` is the uplink's name, its index and the family."""

    way: Way
    socket: Socket


class UplinkSocketFailed(msgspec.Struct, frozen=True):
    """It could not be opened."""

    way: Way
    reason: str


class TrialSocketOpened(msgspec.Struct, frozen=True):
    """A socket for trials of NAT mappings is open, on a port of its own."""

    exit: Exit
    socket: Socket


class TrialSocketFailed(msgspec.Struct, frozen=True):
    """It could not be opened."""

    exit: Exit
    reason: str


class LifetimesRemembered(msgspec.Struct, frozen=True):
    """What earlier brains found about the NATs of the networks they were in."""

    lifetimes: tuple[Lifetime, ...]


class PortsMapped(msgspec.Struct, frozen=True):
    """Gateways show the listen port outside at these endpoints now, and at no others."""

    endpoints: tuple[str, ...]


class LinkDialled(msgspec.Struct, frozen=True):
    """A TCP socket to a relay is connected, to the host `name`; `local` is our end of it."""

    relay: str
    link: int
    name: str
    local: str | None = None


class LinkDialFailed(msgspec.Struct, frozen=True):
    """No address of the relay could be connected to."""

    relay: str
    reason: str


class SocketsFailed(msgspec.Struct, frozen=True):
    """Opening sockets failed; those that were there still are."""

    reason: str


class PlaneStarted(msgspec.Struct, frozen=True):
    """A new data plane runs and holds nothing yet."""

    pid: int


class PlaneLost(msgspec.Struct, frozen=True):
    """The data plane is gone."""

    reason: str


class PlaneAnswered(msgspec.Struct, frozen=True):
    """The data thread answered a question; `peers` is None where counters were not asked for.

    Those who are not among `peers` are as they were told last, or unknown if `whole`.
    """

    offload: dict[str, object]
    drops: dict[str, int]
    peers: tuple[PeerCounters, ...] | None = None
    whole: bool = True
    links: tuple[LinkCounters, ...] = ()


class QuestionUnanswered(msgspec.Struct, frozen=True):
    """A question got no answer for 1 s; `lag_s` is by how much our own loop was late meanwhile."""

    lag_s: float


class FactTold(msgspec.Struct, frozen=True):
    """The data plane told a fact."""

    serial: int
    fact: Fact


class LinksChanged(msgspec.Struct, frozen=True):
    """The underlay looks different."""

    links: tuple[Link, ...]


class Resumed(msgspec.Struct, frozen=True):
    """The machine slept."""

    slept_s: float


class ClockRead(msgspec.Struct, frozen=True):
    """The wall clock, in seconds of the Unix epoch: at the start, now and then, and when it was set."""

    wall: float


class StampRemembered(msgspec.Struct, frozen=True):
    """A key comes into force that stamped handshakes up to here, in Unix seconds; 0 if none is known."""

    stamp: float


class NameResolved(msgspec.Struct, frozen=True):
    """A name server answered; `addresses` in its order."""

    host: str
    addresses: tuple[str, ...]


class NameFailed(msgspec.Struct, frozen=True):
    """A name did not resolve."""

    host: str
    reason: str


class RenewAsked(msgspec.Struct, frozen=True):
    """A person asked for a new session with a peer."""

    public_key: bytes


class PeerCalled(msgspec.Struct, frozen=True):
    """A peer says through the server where it may be probed now."""

    public_key: bytes
    candidates: tuple[Candidate, ...]


class PokeAsked(msgspec.Struct, frozen=True):
    """A person wants every path to a peer probed now."""

    public_key: bytes


class DeviceMtuChanged(msgspec.Struct, frozen=True):
    """Somebody set another MTU on the device (`shore-wg`: its owner)."""

    mtu: int


class DeviceGone(msgspec.Struct, frozen=True):
    """The device, or its UAPI socket, was deleted by somebody else."""

    what: str


class Woke(msgspec.Struct, frozen=True):
    """The deadline has come."""


Event = (
    Configured
    | Attached
    | SocketsOpened
    | ExtraSocketOpened
    | UplinkSocketOpened
    | UplinkSocketFailed
    | TrialSocketOpened
    | TrialSocketFailed
    | LifetimesRemembered
    | PortsMapped
    | LinkDialled
    | LinkDialFailed
    | SocketsFailed
    | PlaneStarted
    | PlaneLost
    | PlaneAnswered
    | QuestionUnanswered
    | FactTold
    | LinksChanged
    | Resumed
    | ClockRead
    | StampRemembered
    | NameResolved
    | NameFailed
    | RenewAsked
    | PeerCalled
    | PokeAsked
    | DeviceMtuChanged
    | DeviceGone
    | Woke
)

"""What the data plane tells the brain (docs/protocol/dataplane.md, "Facts" and "Counters")."""

import msgspec

from shore.model.desired import Candidate, LinkState, PathKind, PathState


class _Fact(msgspec.Struct, frozen=True, tag_field="type"):
    pass


class SessionEstablished(_Fact, frozen=True, tag="session_established"):
    """A handshake was completed; `rtt_ms` is None where we responded."""

    public_key: bytes
    initiator: bool
    rtt_ms: float | None


class SessionExpired(_Fact, frozen=True, tag="session_expired"):
    """180 s passed and nothing replaced the session."""

    public_key: bytes


class Roamed(_Fact, frozen=True, tag="roamed"):
    """The primary path is another one: the peer speaks from there, or a reflex switched."""

    public_key: bytes
    socket: int
    remote: str
    cause: str = "peer_moved"
    left: str = ""
    left_socket: int | None = None


class Acquainted(_Fact, frozen=True, tag="acquainted"):
    """The peer is a Shore node, and the planes share probe keys."""

    public_key: bytes
    restarted: bool


class Learned(_Fact, frozen=True, tag="learned"):
    """The peer speaks from a place that nobody advised."""

    public_key: bytes
    socket: int
    remote: str


class Candidates(_Fact, frozen=True, tag="candidates"):
    """Where the peer says that it may be: its whole list."""

    public_key: bytes
    candidates: tuple[Candidate, ...]


class TrialEchoed(_Fact, frozen=True, tag="trial_echoed"):
    """A trial was answered, after the peer had held the echo for so long."""

    public_key: bytes
    number: int
    held_s: float


class Unanswered(_Fact, frozen=True, tag="unanswered"):
    """Initiations have gone unanswered for `for_s` seconds; told after 2 s and at each doubling."""

    public_key: bytes
    for_s: float
    initiations: int


class OneWay(_Fact, frozen=True, tag="one_way"):
    """The handshake is answered and data is not."""

    public_key: bytes


class Measured(_Fact, frozen=True, tag="measured"):
    """A question about a size was answered, or our own device refused to send it."""

    public_key: bytes
    token: int
    refused: bool


class Swallowed(_Fact, frozen=True, tag="swallowed"):
    """So many large datagrams never came there, most or all that left, and a probe behind them did."""

    public_key: bytes
    socket: int
    remote: str
    count: int


class Losing(_Fact, frozen=True, tag="losing"):
    """Packets were lost for a reason of our own for 3 s or more."""

    public_key: bytes | None
    reason: str
    for_s: float
    count: int


class Mapped(_Fact, frozen=True, tag="mapped"):
    """A STUN server sees a socket of ours there."""

    socket: int
    server: str
    mapped: str


class LinkUp(_Fact, frozen=True, tag="link_up"):
    """A relay let us in and sees us at `observed`; `udp` are the addresses of its UDP side."""

    link: int
    observed: str
    udp: tuple[str, ...] = ()


class LinkDown(_Fact, frozen=True, tag="link_down"):
    """A stream to a relay ended, or never came up."""

    link: int
    reason: str


class LinkLeaving(_Fact, frozen=True, tag="link_leaving"):
    """The relay closes the stream after so long."""

    link: int
    for_s: float


class Bound(_Fact, frozen=True, tag="bound"):
    """A relay's UDP side forwards to us."""

    binding: int


class Unbound(_Fact, frozen=True, tag="unbound"):
    """It answers no longer."""

    binding: int


class Away(_Fact, frozen=True, tag="away"):
    """No node is at this place at the relay."""

    link: int
    remote: str


class Seen(_Fact, frozen=True, tag="seen"):
    """A relay says from which address the node at this place speaks to it."""

    link: int
    remote: str
    address: str


class SocketFailed(_Fact, frozen=True, tag="socket_failed"):
    """A socket reported an error that is not about one destination."""

    socket: int
    errno: int


class TunFailed(_Fact, frozen=True, tag="tun_failed"):
    """The TUN device is gone (EBADFD) or refuses us."""

    errno: int


class Caught(_Fact, frozen=True, tag="caught"):
    """A panic was caught and the part named was rebuilt."""

    part: str
    text: str


Fact = (
    SessionEstablished
    | SessionExpired
    | Roamed
    | Acquainted
    | Learned
    | Candidates
    | TrialEchoed
    | Unanswered
    | OneWay
    | Measured
    | Swallowed
    | Losing
    | Mapped
    | LinkUp
    | LinkDown
    | LinkLeaving
    | Bound
    | Unbound
    | Away
    | Seen
    | SocketFailed
    | TunFailed
    | Caught
)


class PathCounters(msgspec.Struct, frozen=True):
    """One path's numbers; losses are shares from 0 to 1, None until known.

    `data_sent` and `data_arrived` are data messages since the path was last taken, copies included, and
    what the peer counted of them, `large_*` those of more than 1200 bytes; `probes_*` are ours on this path
    and what the peer counted of them, as its last echo says. `observed` is what we look like from there.
    `hold_s` is how long a held path must still answer. `poke` is the newest that a probe
    left for, `poke_rtt_ms` None while it is unanswered.
    """

    id: int | None
    kind: PathKind
    socket: int
    remote: str
    primary: bool
    state: PathState
    state_age_s: float = 0.0
    rtt_ms: float | None = None
    jitter_ms: float | None = None
    loss_tx: float | None = None
    loss_rx: float | None = None
    data_sent: int = 0
    data_arrived: int = 0
    large_sent: int = 0
    large_arrived: int = 0
    probes_sent: int = 0
    probes_arrived: int = 0
    proof_age_s: float | None = None
    observed: str | None = None
    hold_s: float | None = None
    poke: int | None = None
    poke_rtt_ms: float | None = None


class LaneCounters(msgspec.Struct, frozen=True):
    """One lane's session: its age, and how many messages were sent on it."""

    id: int
    session_age_s: float
    messages: int


class LinkCounters(msgspec.Struct, frozen=True):
    """One link's numbers."""

    id: int
    state: LinkState
    since_s: float
    rtt_ms: float | None
    sent: int
    received: int
    drops: int


class PeerCounters(msgspec.Struct, frozen=True):
    """One peer's numbers; ages in seconds, None if never."""

    public_key: bytes
    endpoint: str | None
    socket: int | None
    connected: bool
    last_received_age_s: float | None
    last_handshake_age_s: float | None
    session_age_s: float | None
    handshake_rtt_ms: float | None
    unanswered_s: float | None
    rx_bytes: int
    tx_bytes: int
    handshakes: int
    drops: dict[str, int]
    probed: bool = False
    switches: int = 0
    primary_age_s: float | None = None
    lanes: tuple[LaneCounters, ...] = ()
    paths: tuple[PathCounters, ...] = ()

"""What happens to a membership, and what is to be done about it (`core.membership`).

Facts in the past tense first, then imperatives.
"""

import msgspec

from shore.core.actions import Announce
from shore.model.desired import Candidate
from shore.model.netmap import Held, Netmap, Signed, Standing
from shore.wire.control import RefusalCode, SignalKind


class Begun(msgspec.Struct, frozen=True):
    """There is a node; `wall` is its clock in seconds of the Unix epoch."""

    wall: float


class Linked(msgspec.Struct, frozen=True):
    """A link to the server is open; `pin` is that of the very connection, `local` our end of it."""

    address: str
    pin: bytes
    local: str | None = None


class Heard(msgspec.Struct, frozen=True):
    """One message came over the link."""

    content: bytes


class Unlinked(msgspec.Struct, frozen=True):
    """The link ended, or could not be opened."""

    reason: str


class ClockRead(msgspec.Struct, frozen=True):
    """The wall clock, in seconds of the Unix epoch."""

    wall: float


class Moved(msgspec.Struct, frozen=True):
    """Where this node may be reached, its home relay first, and the prefixes that it would lead to."""

    candidates: tuple[Candidate, ...]
    relays: tuple[str, ...]
    prefixes: tuple[str, ...] = ()


class SignalAsked(msgspec.Struct, frozen=True):
    """The heart has a word for a peer; None: for all of them."""

    peer: bytes | None
    kind: SignalKind
    candidates: tuple[Candidate, ...] = ()


class KeyDrawn(msgspec.Struct, frozen=True):
    """There is a new node key, and it is on disk."""

    node_key: bytes


class LinksMoved(msgspec.Struct, frozen=True):
    """The underlay changed: a wait before the next try has lost its reason."""


class LeaveAsked(msgspec.Struct, frozen=True):
    """A person wants this node out of the network."""


class Woke(msgspec.Struct, frozen=True):
    """The deadline has come."""


class Dial(msgspec.Struct, frozen=True):
    """Open a link to this address; answer with Linked or Unlinked."""

    address: str


class Say(msgspec.Struct, frozen=True):
    """Send one message."""

    content: bytes


class Unlink(msgspec.Struct, frozen=True):
    """Close the link, and tell nothing more of it."""

    why: str


class Keep(msgspec.Struct, frozen=True):
    """Keep over a restart the netmap as it came, and the root key that it goes back to."""

    held: Held
    root: bytes


class KeepAdmissions(msgspec.Struct, frozen=True):
    """Keep over a restart what lets this node key in at relays, by their ids."""

    node_key: bytes
    admissions: dict[str, Signed]


class Use(msgspec.Struct, frozen=True):
    """Put this netmap in force; `time` (Unix seconds) judges its leases."""

    netmap: Netmap
    admissions: dict[str, Signed]
    time: float


class Deliver(msgspec.Struct, frozen=True):
    """A peer, or who speaks for it, says this."""

    peer: bytes
    kind: SignalKind
    candidates: tuple[Candidate, ...]


class DrawKey(msgspec.Struct, frozen=True):
    """Draw a new node key and keep it; answer with KeyDrawn."""


class Stand(msgspec.Struct, frozen=True):
    """The server says what this machine is to it."""

    standing: Standing
    network: bytes


class TurnAway(msgspec.Struct, frozen=True):
    """The server does not do what was asked, in its words."""

    code: RefusalCode
    reason: str


Event = (
    Begun
    | Linked
    | Heard
    | Unlinked
    | ClockRead
    | Moved
    | SignalAsked
    | KeyDrawn
    | LinksMoved
    | LeaveAsked
    | Woke
)
Action = Dial | Say | Unlink | Keep | KeepAdmissions | Use | Deliver | DrawKey | Stand | TurnAway | Announce

"""The local API of a brain (docs/protocol/api.md): one JSON object per line, asked and answered.

Requests carry `do`, replies `is`. A request has exactly one reply.
"""

from typing import TypeVar

import msgspec

from shore.model.config import TunnelConfig, Uplink
from shore.model.desired import Redundancy
from shore.model.netcheck import Netcheck
from shore.model.ping import PathPing
from shore.model.status import TunnelStatus

LONGEST_LINE = 8 << 20

T = TypeVar("T")


class _Request(msgspec.Struct, frozen=True, tag_field="do"):
    pass


class AskStatus(_Request, frozen=True, tag="status"):
    """How is the tunnel? The only request that the status socket takes."""


class AskNetcheck(_Request, frozen=True, tag="netcheck"):
    """How does the tunnel reach the outside?"""


class AskDown(_Request, frozen=True, tag="down"):
    """Take the tunnel down; answered when nothing of it is left."""


class AskReload(_Request, frozen=True, tag="reload"):
    """Put another configuration in force; peers that are equal keep their sessions."""

    config: TunnelConfig


class AskRenew(_Request, frozen=True, tag="renew"):
    """Make a new session with a peer."""

    public_key: bytes


class AskPoke(_Request, frozen=True, tag="poke"):
    """Probe every path to a peer now; answered when all probes are, or after 2 s."""

    public_key: bytes


class AskAmend(_Request, frozen=True, tag="amend"):
    """Change this much of what is in force, and not the file; None leaves a thing as it is."""

    public_key: bytes | None = None
    name: str | None = None
    redundancy: Redundancy | None = None
    uplinks: tuple[Uplink, ...] | None = None


class AskAccept(_Request, frozen=True, tag="accept"):
    """Let peers of the network route these prefixes here, and no others beyond their addresses."""

    prefixes: tuple[str, ...]


class AskAdvertise(_Request, frozen=True, tag="advertise"):
    """Offer the network to lead to these prefixes behind this node, and to no others."""

    prefixes: tuple[str, ...]


class AskConfirm(_Request, frozen=True, tag="confirm"):
    """Keep a tunnel that was brought up with `--confirm`."""


class _Reply(msgspec.Struct, frozen=True, tag_field="is"):
    pass


class Done(_Reply, frozen=True, tag="done"):
    """It was done."""


class Failed(_Reply, frozen=True, tag="failed"):
    """It was not done; nothing changed."""

    reason: str


class Poked(_Reply, frozen=True, tag="poked"):
    """What became of the probes; `probed` is False for a peer that does not answer any, plain WireGuard."""

    probed: bool
    paths: tuple[PathPing, ...] = ()


class StatusReply(_Reply, frozen=True, tag="status"):
    """The tunnel's status."""

    tunnel: TunnelStatus


class NetcheckReply(_Reply, frozen=True, tag="netcheck"):
    """What is known of it."""

    checked: Netcheck


Request = (
    AskStatus
    | AskNetcheck
    | AskDown
    | AskReload
    | AskRenew
    | AskPoke
    | AskAmend
    | AskAccept
    | AskAdvertise
    | AskConfirm
)
Reply = Done | Failed | StatusReply | NetcheckReply | Poked

_encoder = msgspec.json.Encoder()
_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_replies: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


class Start(msgspec.Struct, frozen=True):
    """What `up` gives to the first brain: the configuration, and whether it undoes itself."""

    config: TunnelConfig
    confirm_s: float | None = None


class Started(msgspec.Struct, frozen=True, tag_field="is", tag="started"):
    """The tunnel is configured and its processes run."""

    notes: tuple[str, ...] = ()


class NotStarted(msgspec.Struct, frozen=True, tag_field="is", tag="not_started"):
    """It could not be brought up; nothing was left behind."""

    reason: str


StartReply = Started | NotStarted
_start_replies: msgspec.json.Decoder[StartReply] = msgspec.json.Decoder(StartReply)


def line(message: Request | Reply | StartReply) -> bytes:
    """One message as a line."""
    return _encoder.encode(message) + b"\n"


def request(text: bytes) -> Request:
    """Raises msgspec.DecodeError."""
    return _read(_requests, text)


def reply(text: bytes) -> Reply:
    """Raises msgspec.DecodeError."""
    return _read(_replies, text)


def start_reply(text: bytes) -> StartReply:
    """Raises msgspec.DecodeError."""
    return _read(_start_replies, text)


def _read(decoder: msgspec.json.Decoder[T], text: bytes) -> T:
    # msgspec has other errors for text that is not UTF-8 and for nesting without end.
    try:
        return decoder.decode(text)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None

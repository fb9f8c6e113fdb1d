"""The control socket's messages (docs/protocol/dataplane.md).

    length: u32 big-endian    body: one MessagePack map with a `type`

`Decoder` takes bytes as they come and gives whole messages. What the plane sends and we do not know is
left out, so that an older brain can watch a newer plane.
"""

from collections.abc import Iterator

import msgspec

from shore.model.desired import DesiredState, Measurement
from shore.model.facts import Fact, LinkCounters, PeerCounters

VERSION = 1
MOST_BODY = 4 << 20
MOST_DESCRIPTORS = 64


class Hello(msgspec.Struct, frozen=True, tag_field="type", tag="hello"):
    """First message of a brain; the highest generation is obeyed."""

    generation: int
    version: int = VERSION


class Desired(msgspec.Struct, frozen=True, tag_field="type", tag="desired"):
    """The whole desired state; `descriptors` names what travels beside the frame, in order."""

    serial: int
    seen: int
    descriptors: tuple[str, ...]
    state: DesiredState


class Question(msgspec.Struct, frozen=True, tag_field="type", tag="question"):
    """Asked of the data thread itself; `changed`: only counters that are not as they were told last."""

    id: int
    counters: bool
    changed: bool = False


class Measure(msgspec.Struct, frozen=True, tag_field="type", tag="measure"):
    """Ask peers about sizes; each answer is a fact."""

    questions: tuple[Measurement, ...]


class Stop(msgspec.Struct, frozen=True, tag_field="type", tag="stop"):
    """Close everything and exit."""


class State(msgspec.Struct, frozen=True, tag_field="type", tag="state"):
    """Answer to hello: what is in force, with duplicates of all descriptors."""

    version: int
    pid: int
    data_thread: int
    generation: int
    serial: int
    fact: int
    state: DesiredState | None
    descriptors: tuple[str, ...]
    more: bool


class Applied(msgspec.Struct, frozen=True, tag_field="type", tag="applied"):
    """The desired state of this serial is in force."""

    serial: int


class Refused(msgspec.Struct, frozen=True, tag_field="type", tag="refused"):
    """The message was not applied; nothing changed."""

    reason: str


class Superseded(msgspec.Struct, frozen=True, tag_field="type", tag="superseded"):
    """A newer brain has come."""

    generation: int


class Offload(msgspec.Struct, frozen=True):
    """Which offloads are in use, by socket id."""

    tun: str
    udp_gso: dict[int, bool]
    udp_gro: dict[int, bool]
    realtime: bool


class Answer(msgspec.Struct, frozen=True, tag_field="type", tag="answer"):
    """From the data thread; `peers` holds what was asked for."""

    id: int
    loops: int
    rx_packets: int
    tx_packets: int
    offload: Offload
    peers: tuple[PeerCounters, ...]
    drops: dict[str, int]
    links: tuple[LinkCounters, ...] = ()


class Told(msgspec.Struct, frozen=True, tag_field="type", tag="fact"):
    """A fact, numbered in the plane's life; `at` in seconds of CLOCK_BOOTTIME."""

    serial: int
    at: float
    fact: Fact


FromPlane = State | Applied | Refused | Superseded | Answer | Told
ToPlane = Hello | Desired | Question | Measure | Stop

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(FromPlane)


class BrokenFrame(Exception):
    """The stream is not ours to read: the connection must end."""


def encode(message: ToPlane) -> bytes:
    """One frame."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


def portions(frame: bytes, descriptors: list[int]) -> list[tuple[bytes, list[int]]]:
    """A frame as it is written: so many descriptors with each of its first bytes, then the rest."""
    last = max(len(descriptors) - 1, 0) // MOST_DESCRIPTORS
    cut = [descriptors[at : at + MOST_DESCRIPTORS] for at in range(0, len(descriptors), MOST_DESCRIPTORS)]
    heads = [(frame[at : at + 1], cut[at]) for at in range(last)]
    return [*heads, (frame[last:], cut[last] if cut else [])]


class Decoder:
    """Bytes in, messages out."""

    def __init__(self) -> None:
        self._inbox = bytearray()

    def feed(self, data: bytes) -> Iterator[FromPlane]:
        """Yield the messages that are whole now. Raises BrokenFrame."""
        self._inbox += data
        while len(self._inbox) >= 4:
            length = int.from_bytes(self._inbox[:4], "big")
            if length > MOST_BODY:
                raise BrokenFrame(f"a frame of {length} bytes")
            if len(self._inbox) < 4 + length:
                return
            body = bytes(self._inbox[4 : 4 + length])
            del self._inbox[: 4 + length]
            try:
                yield _decoder.decode(body)
            except msgspec.ValidationError:
                continue
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise BrokenFrame(str(error)) from None

"""The Rust crates, in Python's words."""

from typing import final

__all__ = ["ModelPlane", "RelayStreams", "TlsIdentity", "TlsServer", "confine", "public_key", "run"]

def run(listener: int, user: int, seed: int) -> None:
    """Run the data plane: serve brains on the listening socket until one says `stop`.

    Takes the descriptor `listener` over, releases the GIL, and lets `user` (beside root) command.
    `seed` feeds jitter, never keys. Raises OSError where a thread cannot start, ValueError for a
    standard descriptor.
    """

def confine(user: int, group: int) -> None:
    """Give up every right: user, groups, capabilities, new privileges, core dumps.

    Where the ids do not exist in this user namespace they are kept. Raises OSError.
    """

def public_key(private_key: bytes) -> bytes:
    """X25519 of the base point (RFC 7748): 32 bytes to 32 bytes. Raises ValueError on another length."""

@final
class ModelPlane:
    """A data plane without sockets, TUN, clock or cryptography, for simulations: it protects nothing.

    Its reflexes are the product's. `now` is in seconds and never falls; endpoints are strings
    (`192.0.2.1:51820`). After each call, `outcome` has what came of it. Messages are
    those of docs/protocol/dataplane.md without their frames. To be used by one thread.
    """

    def __new__(cls, seed: int, now: float) -> ModelPlane:
        """Planes of one simulation need different seeds, below 2**32."""

    @staticmethod
    def public_key(private_key: bytes) -> bytes:
        """The model's public key of a private one: 32 bytes to 32 bytes."""

    def apply(self, desired: bytes, seen: int, now: float) -> None:
        """Take a desired state. Raises ValueError with the reason where it is refused."""

    def receive(self, socket: int, remote: str, datagram: bytes, now: float) -> bytes | None:
        """Take a datagram; return the inner packet if one was in it."""

    def measure(self, questions: bytes, now: float) -> None:
        """Ask about sizes, as in `measure`; each answer is a fact. Raises ValueError for other bytes."""

    def send(self, packet: bytes, now: float) -> int:
        """Take a packet as from the TUN: it is sealed, staged or dropped.

        Returns how much of it the path carries: less than all of it where it was refused for its size.
        """

    def tick(self, now: float) -> None:
        """Do what is due; to be called at `deadline`."""

    def deadline(self) -> float:
        """When to call `tick` next."""

    def outcome(self) -> tuple[list[tuple[int | None, int, str, bytes]], list[tuple[int, bytes]], float]:
        """Take what came of the calls before, and hear the deadline.

        The datagrams that want to leave (peer, socket, remote endpoint, bytes), and the facts that wait
        (serial and message).
        """

    def refused(self, peer: int | None, socket: int, remote: str, now: float) -> None:
        """The kernel did not take a datagram that `outcome` gave."""

    def link_up(self, link: int, observed: str, now: float) -> None:
        """A relay let a link in, and sees it at this endpoint."""

    def link_down(self, link: int, reason: str, now: float) -> None:
        """A link ended, or never came up."""

    def away(self, link: int, remote: str, now: float) -> None:
        """A link's relay says that nobody is at this place."""

    def counters(self, changed: bool, now: float) -> bytes:
        """Counters as the list in an answer: of all peers, or of those that `changed` since the last time."""

@final
class TlsIdentity:
    """Certificate chain and key of a relay."""

    def __new__(cls, certificates: bytes, key: bytes) -> TlsIdentity:
        """Both PEM. Raises ValueError with one sentence."""

@final
class TlsServer:
    """The server's side of one TLS 1.3 connection, without a socket. To be used by one thread.

    Every method raises ConnectionError where TLS is broken (`take` then has an alert for the other side),
    and ValueError after the connection became a stream.
    """

    def __new__(cls, identity: TlsIdentity) -> TlsServer: ...
    def receive(self, ciphertext: bytes) -> bytes:
        """Ciphertext in, the plaintext that it held out."""

    def send(self, plaintext: bytes) -> None:
        """Plaintext, to go with the next `take`."""

    def take(self) -> bytes:
        """The ciphertext that is to be written now."""

    def close(self) -> None:
        """Say that we send no more; `take` has it."""

    def closed(self) -> bool:
        """Whether the other side said that it sends no more."""

    def handshaking(self) -> bool:
        """Whether there is no plaintext yet."""

    def exporter(self) -> bytes:
        """32 bytes that only the two ends of this connection know (RFC 8446 §7.5, docs/protocol/relay.md)."""

@final
class RelayStreams:
    """All streams of a relay: frames, queues, forwarding (docs/protocol/relay.md). To be used by one thread.

    A tag is 8 bytes; `now` is in seconds and never falls. What forwards, is forwarded inside; what is said
    to the relay itself comes out of `receive`.
    """

    def __new__(cls) -> RelayStreams: ...
    def open(self, id: int, tls: TlsServer) -> None:
        """From here on what this connection says is frames; `id` is new. Takes `tls` over."""

    def admit(self, id: int, tag: bytes, rate: int) -> None:
        """Let it forward as `tag`; who had the tag has it no longer. No node sends more than `rate` bytes
        a second (0: no limit), by its stream and from its address together."""

    def admits(self, source: bytes, bytes: int, now: float) -> bool:
        """Whether a node may send so many bytes from its address now; they are counted."""

    def close(self, id: int) -> None:
        """Forget it."""

    def bind(self, tag: bytes, bound: bool) -> None:
        """Whether this node has a bound address, for when it has no stream."""

    def receive(
        self, id: int, ciphertext: bytes, now: float
    ) -> tuple[list[tuple[int, bytes]], list[tuple[bytes, bytes, bytes]]]:
        """Frames for the relay as (type, content); for bound addresses (source, destination, datagram).

        Raises ConnectionError where the stream must end.
        """

    def deliver(self, source: bytes, destination: bytes, datagram: bytes) -> bool:
        """Queue a datagram for the stream with this tag; False where there is none."""

    def say(self, id: int, kind: int, content: bytes) -> None:
        """Queue a frame of the relay's own, of at most 65,536 bytes."""

    def ready(self) -> list[int]:
        """The streams that have got something to write since the last call."""

    def take(self, id: int, most: int) -> bytes:
        """Ciphertext of about `most` bytes to write now; whether more is queued says `waits`."""

    def waits(self, id: int) -> bool:
        """Whether frames are queued."""

    def end(self, id: int) -> bytes:
        """All that is queued, and TLS's word that no more will come."""

    def counters(self) -> list[tuple[str, int]]:
        """What was counted, by name."""

"""The Rust crates, in Python's words."""

from typing import final

__all__ = ["ModelPlane", "confine", "public_key", "run"]

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

    def counters(self, changed: bool, now: float) -> bytes:
        """Counters as the list in an answer: of all peers, or of those that `changed` since the last time."""

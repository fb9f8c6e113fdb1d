"""What a node must have signed before the server believes it, on one link.

A link has a nonce of its own, and every signature covers it, so what was said on one link is worth nothing on
another; hello covers the pin of the TLS key as well, so who sits between node and server cannot pass it on.
Each step is taken once a link, in order: hello, then enrol where the machine is unknown, then present. The
machine key is fixed by hello: no later step can be another's.
"""

from typing import Literal

from shore.wire import control, signing
from shore.wire.token import secret_hash

KEY_LENGTH = 32
Step = Literal["hello", "enrol", "present", "leave"]


class NotProven(Exception):
    """Why a step was refused: a code of the protocol and one sentence."""

    def __init__(self, code: control.RefusalCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Proofs:
    """One link's."""

    def __init__(self, nonce: bytes, pin: bytes) -> None:
        self.machine_key: bytes | None = None
        self.role: control.Membership = "node"
        self._nonce = nonce
        self._pin = pin
        self._taken: set[Step] = set()

    def hello(self, said: control.Hello) -> None:
        """Who this is. Raises NotProven."""
        if said.version != control.VERSION:
            raise NotProven("version", f"this server speaks version {control.VERSION} of the protocol")
        self._once("hello")
        content = control.hello_content(self._nonce, self._pin, said.role, said.version)
        _verify(said.machine_key, signing.HELLO, content, said.signature)
        self.machine_key, self.role = said.machine_key, said.role

    def enrol(self, said: control.Enrol) -> None:
        """Asks to become a member; may be tried again with another token. Raises NotProven."""
        content = control.enrol_content(self._nonce, secret_hash(said.secret), said.node_key, said.name)
        _verify(self._machine(), signing.ENROL, content, said.signature)
        self._check_node_key(said.node_key)

    def present(self, said: control.Present) -> None:
        """A member begins, or asks again for the whole. Raises NotProven."""
        content = control.present_content(
            self._nonce, said.node_key, said.admission_key, said.epoch, said.version
        )
        _verify(self._machine(), signing.PRESENT, content, said.signature)
        self._check_node_key(said.node_key)
        if len(said.admission_key) != KEY_LENGTH:
            raise NotProven("key", "an admission key has 32 bytes")

    def leave(self, said: control.Leave) -> None:
        """A member leaves. Raises NotProven."""
        self._once("leave")
        _verify(self._machine(), signing.LEAVE, self._nonce, said.signature)

    def _machine(self) -> bytes:
        if self.machine_key is None:
            raise NotProven("signature", "say who you are first: hello")
        return self.machine_key

    def _once(self, step: Step) -> None:
        if step in self._taken:
            raise NotProven("closing", f"{step} was said before on this link")
        self._taken.add(step)

    def _check_node_key(self, node_key: bytes) -> None:
        if len(node_key) != KEY_LENGTH or (node_key == control.NO_NODE_KEY) != (self.role == "relay"):
            raise NotProven("key", "a node has a node key of 32 bytes, and a relay has none (32 zeros)")


def _verify(machine_key: bytes, label: signing.Label, content: bytes, signature: bytes) -> None:
    if not signing.is_signed(machine_key, label, content, signature):
        raise NotProven("signature", "the machine key of this link did not sign that")

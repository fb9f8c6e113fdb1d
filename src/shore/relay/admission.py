"""Whom a relay lets in (docs/protocol/relay.md, "Admission").

An admission is the netmap key's word, the netmap key is the root key's word, and the proof that it is used
by its owner is a signature over this very TLS session. What is not provably right is refused, with one
sentence.
"""

from dataclasses import dataclass

from shore.model.netmap import Admission
from shore.model.relay import RelayConfig
from shore.wire import relay, signing

KEY_LENGTH = 32
# An admission may come from a clock that is ahead of ours by so much.
SKEW_S = 300.0


class NotAdmitted(Exception):
    """One sentence for the node; `code` is what it is counted under."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True)
class Gate:
    """Judges proofs, by what the relay knows now."""

    config: RelayConfig

    def judge(self, content: bytes, exporter: bytes, now: float) -> Admission:
        """The admission in a `prove` on a session with this exporter. Raises NotAdmitted."""
        try:
            signed, signature = relay.proof(content)
        except ValueError as error:
            raise NotAdmitted("unreadable", f"the proof cannot be read: {error}") from None
        if signed.by not in self._netmap_keys(now):
            raise NotAdmitted("signer", "the admission is not signed by this network's netmap key")
        try:
            admission = signing.unseal(signed, signing.ADMISSION, Admission)
        except signing.NotSigned as error:
            raise NotAdmitted("signature", f"the admission is not valid: {error}") from None
        self._check(admission, now)
        covered = relay.proved(self.config.pin, exporter)
        if not signing.is_signed(admission.admission_key, signing.RELAY, covered, signature):
            raise NotAdmitted("exporter", "the proof was not made for this connection")
        return admission

    def stands(self, admission: Admission, now: float) -> bool:
        """Whether one that was let in may stay."""
        return now < admission.expires_at and admission.node_key not in self.config.revoked

    def _check(self, admission: Admission, now: float) -> None:
        if admission.relay != self.config.pin:
            raise NotAdmitted("relay", "the admission is for another relay")
        if len(admission.node_key) != KEY_LENGTH or not any(admission.node_key):
            raise NotAdmitted("key", "the admission names no node key")
        if admission.node_key in self.config.revoked:
            raise NotAdmitted("revoked", "this node was revoked")
        if now >= admission.expires_at:
            raise NotAdmitted("expired", "the admission has expired")
        if admission.issued_at > now + SKEW_S:
            raise NotAdmitted("early", "the admission is not valid yet")

    def _netmap_keys(self, now: float) -> frozenset[bytes]:
        config = self.config
        return signing.named_keys(config.statements, config.root, config.network, "netmap", now)

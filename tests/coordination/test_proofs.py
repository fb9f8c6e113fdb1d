"""What is believed on a link: every signed message replayed elsewhere, and signed by another key."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shore.coordination.proofs import NotProven, Proofs
from shore.wire import control, signing
from shore.wire.token import secret_hash

NONCE, PIN, SECRET = b"n" * 32, b"p" * 32, b"s" * 32
NODE_KEY, ADMISSION_KEY = b"k" * 32, b"a" * 32


class Machine:
    """Says what a node says, signed."""

    def __init__(self, nonce: bytes = NONCE, pin: bytes = PIN) -> None:
        self.key, self.nonce, self.pin = Ed25519PrivateKey.generate(), nonce, pin

    def hello(self, role: control.Membership = "node", version: int = control.VERSION) -> control.Hello:
        content = control.hello_content(self.nonce, self.pin, role, version)
        signature = signing.sign(self.key, signing.HELLO, content)
        return control.Hello(signing.public_of(self.key), signature, role, version)

    def enrol(self, node_key: bytes = NODE_KEY) -> control.Enrol:
        content = control.enrol_content(self.nonce, secret_hash(SECRET), node_key, "kitchen")
        return control.Enrol(SECRET, node_key, "kitchen", signing.sign(self.key, signing.ENROL, content))

    def present(self, node_key: bytes = NODE_KEY, admission_key: bytes = ADMISSION_KEY) -> control.Present:
        content = control.present_content(self.nonce, node_key, admission_key, 1, 7)
        return control.Present(
            node_key, admission_key, 1, 7, signing.sign(self.key, signing.PRESENT, content)
        )

    def leave(self) -> control.Leave:
        return control.Leave(signing.sign(self.key, signing.LEAVE, self.nonce))


def test_a_node_that_signs_each_step_is_believed() -> None:
    proofs, machine = Proofs(NONCE, PIN), Machine()
    proofs.hello(machine.hello())
    proofs.enrol(machine.enrol())
    proofs.present(machine.present())
    proofs.leave(machine.leave())
    assert proofs.machine_key == signing.public_of(machine.key)


@pytest.mark.parametrize("elsewhere", [(b"x" * 32, PIN), (NONCE, b"x" * 32)], ids=["link", "connection"])
def test_a_hello_is_good_on_its_own_link_and_connection(elsewhere: tuple[bytes, bytes]) -> None:
    proofs = Proofs(NONCE, PIN)
    with pytest.raises(NotProven, match="did not sign"):
        proofs.hello(Machine(*elsewhere).hello())
    assert proofs.machine_key is None


@pytest.mark.parametrize("step", ["enrol", "present", "leave"])
@pytest.mark.parametrize("whose", ["another machine", "another link"])
def test_no_step_is_taken_for_another(step: str, whose: str) -> None:
    proofs, machine, other = Proofs(NONCE, PIN), Machine(), Machine()
    proofs.hello(machine.hello())
    if whose == "another link":
        other.key, other.nonce = machine.key, b"x" * 32
    with pytest.raises(NotProven, match="did not sign") as refused:
        getattr(proofs, step)(getattr(other, step)())
    assert refused.value.code == "signature"


@pytest.mark.parametrize("step", ["enrol", "present", "leave"])
def test_nothing_comes_before_hello(step: str) -> None:
    with pytest.raises(NotProven, match="say who you are first"):
        getattr(Proofs(NONCE, PIN), step)(getattr(Machine(), step)())


@pytest.mark.parametrize("step", ["hello", "leave"])
def test_what_is_said_once_is_not_heard_twice(step: str) -> None:
    proofs, machine = Proofs(NONCE, PIN), Machine()
    proofs.hello(machine.hello())
    if step == "leave":
        proofs.leave(machine.leave())
    with pytest.raises(NotProven, match="before on this link") as refused:
        getattr(proofs, step)(getattr(machine, step)())
    assert refused.value.code == "closing"


def test_another_version_is_refused_with_its_reason() -> None:
    with pytest.raises(NotProven, match="speaks version 1") as refused:
        Proofs(NONCE, PIN).hello(Machine().hello(version=99))
    assert refused.value.code == "version"


@pytest.mark.parametrize(("role", "node_key"), [("node", bytes(32)), ("node", b"short"), ("relay", NODE_KEY)])
def test_keys_fit_the_role(role: control.Membership, node_key: bytes) -> None:
    proofs, machine = Proofs(NONCE, PIN), Machine()
    proofs.hello(machine.hello(role))
    with pytest.raises(NotProven) as refused:
        proofs.present(machine.present(node_key))
    assert refused.value.code == "key"


def test_an_admission_key_has_its_length() -> None:
    proofs, machine = Proofs(NONCE, PIN), Machine()
    proofs.hello(machine.hello())
    with pytest.raises(NotProven, match="32 bytes"):
        proofs.present(machine.present(admission_key=b"a"))

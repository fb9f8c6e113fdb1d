"""Dialogues on streams, with a relay as a process and nodes that speak TLS by OpenSSL."""

import contextlib
import os
import time
from collections.abc import Callable

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.relay.network import Network, Node, Running, running

from shore.model.netmap import Signed
from shore.wire import relay, signing

A, B = bytes([1] * 32), bytes([2] * 32)


def test_two_nodes_reach_each_other_by_their_tags(network: Network, relayed: Running) -> None:
    a, b = Node(relayed.port, A), Node(relayed.port, B)
    welcome = a.admitted(network)
    assert welcome.observed == f"127.0.0.1:{a.socket.getsockname()[1]}"
    assert len(welcome.ticket) == 32
    b.admitted(network)
    a.say(relay.SEND, b.tag, b"\x04datagram")
    assert b.hear() == (relay.RECEIVE, a.tag + b"\x04datagram")
    b.say(relay.SEND, a.tag, b"\x01" + bytes(relay.MOST_DATAGRAM - 1))
    assert a.hear() == (relay.RECEIVE, b.tag + b"\x01" + bytes(relay.MOST_DATAGRAM - 1))


def test_a_ping_is_answered_and_an_unknown_type_skipped(network: Network, relayed: Running) -> None:
    a = Node(relayed.port, A)
    a.admitted(network)
    a.say(0x77, b"who knows")
    a.say(relay.PING, b"12345678")
    assert a.hear() == (relay.PONG, b"12345678")


def test_a_node_that_is_not_here_is_away_once_a_second(network: Network, relayed: Running) -> None:
    a = Node(relayed.port, A)
    a.admitted(network)
    for _ in range(5):
        a.say(relay.SEND, relay.tag_of(B), b"\x04x")
    a.say(relay.PING, b"12345678")
    assert [a.hear(), a.hear()] == [(relay.AWAY, relay.tag_of(B)), (relay.PONG, b"12345678")]


def test_a_relay_says_from_where_another_node_speaks_to_it_and_nothing_of_who_is_not_here(
    network: Network, relayed: Running
) -> None:
    a, b = Node(relayed.port, A), Node(relayed.port, B)
    a.admitted(network)
    a.say(relay.WHERE, b.tag)
    b.upgrade()
    b.say(relay.WHERE, a.tag)
    b.say(relay.PING, b"not yet.")
    assert b.hear() == (relay.PONG, b"not yet.")
    b.say(relay.PROVE, b.proof(network))
    assert b.hear()[0] == relay.WELCOME
    a.say(relay.WHERE, b.tag)
    a.say(relay.WHERE, b"cut")
    a.say(relay.PING, b"12345678")
    loopback = bytes(10) + b"\xff\xff" + bytes([127, 0, 0, 1])
    assert sorted([a.hear(), a.hear()]) == [
        (relay.PONG, b"12345678"),
        (relay.SEEN, b.tag + loopback),
    ]


def test_a_second_stream_replaces_the_first(network: Network, relayed: Running) -> None:
    first, second, b = Node(relayed.port, A), Node(relayed.port, A), Node(relayed.port, B)
    first.admitted(network)
    second.admitted(network)
    b.admitted(network)
    assert first.hear()[0] == relay.REFUSED
    assert first.hear() == (0, b"")
    b.say(relay.SEND, first.tag, b"\x04for A")
    assert second.hear() == (relay.RECEIVE, b.tag + b"\x04for A")


Cheat = Callable[[Network, Node], bytes]


def _of_another_relay(network: Network, node: Node) -> bytes:
    return node.proof(network, network.admission(A, node.key, relay_pin=bytes(32)))


def _expired(network: Network, node: Node) -> bytes:
    return node.proof(network, network.admission(A, node.key, lasts=-1))


def _of_another_signer(network: Network, node: Node) -> bytes:
    stranger = Network(network.directory, tls=network.tls)
    return node.proof(network, stranger.admission(A, node.key))


def _changed(network: Network, node: Node) -> bytes:
    signed = network.admission(A, node.key)
    flipped = bytes([signed.content[0]]) + signed.content[1:].replace(A, B)
    return node.proof(network, Signed(flipped, signed.by, signed.signature))


def _of_another_session(network: Network, node: Node) -> bytes:
    covered = relay.proved(network.pin, bytes(32))
    return relay.prove(network.admission(A, node.key), signing.sign(node.key, signing.RELAY, covered))


def _with_another_key(network: Network, node: Node) -> bytes:
    admission = network.admission(A, Ed25519PrivateKey.generate())
    return node.proof(network, admission)


def _under_another_label(network: Network, node: Node) -> bytes:
    covered = relay.proved(network.pin, node.exporter())
    return relay.prove(network.admission(A, node.key), signing.sign(node.key, signing.HELLO, covered))


CHEATS: list[tuple[Cheat, str, str]] = [
    (_of_another_relay, "relay", "the admission is for another relay"),
    (_expired, "expired", "the admission has expired"),
    (_of_another_signer, "signer", "the admission is not signed by this network's netmap key"),
    (_changed, "signature", "the admission is not valid: the signature is wrong"),
    (_of_another_session, "exporter", "the proof was not made for this connection"),
    (_with_another_key, "exporter", "the proof was not made for this connection"),
    (_under_another_label, "exporter", "the proof was not made for this connection"),
    (lambda n, node: node.proof(n)[:-1], "unreadable", "the proof cannot be read: a proof that is cut"),
    (lambda n, node: b"", "unreadable", "the proof cannot be read: an admission that cannot be read"),
]


def test_what_is_not_provably_right_is_refused_by_its_sentence_and_counted(
    network: Network, relayed: Running
) -> None:
    for number, (cheat, code, sentence) in enumerate(CHEATS):
        node = Node(relayed.port, A).upgrade()
        before = relayed.metrics().get(f'shore_relay_refused_total{{reason="{code}"}}', 0)
        node.say(relay.PROVE, cheat(network, node))
        assert node.hear() == (relay.REFUSED, sentence.encode()), number
        assert node.hear() == (0, b"")
        assert relayed.metrics()[f'shore_relay_refused_total{{reason="{code}"}}'] == before + 1
    Node(relayed.port, A).admitted(network)


def test_a_revoked_node_is_not_let_in(network: Network) -> None:
    with running(network, revoked=(A,)) as relayed:
        node = Node(relayed.port, A).upgrade()
        node.say(relay.PROVE, node.proof(network))
        assert node.hear() == (relay.REFUSED, b"this node was revoked")


def test_an_admission_ends_and_a_further_proof_prolongs_it(network: Network, relayed: Running) -> None:
    short, prolonged = Node(relayed.port, A).upgrade(), Node(relayed.port, B).upgrade()
    for node in (short, prolonged):
        node.say(relay.PROVE, node.proof(network, network.admission(node.node_key, node.key, lasts=1.5)))
        assert node.hear()[0] == relay.WELCOME
    prolonged.say(relay.PROVE, prolonged.proof(network))
    assert prolonged.hear()[0] == relay.WELCOME
    assert short.hear() == (relay.REFUSED, b"the admission has expired")
    prolonged.say(relay.PING, b"12345678")
    assert prolonged.hear() == (relay.PONG, b"12345678")


def test_nothing_is_forwarded_before_the_proof(network: Network, relayed: Running) -> None:
    a, b = Node(relayed.port, A).upgrade(), Node(relayed.port, B)
    b.admitted(network)
    a.say(relay.SEND, b.tag, b"\x04smuggled")
    a.say(relay.PING, b"12345678")
    assert a.hear() == (relay.PONG, b"12345678")
    b.say(relay.PING, b"12345678")
    assert b.hear() == (relay.PONG, b"12345678")
    assert relayed.metrics()['shore_relay_dropped_total{reason="unadmitted"}'] == 1


def test_who_proves_nothing_is_refused_after_5_s(network: Network, relayed: Running) -> None:
    node = Node(relayed.port, A).upgrade()
    node.socket.settimeout(8)
    begun = time.monotonic()
    assert node.hear() == (relay.REFUSED, b"nothing was proved within 5 s")
    assert 4 < time.monotonic() - begun < 7


def test_a_frame_that_is_too_long_ends_its_stream_only(network: Network, relayed: Running) -> None:
    a, b = Node(relayed.port, A), Node(relayed.port, B)
    a.admitted(network)
    b.admitted(network)
    a.send(bytes([relay.SEND, 0xFF, 0, 0]))
    assert a.hear() == (0, b"")
    b.say(relay.PING, b"12345678")
    assert b.hear() == (relay.PONG, b"12345678")


def test_a_reader_that_stops_loses_its_oldest_and_then_its_stream(network: Network, relayed: Running) -> None:
    a, b = Node(relayed.port, A), Node(relayed.port, B)
    a.admitted(network)
    b.admitted(network)
    for _ in range(20):
        a.send(relay.frame(relay.SEND, b.tag, b"\x04" + bytes(60_000)) * 20)
    time.sleep(4)
    counted = relayed.metrics()
    assert counted['shore_relay_dropped_total{reason="full"}'] > 0
    assert counted['shore_relay_closed_total{reason="stuck"}'] == 1
    a.say(relay.PING, b"12345678")
    assert a.hear() == (relay.PONG, b"12345678")


def test_a_sender_above_its_rate_is_cut_to_it(network: Network) -> None:
    with running(network, rate=100_000) as relayed:
        a, b = Node(relayed.port, A), Node(relayed.port, B)
        assert a.admitted(network).rate == 100_000
        b.admitted(network)
        for _ in range(100):
            a.say(relay.SEND, b.tag, b"\x01" + bytes(1999))
        a.say(relay.PING, b"12345678")
        assert a.hear() == (relay.PONG, b"12345678")
        assert 50 < relayed.metrics()['shore_relay_dropped_total{reason="rate"}'] < 80


def test_who_proves_himself_again_has_no_more_to_send(network: Network) -> None:
    with running(network, rate=100_000) as relayed:
        a, b = Node(relayed.port, A), Node(relayed.port, B)
        a.admitted(network)
        b.admitted(network)
        for _ in range(4):
            for _ in range(25):
                a.say(relay.SEND, b.tag, b"\x01" + bytes(1999))
            a.say(relay.PROVE, a.proof(network))
            assert a.hear()[0] == relay.WELCOME
        assert 50 < relayed.metrics()['shore_relay_dropped_total{reason="rate"}'] < 80


def test_on_sigterm_nodes_are_asked_to_move_and_then_closed(network: Network, relayed: Running) -> None:
    a, b = Node(relayed.port, A), Node(relayed.port, B)
    a.admitted(network)
    b.admitted(network)
    relayed.process.terminate()
    kind, content = a.hear()
    assert kind == relay.GOAWAY
    assert 500 <= int.from_bytes(content, "big") <= 5000
    assert b.hear()[0] == relay.GOAWAY
    a.say(relay.SEND, b.tag, b"\x04still")
    assert b.hear() == (relay.RECEIVE, a.tag + b"\x04still")
    assert b.hear() == (0, b"")
    assert relayed.process.wait(5) == 0


def test_noise_on_an_admitted_stream_harms_nobody_else(network: Network, relayed: Running) -> None:
    witness = Node(relayed.port, B)
    witness.admitted(network)
    for _ in range(30):
        a = Node(relayed.port, A)
        a.admitted(network)
        with contextlib.suppress(OSError):
            a.send(os.urandom(3000))
        a.close()
    witness.say(relay.PING, b"12345678")
    assert witness.hear() == (relay.PONG, b"12345678")


def test_the_configuration_comes_back_as_it_was(network: Network) -> None:
    config = network.config(revoked=(A,), rate=5, server_socket="/run/x")
    assert msgspec.json.decode(msgspec.json.encode(config), type=type(config)) == config

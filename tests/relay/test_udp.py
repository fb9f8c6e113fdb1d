"""UDP 3478 of a relay: STUN, challenges, forwarding, and crossing over to streams."""

import os
import socket
import struct

from hypothesis import given
from hypothesis import strategies as st
from tests.relay.network import Network, Node, Running, running

from shore.relay.udp import ASKS_AT_ONCE, MOST_SOURCES, SOL_UDP, UDP_SEGMENT, Asks
from shore.wire import relay, stun

A, B = bytes([1] * 32), bytes([2] * 32)
NONCE = b"12345678"


class Udp:
    """A node's UDP socket."""

    def __init__(self, relayed: Running) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", relayed.udp_port))
        self.socket.settimeout(3)

    def ask(self, message: bytes) -> bytes:
        self.socket.send(message)
        return self.socket.recv(70000)

    def silent(self, message: bytes) -> bool:
        """Nothing comes of it, not even after a STUN answer that was asked for later."""
        self.socket.send(message)
        answer = self.ask(stun_request())
        return answer[:2] == b"\x01\x01"

    def bind(self, tag: bytes, ticket: bytes) -> None:
        challenge = self.ask(relay.control(relay.BIND, tag, NONCE, b"", ticket))
        assert challenge[0] == relay.CHALLENGE
        assert relay.is_from(ticket, challenge)
        assert challenge[relay.NONCE] == NONCE
        bound = self.ask(relay.control(relay.ANSWER, tag, NONCE, challenge[relay.COOKIE], ticket))
        assert bound[0] == relay.BOUND
        assert relay.is_from(ticket, bound)
        assert int.from_bytes(bound[20:24], "big") == relay.BOUND_S


def stun_request() -> bytes:
    return struct.pack("!HHI12s", 1, 0, stun.COOKIE, os.urandom(12))


def test_bound_addresses_forward_to_each_other(network: Network, relayed: Running) -> None:
    a, b = Node(relayed.port, A), Node(relayed.port, B)
    udp_a, udp_b = Udp(relayed), Udp(relayed)
    udp_a.bind(a.tag, a.admitted(network).ticket)
    udp_b.bind(b.tag, b.admitted(network).ticket)
    udp_a.socket.send(relay.forwarded(relay.FORWARD, b.tag, b"\x04datagram"))
    assert udp_b.socket.recv(1000) == relay.forwarded(relay.FORWARDED, a.tag, b"\x04datagram")


def test_forwarding_crosses_over_to_a_stream_and_back(network: Network, relayed: Running) -> None:
    a, b = Node(relayed.port, A), Node(relayed.port, B)
    udp_a = Udp(relayed)
    udp_a.bind(a.tag, a.admitted(network).ticket)
    b.admitted(network)
    udp_a.socket.send(relay.forwarded(relay.FORWARD, b.tag, b"\x04to a stream"))
    assert b.hear() == (relay.RECEIVE, a.tag + b"\x04to a stream")
    b.say(relay.SEND, a.tag, b"\x04to the stream it has")
    assert a.hear() == (relay.RECEIVE, b.tag + b"\x04to the stream it has")
    a.close()
    b.say(relay.PING, NONCE)
    assert b.hear() == (relay.PONG, NONCE)
    b.say(relay.SEND, a.tag, b"\x04to its address")
    assert udp_a.socket.recv(1000) == relay.forwarded(relay.FORWARDED, b.tag, b"\x04to its address")


def test_a_sender_above_its_rate_is_cut_to_it_whichever_way_it_sends(network: Network) -> None:
    with running(network, rate=100_000) as relayed:
        a, b = Node(relayed.port, A), Node(relayed.port, B)
        udp_a, udp_b = Udp(relayed), Udp(relayed)
        udp_a.bind(a.tag, a.admitted(network).ticket)
        udp_b.bind(b.tag, b.admitted(network).ticket)
        for _ in range(100):
            udp_a.socket.send(relay.forwarded(relay.FORWARD, b.tag, b"\x04" + bytes(1999)))
        assert udp_a.silent(relay.forwarded(relay.FORWARD, b.tag, b"\x04" + bytes(1999)))
        assert 50 < relayed.metrics()['shore_relay_dropped_total{reason="rate"}'] < 80
        before = relayed.metrics()['shore_relay_dropped_total{reason="rate"}']
        for _ in range(20):
            a.say(relay.SEND, b.tag, b"\x04" + bytes(1999))
        a.say(relay.PING, NONCE)
        assert a.hear() == (relay.PONG, NONCE)
        assert relayed.metrics()['shore_relay_dropped_total{reason="rate"}'] - before > 10


def test_a_run_that_is_sent_in_one_piece_arrives_datagram_by_datagram(
    network: Network, relayed: Running
) -> None:
    nodes = [Node(relayed.port, key) for key in (A, B, bytes([3] * 32))]
    sockets = [Udp(relayed) for _ in nodes]
    for node, udp in zip(nodes, sockets, strict=True):
        udp.bind(node.tag, node.admitted(network).ticket)
    a, b, c = nodes
    towards = [b, b, c, b, b]
    sent = [
        relay.forwarded(relay.FORWARD, node.tag, b"\x04" + bytes([n] * 1199))
        for n, node in enumerate(towards)
    ]
    sent[-1] = sent[-1][:500]
    pieces = [(SOL_UDP, UDP_SEGMENT, struct.pack("H", len(sent[0])))]
    sockets[0].socket.sendmsg([b"".join(sent)], pieces)
    for node, udp in zip(nodes[1:], sockets[1:], strict=True):
        for whole in [each for each, whom in zip(sent, towards, strict=True) if whom is node]:
            assert udp.socket.recv(2000) == relay.forwarded(relay.FORWARDED, a.tag, whole[12:])


def test_a_word_for_the_relay_behind_a_run_is_heard(network: Network, relayed: Running) -> None:
    a, b = Node(relayed.port, A), Node(relayed.port, B)
    udp_a, udp_b = Udp(relayed), Udp(relayed)
    udp_a.bind(a.tag, a.admitted(network).ticket)
    udp_b.bind(b.tag, b.admitted(network).ticket)
    datagram = relay.forwarded(relay.FORWARD, b.tag, b"\x04" + bytes(99))
    pieces = [(SOL_UDP, UDP_SEGMENT, struct.pack("H", len(datagram)))]
    udp_a.socket.sendmsg([datagram * 3 + stun_request()], pieces)
    assert udp_a.socket.recv(100)[:2] == b"\x01\x01"
    for _ in range(3):
        assert udp_b.socket.recv(2000)[12:] == datagram[12:]


def test_what_is_not_bound_or_not_proved_gets_nothing(network: Network, relayed: Running) -> None:
    a, b, udp = Node(relayed.port, A), Node(relayed.port, B), Udp(relayed)
    ticket = a.admitted(network).ticket
    other = b.admitted(network).ticket
    assert udp.silent(relay.forwarded(relay.FORWARD, b.tag, b"\x04x"))
    assert udp.silent(relay.control(relay.BIND, a.tag, NONCE, b"", other))
    assert udp.silent(relay.control(relay.BIND, relay.tag_of(bytes(32)), NONCE, b"", ticket))
    assert udp.silent(relay.control(relay.BIND, a.tag, NONCE, b"", ticket)[:-1])
    assert udp.silent(relay.control(relay.ANSWER, a.tag, NONCE, bytes(12), ticket))


def test_a_cookie_is_good_for_its_address_only(network: Network, relayed: Running) -> None:
    a, here, elsewhere = Node(relayed.port, A), Udp(relayed), Udp(relayed)
    ticket = a.admitted(network).ticket
    challenge = here.ask(relay.control(relay.BIND, a.tag, NONCE, b"", ticket))
    answer = relay.control(relay.ANSWER, a.tag, NONCE, challenge[relay.COOKIE], ticket)
    assert elsewhere.silent(answer)
    assert here.ask(answer)[0] == relay.BOUND


def test_stun_is_answered_and_bounded_per_source(relayed: Running) -> None:
    udp = Udp(relayed)
    request = stun_request()
    answer = udp.ask(request)
    assert answer == stun.response(request, *udp.socket.getsockname())
    assert len(answer) == 32
    for _ in range(300):
        udp.socket.send(stun_request())
    udp.socket.settimeout(0.5)
    answered = 0
    try:
        while udp.socket.recv(100):
            answered += 1
    except TimeoutError:
        pass
    assert answered < ASKS_AT_ONCE + 40


def test_stun_of_both_families_as_rfc_5769_has_it() -> None:
    transaction = bytes.fromhex("b7e7a701bc34d686fa87dfae")
    request = struct.pack("!HHI12s", 1, 0, stun.COOKIE, transaction)
    four = stun.response(request, "192.0.2.1", 32853)
    assert four[-12:] == bytes.fromhex("002000080001a147e112a643")
    six = stun.response(request, "2001:db8:1234:5678:11:2233:4455:6677", 32853)
    assert six[-24:] == bytes.fromhex("002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9")


@given(st.binary(max_size=64))
def test_what_is_no_binding_request_is_none(datagram: bytes) -> None:
    assert not stun.is_request(datagram) or datagram[:2] == b"\0\1"


def test_the_table_of_sources_is_bounded_and_a_64_is_one_source() -> None:
    asks = Asks()
    assert sum(asks.may(f"2001:db8::{n + 1:x}", 0.0) for n in range(200)) == ASKS_AT_ONCE
    assert asks.may("2001:db8::1", 1.0)
    for n in range(MOST_SOURCES + 10):
        asks.may(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 2.0)
    assert len(asks._left) == MOST_SOURCES

"""Frames of the control socket: whole messages come out however the bytes come in."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shore.model.desired import DesiredState, Interface, Socket
from shore.model.facts import SessionExpired
from shore.model.filter import Ports, Rule
from shore.wire.dataplane import (
    MOST_BODY,
    Applied,
    BrokenFrame,
    Decoder,
    Desired,
    FromPlane,
    Hello,
    Told,
    encode,
    portions,
)

APPLIED = msgspec.msgpack.encode({"type": "applied", "serial": 7})
FACT = msgspec.msgpack.encode(
    {"type": "fact", "serial": 1, "at": 2.5, "fact": {"type": "session_expired", "public_key": b"\1" * 32}}
)


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


@given(st.lists(st.integers(1, 40), max_size=10))
def test_messages_come_out_whole_however_the_stream_is_cut(cuts: list[int]) -> None:
    stream, decoder, got = frame(APPLIED) + frame(FACT), Decoder(), []
    for cut in cuts:
        got += decoder.feed(stream[:cut])
        stream = stream[cut:]
    got += decoder.feed(stream)
    assert got == [Applied(7), Told(1, 2.5, SessionExpired(b"\1" * 32))]


def test_what_a_newer_plane_says_is_left_out() -> None:
    unknown = msgspec.msgpack.encode({"type": "weather", "rain": True})
    more = msgspec.msgpack.encode({"type": "applied", "serial": 8, "took_ms": 3})
    assert list(Decoder().feed(frame(unknown) + frame(more))) == [Applied(8)]


@pytest.mark.parametrize("stream", [(MOST_BODY + 1).to_bytes(4, "big"), frame(b"\xc1")])
def test_a_stream_that_is_not_ours_ends(stream: bytes) -> None:
    with pytest.raises(BrokenFrame):
        list(Decoder().feed(stream))


@given(st.lists(st.binary(max_size=80) | st.binary(max_size=40).map(frame), max_size=6))
def test_no_stream_ends_in_anything_but_messages_or_a_broken_frame(parts: list[bytes]) -> None:
    decoder = Decoder()
    with contextlib.suppress(BrokenFrame):
        for part in parts:
            for message in decoder.feed(part):
                assert isinstance(message, FromPlane)


@given(st.lists(st.tuples(st.integers(0, len(FACT) - 1), st.integers(0, 255)), min_size=1, max_size=5))
def test_a_message_changed_anywhere_is_read_left_out_or_breaks_the_stream(
    changes: list[tuple[int, int]],
) -> None:
    body = bytearray(FACT)
    for at, byte in changes:
        body[at] = byte
    with contextlib.suppress(BrokenFrame):
        assert len(list(Decoder().feed(frame(bytes(body))))) <= 1


def test_a_desired_state_is_one_frame_in_the_words_of_the_protocol() -> None:
    rules = (Rule(("10.0.0.1/32",), ("10.0.0.2/32",), (Ports("tcp", 22, 22), Ports(47), Ports())),)
    state = DesiredState(Interface(b"\1" * 32, 1420), (Socket(1, 4),), (), filter=rules)
    sent = encode(Desired(3, 9, ("tun", "socket:1"), state))
    assert int.from_bytes(sent[:4], "big") == len(sent) - 4
    assert msgspec.msgpack.decode(sent[4:]) == {
        "type": "desired",
        "serial": 3,
        "seen": 9,
        "descriptors": ["tun", "socket:1"],
        "state": {
            "interface": {
                "private_key": b"\1" * 32,
                "mtu": 1420,
                "offload": True,
                "probing": True,
                "overhear": False,
            },
            "sockets": [{"id": 1, "family": 4, "uplink": None}],
            "peers": [],
            "stun": [],
            "filter": [
                {
                    "sources": ["10.0.0.1/32"],
                    "destinations": ["10.0.0.2/32"],
                    "ports": [
                        {"protocol": "tcp", "first": 22, "last": 22},
                        {"protocol": 47, "first": 0, "last": 65535},
                        {"protocol": None, "first": 0, "last": 65535},
                    ],
                }
            ],
            "links": [],
            "bindings": [],
        },
    }
    assert msgspec.msgpack.decode(encode(Hello(5))[4:]) == {"type": "hello", "generation": 5, "version": 1}


def test_more_descriptors_than_go_with_one_byte_go_with_the_next_ones() -> None:
    frame = bytes(range(20))
    for count in (0, 1, 64, 65, 128, 257):
        written = portions(frame, list(range(count)))
        assert b"".join(part for part, _ in written) == frame
        assert [fd for _, fds in written for fd in fds] == list(range(count))
        assert all(part and len(fds) <= 64 for part, fds in written)

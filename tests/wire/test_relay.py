"""The relay's frames and UDP messages, against the vectors that the Rust side reads as well."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shore.model.netmap import Signed
from shore.wire import relay

VECTORS = json.loads(Path(__file__).with_name("relay_vectors.json").read_text())


def test_the_vectors() -> None:
    key = bytes.fromhex(VECTORS["node_key"])
    ticket = bytes.fromhex(VECTORS["ticket"])
    tag = relay.tag_of(key)
    assert tag.hex() == VECTORS["tag"]
    assert relay.frame(relay.SEND, tag, b"datagram").hex() == VECTORS["send"]
    assert relay.control(relay.BIND, tag, bytes(range(8)), b"", ticket).hex() == VECTORS["bind"]
    cookie = relay.cookie(bytes(32), bytes([192, 0, 2, 1]), 51820, tag)
    assert relay.control(relay.ANSWER, tag, bytes(range(8)), cookie, ticket).hex() == VECTORS["answer"]
    assert relay.forwarded(relay.FORWARD, tag, b"datagram").hex() == VECTORS["forward"]


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300))), st.integers(1, 64))
def test_frames_come_back_however_they_are_cut(frames: list[tuple[int, bytes]], cut: int) -> None:
    stream = b"".join(relay.frame(kind, content) for kind, content in frames)
    decoder, seen = relay.Frames(), []
    for at in range(0, len(stream), cut):
        seen += decoder.feed(stream[at : at + cut])
    assert seen == frames


def test_a_frame_that_is_too_long_ends_the_stream() -> None:
    with pytest.raises(relay.BrokenStream):
        list(relay.Frames().feed(bytes([relay.SEND, 0xFF, 0, 0])))


@given(st.binary(max_size=400))
def test_no_proof_of_any_content_raises_anything_else(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        relay.proof(content)


def test_a_proof_comes_back_whole_and_is_refused_cut() -> None:
    admission = Signed(b"admission", bytes(32), bytes(64))
    content = relay.prove(admission, bytes(64))
    assert relay.proof(content) == (admission, bytes(64))
    for length in range(len(content)):
        with pytest.raises(ValueError, match="a"):
            relay.proof(content[:length])


def test_a_udp_message_is_known_by_its_ticket() -> None:
    message = relay.control(relay.BIND, bytes(8), bytes(8), b"", bytes(32))
    assert len(message) == relay.CONTROL_LENGTH
    assert relay.is_from(bytes(32), message)
    assert not relay.is_from(bytes([1] * 32), message)
    for at in range(len(message)):
        changed = bytearray(message)
        changed[at] ^= 1
        assert not relay.is_from(bytes(32), bytes(changed))
    assert not relay.is_from(bytes(32), message[:-1])


def test_where_a_node_was_seen_is_sixteen_bytes_in_either_family() -> None:
    mapped = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 1])
    assert relay.seen(b"12345678", "192.0.2.1:443") == b"12345678" + mapped
    assert relay.seen(b"12345678", "[2001:db8::1]:443")[8:].hex() == "20010db8000000000000000000000001"

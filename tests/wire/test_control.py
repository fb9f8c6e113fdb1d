"""Messages of the control link: whole, unknown, broken."""

import msgspec
import pytest

from shore.model.desired import Candidate
from shore.model.netmap import Signed
from shore.wire import control

SIGNED = Signed(b"content", bytes(32), bytes(64))
CANDIDATE = Candidate("192.0.2.1:51820", "host")


@pytest.mark.parametrize(
    "message",
    [
        control.Challenge((1,), bytes(32), bytes(32), (SIGNED,)),
        control.StandingIs(bytes(16), "member", 1.5),
        control.NetmapIs(SIGNED, {"self": b"record"}),
        control.Delta(bytes(32), SIGNED, {"self": b"record"}, ("peer:01",)),
        control.Admissions({"r": SIGNED}),
        control.Signal(bytes(32), "call_me_maybe", (CANDIDATE,)),
        control.Admitting(bytes(32), bytes(16), (SIGNED,), (bytes(32),)),
        control.Refused("token", "this token was spent"),
        control.Pong(3),
    ],
)
def test_what_the_server_says_comes_back_whole(message: control.FromServer) -> None:
    assert control.from_server(control.encode(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        control.Hello(bytes(32), bytes(64)),
        control.Enrol(bytes(32), bytes(32), "kitchen", bytes(64)),
        control.Present(bytes(32), bytes(32), 1, 7, bytes(64)),
        control.Whereabouts((CANDIDATE,), ("r",)),
        control.Offering(("192.0.2.1:443",), ()),
        control.Leave(bytes(64)),
        control.Ping(3),
    ],
)
def test_what_a_node_says_comes_back_whole(message: control.FromNode) -> None:
    assert control.from_node(control.encode(message)) == message


def test_what_we_do_not_know_is_left_out() -> None:
    assert control.from_node(msgspec.msgpack.encode({"type": "song", "text": "la"})) is None
    known = msgspec.msgpack.encode({"type": "ping", "id": 3, "mood": "good"})
    assert control.from_node(known) == control.Ping(3)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x81", bytes(control.MOST_FROM_NODE + 1)])
def test_nonsense_ends_the_link(data: bytes) -> None:
    with pytest.raises(control.BrokenMessage):
        control.from_node(data)


def test_what_is_signed_differs_with_each_of_its_parts() -> None:
    contents = {
        control.hello_content(b"n", b"p", "node", 1),
        control.hello_content(b"n", b"q", "node", 1),
        control.hello_content(b"m", b"p", "node", 1),
        control.hello_content(b"n", b"p", "relay", 1),
        control.hello_content(b"n", b"p", "node", 2),
    }
    assert len(contents) == 5

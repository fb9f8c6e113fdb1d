"""The local API's lines: what one side says the other reads, and what nobody says is refused."""

import contextlib
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shore.model.config import Endpoint, Hooks, PeerConfig, TunnelConfig, Uplink
from shore.model.netcheck import Netcheck, RelayCheck
from shore.model.ping import PathPing
from shore.wire import api

CONFIG = TunnelConfig(
    "wg0",
    b"\1" * 32,
    addresses=("10.0.0.1/24",),
    hooks=Hooks(post_up=("true",)),
    peers=(PeerConfig(b"\2" * 32, b"\3" * 32, ("::/0",), (Endpoint("vpn.example.com", 1),), 25),),
)
REQUESTS = (
    api.AskStatus(),
    api.AskNetcheck(),
    api.AskDown(),
    api.AskReload(CONFIG),
    api.AskRenew(b"\2" * 32),
    api.AskPoke(b"\2" * 32),
    api.AskAmend(b"\2" * 32, redundancy="always"),
    api.AskAmend(uplinks=(Uplink("eth0"), Uplink("wwan0", True))),
    api.AskConfirm(),
)
POKED = PathPing(1, "eth0", "192.0.2.2:1", True, True, 12.5)
CHECKED = Netcheck("wg0", 1, (), (), "none", None, False, (), (RelayCheck("r", "a", "up", 1.5, True),), None)
REPLIES = (
    api.Done(),
    api.Failed("why"),
    api.Poked(False),
    api.Poked(True, (POKED,)),
    api.NetcheckReply(CHECKED),
)
STARTS = (api.Started(("a note",)), api.NotStarted("why"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["do", "is", "x"]), inner),
)
READERS = (api.request, api.reply, api.start_reply)


def test_what_is_said_is_read() -> None:
    assert tuple(api.request(api.line(said)) for said in REQUESTS) == REQUESTS
    assert tuple(api.reply(api.line(said)) for said in REPLIES) == REPLIES
    assert tuple(api.start_reply(api.line(said)) for said in STARTS) == STARTS


def test_a_message_is_one_line_whatever_it_holds() -> None:
    assert api.line(api.Failed("two\nlines\r\n")).count(b"\n") == 1


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@given(st.binary(max_size=200) | JSON.map(msgspec.json.encode))
def test_no_line_ends_in_anything_but_a_message_or_a_refusal(
    read: Callable[[bytes], object], text: bytes
) -> None:
    with contextlib.suppress(msgspec.DecodeError):
        read(text)


@given(st.data())
def test_a_request_changed_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    line = bytearray(api.line(data.draw(st.sampled_from(REQUESTS))))
    for _ in range(data.draw(st.integers(1, 4))):
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(msgspec.DecodeError):
        api.request(bytes(line))


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_nesting_without_end_is_refused(read: Callable[[bytes], object]) -> None:
    with pytest.raises(msgspec.DecodeError):
        read(b'{"x":' + b"[" * 1_000_000)

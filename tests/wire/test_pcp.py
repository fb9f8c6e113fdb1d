"""PCP by the figures of RFC 6887, and nonsense."""

from hypothesis import given
from hypothesis import strategies as st

from shore.wire import pcp

NONCE = bytes(range(12))


def answer(
    opcode: int = 0x81, result: int = 0, version: int = 2, address: str = "00" * 10 + "ffff" + "c0000201"
) -> bytes:
    head = bytes([version, opcode, 0, result]) + bytes.fromhex("00001c20" + "00000010") + bytes(12)
    return head + NONCE + bytes([17, 0, 0, 0]) + bytes.fromhex("ca6cca6d" + address)


def test_a_request_names_who_asks_and_what_for() -> None:
    asked = pcp.ask_mapping("10.0.0.2", NONCE, 51820, 0, 7200)
    assert len(asked) == 60
    assert asked[:8].hex() == "02010000" + "00001c20"
    assert asked[8:24].hex() == "00" * 10 + "ffff0a000002"
    assert asked[24:36] == NONCE
    assert asked[36:44].hex() == "11000000" + "ca6c0000"
    assert asked[44:].hex() == "00" * 10 + "ffff00000000"
    assert pcp.ask_mapping("2001:db8::2", NONCE, 51820, 51820, 7200)[44:] == bytes(16)


def test_answers() -> None:
    assert pcp.read(answer()) == pcp.Mapped(NONCE, 51820, 51821, "192.0.2.1", 7200, 16)
    pinhole = answer(address="20010db8" + "00" * 11 + "02")
    assert pcp.read(pinhole) == pcp.Mapped(NONCE, 51820, 51821, "2001:db8::2", 7200, 16)
    assert pcp.read(answer(opcode=0x80)) == pcp.Announced(16)
    assert pcp.read(answer(result=8)) == pcp.Denied(8, "it is out of resources", 7200)


def test_nonsense_is_no_answer() -> None:
    whole = answer()
    assert pcp.read(answer(version=0)) is None
    assert pcp.read(answer(opcode=1)) is None
    for length in range(len(whole)):
        assert pcp.read(whole[:length]) is None


@given(st.binary(max_size=1200))
def test_nothing_raises(content: bytes) -> None:
    pcp.read(content)

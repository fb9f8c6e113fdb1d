"""NAT-PMP by the figures of RFC 6886, and nonsense."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shore.wire import natpmp


def test_a_request_for_the_address_is_two_zeros() -> None:
    assert natpmp.ask_address() == b"\0\0"


def test_a_request_for_a_port_is_twelve_bytes() -> None:
    assert natpmp.ask_mapping(51820, 51820, 7200).hex() == "0001" + "0000" + "ca6c" + "ca6c" + "00001c20"


def test_answers() -> None:
    assert natpmp.read(bytes.fromhex("0080000000000010c0000201")) == natpmp.Address("192.0.2.1", 16)
    mapped = bytes.fromhex("0081000000000010ca6cca6d00001c20")
    assert natpmp.read(mapped) == natpmp.Mapped(51820, 51821, 7200, 16)
    assert natpmp.read(bytes.fromhex("0081000200000010")) == natpmp.Denied(
        2, "it refuses: port mapping is switched off"
    )


@pytest.mark.parametrize(
    "answer", ["", "00", "0281000000000010", "0001000000000010ca6cca6d00001c20", "00810000000000"]
)
def test_nonsense_is_no_answer(answer: str) -> None:
    assert natpmp.read(bytes.fromhex(answer)) is None


@given(st.binary(max_size=64))
def test_nothing_raises(answer: bytes) -> None:
    natpmp.read(answer)

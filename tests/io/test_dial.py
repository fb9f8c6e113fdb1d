"""Relays are dialled at all their addresses, and the first that answers is taken."""

import asyncio
import socket

import pytest

from shore.io.dial import NotDialled, dial
from shore.io.resolver import NotResolved

NAMES = {"relay.example": ("127.0.0.1",), "both.example": ("127.0.0.2", "127.0.0.1")}


async def resolve(host: str) -> tuple[str, ...]:
    if host not in NAMES:
        raise NotResolved("nxdomain")
    return NAMES[host]


def dialled(*addresses: str) -> tuple[str, str]:
    """Whom it reached, and by which name."""

    async def run() -> tuple[str, str]:
        opened, name = await dial(addresses, 0, resolve)
        with opened:
            assert not opened.getblocking()
            return opened.getpeername()[0], name

    return asyncio.run(run())


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_a_literal_and_a_name_lead_to_the_relay_and_tell_what_its_certificate_should_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert dialled(f"127.0.0.1:{port}") == ("127.0.0.1", "127.0.0.1")
        assert dialled(f"relay.example:{port}") == ("127.0.0.1", "relay.example")


def test_addresses_that_refuse_or_do_not_resolve_are_passed_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = dialled(f"nobody.example:{port}", f"127.0.0.1:{closed_port()}", f"both.example:{port}")
        assert found == ("127.0.0.1", "both.example")


@pytest.mark.parametrize(
    ("address", "reason"),
    [("nobody.example:443", "nxdomain"), ("127.0.0.1:{}", "[Cc]onnect"), ("relay.example:port", "port")],
)
def test_what_cannot_be_dialled_is_told_with_its_reason(address: str, reason: str) -> None:
    with pytest.raises(NotDialled, match=reason):
        dialled(address.format(closed_port()))

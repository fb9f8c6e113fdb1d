"""Relays are dialled at all their addresses, and the first that answers is taken."""

import asyncio
import base64
import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from shore.io.dial import NotDialled, dial
from shore.io.resolver import NotResolved

NAMES = {"relay.example": ("127.0.0.1",), "both.example": ("127.0.0.2", "127.0.0.1")}


async def resolve(host: str) -> tuple[str, ...]:
    if host not in NAMES:
        raise NotResolved("nxdomain")
    return NAMES[host]


def dialled(*addresses: str, **environment: str) -> tuple[str, str]:
    """Whom it reached, and by which name."""

    async def run() -> tuple[str, str]:
        opened, name = await dial(addresses, 0, resolve, environment)
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


@contextlib.contextmanager
def proxy(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """One that answers so, once; its address, and what it was asked."""
    heads: list[bytes] = []

    def serve() -> None:
        opened, _ = server.accept()
        with opened:
            heads.append(opened.recv(4096))
            opened.sendall(answer)
            opened.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", heads
        thread.join()


def test_a_proxy_is_asked_for_the_relay_by_its_name_and_its_answer_is_read_to_the_end() -> None:
    with proxy(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n") as (where, heads):
        found = dialled("far.example:443", https_proxy=f"http://me:s%20cret@{where}")
    assert found == ("127.0.0.1", "far.example"), "only the proxy has to know where that is"
    said = heads[0].decode().split("\r\n")
    assert said[:2] == ["CONNECT far.example:443 HTTP/1.1", "Host: far.example:443"]
    assert said[2] == "Proxy-Authorization: Basic " + base64.b64encode(b"me:s cret").decode()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "the proxy 127.0.0.1 refused: 403 Forbidden"),
        (b"SSH-2.0-x\r\n\r\n", "the proxy 127.0.0.1 refused: no HTTP"),
    ],
)
def test_a_proxy_that_does_not_lead_on_is_told_with_what_it_said(answer: bytes, reason: str) -> None:
    with proxy(answer) as (where, _), pytest.raises(NotDialled, match=reason):
        dialled("far.example:443", HTTPS_PROXY=where)


def test_whom_no_proxy_names_is_dialled_past_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        nowhere = f"http://127.0.0.1:{closed_port()}"
        for names in ("other,relay.example", ".example", "*"):
            found = dialled(f"relay.example:{port}", https_proxy=nowhere, no_proxy=names)
            assert found == ("127.0.0.1", "relay.example")
        with pytest.raises(NotDialled):
            dialled(f"relay.example:{port}", https_proxy=nowhere, no_proxy="lay.example")


def test_what_is_no_proxy_is_said_in_one_sentence() -> None:
    with pytest.raises(NotDialled, match="https_proxy names no proxy"):
        dialled("relay.example:443", https_proxy="socks5://127.0.0.1:1080")


@pytest.mark.parametrize("port", ["99999", "-1", "0", "", "1" * 5000])
def test_a_port_that_there_is_not_is_one_sentence(port: str) -> None:
    with pytest.raises(NotDialled, match="there is no port of that number"):
        dialled(f"127.0.0.1:{port}")

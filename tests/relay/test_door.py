"""The TLS port: splice, request heads, and those who never finish."""

import asyncio
import contextlib
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from tests.relay.network import REQUEST, Network, Node, Running, running

from shore.relay import head
from shore.relay.counts import Counts
from shore.relay.door import Door
from shore.wire import relay

ORDINARY = b"GET /api/v1/nodes HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def relayed(network: Network, tmp_path: Path) -> Iterator[Running]:
    with running(network, server_socket=str(tmp_path / "server.sock")) as made:
        yield made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "server.sock"))
        listening.listen()
        listening.settimeout(5)
        yield listening


def test_every_other_request_is_spliced_as_it_came(
    network: Network, server: socket.socket, relayed: Running
) -> None:
    node = Node(relayed.port)
    node.send(ORDINARY[:10])
    node.send(ORDINARY[10:] + b"body")
    spliced, _ = server.accept()
    assert spliced.recv(1000) == ORDINARY + b"body"
    spliced.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    assert node.recv() == b"HTTP/1.1 200 OK\r\n\r\n"
    node.send(b"more")
    assert spliced.recv(1000) == b"more"


def test_each_direction_of_a_splice_ends_by_itself(
    network: Network, server: socket.socket, relayed: Running
) -> None:
    node = Node(relayed.port)
    node.send(ORDINARY)
    spliced, _ = server.accept()
    assert spliced.recv(1000) == ORDINARY
    node.tls.shutdown()
    node._flush()
    assert spliced.recv(1000) == b""
    spliced.sendall(b"the last word")
    assert node.recv() == b"the last word"
    spliced.close()
    assert node.recv() == b""


def test_a_splice_carries_much_past_a_slow_reader(
    network: Network, server: socket.socket, relayed: Running
) -> None:
    node = Node(relayed.port)
    node.send(ORDINARY)
    spliced, _ = server.accept()
    spliced.recv(1000)
    much = bytes(range(256)) * (1 << 16)
    sending = threading.Thread(target=spliced.sendall, args=(much,))
    sending.start()
    time.sleep(0.5)
    assert sending.is_alive(), "the server must feel that nobody reads"
    got = bytearray()
    while len(got) < len(much):
        got += node.recv()
    sending.join(5)
    assert got == much


def test_without_its_server_a_relay_says_so_in_one_sentence(network: Network, relayed: Running) -> None:
    node = Node(relayed.port)
    node.send(ORDINARY)
    answer = node.recv()
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert answer.endswith(b"\r\n\r\nThe coordination server is away.\n")
    assert node.recv() == b""


def test_streams_do_not_notice_that_the_server_dies(
    network: Network, server: socket.socket, relayed: Running
) -> None:
    stream, other = Node(relayed.port), Node(relayed.port)
    stream.admitted(network)
    other.send(ORDINARY)
    spliced, _ = server.accept()
    spliced.close()
    server.close()
    assert other.recv() == b""
    stream.say(relay.PING, b"12345678")
    assert stream.hear() == (relay.PONG, b"12345678")


def test_a_head_without_end_is_refused(network: Network, relayed: Running) -> None:
    node = Node(relayed.port)
    node.send(b"GET / HTTP/1.1\r\nX: " + b"x" * 20000)
    assert node.recv().startswith(b"HTTP/1.1 431 ")


def test_tls_1_2_and_plain_http_are_not_spoken(network: Network, relayed: Running) -> None:
    with socket.create_connection(("127.0.0.1", relayed.port), timeout=5) as plain:
        plain.sendall(ORDINARY)
        rest = b"".join(iter(lambda: plain.recv(1000), b""))
    assert rest[:1] in {b"", b"\x15"}, "an alert at most"


def test_who_is_slow_has_10_s(network: Network, relayed: Running) -> None:
    silent = socket.create_connection(("127.0.0.1", relayed.port), timeout=15)
    node = Node(relayed.port)
    node.socket.settimeout(15)
    begun = time.monotonic()
    node.send(REQUEST[:-2])
    assert node.recv() == b""
    with contextlib.suppress(ConnectionResetError):
        assert silent.recv(1) == b""
    assert 9 < time.monotonic() - begun < 13


async def test_who_is_gone_before_he_is_let_in_is_nobody() -> None:
    transport = Mock(asyncio.Transport)
    transport.get_extra_info.return_value = None
    counts = Counts()
    door = Door(Mock(), Mock(), counts, None)
    connection = door.connection()
    connection.connection_made(transport)
    transport.abort.assert_called_once_with()
    connection.connection_lost(None)
    assert door.stages.total() == 0


def test_10_000_half_open_connections_are_bounded(network: Network, relayed: Running) -> None:
    stream = Node(relayed.port)
    stream.admitted(network)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 12000), hard))
    kept = []
    try:
        for _ in range(10_000):
            half = socket.socket()
            half.setblocking(False)
            half.connect_ex(("127.0.0.1", relayed.port))
            kept.append(half)
            if len(kept) % 100 == 0:
                stream.say(relay.PING, b"12345678")
                assert stream.hear() == (relay.PONG, b"12345678")
        counted = relayed.metrics()
        assert counted['shore_relay_connections{stage="new"}'] <= 256
        assert counted['shore_relay_refused_total{reason="connections"}'] > 1000
    finally:
        for half in kept:
            half.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "wrong",
    [
        REQUEST.replace(b"GET", b"POST"),
        REQUEST.replace(b"1.1\r\n", b"1.0\r\n", 1),
        REQUEST.replace(b"shore-relay/1", b"websocket"),
        REQUEST.replace(b"Host: r", b"Upgrade: shore-relay/1"),
        REQUEST.replace(b"Host: r", b"Content-Length: 5"),
        REQUEST.replace(b"Host: r", b" folded"),
        REQUEST.replace(b"Host: r", b"Host: \xff"),
    ],
)
def test_only_the_very_upgrade_is_one(wrong: bytes) -> None:
    assert head.is_upgrade(REQUEST.removesuffix(b"\r\n\r\n"))
    assert not head.is_upgrade(wrong.removesuffix(b"\r\n\r\n"))


def test_a_relay_may_have_as_many_descriptors_as_the_hard_limit_allows(relayed: Running) -> None:
    soft, hard = resource.prlimit(relayed.process.pid, resource.RLIMIT_NOFILE)
    assert soft == hard

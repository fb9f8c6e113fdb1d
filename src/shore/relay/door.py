"""The TLS port: a connection is new, then a stream or spliced (docs/protocol/relay.md, "The stream").

A new connection has 10 s for its TLS handshake and its request head. There are at most so many of them, in
all and per source; who comes above that is closed at once, before any cryptography. Spliced bytes are
passed as they are, each direction by its own back-pressure and its own end.

The loop reads a socket until it is empty, and that of a node which sends without end never is. So a stream
that gave a whole turn's worth is not read again before all others were.
"""

import asyncio
import ipaddress
import socket
from collections import Counter
from enum import Enum
from typing import cast

from shore._native import TlsIdentity, TlsServer
from shore.relay import head
from shore.relay.counts import Counts
from shore.relay.room import TCP_NOTSENT_LOWAT
from shore.relay.streams import Stream, Streams

OPENING_S = 10.0
MOST_NEW = 1024
MOST_NEW_OF_ONE = 256
MOST_CONNECTIONS = 20_000
MOST_CONNECTIONS_OF_ONE = 4096
UNSENT = 1 << 17
HIGH_WATER = 1 << 17
LINGER_S = 2.0
# So much at once is a full read of the loop, which would go on: it is the turn of one stream.
TURN = 1 << 17


class Stage(Enum):
    """What a connection is."""

    NEW = "new"
    SPLICED = "spliced"
    STREAM = "stream"


class Door:
    """What all connections share."""

    def __init__(self, identity: TlsIdentity, streams: Streams, counts: Counts, server: str | None) -> None:
        self.identity = identity
        self.streams = streams
        self.counts = counts
        self.server = server
        self.stages: Counter[Stage] = Counter()
        self.new_of: Counter[str] = Counter()
        self.all_of: Counter[str] = Counter()
        self.closing = False
        self.tasks: asyncio.TaskGroup | None = None

    def connection(self) -> asyncio.Protocol:
        """One more, for `create_server`."""
        return Connection(self)

    def lets_in(self, source: str) -> bool:
        """Whether one more of this source may begin."""
        return (
            not self.closing
            and self.stages[Stage.NEW] < MOST_NEW
            and self.new_of[source] < MOST_NEW_OF_ONE
            and self.stages.total() < MOST_CONNECTIONS
            and self.all_of[source] < MOST_CONNECTIONS_OF_ONE
        )


class Connection(asyncio.Protocol):
    """One TCP connection of the TLS port."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._stage: Stage | None = None
        self._inbox = b""
        self._stream: Stream | None = None
        self._server: _ServerSide | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It was accepted."""
        transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self.transport = transport
        peer = transport.get_extra_info("peername")
        if peer is None:
            # Gone again already.
            transport.abort()
            return
        self._source = source_of(peer[0])
        self._observed = endpoint(peer)
        door = self._door
        if not door.lets_in(self._source):
            door.counts.count("refused_total", reason="connections")
            transport.abort()
            return
        self._tls = TlsServer(door.identity)
        self._enter(Stage.NEW)
        door.all_of[self._source] += 1
        transport.set_write_buffer_limits(high=HIGH_WATER)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT)
        self._deadline = self._loop.call_later(OPENING_S, self._late)

    def data_received(self, data: bytes) -> None:
        """Ciphertext."""
        if self._stream is not None:
            self._door.streams.received(self._stream, data)
            if len(data) >= TURN and not self.transport.is_closing():
                # More is waiting here, most likely: whoever else has something comes first.
                self.transport.pause_reading()
                self._loop.call_soon(self._go_on)
            return
        if self._stage is None or self.transport.is_closing():
            return
        try:
            plaintext = self._tls.receive(data)
        except ConnectionError:
            self._door.counts.count("refused_total", reason="tls")
            self._write()
            self._end()
            return
        self._write()
        if self._stage is Stage.NEW:
            self._read_head(plaintext)
        elif self._server is not None and plaintext:
            self._server.send(plaintext)
        if self._stream is None and self._tls.closed():
            self.eof_received()

    def eof_received(self) -> bool:
        """The other side sends no more: a splice goes on towards it."""
        if self._stage is Stage.SPLICED and self._server is not None:
            self._server.finish()
            return True
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        if self._stage is None:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._leave()
        _decrease(self._door.all_of, self._source)
        if self._stream is not None:
            self._door.streams.end(self._stream, "lost")
        if self._server is not None:
            self._server.abort()

    def pause_writing(self) -> None:
        """The socket is full."""
        if self._stream is not None:
            self._door.streams.paused(self._stream)
        elif self._server is not None:
            self._server.pause()

    def resume_writing(self) -> None:
        """The socket takes more."""
        if self._stream is not None:
            self._door.streams.resumed(self._stream)
        elif self._server is not None:
            self._server.resume()

    def from_server(self, plaintext: bytes) -> None:
        """What the coordination server says."""
        if not self.transport.is_closing():
            self._tls.send(plaintext)
            self._write()

    def server_finished(self) -> None:
        """The coordination server says no more."""
        if not self.transport.is_closing():
            self._tls.close()
            self._write()
            if self.transport.can_write_eof():
                self.transport.write_eof()

    def server_connected(self, server: "_ServerSide | None") -> None:
        """The splice stands; None: the coordination server is away."""
        if self.transport.is_closing() or self._stage is not Stage.SPLICED:
            if server is not None:
                server.abort()
            return
        if server is None:
            self._door.counts.count("server_away_total")
            self.from_server(head.refusal("502 Bad Gateway", "The coordination server is away."))
            self._end()
            return
        self._server = server
        server.send(self._inbox)
        self._inbox = b""
        self.transport.resume_reading()

    def _go_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _read_head(self, plaintext: bytes) -> None:
        self._inbox += plaintext
        whole, end, rest = self._inbox.partition(head.END)
        if not end:
            if len(self._inbox) > head.MOST_HEAD:
                self.from_server(
                    head.refusal("431 Request Header Fields Too Large", "The request head is too long.")
                )
                self._end()
            return
        if self._deadline is not None:
            self._deadline.cancel()
        if not head.is_upgrade(whole):
            self._splice()
        elif rest:
            # Frames before the answer would be ours to keep, and no node sends them.
            self.from_server(head.refusal("400 Bad Request", "Frames begin after the answer."))
            self._end()
        else:
            self._upgrade()

    def _upgrade(self) -> None:
        self._tls.send(head.UPGRADED)
        self._write()
        self._stream = self._door.streams.open(self.transport, self._tls, self._observed)
        self._enter(Stage.STREAM)

    def _splice(self) -> None:
        self._enter(Stage.SPLICED)
        self.transport.pause_reading()
        tasks = self._door.tasks
        assert tasks is not None, "a door is open inside its task group"
        tasks.create_task(self._dial())

    async def _dial(self) -> None:
        path = self._door.server
        try:
            if path is None:
                raise FileNotFoundError
            _, server = await asyncio.wait_for(
                self._loop.create_unix_connection(lambda: _ServerSide(self), path), OPENING_S
            )
        except (OSError, TimeoutError):
            self.server_connected(None)
        else:
            self.server_connected(server)

    def _write(self) -> None:
        if ciphertext := self._tls.take():
            self.transport.write(ciphertext)

    def _late(self) -> None:
        self._door.counts.count("refused_total", reason="slow")
        self.transport.abort()

    def _end(self) -> None:
        if self._stream is not None:
            self._door.streams.end(self._stream, "closed")
            return
        if self._stage is not None and not self.transport.is_closing():
            self._tls.close()
            self._write()
        self.transport.close()
        self._loop.call_later(LINGER_S, self.transport.abort)

    def _enter(self, stage: Stage) -> None:
        self._leave()
        self._stage = stage
        self._door.stages[stage] += 1
        if stage is Stage.NEW:
            self._door.new_of[self._source] += 1

    def _leave(self) -> None:
        if self._stage is not None:
            self._door.stages[self._stage] -= 1
        if self._stage is Stage.NEW:
            _decrease(self._door.new_of, self._source)


class _ServerSide(asyncio.Protocol):
    """The other half of a splice: the coordination server's socket."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)

    def send(self, plaintext: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(plaintext)

    def finish(self) -> None:
        if not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()

    def abort(self) -> None:
        self._transport.abort()

    def pause(self) -> None:
        self._transport.pause_reading()

    def resume(self) -> None:
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._connection.from_server(data)

    def eof_received(self) -> bool:
        self._connection.server_finished()
        return True

    def pause_writing(self) -> None:
        self._connection.transport.pause_reading()

    def resume_writing(self) -> None:
        self._connection.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.transport.close()


def source_of(host: str) -> str:
    """Whom a limit is for: an IPv4 address, or an IPv6 /64."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address.packed[:8] + bytes(8), 64)))


def endpoint(peer: tuple[str, int]) -> str:
    """`address:port`, IPv6 in brackets."""
    host, port = peer[0].partition("%")[0], peer[1]
    address = ipaddress.ip_address(host)
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _decrease(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]

"""UDP 3478: STUN, and forwarding between addresses that answered a challenge (docs/protocol/relay.md, "UDP
3478").

Nothing is answered with more bytes than came, but STUN, whose answer is 12 bytes (IPv6: 24) longer than the
request of 20 bytes. What a source may ask for is bounded, by a token bucket per source (per /64 for IPv6) in
a table of bounded size.
"""

import asyncio
import ipaddress
import os
import socket
from collections import OrderedDict
from dataclasses import dataclass

from shore.relay.counts import Counts
from shore.relay.streams import Streams
from shore.wire import relay, stun

SECRET_S = 120.0
ASKS_A_SECOND = 20.0
ASKS_AT_ONCE = 60.0
MOST_SOURCES = 65536
BUFFER = 4 << 20

Address = tuple[str, int]


@dataclass(frozen=True)
class Bound:
    """Where a node's address is, and the socket that it uses."""

    address: Address
    socket: int
    until: float


class Asks:
    """A token bucket per source: who asks often waits, and a full table forgets who asked first."""

    def __init__(self) -> None:
        self._left: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def may(self, host: str, now: float) -> bool:
        """Whether this source may ask once more."""
        packed = ipaddress.ip_address(host.partition("%")[0]).packed
        source = packed[:8] if len(packed) == 16 else packed
        tokens, at = self._left.pop(source, (ASKS_AT_ONCE, now))
        tokens = min(tokens + (now - at) * ASKS_A_SECOND, ASKS_AT_ONCE)
        may = tokens >= 1
        self._left[source] = (tokens - 1 if may else tokens, now)
        if len(self._left) > MOST_SOURCES:
            self._left.popitem(last=False)
        return may


class UdpRelay:
    """The UDP side of a relay, over one or more sockets."""

    def __init__(self, streams: Streams, counts: Counts) -> None:
        self._streams = streams
        self._counts = counts
        self._loop = asyncio.get_running_loop()
        self._sockets: list[asyncio.DatagramTransport] = []
        self._bound: dict[bytes, Bound] = {}
        self._tags: dict[tuple[Address, int], bytes] = {}
        self._asks = Asks()
        self._secrets = (os.urandom(32), os.urandom(32))
        self._secrets_at = self._loop.time()
        streams.forward = self._from_stream

    async def listen(self, sock: socket.socket) -> None:
        """Serve on this socket too."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        index = len(self._sockets)
        transport, _ = await self._loop.create_datagram_endpoint(lambda: _Datagrams(self, index), sock=sock)
        self._sockets.append(transport)

    def received(self, datagram: bytes, address: Address, index: int) -> None:
        """One datagram."""
        if not datagram:
            return
        kind = datagram[0]
        if kind == relay.FORWARD:
            self._forward(datagram, address, index)
        elif kind < 4 and stun.is_request(datagram):
            self._answer_stun(datagram, address, index)
        elif kind in {relay.BIND, relay.ANSWER} and self._asks.may(address[0], self._loop.time()):
            self._control(kind, datagram, address, index)

    def sweep(self) -> None:
        """Forget what is over; to be called every second or so."""
        now = self._loop.time()
        if now - self._secrets_at >= SECRET_S:
            self._secrets = (os.urandom(32), self._secrets[0])
            self._secrets_at = now
        for tag, bound in list(self._bound.items()):
            if now >= bound.until or self._streams.ticket(tag) is None:
                self._unbind(tag)

    def bound(self) -> int:
        """How many addresses are bound."""
        return len(self._bound)

    def close(self) -> None:
        """Close the sockets."""
        for transport in self._sockets:
            transport.close()

    def _answer_stun(self, request: bytes, address: Address, index: int) -> None:
        if not self._asks.may(address[0], self._loop.time()):
            self._counts.count("udp_total", kind="stun_limited")
            return
        host = _unmapped(address[0])
        self._counts.count("udp_total", kind="stun")
        self._sockets[index].sendto(stun.response(request, host, address[1]), address)

    def _control(self, kind: int, message: bytes, address: Address, index: int) -> None:
        tag = message[4:12]
        ticket = self._streams.ticket(tag)
        if ticket is None or not relay.is_from(ticket, message) or message[1:4] != bytes(3):
            self._counts.count("udp_total", kind="forged")
            return
        nonce = message[relay.NONCE]
        if kind == relay.BIND:
            self._counts.count("udp_total", kind="bind")
            cookie = self._cookie(self._secrets[0], address, tag)
            answer = relay.control(relay.CHALLENGE, tag, nonce, cookie, ticket)
        elif any(message[relay.COOKIE] == self._cookie(secret, address, tag) for secret in self._secrets):
            self._counts.count("udp_total", kind="answer")
            self._bind(tag, address, index)
            answer = relay.control(relay.BOUND, tag, nonce, relay.BOUND_S.to_bytes(4, "big"), ticket)
        else:
            self._counts.count("udp_total", kind="stale_cookie")
            return
        self._sockets[index].sendto(answer, address)

    def _bind(self, tag: bytes, address: Address, index: int) -> None:
        self._unbind(tag)
        if (other := self._tags.get((address, index))) is not None:
            self._unbind(other)
        self._bound[tag] = Bound(address, index, self._loop.time() + relay.BOUND_S)
        self._tags[address, index] = tag
        self._streams.native.bind(tag, True)

    def _unbind(self, tag: bytes) -> None:
        if (bound := self._bound.pop(tag, None)) is not None:
            del self._tags[bound.address, bound.socket]
            self._streams.native.bind(tag, False)

    def _forward(self, message: bytes, address: Address, index: int) -> None:
        source = self._tags.get((address, index))
        datagram = message[relay.UDP_HEADER_LENGTH :]
        if source is None or self._streams.ticket(source) is None or not datagram or message[1:4] != bytes(3):
            self._counts.count("udp_total", kind="unbound")
            return
        destination = message[4:12]
        if self._from_stream(source, destination, datagram):
            return
        if self._streams.native.deliver(source, destination, datagram):
            self._counts.count("udp_total", kind="to_stream")
            self._streams.flush_soon()
        else:
            self._counts.count("udp_total", kind="away")

    def _from_stream(self, source: bytes, destination: bytes, datagram: bytes) -> bool:
        bound = self._bound.get(destination)
        if bound is None or self._loop.time() >= bound.until or self._streams.ticket(destination) is None:
            return False
        message = relay.forwarded(relay.FORWARDED, source, datagram)
        self._sockets[bound.socket].sendto(message, bound.address)
        self._counts.count("udp_total", kind="forwarded")
        return True

    def _cookie(self, secret: bytes, address: Address, tag: bytes) -> bytes:
        packed = ipaddress.ip_address(address[0].partition("%")[0]).packed
        return relay.cookie(secret, packed, address[1], tag)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, udp: UdpRelay, index: int) -> None:
        self._udp = udp
        self._index = index

    def datagram_received(self, data: bytes, addr: tuple[str, int] | tuple[str, int, int, int]) -> None:
        # A link-local sender needs its scope to be answered; the others do not.
        self._udp.received(data, addr[:2] if len(addr) == 2 or not addr[3] else addr, self._index)  # type: ignore[arg-type]


def _unmapped(host: str) -> str:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if address.version == 6 else None
    return str(mapped or address)

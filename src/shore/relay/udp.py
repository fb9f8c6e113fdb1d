"""UDP 3478: STUN, and forwarding between addresses that answered a challenge (docs/protocol/relay.md, "UDP
3478").

Nothing is answered with more bytes than came, but STUN, whose answer is 12 bytes (IPv6: 24) longer than the
request of 20 bytes. What a source may ask for is bounded, by a token bucket per source (per /64 for IPv6) in
a table of bounded size. What a node may have forwarded is bounded by its own bucket, the one that its stream
is bounded by.

Datagrams of one sender arrive in one piece where the kernel joins them (UDP_GRO), and a run of them for one
address leaves in one piece (UDP_SEGMENT); `forward` and `forwarded` are of one length, so a run is changed in
its place. The socket is asked a few times for each turn of the loop, and what does not fit into a socket is
lost: nothing waits here.
"""

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections import OrderedDict
from dataclasses import dataclass

from shore.relay.counts import Counts
from shore.relay.streams import Streams
from shore.wire import relay, stun

SECRET_S = 120.0
ASKS_A_SECOND = 20.0
ASKS_AT_ONCE = 60.0
MOST_SOURCES = 65536
# What waits here is late for everybody: at 500 Mbit/s a hundredth of a second.
BUFFER = 1 << 19
# Receives in one turn, each of up to 64 KiB.
TURN = 16
MOST_DATAGRAMS = 65536
SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
ANCILLARY = socket.CMSG_SPACE(4)
MOST_SEGMENTS = 64
MOST_SENT = 65507
NOT_IN_ONE_PIECE = (errno.EIO, errno.EINVAL, errno.EMSGSIZE)
ZEROS = bytes(3)

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
        self._sockets: list[socket.socket] = []
        self._room = bytearray(MOST_DATAGRAMS)
        self._bound: dict[bytes, Bound] = {}
        self._tags: dict[tuple[Address, int], bytes] = {}
        self._asks = Asks()
        self._secrets = (os.urandom(32), os.urandom(32))
        self._secrets_at = self._loop.time()
        streams.forward = self._from_stream

    def listen(self, sock: socket.socket) -> None:
        """Serve on this socket too."""
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        with contextlib.suppress(OSError):
            sock.setsockopt(SOL_UDP, UDP_GRO, 1)
        index = len(self._sockets)
        self._sockets.append(sock)
        self._loop.add_reader(sock, self._readable, index)

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
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()

    def _answer_stun(self, request: bytes, address: Address, index: int) -> None:
        if not self._asks.may(address[0], self._loop.time()):
            self._counts.count("udp_total", kind="stun_limited")
            return
        host = _unmapped(address[0])
        self._counts.count("udp_total", kind="stun")
        self._send(index, stun.response(request, host, address[1]), address)

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
        self._send(index, answer, address)

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

    def _readable(self, index: int) -> None:
        sock, room = self._sockets[index], self._room
        whole = memoryview(room)
        for _ in range(TURN):
            try:
                length, ancillary, flags, addr = sock.recvmsg_into([room], ANCILLARY)
            except OSError:
                # Nothing more, or an ICMP answer to something sent before.
                return
            # A link-local sender needs its scope to be answered; the others do not.
            address = addr[:2] if len(addr) == 2 or not addr[3] else addr
            if not length or flags & socket.MSG_TRUNC:
                continue
            self._take(whole[:length], _stride(ancillary) or length, address, index)

    def _take(self, piece: memoryview, stride: int, address: Address, index: int) -> None:
        """What came in one piece from one address, datagrams of `stride` bytes but for the last."""
        source = self._tags.get((address, index))
        if source is not None and self._streams.ticket(source) is None:
            source = None
        begun, destination = 0, b""
        for at in range(0, len(piece), stride):
            one = piece[at : at + stride]
            towards = b""
            if one[0] != relay.FORWARD:
                self._hear(bytes(one), address, index)
            elif source is None or len(one) <= relay.UDP_HEADER_LENGTH or one[1:4] != ZEROS:
                self._counts.count("udp_total", kind="unbound")
            elif self._streams.native.admits(source, len(one) - relay.UDP_HEADER_LENGTH, self._loop.time()):
                towards = bytes(one[4:12])
            if towards != destination:
                self._pass_on(source, destination, piece[begun:at], stride)
                begun, destination = at, towards
        self._pass_on(source, destination, piece[begun:], stride)

    def _hear(self, datagram: bytes, address: Address, index: int) -> None:
        """One datagram for the relay itself."""
        kind = datagram[0]
        if kind < 4 and stun.is_request(datagram):
            self._answer_stun(datagram, address, index)
        elif kind in {relay.BIND, relay.ANSWER} and self._asks.may(address[0], self._loop.time()):
            self._control(kind, datagram, address, index)

    def _pass_on(self, source: bytes | None, destination: bytes, run: memoryview, stride: int) -> None:
        """A run of one node's datagrams for another; those for b"" go nowhere."""
        if source is None or not destination:
            return
        starts = range(0, len(run), stride)
        bound = self._bound_now(destination)
        if bound is not None:
            for at in starts:
                run[at] = relay.FORWARDED
                run[at + 4 : at + 12] = source
            self._send_run(bound, run, stride)
            self._counts.count("udp_total", len(starts), kind="forwarded")
            return
        for at in starts:
            datagram = bytes(run[at + relay.UDP_HEADER_LENGTH : at + stride])
            there = self._streams.native.deliver(source, destination, datagram)
            self._counts.count("udp_total", kind="to_stream" if there else "away")
        self._streams.flush_soon()

    def _send_run(self, bound: Bound, run: memoryview, stride: int) -> None:
        most = min(MOST_SEGMENTS, MOST_SENT // stride) * stride
        for at in range(0, len(run), most):
            piece = run[at : at + most]
            if len(piece) > stride and self._send_as_one(bound, piece, stride):
                continue
            for start in range(0, len(piece), stride):
                self._send(bound.socket, piece[start : start + stride], bound.address)

    def _send_as_one(self, bound: Bound, run: memoryview, stride: int) -> bool:
        """False where the kernel would have to be asked for each by itself."""
        ancillary = [(SOL_UDP, UDP_SEGMENT, struct.pack("H", stride))]
        try:
            self._sockets[bound.socket].sendmsg([run], ancillary, 0, bound.address)
        except OSError as error:
            if error.errno in NOT_IN_ONE_PIECE:
                return False
            self._counts.count("udp_total", -(-len(run) // stride), kind="unsent")
        return True

    def _send(self, index: int, message: bytes | memoryview, address: Address) -> None:
        try:
            self._sockets[index].sendto(message, address)
        except OSError:
            # A full socket or a way that there is not: whoever waits for it asks again.
            self._counts.count("udp_total", kind="unsent")

    def _from_stream(self, source: bytes, destination: bytes, datagram: bytes) -> bool:
        bound = self._bound_now(destination)
        if bound is None:
            return False
        self._send(bound.socket, relay.forwarded(relay.FORWARDED, source, datagram), bound.address)
        self._counts.count("udp_total", kind="forwarded")
        return True

    def _bound_now(self, tag: bytes) -> Bound | None:
        bound = self._bound.get(tag)
        if bound is None or self._loop.time() >= bound.until or self._streams.ticket(tag) is None:
            return None
        return bound

    def _cookie(self, secret: bytes, address: Address, tag: bytes) -> bytes:
        packed = ipaddress.ip_address(address[0].partition("%")[0]).packed
        return relay.cookie(secret, packed, address[1], tag)


def _stride(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The length of each datagram of a piece; 0 where one came by itself."""
    for level, kind, content in ancillary:
        if (level, kind) == (SOL_UDP, UDP_GRO):
            return int(struct.unpack("i", content[:4])[0])
    return 0


def _unmapped(host: str) -> str:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if address.version == 6 else None
    return str(mapped or address)

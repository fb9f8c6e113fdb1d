"""The node's own resolver: UDP and TCP on one address of the tunnel, for programs of this machine alone.

What this machine sends to its own address comes from that address, and from nowhere else: the kernel drops a
packet of ours that arrives by a link, and a tunnel one that is not its peer's. Anybody else is refused, by
UDP in words, so that he asks elsewhere at once. The sockets may be bound before the address exists.

What somebody else knows is asked at the resolvers that were in force without us, in turn, beginning with the
one that answered last. Question and answer pass as they are, by UDP where the program asked by UDP and by TCP
where it asked by TCP, through sockets with the tunnel's mark. A resolver that is our own address is left out,
and so few equal questions are under way at most that a circle of resolvers ends in a failure.
"""

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator

import dns.rcode

from shore.core.resolving import Answer, AskUpstream, Directory, Ignore, failure, is_reply_to
from shore.io.sockets import set_mark
from shore.model.zone import Zone

PORT = 53
IP_FREEBIND = 15
LARGEST = 65535
LENGTH = struct.Struct("!H")
# A resolver that is not the last one has this long, the last one as long as programs wait.
TURN, LAST_TURN = 1.0, 4.0
MOST_UNDER_WAY = 256
MOST_EQUAL = 8
MOST_STREAMS = 64
STREAM_IDLE = 10.0


class NotServed(Exception):
    """Why nobody can ask here. One sentence."""


class NameServer:
    """Answers for one zone while it is `run`; `upstreams` and `mark` may change at any time."""

    def __init__(self, address: str, zone: Zone) -> None:
        """Bind the sockets. Raises NotServed."""
        self.address = address
        self.upstreams: tuple[str, ...] = ()
        self.mark = 0
        self._directory = Directory(zone)
        self._zone = zone
        self._preferred = ""
        self._under_way: Counter[bytes] = Counter()
        self._streams: set[asyncio.StreamWriter] = set()
        try:
            self._datagrams = _bound(address, socket.SOCK_DGRAM)
        except OSError as error:
            raise NotServed(f"UDP port {PORT} of {address}: {(error.strerror or '').lower()}") from None
        self._listener = _listening(address)

    @property
    def has_streams(self) -> bool:
        """Whether TCP is served; a name server of every address may have its port, and datagrams alone do."""
        return self._listener is not None

    def use(self, zone: Zone) -> None:
        """Answer for this zone from now on."""
        if zone != self._zone:
            self._zone, self._directory = zone, Directory(zone)

    async def run(self) -> None:
        """Answer until cancelled; then nothing of ours is bound any more."""
        loop = asyncio.get_running_loop()
        server = None
        if self._listener is not None:
            server = await asyncio.start_server(self._stream, sock=self._listener)
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    question, asker = await loop.sock_recvfrom(self._datagrams, LARGEST)
                    decision = self._directory.decide(question)
                    if isinstance(decision, Ignore):
                        continue
                    if not self._is_own(asker[0]):
                        self._say(failure(question, dns.rcode.REFUSED), asker)
                    elif isinstance(decision, Answer):
                        self._say(decision.reply, asker)
                    else:
                        tasks.create_task(self._pass_on(question, asker))
        finally:
            if server is not None:
                server.close()
            self._datagrams.close()
            for writer in self._streams:
                writer.transport.abort()

    def _is_own(self, asker: str) -> bool:
        return asker == self.address or asker.startswith("127.")

    def _say(self, reply: bytes, asker: tuple[str, int]) -> None:
        # A full buffer loses a datagram, as any network may.
        with contextlib.suppress(OSError):
            self._datagrams.sendto(reply, asker)

    async def _pass_on(self, question: bytes, asker: tuple[str, int]) -> None:
        self._say(await self._upstream(question, socket.SOCK_DGRAM), asker)

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Nobody's, if he is gone again already.
        asker = writer.get_extra_info("peername")
        if asker is None or len(self._streams) >= MOST_STREAMS or not self._is_own(asker[0]):
            writer.transport.abort()
            return
        self._streams.add(writer)
        try:
            async for question in _messages(reader):
                decision = self._directory.decide(question, stream=True)
                if isinstance(decision, Answer):
                    reply = decision.reply
                elif isinstance(decision, AskUpstream):
                    reply = await self._upstream(question, socket.SOCK_STREAM)
                else:
                    break
                writer.write(LENGTH.pack(len(reply)) + reply)
                async with asyncio.timeout(STREAM_IDLE):
                    await writer.drain()
        except (OSError, TimeoutError):
            writer.transport.abort()
        finally:
            self._streams.discard(writer)
            writer.close()

    async def _upstream(self, question: bytes, kind: socket.SocketKind) -> bytes:
        """The answer of the first resolver that has one, else a failure."""
        # Who asks again may have another number for it.
        same = question[2:]
        if self._under_way.total() >= MOST_UNDER_WAY or self._under_way[same] >= MOST_EQUAL:
            return failure(question, dns.rcode.SERVFAIL)
        self._under_way[same] += 1
        try:
            return await self._in_turn(question, kind) or failure(question, dns.rcode.SERVFAIL)
        finally:
            self._under_way[same] -= 1
            if not self._under_way[same]:
                del self._under_way[same]

    async def _in_turn(self, question: bytes, kind: socket.SocketKind) -> bytes | None:
        servers = [server for server in self.upstreams if server != self.address]
        servers.sort(key=lambda server: server != self._preferred)
        for server in servers:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(LAST_TURN if server is servers[-1] else TURN):
                    reply = await self._ask(question, server, kind)
                self._preferred = server
                return reply
        return None

    async def _ask(self, question: bytes, server: str, kind: socket.SocketKind) -> bytes:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, kind) as asking:
            asking.setblocking(False)
            if self.mark:
                set_mark(asking, self.mark)
            await loop.sock_connect(asking, (server, PORT))
            if kind == socket.SOCK_STREAM:
                return await _ask_stream(asking, question)
            await loop.sock_sendall(asking, question)
            while True:
                reply = await loop.sock_recv(asking, LARGEST)
                if is_reply_to(question, reply):
                    return reply


async def _ask_stream(asking: socket.socket, question: bytes) -> bytes:
    """Raises OSError, also for what is no reply to the question."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(asking, LENGTH.pack(len(question)) + question)
    (size,) = LENGTH.unpack(await _exactly(asking, LENGTH.size))
    reply = await _exactly(asking, size)
    if not is_reply_to(question, reply):
        raise ConnectionAbortedError
    return reply


async def _exactly(asking: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    read = b""
    while len(read) < size:
        more = await loop.sock_recv(asking, size - len(read))
        if not more:
            raise ConnectionResetError
        read += more
    return read


async def _messages(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Questions of a stream, one after the other. Raises TimeoutError."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            async with asyncio.timeout(STREAM_IDLE):
                (size,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                question = await reader.readexactly(size)
            yield question


def _listening(address: str) -> socket.socket | None:
    try:
        listener = _bound(address, socket.SOCK_STREAM)
    except OSError:
        return None
    try:
        listener.listen(MOST_STREAMS)
    except OSError:
        listener.close()
        return None
    return listener


def _bound(address: str, kind: socket.SocketKind) -> socket.socket:
    bound = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
    try:
        # Another name server may hold the port for every address; what is bound to one address goes before.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        bound.bind((address, PORT))
    except OSError:
        bound.close()
        raise
    return bound

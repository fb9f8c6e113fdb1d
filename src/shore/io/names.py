"""A node's own name server: UDP and TCP on port 53 of its own address (`wire.names`).

Only this machine is served. What is not the network's goes to the name servers that were in force before,
from sockets with the tunnel's mark, and never back to ourselves.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable

from shore.io.host import servers_before
from shore.io.sockets import set_mark
from shore.wire.names import Zone, answer

PORT = 53
LONGEST = 65535
UPSTREAM_WITHIN = 3.0
IP_FREEBIND = 15
MOST_AT_ONCE = 64

Ask = Callable[[], Zone | None]


class NameServer:
    """Serves one address until cancelled."""

    def __init__(self, address: str, zone: Ask, mark: Callable[[], int], *, port: int = PORT) -> None:
        """`zone` is asked anew for each query. `port` 53 unless a test says otherwise."""
        self._address = address
        self._zone = zone
        self._mark = mark
        self._port = port
        self._busy = asyncio.Semaphore(MOST_AT_ONCE)

    def open(self) -> tuple[socket.socket, socket.socket]:
        """The sockets, UDP and TCP. Raises OSError."""
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        datagrams = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        streams = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            for opened in (datagrams, streams):
                opened.setsockopt(socket.SOL_IP, IP_FREEBIND, 1)
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                opened.bind((self._address, self._port))
        except OSError:
            datagrams.close()
            streams.close()
            raise
        return datagrams, streams

    async def serve(self, datagrams: socket.socket, streams: socket.socket) -> None:
        """Answer until cancelled."""
        server = await asyncio.start_server(self._converse, sock=streams)
        async with server, asyncio.TaskGroup() as tasks:
            loop = asyncio.get_running_loop()
            while True:
                query, asker = await loop.sock_recvfrom(datagrams, LONGEST)
                if self._is_ours(asker[0]) and not self._busy.locked():
                    tasks.create_task(self._reply(datagrams, query, asker))

    async def _reply(self, datagrams: socket.socket, query: bytes, asker: tuple[str, int]) -> None:
        async with self._busy:
            said = await self._answer(query, None)
        if said is not None:
            try:
                datagrams.sendto(said, asker)
            except OSError:
                return

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while self._is_ours(writer.get_extra_info("peername")[0]):
                length = int.from_bytes(await reader.readexactly(2), "big")
                said = await self._answer(await reader.readexactly(length), LONGEST)
                if said is None:
                    break
                writer.write(len(said).to_bytes(2, "big") + said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, query: bytes, largest: int | None) -> bytes | None:
        zone = self._zone()
        try:
            said = None if zone is None else answer(query, zone, largest=largest)
        except ValueError:
            return None
        return await self._forwarded(query, largest is not None) if said is None else said

    async def _forwarded(self, query: bytes, by_stream: bool) -> bytes | None:
        for server in servers_before():
            if server == self._address:
                continue
            try:
                async with asyncio.timeout(UPSTREAM_WITHIN):
                    return await (self._by_stream if by_stream else self._by_datagram)(query, server)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                continue
        return None

    async def _by_datagram(self, query: bytes, server: str) -> bytes:
        with self._socket(server, socket.SOCK_DGRAM) as asking:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(asking, (server, PORT))
            await loop.sock_sendall(asking, query)
            while True:
                said = await loop.sock_recv(asking, LONGEST)
                if said[:2] == query[:2]:
                    return said

    async def _by_stream(self, query: bytes, server: str) -> bytes:
        asking = self._socket(server, socket.SOCK_STREAM)
        await asyncio.get_running_loop().sock_connect(asking, (server, PORT))
        reader, writer = await asyncio.open_connection(sock=asking)
        try:
            writer.write(len(query).to_bytes(2, "big") + query)
            return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        finally:
            writer.close()

    def _socket(self, server: str, kind: socket.SocketKind) -> socket.socket:
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        opened = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        if self._mark():
            set_mark(opened, self._mark())
        return opened

    def _is_ours(self, address: str) -> bool:
        return address == self._address or ipaddress.ip_address(address.partition("%")[0]).is_loopback

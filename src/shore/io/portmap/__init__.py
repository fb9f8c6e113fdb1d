"""Keep the listen port mapped at every default gateway (`core.portmap` says how).

`follow` says which port; `run` asks each gateway by PCP and NAT-PMP, and by UPnP where it knows neither, and
tells all endpoints that were granted each time they change. What was granted is given back when the port, the
gateway or the whole wish is gone, but not when another brain goes on with the tunnel (`leave`): it renews the
mapping, as the nonce follows from a secret that both know.
"""

import asyncio
import contextlib
import hashlib
import socket
from collections.abc import Callable

from shore.core.portmap import PortMap
from shore.io.portmap.gateways import Gateway, read_gateways
from shore.io.sockets import SO_BINDTODEVICE, set_mark
from shore.wire import natpmp, pcp

LONGEST = 1500
SETTLE = 0.2
Tell = Callable[[tuple[str, ...]], None]


class PortMapping:
    """One tunnel's wish to be reachable."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._port = 0
        self._mark = 0
        self._nonce = b""
        self._moved = asyncio.Event()
        self._endpoints: dict[Gateway, str] = {}
        self._running: dict[tuple[Gateway, int], asyncio.Task[None]] = {}
        self._stays = False

    def follow(self, port: int, mark: int, secret: bytes) -> None:
        """The listen port (0: none), or the links, may have changed.

        `secret`, 64 bytes at most, makes the nonce.
        """
        self._port, self._mark = port, mark
        self._nonce = hashlib.blake2b(
            b"shore port mapping", key=secret, digest_size=pcp.NONCE_LENGTH
        ).digest()
        self._moved.set()

    def leave(self) -> None:
        """What is granted stays when this ends."""
        self._stays = True

    async def end(self) -> None:
        """Give everything back, and want nothing more."""
        self._port = 0
        running = list(self._running.values())
        self._running.clear()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def run(self) -> None:
        """Until cancelled; then everything is given back. Once it has failed it may be run again."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    await self._moved.wait()
                    await asyncio.sleep(SETTLE)
                    self._moved.clear()
                    gateways = await read_gateways() if self._port else ()
                    wanted = {(gateway, self._port) for gateway in gateways if self._port}
                    for gone in self._running.keys() - wanted:
                        self._running.pop(gone).cancel()
                    for gateway, port in wanted - self._running.keys():
                        self._running[gateway, port] = tasks.create_task(self._keep(gateway, port))
        finally:
            self._running.clear()
            self._moved.set()

    async def _keep(self, gateway: Gateway, port: int) -> None:
        mapping = PortMap(gateway.client, port, self._nonce)
        try:
            with _connected(gateway, self._mark) as asking:
                try:
                    await self._converse(gateway, port, mapping, asking)
                finally:
                    if not self._stays:
                        _send(asking, mapping.give_back())
        except OSError:
            # The gateway cannot be reached from here at all; the next change of the links asks again.
            return
        finally:
            if not self._stays:
                self._grant(gateway, None)

    async def _converse(self, gateway: Gateway, port: int, mapping: PortMap, asking: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            _send(asking, mapping.wake(loop.time()))
            self._grant(gateway, None if mapping.granted is None else mapping.granted.endpoint)
            if mapping.is_silent and gateway.family == 4:
                # It brings a web client, and most gateways know better.
                from shore.io.portmap import upnp  # noqa: PLC0415

                await upnp.keep(
                    gateway, port, lambda endpoint: self._grant(gateway, endpoint), lambda: self._stays
                )
            try:
                async with asyncio.timeout_at(mapping.deadline):
                    answer = await loop.sock_recv(asking, LONGEST)
            except (TimeoutError, ConnectionRefusedError):
                await asyncio.sleep(max(0.0, mapping.deadline - loop.time()))
                continue
            _send(asking, mapping.receive(answer, loop.time()))

    def _grant(self, gateway: Gateway, endpoint: str | None) -> None:
        before = dict(self._endpoints)
        if endpoint is None:
            self._endpoints.pop(gateway, None)
        else:
            self._endpoints[gateway] = endpoint
        if self._endpoints != before:
            self._tell(tuple(sorted(self._endpoints.values())))


def _connected(gateway: Gateway, mark: int) -> socket.socket:
    """A socket that hears the gateway and nobody else. Raises OSError."""
    family = socket.AF_INET if gateway.family == 4 else socket.AF_INET6
    asking = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if mark:
            set_mark(asking, mark)
        asking.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, gateway.uplink.encode())
        asking.bind((gateway.client, 0))
        scope = (0, gateway.index) if gateway.family == 6 else ()
        asking.connect((gateway.address, natpmp.PORT, *scope))
    except OSError:
        asking.close()
        raise
    return asking


def _send(asking: socket.socket, requests: list[bytes]) -> None:
    for request in requests:
        # A gateway that refuses by ICMP makes the next send fail once.
        with contextlib.suppress(OSError):
            asking.send(request)

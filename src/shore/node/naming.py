"""The names of a mesh on this node: a name server for as long as the tunnel has a zone.

It listens before the host is told of it, and knows the zone of `running.json` as soon as a brain starts, so
that names outlive the server that handed them out. Whatever else writes resolv.conf (a DHCP client, for one)
is the new state of affairs below us; we stand before it again, ever later if it comes back each time.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from shore.core.reconcile import fwmark_of, split_names
from shore.io import host
from shore.io.later import imported
from shore.io.resolver import NotResolved, resolve, resolve_marked
from shore.model.config import TunnelConfig
from shore.model.host import HostPlan

if TYPE_CHECKING:
    from shore.io.nameserver import NameServer

LOOK_EVERY = 2.0
LONGEST = 300.0
# How long the host waits for the name server that it is to be told of.
SETTLED_WITHIN = 5.0


async def addresses_of(name: str, plan: HostPlan | None) -> tuple[str, ...]:
    """Where an endpoint or a relay is, which must not lead through the tunnel itself. Raises NotResolved."""
    if plan is not None and plan.names is not None and is_under(name, plan.names.search):
        raise NotResolved("a name of the mesh leads through the mesh")
    full = None if plan is None else plan.full_tunnel
    if full is None:
        return await resolve(name)
    return await resolve_marked(name, host.servers_before(), full.fwmark)


def is_under(name: str, suffix: str) -> bool:
    """Whether a name lies in a domain."""
    return f".{name.rstrip('.').lower()}".endswith(f".{suffix}")


class Naming:
    """`use` each configuration and `run` beside; `look_up` once the host has been set up."""

    def __init__(self, device: str, announce: Callable[[str, str], None]) -> None:
        self._device = device
        self._announce = announce
        self._config: TunnelConfig | None = None
        self._server: NameServer | None = None
        self._put, self._settled = asyncio.Event(), asyncio.Event()
        self._settled.set()
        self._every = LOOK_EVERY
        self._failure = ""

    def use(self, config: TunnelConfig) -> None:
        """Answer for the configuration's zone, if it has one, as soon as this runs."""
        self._config = config
        self._settled.clear()
        self._put.set()

    async def settled(self) -> None:
        """Wait until what was put last is served or refused, but not for ever."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), SETTLED_WITHIN)

    def look_up(self) -> None:
        """Read which resolvers know what we do not."""
        if self._server is not None:
            self._server.upstreams = host.servers_below(self._device)

    async def run(self) -> None:
        """Serve, until cancelled. Once it has failed it may be run again, and begins anew."""
        running: list[asyncio.Task[None]] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    await self._put.wait()
                    self._put.clear()
                    before = self._server
                    if self._config is not None:
                        self._server = await self._bring(self._config)
                    if self._server is not before:
                        for task in running:
                            task.cancel()
                        work = [] if self._server is None else [self._server.run(), self._hold()]
                        running = [tasks.create_task(each) for each in work]
                        self.look_up()
                    self._settled.set()
        finally:
            self._server = None
            self._put.set()

    async def _bring(self, config: TunnelConfig) -> "NameServer | None":
        """What serves the zone of a configuration: the same as before, where that will do."""
        wanted = split_names(config) if config.host_managed else None
        if wanted is None or config.zone is None:
            return None
        # It comes with a library that takes a while, and most tunnels have no zone.
        serving = await imported("shore.io.nameserver")
        server = self._server
        try:
            if server is None or server.address != wanted.server:
                server = serving.NameServer(wanted.server, config.zone)
        except serving.NotServed as error:
            self._fail(str(error))
            return None
        assert server is not None
        if server is not self._server and not server.has_streams:
            self._announce("names by UDP only", f"somebody else has TCP port 53 of {wanted.server}")
        if not host.is_own():
            self._fail("resolv.conf is the machine's, and this is a network namespace in it")
        server.use(config.zone)
        server.mark = fwmark_of(config)
        return server

    def _fail(self, why: str) -> None:
        """Every configuration tries again; people hear of it once."""
        if why != self._failure:
            self._failure = why
            self._announce("names not served", why)

    async def _hold(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            moved = await asyncio.to_thread(self._stand_first)
            self._every = min(self._every * 2, LONGEST) if moved else max(self._every / 2, LOOK_EVERY)
            self.look_up()

    def _stand_first(self) -> bool:
        """Whether there was something to do."""
        try:
            moved = host.hold_dns(self._device)
        except host.HostFailed as error:
            self._announce("names not in force", str(error))
            return True
        if moved:
            self._announce("names in force again", "somebody else had written resolv.conf")
        return moved

"""The names of a mesh on this node: a name server for as long as the tunnel has a zone.

It listens before the host is told of it, and knows the zone of `running.json` as soon as a brain starts, so
that names outlive the server that handed them out. Whatever else writes resolv.conf (a DHCP client, for one)
is the new state of affairs below us; we stand before it again, ever later if it comes back each time.
"""

import asyncio
from collections.abc import Callable

from shore.core.reconcile import fwmark_of, split_names
from shore.io import host
from shore.io.nameserver import NameServer, NotServed
from shore.io.resolver import NotResolved, resolve, resolve_marked
from shore.model.config import TunnelConfig
from shore.model.host import HostPlan

LOOK_EVERY = 2.0
LONGEST = 300.0


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
        self._server: NameServer | None = None
        self._changed = asyncio.Event()
        self._every = LOOK_EVERY
        self._failure = ""

    def use(self, config: TunnelConfig) -> None:
        """Answer for the configuration's zone, if it has one."""
        wanted = split_names(config) if config.host_managed else None
        if wanted is None or config.zone is None:
            self._replace(None)
            return
        try:
            if self._server is None or self._server.address != wanted.server:
                server = NameServer(wanted.server, config.zone)
                self._replace(server)
                if not server.has_streams:
                    self._announce("names by UDP only", f"somebody else has TCP port 53 of {wanted.server}")
        except NotServed as error:
            self._replace(None)
            self._fail(str(error))
            return
        if not host.is_own():
            self._fail("resolv.conf is the machine's, and this is a network namespace in it")
        assert self._server is not None
        self._server.use(config.zone)
        self._server.mark = fwmark_of(config)

    def look_up(self) -> None:
        """Read which resolvers know what we do not."""
        if self._server is not None:
            self._server.upstreams = host.servers_below(self._device)

    async def run(self) -> None:
        """Serve, until cancelled."""
        while True:
            self._changed.clear()
            async with asyncio.TaskGroup() as tasks:
                work = [] if self._server is None else [self._server.run(), self._hold()]
                running = [tasks.create_task(each) for each in work]
                await self._changed.wait()
                for task in running:
                    task.cancel()

    def _replace(self, server: NameServer | None) -> None:
        if server is not self._server:
            self._server = server
            self._changed.set()

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

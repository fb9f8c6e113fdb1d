"""The shell around the heart of one tunnel: feed an event, carry out the actions, set the next alarm.

What takes no time is done on the spot; starting a plane, pushing, the host and names are tasks, and what
comes of them comes back as an event. Pushes and host plans are idempotent, so only the newest of each is
carried out. The brain may be killed at any instant: what it needs to go on is in the data plane and in
`running.json`, which is written before anything is pushed.
"""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from shore import _native
from shore.core import actions as do
from shore.core import events
from shore.core.node import Node
from shore.core.status import tunnel_status
from shore.io import host
from shore.io.clock import boottime
from shore.io.dataplane import DataPlane, PlaneGone, PlaneRefused
from shore.io.feed import Feed
from shore.io.history import History
from shore.io.hooks import run_hooks
from shore.io.portmap import PortMapping
from shore.io.process import identify, kill
from shore.io.runtime import Phase, Running, Runtime
from shore.io.systemd import in_scope
from shore.io.tun import open_tun
from shore.model.config import TunnelConfig
from shore.model.facts import Fact
from shore.model.status import LinkStatus, TunnelStatus
from shore.node.journal import Journal
from shore.node.latest import Latest
from shore.node.naming import Naming
from shore.node.notes import notes_of
from shore.node.openings import Openings
from shore.node.outside import Outside
from shore.node.stamping import Stamping
from shore.wire.control import SignalKind

STOP_WITHIN = 1.0
IN_FORCE_WITHIN = 20.0


Spawn = Callable[[Coroutine[Any, Any, None]], None]


class NotConfigured(Exception):
    """The tunnel could not be brought up. One sentence."""


class Brain:
    """One tunnel: `bring_up` or `resume`, `tell` events, await `ended`, `tear_down`."""

    def __init__(self, runtime: Runtime, user: str, spawn: Spawn, *, scoped: bool = False) -> None:
        """`scoped`: systemd started us, and data planes get scopes of their own."""
        self.node = Node()
        self.plane: DataPlane | None = None
        self.tun = -1
        self.tunnel_stays = False
        # Whether there was a data plane of before, with its sessions.
        self.attached = False
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._runtime = runtime
        self._user = user
        self._spawn = spawn
        self._scoped = scoped
        self._loop = asyncio.get_running_loop()
        self._journal = Journal(runtime.log, History(runtime.name))
        self.stamping = Stamping(self.tell, self.announce)
        self._naming = Naming(runtime.name, self.announce)
        self._openings = Openings()
        self._outside = Outside(lambda: self.node.plan, self._openings, self._proxy)
        self._given: set[str] = set()
        self._serial = 0
        self._port = 0
        self._confirm_by: float | None = None
        # How to call a peer, what is linked, and what was consented to, as those know who hold the links.
        self.call: Callable[[bytes], None] = lambda _public_key: None
        self.tell_peers: Callable[[SignalKind], None] = lambda _kind: None
        self.links: Callable[[float], tuple[LinkStatus, ...]] = lambda _now: ()
        self.accept: Callable[[tuple[str, ...]], None] = lambda _prefixes: None
        self.advertise: Callable[[tuple[str, ...]], None] = lambda _prefixes: None
        self._feed = Feed(self.node, self._perform, events.Woke)
        self._failure: str | None = None
        self._in_force = asyncio.Event()
        self._plane_starts = asyncio.Lock()
        self._phase: Phase = "up"
        self._pushes: Latest[do.Push] = Latest(self._push)
        self._plans: Latest[do.ApplyHost] = Latest(self._apply)
        self._mapping = PortMapping(lambda endpoints: self.tell(events.PortsMapped(endpoints)))
        for work in (self._pushes.run(), self._plans.run(), self._mapping.run(), self._naming.run()):
            spawn(work)

    def tell(self, event: events.Event) -> None:
        """Take an event; carry out what follows from it before the next one."""
        self._feed.tell(event)

    def _perform(self, action: do.Action) -> None:  # noqa: C901, PLR0912 (one case per action)
        match action:
            case do.Push():
                self._pushes.put(action)
            case do.ApplyHost():
                self._plans.put(action)
            case do.Measure():
                if self.plane is not None:
                    self.plane.measure(action.questions)
            case do.OpenSockets():
                self._open(action)
            case do.OpenExtraSocket():
                self.tell(self._openings.open_extra(action))
            case do.OpenUplinkSocket():
                self.tell(self._openings.open_uplink(action))
            case do.OpenTrialSocket():
                self.tell(self._openings.open_trial(action))
            case do.CloseSocket():
                self._openings.close(action.id)
                self._given.discard(f"socket:{action.id}")
            case do.MapPort():
                config = self.node.config
                self._mapping.follow(
                    action.port, action.mark, (config and config.private_key) or os.urandom(32)
                )
            case do.Call():
                self.call(action.public_key)
            case do.TellPeers():
                self.tell_peers(action.kind)
            case do.DialRelay():
                self._spawn(self._later(self._outside.dial(action)))
            case do.CloseLink():
                self._openings.close_link(action.id)
                self._given.discard(f"link:{action.id}")
            case do.SetMark():
                self._openings.mark(action.mark)
            case do.StartPlane():
                self._spawn(self._start_plane())
            case do.KillPlane():
                if self.plane is not None:
                    self.plane.kill()
            case do.Resolve():
                self._spawn(self._later(self._outside.resolve(action.host)))
            case do.KeepStamp():
                self.stamping.keep(action.stamp)
            case do.KeepLifetime():
                self.stamping.keep_lifetime(action.lifetime)
            case do.Announce():
                self._journal.announce(action)
            case do.GoDown():
                self.end(action.why)

    @property
    def device(self) -> str:
        """The name of the device."""
        return self._runtime.name

    def _proxy(self) -> str | None:
        return None if self.node.config is None else self.node.config.proxy

    def announce(self, what: str, why: str) -> None:
        """Tell people something that only this shell knows."""
        self._journal.announce(do.Announce(what, why))

    # Life.

    async def bring_up(self, config: TunnelConfig, confirm_by: float | None) -> None:
        """Make a tunnel from nothing, all but its PostUp. Raises TunFailed, HookFailed, NotConfigured."""
        self._phase, self._confirm_by = "starting", confirm_by
        await run_hooks("PreUp", config.hooks.pre_up, config.name)
        self.tun = open_tun(config.name, offload=config.offload)
        await self._configured(events.Configured(config))

    async def greet(self) -> None:
        """The tunnel is up and can be asked: the last of its start. Raises HookFailed."""
        config = self.node.config
        if config is not None:
            await run_hooks("PostUp", config.hooks.post_up, config.name)
        self._enter("up")

    async def resume(self, running: Running) -> None:
        """Go on where another brain stopped: with its data plane if that lives, else with a new one."""
        self._port, self._confirm_by, self._phase = running.listen_port, running.confirm_by, running.phase
        self._use(running.config)
        self.plane = await self._attach()
        held = self.plane.state.state if self.plane is not None and self.plane.state is not None else None
        if self.plane is None or held is None or "tun" not in self.plane.descriptors:
            if self.plane is not None:
                # One that a brain started and did not live to give anything to.
                self.plane.kill()
                self.plane.close()
                self.plane = None
            if running.plane is not None:
                kill(running.plane)
            self.tun = open_tun(running.config.name, offload=running.config.offload)
            self.tell(events.Configured(running.config))
            return
        self.attached = True
        self._adopt_descriptors(self.plane)
        self._openings.adopt_links(link.id for link in held.links)
        self.announce("brain attached", f"to the data plane {self.plane.pid}")
        self.tell(events.Attached(running.config, self.plane.pid, held, running.listen_port))

    async def reload(self, config: TunnelConfig) -> None:
        """Put another configuration in force. Raises NotConfigured; then the old one is in force again."""
        previous = self.node.config
        try:
            await self._configured(events.Configured(config))
        except NotConfigured:
            if previous is not None:
                self._use(previous)
                self.tell(events.Configured(previous))
            raise

    def end(self, why: str) -> None:
        """Take the tunnel down soon."""
        if not self.ended.done():
            self.announce("down", why)
            self.ended.set_result(why)

    def step_down(self, why: str) -> None:
        """End this brain soon; the data plane carries on, and another brain may attach to it."""
        if not self.ended.done():
            self.announce("brain ends, the tunnel stays", why)
            self.tunnel_stays = True
            self._mapping.leave()
            self.ended.set_result(why)

    def confirm(self) -> None:
        """The tunnel stays."""
        self._confirm_by = None
        self._mirror()

    def check_confirmed(self) -> None:
        """Undo an `up --confirm` that nobody confirmed."""
        if self._confirm_by is not None and boottime() >= self._confirm_by:
            self.end("nobody confirmed it")

    async def begin_down(self) -> None:
        """Begin to take the tunnel down, while all of it is still there. Raises HookFailed."""
        self._enter("leaving")
        config = self.node.config
        if config is not None:
            await run_hooks("PreDown", config.hooks.pre_down, config.name)

    async def tear_down(self) -> None:
        """Leave nothing behind. Raises HookFailed after everything else is done."""
        config = self.node.config
        await self._mapping.end()
        await self._stop_plane()
        self._openings.close_all()
        if self.tun >= 0:
            os.close(self.tun)
            await host.remove(self._runtime.name, self._runtime.host_journal)
        if config is not None:
            await run_hooks("PostDown", config.hooks.post_down, config.name)

    def status(self) -> TunnelStatus | None:
        """The tunnel's status; None before it is configured."""
        if (config := self.node.config) is None:
            return None
        own = _native.public_key(config.private_key) if config.private_key else None
        now = self._loop.time()
        status = tunnel_status(
            self.node,
            now,
            brain_pid=os.getpid(),
            public_key=own,
            notes=self.notes(),
            local_of=self._openings.local_of,
        )
        return msgspec.structs.replace(status, links=(*status.links, *self.links(now)))

    def notes(self) -> tuple[str, ...]:
        """What people should know about this tunnel."""
        left = None if self._confirm_by is None else max(self._confirm_by - boottime(), 0)
        return notes_of(self.node, left)

    async def _configured(self, event: events.Configured) -> None:
        """Tell a configuration and wait until it is in force. Raises NotConfigured."""
        self._failure = None
        self._in_force.clear()
        self._use(event.config)
        self.tell(event)
        self._mirror()
        if self.plane is not None and self._pushes.is_idle:
            self._in_force.set()
        try:
            await asyncio.wait_for(self._in_force.wait(), IN_FORCE_WITHIN)
        except TimeoutError:
            raise NotConfigured("the data plane did not start") from None
        await self._plans.idle()
        if self._failure is not None:
            raise NotConfigured(self._failure)

    def _open(self, action: do.OpenSockets) -> None:
        came = self._openings.open(action, held=self.node.listen_port, former=self._port)
        if isinstance(came, events.SocketsFailed):
            self._failed(came.reason)
        self.tell(came)

    def _use(self, config: TunnelConfig) -> None:
        self._journal.prune(config)
        self.stamping.use(config)
        self._naming.use(config)

    def _failed(self, reason: str) -> None:
        self._failure = reason
        self._in_force.set()

    def _enter(self, phase: Phase) -> None:
        self._mirror(phase)
        self._phase = phase

    def _mirror(self, phase: Phase | None = None) -> None:
        # Once it is leaving, its files may be gone already.
        if self.node.config is not None and self._phase != "leaving":
            port = self.node.listen_port or self._port
            plane = None if self.plane is None else identify(self.plane.pid)
            running = Running(self.node.config, port, self._confirm_by, plane, phase or self._phase)
            self._runtime.write_running(running)

    # The data plane.

    async def _start_plane(self) -> None:
        # Whoever takes the tunnel down waits for this: a plane half started would be nobody's.
        async with self._plane_starts:
            if self._phase != "leaving":
                await self._start_one_plane()

    async def _start_one_plane(self) -> None:
        started, generation = time.monotonic(), time.monotonic_ns()
        try:
            plane = await DataPlane.start(
                self._runtime.directory,
                generation=generation,
                user=self._user,
                on_fact=self._fact,
                on_lost=self._lost,
                before=in_scope(self.device, generation) if self._scoped else (),
            )
        except (PlaneGone, OSError) as error:
            # One without a scope is better than none.
            self._scoped = False
            self.tell(events.PlaneLost(str(error)))
            return
        self.plane = plane
        self._mirror()
        self._given, self._serial = set(), 0
        if self.node.config is not None and self.node.config.realtime:
            plane.grant_realtime()
        self.announce("data plane started", f"{plane.pid} in {(time.monotonic() - started) * 1e3:.0f} ms")
        self.tell(events.PlaneStarted(plane.pid))
        self.stamping.read_clock()

    async def _attach(self) -> DataPlane | None:
        return await DataPlane.attach(
            self._runtime.directory,
            generation=time.monotonic_ns(),
            on_fact=self._fact,
            on_lost=self._lost,
        )

    def _adopt_descriptors(self, plane: DataPlane) -> None:
        self._serial = plane.state.serial if plane.state else 0
        self._given = set(plane.descriptors)
        for name, descriptor in plane.descriptors.items():
            if name == "tun":
                self.tun = descriptor
            else:
                self._openings.adopt(int(name.partition(":")[2]), descriptor)

    async def _stop_plane(self) -> None:
        async with self._plane_starts:
            plane, self.plane = self.plane, None
        if plane is None:
            return
        plane.stop()
        await plane.wait_ended(STOP_WITHIN)
        plane.kill()
        plane.close()

    def _fact(self, serial: int, fact: Fact) -> None:
        self.tell(events.FactTold(serial, fact))

    def _lost(self, reason: str) -> None:
        plane, self.plane = self.plane, None
        if plane is not None and plane.superseded:
            self.step_down("a newer brain has come")
        elif plane is not None:
            self.tell(events.PlaneLost(reason))

    async def _push(self, push: do.Push) -> None:
        plane = self.plane
        if plane is None:
            return
        wanted = {"tun": self.tun} | {
            f"socket:{number}": opened.fileno() for number, opened in self._openings.sockets.items()
        }
        wanted |= {f"link:{number}": opened.fileno() for number, opened in self._openings.links.items()}
        named = {
            "tun",
            *(f"link:{entry.id}" for entry in push.state.links),
            *(f"socket:{entry.id}" for entry in push.state.sockets),
        }
        ears = self._openings.ears(wanted=push.state.interface.overhear)
        if not ears:
            self._given = {name for name in self._given if not name.startswith("ear:")}
        wanted |= ears
        named |= ears.keys()
        fresh = {name: fd for name, fd in wanted.items() if name in named - self._given}
        self._serial += 1
        self._mirror()
        try:
            await plane.push(self._serial, push.state, push.seen, fresh)
        except PlaneRefused as error:
            self.announce("desired state refused", str(error))
            self._failed(str(error))
            return
        except (PlaneGone, TimeoutError):
            return
        self._given |= set(fresh)
        self._in_force.set()

    # The host.

    async def _apply(self, action: do.ApplyHost) -> None:
        try:
            await host.apply(action.plan, self._runtime.host_journal)
        except host.HostFailed as error:
            self.announce("host not configured", str(error))
            self._failed(str(error))
        else:
            self._naming.look_up()

    async def _later(self, coming: Coroutine[Any, Any, events.Event]) -> None:
        self.tell(await coming)

"""`python -m shore.node NAME`: the brain of one tunnel.

The first brain is given its configuration on a descriptor and says on another what became of it; any
later one goes on from `running.json`. Exit code 0 and no `running.json` mean that the tunnel is down.
Under systemd this process is the main one of `shore@NAME`: what it has to say goes to systemd and to stderr,
SIGTERM ends the brain and not the tunnel, and exit code 78 says that another try would fail the same way.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import msgspec

from shore.core import events
from shore.io.clock import SleepWatch, WallWatch, boottime
from shore.io.hooks import HookFailed
from shore.io.links import watch_links
from shore.io.notify import Unit
from shore.io.runtime import Runtime
from shore.io.systemd import machine_goes_down
from shore.io.tun import TunFailed, is_alive, read_mtu
from shore.io.user import plane_user
from shore.model.links import Link
from shore.node.api import Api
from shore.node.brain import Brain, NotConfigured
from shore.node.heartbeat import heartbeat
from shore.node.joined import Joined
from shore.node.supervision import Supervision
from shore.node.uapi import Uapi
from shore.wire import api

LOOK_EVERY = 1.0
REFUSED = 78


class Answer:
    """What `up` hears of the first brain; a later brain has stderr to tell."""

    def __init__(self) -> None:
        descriptor = os.environ.pop("SHORE_ANSWER_FD", None)
        self._descriptor = None if descriptor is None else int(descriptor)

    def say(self, message: api.StartReply) -> None:
        """One line; `up` may have gone already."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, api.line(message))
        elif isinstance(message, api.NotStarted):
            print(f"shore: {message.reason}", file=sys.stderr)
        else:
            for note in message.notes:
                print(f"note: {note}", file=sys.stderr)

    def unheard(self) -> asyncio.Future[None]:
        """Done when whoever waited for it is gone."""
        loop = asyncio.get_running_loop()
        gone: asyncio.Future[None] = loop.create_future()
        if self._descriptor is not None:
            # Nothing is ever read here: it wakes when the other end of the pipe is closed.
            loop.add_reader(self._descriptor, self._lose, self._descriptor, gone)
        return gone

    def _lose(self, descriptor: int, gone: asyncio.Future[None]) -> None:
        asyncio.get_running_loop().remove_reader(descriptor)
        gone.set_result(None)

    def close(self) -> None:
        """Nothing more will be said."""
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None


def main() -> int:
    """Run until the tunnel is down."""
    start, answer, unit = _start_given(), Answer(), Unit(os.environ)
    runtime = Runtime(sys.argv[1])
    runtime.make()
    lock = runtime.hold("brain")
    if lock is None:
        answer.say(api.NotStarted(f"{runtime.name} is running already: see `shore status`"))
        return REFUSED
    return asyncio.run(_run(runtime, start, answer, unit))


async def _run(runtime: Runtime, start: api.Start | None, answer: Answer, unit: Unit) -> int:
    """A defect anywhere ends the process and not the tunnel: nothing here tears down on an exception."""
    supervision = Supervision(runtime, unit)
    background: set[asyncio.Task[None]] = set()
    async with asyncio.TaskGroup() as tasks:

        def spawn(work: Coroutine[Any, Any, None]) -> None:
            task = tasks.create_task(work)
            background.add(task)
            task.add_done_callback(background.discard)

        brain = Brain(runtime, plane_user(), spawn, scoped=unit.exists)
        served, uapi = Api(runtime, brain, unit), Uapi(brain, runtime.name)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, brain.end, "SIGINT")
        loop.add_signal_handler(signal.SIGTERM, _stop, brain, unit)
        spawn(supervision.say_alive())
        spawn(supervision.keep_keeper())
        begun = tasks.create_task(_begin(runtime, brain, start, lambda: _serve(brain, served, uapi)))
        failure = await _wanted(begun, brain.ended, answer.unheard())
        if failure is None:
            answer.say(api.Started(brain.notes()))
            answer.close()
            unit.say("READY=1")
            spawn(heartbeat(brain))
            joined = Joined(brain, brain.watchdog)
            spawn(brain.watchdog.keep("links", lambda: watch_links(partial(_links_moved, brain, joined))))
            spawn(joined.run())
            spawn(_look_around(brain, uapi))
            await brain.ended
        unit.say("STOPPING=1")
        brain.stamping.read_clock()
        if not brain.tunnel_stays:
            await _finish(runtime, brain, served, uapi)
        if failure is not None:
            answer.say(api.NotStarted(failure))
        for task in list(background):
            task.cancel()
    return 0 if failure is None else REFUSED


def _stop(brain: Brain, unit: Unit) -> None:
    """SIGTERM. To systemd the unit is the brain alone; by hand, and when the machine goes down, all of it."""
    if unit.exists and not machine_goes_down():
        brain.step_down("systemd stops its unit")
    else:
        brain.end("SIGTERM")


async def _wanted(begun: asyncio.Task[str | None], *unwanted: asyncio.Future[Any]) -> str | None:
    """Why the start failed, if it did; it is broken off when nobody wants the tunnel any more."""
    await asyncio.wait({begun, *unwanted}, return_when=asyncio.FIRST_COMPLETED)
    for done in unwanted:
        if done.done() and (defect := done.exception()) is not None:
            raise defect
    if begun.done():
        return begun.result()
    begun.cancel()
    await asyncio.wait({begun})
    return "it was told to go down before it was up"


async def _begin(
    runtime: Runtime, brain: Brain, start: api.Start | None, serve: Callable[[], Coroutine[Any, Any, None]]
) -> str | None:
    """Bring the tunnel up, or go on with it, and `serve` it. Returns why that failed."""
    if start is None:
        running = runtime.read_running()
        if running is None:
            return "it shall not run"
        await brain.resume(running)
        if running.phase != "up":
            return f"its brain died while it was {running.phase}"
        await serve()
        return None
    confirm_by = None if start.confirm_s is None else boottime() + start.confirm_s
    try:
        await brain.bring_up(start.config, confirm_by)
        # Hooks may use `wg` and `shore`.
        await serve()
        await brain.greet()
    except (TunFailed, HookFailed, NotConfigured) as error:
        return str(error)
    return None


async def _serve(brain: Brain, served: Api, uapi: Uapi) -> None:
    await served.serve()
    try:
        await uapi.serve()
    except OSError as error:
        brain.announce("no UAPI socket", f"{uapi.path}: {error.strerror}")


async def _finish(runtime: Runtime, brain: Brain, served: Api, uapi: Uapi) -> None:
    """Each hook has its turn; one that fails is told, and leaves nothing standing."""
    failures = []
    for step in (brain.begin_down, brain.tear_down):
        try:
            await step()
        except HookFailed as error:
            failures.append(str(error))
        uapi.remove()
    runtime.remove()
    done = api.Failed(f"the tunnel is down, but {'; '.join(failures)}") if failures else api.Done()
    await served.say_down(done)


def _start_given() -> api.Start | None:
    descriptor = os.environ.pop("SHORE_START_FD", None)
    if descriptor is None:
        return None
    with os.fdopen(int(descriptor), "rb") as given:
        return msgspec.json.decode(given.read(), type=api.Start)


def _links_moved(brain: Brain, joined: Joined, links: tuple[Link, ...]) -> None:
    if is_alive(brain.tun):
        # First, so that what peers are to be told of it does not go by a link that leads nowhere.
        joined.links_moved()
        brain.tell(events.LinksChanged(links))
    else:
        brain.tell(events.DeviceGone("the device"))


async def _look_around(brain: Brain, uapi: Uapi) -> None:
    sleep, wall = SleepWatch(), WallWatch()
    known_mtu = None
    while True:
        await asyncio.sleep(LOOK_EVERY)
        slept = sleep.slept_s()
        if slept:
            brain.tell(events.Resumed(slept))
        if wall.is_due():
            brain.stamping.read_clock()
        if uapi.is_deleted:
            brain.tell(events.DeviceGone("the UAPI socket"))
        mtu = read_mtu(brain.device)
        if mtu is not None and mtu != known_mtu:
            known_mtu = mtu
            brain.tell(events.DeviceMtuChanged(mtu))
        brain.check_confirmed()


if __name__ == "__main__":
    sys.exit(main())

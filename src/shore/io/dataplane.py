"""The brain's end of the control socket, and the life of the process behind it.

A plane is started with a listening socket that the brain made, or found running and attached to; from
then on both cases are one. It is watched by its pidfd: its end is told once, whoever was its parent.
The plane's answers come from its data thread, so `ask` proves that packets can move.
"""

import array
import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from shore.model.desired import DesiredState, Measurement
from shore.model.facts import Fact
from shore.wire import dataplane as wire

SOCKET = "dataplane.sock"
START_WITHIN = 5.0
APPLY_WITHIN = 5.0
# Frames that a plane may leave unread before it counts as gone.
MOST_UNREAD = 16

T = TypeVar("T")
OnFact = Callable[[int, Fact], None]
OnLost = Callable[[str], None]
Counters = Literal["none", "changed", "all"]


class PlaneRefused(Exception):
    """The plane did not take a desired state; nothing changed there."""


class PlaneGone(Exception):
    """No plane answers."""


class DataPlane:
    """One running data plane. `state` is what it held when we came, `descriptors` what it gave us."""

    def __init__(self, stream: socket.socket, on_fact: OnFact, on_lost: OnLost) -> None:
        self.state: wire.State | None = None
        self.descriptors: dict[str, int] = {}
        self._stream = stream
        self._on_fact = on_fact
        self._on_lost = on_lost
        self._decoder = wire.Decoder()
        self._loop = asyncio.get_running_loop()
        self._greeted: asyncio.Future[wire.State] = self._loop.create_future()
        self._applied: dict[int, asyncio.Future[None]] = {}
        self._answers: dict[int, asyncio.Future[wire.Answer]] = {}
        self._questions = 0
        # Whether every answer with counters has come, so that the next one need not repeat them.
        self._told_all = False
        self._outbox: list[tuple[bytes, list[int]]] = []
        # Questions about sizes that wait until it reads again.
        self._unasked: tuple[Measurement, ...] = ()
        self.superseded = False
        self._pidfd = -1
        self._lost = False
        self._over = asyncio.Event()
        self._pending_fds: list[int] = []
        self._names: list[str] = []
        stream.setblocking(False)
        self._loop.add_reader(stream.fileno(), self._read)

    @classmethod
    async def start(
        cls,
        runtime: Path,
        *,
        generation: int,
        user: str,
        on_fact: OnFact,
        on_lost: OnLost,
        before: Sequence[str] = (),
    ) -> "DataPlane":
        """Start a new plane that listens in `runtime` and runs as `user` (`UID:GID`).

        `before` are words before its command, which must become that command with its descriptors.

        Raises PlaneGone when it does not answer within 5 s.
        """
        path = runtime / SOCKET
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            path.chmod(0o600)
            listener.listen(8)
            process = _spawn(listener, user, before)
        plane = await cls.attach(runtime, generation=generation, on_fact=on_fact, on_lost=on_lost)
        if plane is None:
            process.kill()
            raise PlaneGone("the data plane did not start")
        return plane

    @classmethod
    async def attach(
        cls, runtime: Path, *, generation: int, on_fact: OnFact, on_lost: OnLost
    ) -> "DataPlane | None":
        """Attach to the plane that listens in `runtime`; None if there is none that answers."""
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            stream.connect(str(runtime / SOCKET))
        except OSError:
            stream.close()
            return None
        plane = cls(stream, on_fact, on_lost)
        try:
            plane._send(wire.Hello(generation))
            plane.state = await asyncio.wait_for(plane._greeted, START_WITHIN)
            plane._pidfd = os.pidfd_open(plane.pid)
        except (TimeoutError, PlaneGone, OSError):
            plane._lost = True
            plane.close()
            return None
        plane._loop.add_reader(plane._pidfd, plane._end, "it exited")
        return plane

    @property
    def pid(self) -> int:
        """Process id in our own namespace, as the kernel tells it."""
        credentials = self._stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        told = self.state.pid if self.state else 0
        return told or int(struct.unpack("3i", credentials)[0])

    @property
    def alive(self) -> bool:
        """Whether the plane has neither exited nor been closed."""
        return not self._lost

    async def push(self, serial: int, state: DesiredState, seen: int, descriptors: Mapping[str, int]) -> None:
        """Put a desired state in force. Raises PlaneRefused, PlaneGone, TimeoutError."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._applied[serial] = done
        names = tuple(descriptors)
        self._send(wire.Desired(serial, seen, names, state), list(descriptors.values()))
        try:
            await asyncio.wait_for(done, APPLY_WITHIN)
        finally:
            self._applied.pop(serial, None)

    async def ask(self, counters: Counters = "none", within: float = 1.0) -> tuple[wire.Answer, bool]:
        """Ask the data thread; returns its answer, and whether that has the counters of every peer.

        "changed" leaves out peers that are as they were told last, ages apart; it is "all" as long as nobody
        knows what they were. Raises TimeoutError, PlaneGone.
        """
        self._questions += 1
        number = self._questions
        changed = counters == "changed" and self._told_all
        whole = counters != "none" and not changed
        answer: asyncio.Future[wire.Answer] = self._loop.create_future()
        self._answers[number] = answer
        came = False
        try:
            self._send(wire.Question(number, counters != "none", changed))
            told = await asyncio.wait_for(answer, within)
            came = True
        finally:
            self._answers.pop(number, None)
            if counters != "none":
                self._told_all = came and (whole or self._told_all)
        return told, whole

    def measure(self, questions: tuple[Measurement, ...]) -> None:
        """Ask peers about sizes; the answers are facts.

        Never raises: what a busy plane has not read it is asked later, all at once, and one that is gone
        answers nothing.
        """
        self._unasked += questions
        if not self._outbox:
            self._ask_sizes()

    def _ask_sizes(self) -> None:
        questions, self._unasked = self._unasked, ()
        with contextlib.suppress(PlaneGone):
            self._send(wire.Measure(questions))

    def stop(self) -> None:
        """Ask it to close everything and exit."""
        try:
            self._send(wire.Stop())
        except PlaneGone:
            return

    async def wait_ended(self, within: float) -> None:
        """Wait until it has ended, or for so many seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), within)

    def kill(self) -> None:
        """SIGKILL; a process that is already gone is fine."""
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                return

    def grant_realtime(self) -> bool:
        """SCHED_RR 1 for the data thread. False where we have no right to."""
        if self.state is None:
            return False
        policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
        try:
            os.sched_setscheduler(self.state.data_thread, policy, os.sched_param(1))
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Forget the plane without ending it."""
        self._lost = True
        if self._stream.fileno() >= 0:
            self._loop.remove_reader(self._stream.fileno())
            self._loop.remove_writer(self._stream.fileno())
        self._stream.close()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _send(self, message: wire.ToPlane, descriptors: list[int] | None = None) -> None:
        """Queue a frame; descriptors travel beside its first byte."""
        if len(self._outbox) > MOST_UNREAD:
            raise PlaneGone("the data plane does not read")
        idle = not self._outbox
        self._outbox += wire.portions(wire.encode(message), descriptors or [])
        if idle:
            self._write()

    def _write(self) -> None:
        while self._outbox:
            frame, descriptors = self._outbox[0]
            rights = array.array("i", descriptors)
            control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
            try:
                sent = self._stream.sendmsg([frame], control)
            except BlockingIOError:
                self._loop.add_writer(self._stream.fileno(), self._resume)
                return
            except OSError as error:
                raise PlaneGone(f"the data plane is gone: {error}") from None
            if sent == len(frame):
                self._outbox.pop(0)
            else:
                self._outbox[0] = (frame[sent:], [])
        self._loop.remove_writer(self._stream.fileno())
        if self._unasked:
            self._ask_sizes()

    def _resume(self) -> None:
        try:
            self._write()
        except PlaneGone as error:
            self._end(str(error))

    def _read(self) -> None:
        fds = array.array("i")
        size = socket.CMSG_SPACE(wire.MOST_DESCRIPTORS * fds.itemsize)
        try:
            data, control, flags, _ = self._stream.recvmsg(1 << 16, size, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError as error:
            return self._end(str(error))
        for level, kind, content in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        self._pending_fds.extend(fds)
        if not data or flags & socket.MSG_CTRUNC:
            return self._end("it closed the control socket")
        try:
            for message in self._decoder.feed(data):
                self._take(message)
        except wire.BrokenFrame as error:
            self._end(str(error))

    def _take(self, message: wire.FromPlane) -> None:
        match message:
            case wire.State():
                for name in message.descriptors:
                    self.descriptors[name] = self._pending_fds.pop(0)
                if not message.more and not self._greeted.done():
                    self._greeted.set_result(message)
            case wire.Told():
                self._on_fact(message.serial, message.fact)
            case wire.Applied():
                _settle(self._applied.get(message.serial), None)
            case wire.Refused():
                for waiting in self._applied.values():
                    if not waiting.done():
                        waiting.set_exception(PlaneRefused(message.reason))
                        break
            case wire.Answer():
                _settle(self._answers.get(message.id), message)
            case wire.Superseded():
                self.superseded = True
                self._end("a newer brain has come")

    def _end(self, reason: str) -> None:
        if self._lost:
            return
        # Two planes on one device would be worse than none.
        if not self.superseded:
            self.kill()
        self.close()
        self._over.set()
        waiting: list[asyncio.Future[Any]] = [self._greeted, *self._applied.values()]
        for future in [*waiting, *self._answers.values()]:
            _fail(future, PlaneGone(reason))
        self._on_lost(reason)


def _settle(waiting: "asyncio.Future[T] | None", result: T) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(result)


def _fail(waiting: "asyncio.Future[Any]", error: Exception) -> None:
    if not waiting.done():
        waiting.set_exception(error)
        waiting.exception()


def _spawn(listener: socket.socket, user: str, before: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start the host process with the listener as descriptor 3 and nothing else of ours."""
    environment = {
        "SHORE_PLANE_USER": user,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PATH": os.environ.get("PATH", ""),
    }
    program = (
        "import os,sys;os.dup2(int(sys.argv[1]),3);os.closerange(4,256);"
        "from shore.dataplane.__main__ import main;sys.exit(main())"
    )
    return subprocess.Popen(
        [*before, sys.executable, "-S", "-c", program, str(listener.fileno())],
        pass_fds=[listener.fileno()],
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
